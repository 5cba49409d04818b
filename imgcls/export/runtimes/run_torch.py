"""A .pt2 or TorchScript file of imgcls, by torch. Needs torch and numpy alone, and no imgcls."""

import json
import warnings
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
    if path.endswith(".pt2"):
        model = torch.export.load(path, extra_files=told).module()
    else:
        with warnings.catch_warnings():  # a legacy format, which is why one would choose it
            for kind in (FutureWarning, DeprecationWarning):
                warnings.filterwarnings("ignore", r".*torch\.jit\.load.*", kind)
            model = torch.jit.load(path, map_location="cpu", _extra_files=told).eval()

    @torch.inference_mode()
    def answer(pictures: Pictures) -> list[Logits]:
        return [part.numpy() for part in model(torch.from_numpy(pictures))]

    return answer, json.loads(told["imgcls"])
