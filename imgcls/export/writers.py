"""One function a format: write a deployed model to a path."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from imgcls.card import Card
from imgcls.data.catalog import Images
from imgcls.deployed import Deployed

EXAMPLES = 2  # pictures that an export looks at: a batch of one would be taken for a constant
OPSET = 18
QUANTIZED = ("Conv", "Gemm", "MatMul")  # what int8 speeds up; all else stays in floats


def safetensors_(model: Deployed, card: Card, facts: str, path: Path) -> None:
    """Weights and card as runs keep them, and what is known of the model's confidence."""
    state = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    told = json.loads(facts)["trust"]
    about = card.to_metadata() | ({"trust": json.dumps(told)} if told else {})
    safetensors.torch.save_file(state, path, metadata=about)


def pth(model: Deployed, card: Card, facts: str, path: Path) -> None:
    """The weights alone, as `torch.save(network.state_dict())` does."""
    torch.save(model.network.state_dict(), path)


def lines_to_load(card: Card, name: str) -> str:
    """The lines of Python that load what `pth` wrote under this name."""
    settings = ", ".join(f"{key}={value!r}" for key, value in card.architecture.items())
    return f"""import torch
from imgcls import models
from imgcls.config import TrainConfig

network = models.build(TrainConfig({settings}), classes={len(card.classes)}, size={card.size})
network.load_state_dict(torch.load({name!r}, weights_only=True))
network.eval()  # takes (N, 3, {card.size}, {card.size}) floats: (pixels / 255 - mean) / std
# mean {card.mean}
# std {card.std}
"""


def torchscript(model: Deployed, card: Card, facts: str, path: Path) -> None:
    """Compiled from the source, so that its control flow is kept."""
    with _legacy():
        torch.jit.save(torch.jit.script(model), path, _extra_files=_beside(card, facts))


def torchscript_trace(model: Deployed, card: Card, facts: str, path: Path) -> None:
    """What happens to an example, recorded; for networks that do not compile."""
    with _legacy(), torch.no_grad():
        # What is taken for fixed is the pictures' side, and so it is; the proof finds all else.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        traced = torch.jit.trace(model, _example(card))
        torch.jit.save(traced, path, _extra_files=_beside(card, facts))


def _beside(card: Card, facts: str) -> dict[str, str]:
    """The facts, and of them what a program without a JSON parser needs, a class's name a line."""
    names = "\n".join(json.dumps(name) for name in card.classes)
    return {"imgcls": facts, "classes": names, "size": str(card.size)}


def pt2(model: Deployed, card: Card, facts: str, path: Path) -> None:
    """The graph that torch.export finds, for any batch."""
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.export.export(
            model, (_example(card),), dynamic_shapes={"pictures": {0: batch}}
        )
    torch.export.save(program, path, extra_files={"imgcls": facts})


def onnx(model: Deployed, card: Card, facts: str, path: Path) -> None:
    """For ONNX Runtime and all that reads ONNX; any batch."""
    import onnx as library

    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"onnxscript.*")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"copyreg|torch.*")
        program = torch.onnx.export(
            model, (_example(card),), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=["pictures"], output_names=["logits", "probabilities"],
            dynamic_shapes={"pictures": {0: torch.export.Dim("batch", min=1)}},
        )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    proto.metadata_props.add(key="imgcls", value=facts)
    library.checker.check_model(proto)
    library.save(proto, str(path))


def onnx_int8(model: Deployed, card: Card, facts: str, path: Path, pictures: Images) -> None:
    """`onnx` with convolutions and products in int8, scaled by what they see of some pictures.

    Static quantization, QDQ, a scale each output channel: Nagel et al. 2021, arXiv:2106.08295,
    section 3. Batch norm is folded into convolutions first.
    """
    import onnx as library
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    floats, folded = path.with_suffix(".float.onnx"), path.with_suffix(".folded.onnx")
    onnx(model, card, facts, floats)
    with _quiet():
        quant_pre_process(str(floats), str(folded), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(folded), str(path), _Reader(pictures),
            quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=list(QUANTIZED),
        )  # fmt: skip
    for draft in (floats, folded):
        draft.unlink()
    proto = library.load(str(path))
    if not any(entry.key == "imgcls" for entry in proto.metadata_props):
        proto.metadata_props.add(key="imgcls", value=facts)
        library.save(proto, str(path))


class _Reader:
    """Pictures to calibrate by, as ONNX Runtime asks for them."""

    def __init__(self, pictures: Images, batch: int = 64) -> None:
        self.rest: Iterator[NDArray[np.uint8]] = (
            pictures[i : i + batch] for i in range(0, len(pictures), batch)
        )

    def get_next(self) -> dict[str, Any] | None:
        block = next(self.rest, None)
        return None if block is None else {"pictures": block}


def _example(card: Card) -> torch.Tensor:
    chance = torch.Generator().manual_seed(0)
    shape = (EXAMPLES, card.size, card.size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=chance)


@contextmanager
def _legacy() -> Iterator[None]:
    """TorchScript warns that it is one; who asks for it knows."""
    with warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", r".*torch\.jit\.", kind)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's quantizer tells its advice to the root logger."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


WRITERS: dict[str, Callable[[Deployed, Card, str, Path], None]] = {
    "onnx": onnx,
    "pt2": pt2,
    "pth": pth,
    "safetensors": safetensors_,
    "torchscript": torchscript,
    "torchscript-trace": torchscript_trace,
}
