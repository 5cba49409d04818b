"""A safetensors file of imgcls, by imgcls itself and eager PyTorch in fp32."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from imgcls import deployed
from imgcls.trust import Trust

Pictures = NDArray[np.uint8]
Logits = NDArray[np.float32]
Answer = Callable[[Pictures], list[Logits]]


def load(path: str, threads: int = 0) -> tuple[Answer, dict[str, Any]]:
    """What answers (N, S, S, 3) uint8 pictures with logits and probabilities, and what it tells.

    threads: of a CPU; 0 for as many as there are cores.
    """
    if threads:
        torch.set_num_threads(threads)
    with safe_open(path, framework="numpy") as file:
        told = json.loads((file.metadata() or {}).get("trust", "null"))
    model, card = deployed.load(Path(path), Trust.from_dict(told) if told else None)

    @torch.inference_mode()
    def answer(pictures: Pictures) -> list[Logits]:
        return [part.numpy() for part in model(torch.from_numpy(pictures))]

    return answer, {"card": asdict(card), "trust": told}
