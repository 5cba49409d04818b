// Says what is on pictures, by a TorchScript file that imgcls exported: classify MODEL PICTURES
//
// PICTURES is N pictures of the model's size S as raw uint8, RGB, N×S×S×3: what `to_pixels` of
// imgcls/preprocess.py makes of files. Prints one line of JSON a picture: every class with its
// calibrated probability, likeliest first. Exit status 1 with one sentence for what is of no use.

#include <torch/script.h>

#include <fstream>
#include <iostream>
#include <regex>

int main(int count, char** arguments) try {
  using Text = std::string;
  using Refusal = std::invalid_argument;
  if (count != 3) throw Refusal("classify takes two files: classify MODEL PICTURES");
  const Text path = arguments[1], pictures = arguments[2];

  std::unordered_map<Text, Text> extra{{"imgcls", ""}};
  auto model = torch::jit::load(path, torch::kCPU, extra);
  const Text& facts = extra["imgcls"];  // JSON, where a quote inside of a name is escaped
  std::smatch size, names;
  if (!std::regex_search(facts, size, std::regex(R"re("size":\s*(\d+))re")) ||
      !std::regex_search(facts, names, std::regex(R"re("classes":\s*\[)re")))
    throw Refusal(path + " was not exported by imgcls: name a file that was.");

  std::vector<Text> classes;  // each in its quotes, as JSON has it
  const std::regex name(R"re(\s*("(?:[^"\\]|\\.)*")\s*[,\]])re");
  const auto flags = std::regex_constants::match_continuous;
  for (std::sregex_iterator at(names[0].second, facts.end(), name, flags), end; at != end; ++at)
    classes.push_back((*at)[1]);

  std::ifstream file(pictures, std::ios::binary);
  if (file.peek(); !file) throw Refusal(pictures + " cannot be read: name a file of pictures.");
  Text pixels(std::istreambuf_iterator<char>(file), {});
  const int64_t side = std::stoll(size[1]), each = side * side * 3, n = pixels.size() / each;
  if (n == 0 || pixels.size() % each)
    throw Refusal(pictures + " holds " + std::to_string(pixels.size()) + " bytes: give it RGB " +
                  "pictures of " + size.str(1) + "×" + size.str(1) + " px, " +
                  std::to_string(each) + " bytes each.");

  c10::InferenceMode no_gradients;
  const auto input = torch::from_blob(pixels.data(), {n, side, side, 3}, torch::kUInt8);
  const auto probabilities = model.forward({input}).toTuple()->elements()[1].toTensor();
  const auto [shares, order] = probabilities.sort(1, /*descending=*/true);
  std::cout.precision(9);  // tells every float from the next
  for (int64_t i = 0; i < n; ++i)
    for (size_t rank = 0; rank < classes.size(); ++rank)
      std::cout << (rank ? ", " : "{") << classes.at(order[i][rank].item<int64_t>()) << ": "
                << shares[i][rank].item<float>() << (rank + 1 == classes.size() ? "}\n" : "");
} catch (const c10::Error&) {
  std::cerr << arguments[1] << " is no TorchScript file of imgcls: export one.\n";
  return 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
