"""A .pt2 file of imgcls (torch.export), by torch. Needs torch and numpy alone, and no imgcls."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
Logits = NDArray[np.float32]
Answer = Callable[[Pictures], list[Logits]]


def load(path: str, threads: int = 0) -> tuple[Answer, dict[str, Any]]:
    """What answers (N, S, S, 3) uint8 pictures with logits and probabilities, and what it tells.

    threads: of a CPU; 0 for as many as there are cores.
    """
    if threads:
        torch.set_num_threads(threads)
    told = {"imgcls": ""}
    model = torch.export.load(path, extra_files=told).module()

    @torch.inference_mode()
    def answer(pictures: Pictures) -> list[Logits]:
        return [part.numpy() for part in model(torch.from_numpy(pictures))]

    return answer, json.loads(told["imgcls"])
