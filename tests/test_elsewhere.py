"""Files that imgcls exports, by runtimes that it has no use for itself: LibTorch and OpenVINO."""

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch

from imgcls import card, deployed, runs
from imgcls.export import certified, writers
from imgcls.preprocess import open_picture, to_pixels
from tests.making import untrained_run

PROGRAM = Path(__file__).resolve().parents[1] / "examples" / "libtorch"
APART = 1e-5  # of a probability: PyTorch's own kernels, only put together by its compiler


@dataclass
class Leaving:
    """A model on its way out, a few pictures, and what eager PyTorch says of them."""

    model: deployed.Deployed
    card: card.Card
    facts: str
    pictures: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray

    def written(self, format, path):
        writers.WRITERS[format](self.model, self.card, self.facts, path)
        return path


def leaving(run):
    model, facts = deployed.of_run_with_facts(run)
    about = card.read(run.model_path)
    examples = sorted((runs.ASSETS / "examples").glob("*.jpg"))
    opened = [open_picture(path.read_bytes(), path.name).image for path in examples]
    pictures = np.stack([to_pixels(image, about.size, about.fit) for image in opened])
    with torch.inference_mode():
        logits, probabilities = (part.numpy() for part in model(torch.from_numpy(pictures)))
    return Leaving(model, about, facts, pictures, logits, probabilities)


@pytest.fixture
def shipped(home):
    return leaving(runs.shipped())


@pytest.fixture
def own(tiny_dataset):
    """Of a run whose class names are hard to quote."""
    one = leaving(untrained_run(model="cnn"))
    one.card = replace(one.card, classes=('a "quoted" name', 'back\\slash"], "x": [', "café ü 猫"))
    one.facts = json.dumps(deployed.facts(one.card, None))
    return one


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The C++ program, built with the LibTorch inside the torch wheel: 20 s of one core."""
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        pytest.skip("no C++ compiler here: install g++")
    folder, inside = tmp_path_factory.mktemp("libtorch"), Path(torch.__file__).parent
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    if shutil.which("cmake"):
        commands = [
            ["cmake", "-S", PROGRAM, "-B", folder, f"-DCMAKE_CXX_FLAGS={abi}",
             f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"],
            ["cmake", "--build", folder],
        ]  # fmt: skip
    else:
        include, libraries = inside / "include", inside / "lib"
        commands = [
            [compiler, "-std=c++20", abi, PROGRAM / "main.cpp",
             f"-I{include}", f"-I{include}/torch/csrc/api/include",
             f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-ltorch_cpu", "-lc10",
             "-o", folder / "classify"],
        ]  # fmt: skip
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "classify"


def classified(program, *arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("format", ["torchscript", "torchscript-trace"])
@pytest.mark.parametrize("name", ["shipped", "own"])
def test_libtorch_gives_the_probabilities_of_pytorch(program, name, format, tmp_path, request):
    one = request.getfixturevalue(name)
    model, pictures = one.written(format, tmp_path / "model.pt"), tmp_path / "pictures.raw"
    one.pictures.tofile(pictures)

    answered = classified(program, model, pictures)

    assert (answered.returncode, answered.stderr) == (0, "")
    told = [json.loads(line) for line in answered.stdout.splitlines()]
    found = np.array([[shares[name] for name in one.card.classes] for shares in told])
    assert found == pytest.approx(one.probabilities, rel=0, abs=APART)
    assert all(list(s.values()) == sorted(s.values(), reverse=True) for s in told)


def test_what_the_program_cannot_use_is_one_sentence_and_a_failure(program, own, tmp_path):
    model, pictures = own.written("torchscript", tmp_path / "model.pt"), tmp_path / "pictures.raw"
    own.pictures.tofile(pictures)
    (tmp_path / "cut.pt").write_bytes(model.read_bytes()[:-100])
    (tmp_path / "cut.raw").write_bytes(pictures.read_bytes()[:-1])
    (tmp_path / "empty.raw").touch()
    foreign = tmp_path / "foreign.pt"
    with pytest.warns(FutureWarning):
        torch.jit.script(torch.nn.Identity()).save(foreign)

    for arguments, sentence in [
        ([model], "two files are needed: classify MODEL PICTURES"),
        ([tmp_path / "none.pt", pictures], "none.pt is no TorchScript file of imgcls"),
        ([tmp_path / "cut.pt", pictures], "cut.pt is no TorchScript file of imgcls"),
        ([foreign, pictures], "foreign.pt is no TorchScript file of imgcls"),
        *(
            ([model, tmp_path / name], f"{name} holds no RGB pictures of 32×32 px, 3072 bytes each")
            for name in ("none.raw", "empty.raw", "cut.raw")
        ),
    ]:
        refused = classified(program, *arguments)

        assert (refused.returncode, refused.stdout) == (1, "")
        assert sentence in refused.stderr
        assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["shipped", "own"])
def test_openvino_answers_the_onnx_file_as_pytorch_does(name, tmp_path, request):
    one = request.getfixturevalue(name)
    core, path = openvino.Core(), one.written("onnx", tmp_path / "model.onnx")

    # What a CPU with bf16 units would compute in otherwise.
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    allowed = certified.TOLERANCE * max(1.0, float(np.abs(one.logits).max()))
    for n in (len(one.pictures), 1, 2):  # one compiled model, batches of any size
        found = compiled(one.pictures[:n])
        assert found["logits"] == pytest.approx(one.logits[:n], rel=0, abs=allowed)
        assert found["probabilities"] == pytest.approx(one.probabilities[:n], rel=0, abs=allowed)


def test_an_onnx_file_makes_floats_of_its_pictures_before_all_else(own, tmp_path):
    """TensorRT takes uint8 as an input, and does nothing with it but to cast it."""
    graph = onnx.load(own.written("onnx", tmp_path / "model.onnx")).graph

    assert [node.op_type for node in graph.node if "pictures" in node.input] == ["Cast"]
