"""An ONNX file of imgcls, by ONNX Runtime. Needs onnxruntime alone, and no imgcls."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
Logits = NDArray[np.float32]
Answer = Callable[[Pictures], list[Logits]]


def load(path: str, threads: int = 0, spin: bool = True) -> tuple[Answer, dict[str, Any]]:
    """What answers (N, S, S, 3) uint8 pictures with logits and probabilities, and what it tells.

    threads: of a CPU; 0 for as many as there are cores. spin: whether they wait for each other on
    their cores, which is faster where nothing else needs them.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    here = onnxruntime.get_available_providers()
    session = onnxruntime.InferenceSession(
        path, options, providers=[provider for provider in wanted if provider in here]
    )
    facts = json.loads(session.get_modelmeta().custom_metadata_map["imgcls"])

    def answer(pictures: Pictures) -> list[Logits]:
        found: list[Logits] = session.run(["logits", "probabilities"], {"pictures": pictures})
        return found

    return answer, facts
