"""A plain `state_dict` of imgcls, by the very lines that its certificate gives to load it."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imgcls.deployed import Deployed

Pictures = NDArray[np.uint8]
Logits = NDArray[np.float32]
Answer = Callable[[Pictures], list[Logits]]


def load(path: str, threads: int = 0) -> tuple[Answer, dict[str, Any]]:
    """As the other runtimes'; `facts.json` and `load.py` stand beside the file.

    The file holds weights alone: normalisation and temperature are put around it here.
    """
    if threads:
        torch.set_num_threads(threads)
    facts = json.loads(Path(path).with_name("facts.json").read_text("utf-8"))
    network = runpy.run_path(str(Path(path).with_name("load.py")))["network"]
    card, trust = facts["card"], facts["trust"]
    temperature = trust["temperature"] if trust else 1.0
    model = Deployed(network, card["mean"], card["std"], temperature).eval()

    @torch.inference_mode()
    def answer(pictures: Pictures) -> list[Logits]:
        return [part.numpy() for part in model(torch.from_numpy(pictures))]

    return answer, facts
