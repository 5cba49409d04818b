"""The model that a server answers with: its file, its runtime, and what is known of it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgcls import card, config, files, predict
from imgcls.card import Card
from imgcls.data.catalog import Images
from imgcls.errors import ConfigError, ModelError
from imgcls.evaluate import belief
from imgcls.export import certified
from imgcls.predict import Judged
from imgcls.runs import Run
from imgcls.trust import Trust

BACKENDS = ("onnxruntime", "torch")
PROBES = 64  # pictures by which the file is held against PyTorch before it serves


@dataclass(frozen=True, eq=False)
class Served:
    """A loaded model."""

    name: str
    backend: str
    card: Card
    trust: Trust | None
    logits: Callable[[Images], NDArray[np.float32]]  # (N, S, S, 3) to (N, classes)

    def judged(self, pictures: Images) -> list[Judged]:
        """What is believed of each of (N, S, S, 3) pictures; raises ModelError for NaN."""
        logits = self.logits(pictures)
        if not np.isfinite(logits).all():
            raise ModelError(f"The model of {self.name} answers NaN or infinity: train again.")
        return predict.judged(self.trust, logits, pictures)

    def entry(self, judged: Judged, top: int, coverage: float) -> dict[str, Any]:
        """What is answered of one picture, as `predict.predict` does."""
        return predict.told(self.card, self.trust, judged, top, coverage)


def load(run: Run, backend: str = "onnxruntime", threads: int = 0, spin: bool = True) -> Served:
    """A run's model on a backend.

    threads, spin: of ONNX Runtime, see `run_onnx.load`.
    Raises ConfigError for a backend that is none, ModelError where the model is missing, or where
    its file for ONNX Runtime does not answer as PyTorch does.
    """
    about, known = card.read(run.model_path), belief.of_run(run)
    if backend == "torch":
        return Served(run.id, backend, about, known, _torch(run, known))
    if backend != "onnxruntime":
        raise ConfigError(f"No backend {backend!r}. Choose one of: {', '.join(BACKENDS)}.")
    path = _onnx(run, about, known)
    return Served(run.id, backend, about, known, _onnxruntime(path, threads, spin))


def _torch(
    run: Run, known: Trust | None, device_name: str = "auto"
) -> Callable[[Images], NDArray[np.float32]]:
    import torch

    from imgcls import deployed, machine

    device = machine.device(device_name)
    model, _ = deployed.load(run.model_path, known)
    model.to(device)

    def logits(pictures: Images) -> NDArray[np.float32]:
        with torch.inference_mode():
            found = model(torch.from_numpy(pictures).to(device))[0].cpu().numpy()
        answer: NDArray[np.float32] = found
        return answer

    return logits


def _onnxruntime(
    path: Path, threads: int = 0, spin: bool = True
) -> Callable[[Images], NDArray[np.float32]]:
    from imgcls.export.runtimes import run_onnx

    answer, _ = run_onnx.load(str(path), threads, spin)
    return lambda pictures: answer(pictures)[0]


def _onnx(run: Run, about: Card, known: Trust | None) -> Path:
    """The run's ONNX file, in the cache; written once, and held against PyTorch then."""
    name = hashlib.sha256(files.sha256(run.model_path).encode())
    name.update(json.dumps(known.to_dict() if known else None).encode())
    path = config.home() / "cache" / "served" / f"{name.hexdigest()[:32]}.onnx"
    if path.exists():
        return path
    from imgcls import deployed
    from imgcls.export import writers

    model, told = deployed.of_run_with_facts(run)
    chance = np.random.default_rng(0)
    pictures = chance.integers(0, 256, (PROBES, about.size, about.size, 3), dtype=np.uint8)
    pictures[: PROBES // 2] //= 8  # dark and smooth ones among them
    ours = _torch(run, known, "cpu")(pictures)  # a GPU might answer in TF32

    def write(draft: Path) -> None:
        writers.onnx(model, about, told, draft)
        theirs = _onnxruntime(draft)(pictures)
        apart = np.abs(theirs - ours).max()
        allowed = certified.TOLERANCE * max(1.0, np.abs(ours).max())
        if not apart <= allowed:
            raise ModelError(
                f"The ONNX file of {run.id} differs from PyTorch by {apart:.2g}, more than "
                f"{allowed:.2g}: serve it with --backend torch."
            )

    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, write)
    return path
