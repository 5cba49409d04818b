"""The formats that a model can leave in, for menus and checks; imports no torch."""

from dataclasses import dataclass

from imgcls.errors import ConfigError


@dataclass(frozen=True)
class Format:
    """How a kind of file is called, and what reads it."""

    suffix: str  # of the file's name, with its dot
    runtime: str  # the module in `runtimes`, run_<runtime>.py, that loads it
    package: str  # what that needs, as a requirement
    about: str  # who would choose it, in a sentence
    floats: bool = True  # whether it computes in floats, and so must agree in its logits


FORMATS = {
    "onnx": Format(
        ".onnx", "onnx", "onnxruntime>=1.23", "For ONNX Runtime and most other engines; any batch."
    ),
    "onnx-int8": Format(
        ".int8.onnx", "onnx", "onnxruntime>=1.23",
        "A quarter of the size, quicker on most CPUs; whole numbers instead of floats.",
        floats=False,
    ),
    "torchscript": Format(
        ".torchscript.pt", "torch", "torch>=2.11",
        "For C++ with LibTorch, compiled from its source; a legacy format of PyTorch's.",
    ),
    "torchscript-trace": Format(
        ".traced.pt", "torch", "torch>=2.11",
        "The same, recorded from an example, for networks that do not compile.",
    ),
    "pt2": Format(".pt2", "torch", "torch>=2.11", "PyTorch's own graph (torch.export); any batch."),
    "safetensors": Format(
        ".safetensors", "safetensors", "imgcls", "For another imgcls: weights, card and trust."
    ),
    "pth": Format(
        ".pth", "pth", "imgcls", "The weights alone, with the lines of Python that load them."
    ),
}  # fmt: skip


def known(name: str) -> Format:
    """A format by name; raises ConfigError for none."""
    if name not in FORMATS:
        raise ConfigError(f"No format named {name[:40]!r}. Choose one of: {', '.join(FORMATS)}.")
    return FORMATS[name]
