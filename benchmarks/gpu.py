"""Time to accuracy on a GPU, with the figures that the anchor published beside it.

Published, of cifar10-airbench (Jordan 2024, arXiv:2404.00498, and its repository), on an A100 with
the original CIFAR-10, which is not pixel-identical to one of JPEG files.
"""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks import Row, time_to_accuracy

PUBLISHED = {  # what → seconds, and the rest of what is said of it
    "published: airbench94 with Muon, A100": (2.59, "94.01 % (n=200), 0.29 PFLOP"),
    "published: airbench96_faster, A100": (27.3, "96 %, 3.1 PFLOP"),
    "published: usual ResNet-18, A100": (420.0, "96 %, 32.3 PFLOP"),
}


def rows(dataset: str = "cifar10", repeats: int = 3) -> Iterator[Row | dict[str, Any]]:
    """The published figures, then all races of `time_to_accuracy` where CUDA is."""
    for what, (seconds, note) in PUBLISHED.items():
        yield Row(what, (seconds,), "s", note=note)
    if not torch.cuda.is_available():
        yield Row("our recipes on a GPU", (), "s", note="not measured: no CUDA device")
        return
    yield from time_to_accuracy.rows(dataset, repeats, seconds=1.0)
