// Says what is on pictures, by a TorchScript file that imgcls exported: classify MODEL PICTURES
//
// PICTURES is N pictures of the model's size S as raw uint8, RGB, N×S×S×3: what `to_pixels` of
// imgcls/preprocess.py makes of files. Prints one line of JSON a picture: every class with its
// calibrated probability, likeliest first. Exit status 1 with one sentence for what is of no use.
#include <torch/script.h>
#include <fstream>
#include <iostream>
using Text = std::string;

int main(int count, char** arguments) try {
  if (count != 3) throw std::runtime_error("two files are needed: classify MODEL PICTURES");
  std::unordered_map<Text, Text> extra{{"classes", ""}, {"size", ""}};
  auto model = torch::jit::load(arguments[1], torch::kCPU, extra);
  const Text& size = extra["size"];
  std::vector<Text> classes;  // a line each, in quotes, as JSON has it
  for (std::istringstream lines(extra["classes"]); std::getline(lines, classes.emplace_back());) {}

  std::ifstream file(arguments[2], std::ios::binary);
  Text pixels(std::istreambuf_iterator<char>(file), {});
  const int64_t side = std::stoll(size), each = side * side * 3, n = pixels.size() / each;
  if (n == 0 || pixels.size() % each)
    throw std::runtime_error(arguments[2] + (" holds no RGB pictures of " + size + "×" + size) +
                             " px, " + std::to_string(each) + " bytes each.");
  c10::InferenceMode no_gradients;
  const auto input = torch::from_blob(pixels.data(), {n, side, side, 3}, torch::kUInt8);
  const auto probabilities = model.forward({input}).toTuple()->elements()[1].toTensor();
  const auto [shares, order] = probabilities.sort(1, /*descending=*/true);
  std::cout.precision(9);  // tells every float from the next
  for (int64_t i = 0; i < n; ++i)
    for (int64_t rank = 0; rank < shares.size(1); ++rank)
      std::cout << (rank ? ", " : "{") << classes.at(order[i][rank].item<int64_t>()) << ": "
                << shares[i][rank].item<float>() << (rank + 1 == shares.size(1) ? "}\n" : "");
} catch (const std::runtime_error& error) {
  std::cerr << error.what() << "\n";
  return 1;
} catch (const std::exception&) {
  std::cerr << arguments[1] << " is no TorchScript file of imgcls: export one.\n";
  return 1;
}
