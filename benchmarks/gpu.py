"""What the anchor published, to stand beside what `time_to_accuracy` measures where CUDA is.

Of cifar10-airbench (Jordan 2024, arXiv:2404.00498, and its repository), on an A100 with the
original CIFAR-10, which is not pixel-identical to one of JPEG files.
"""

from collections.abc import Iterator

import torch

from benchmarks import Row

PUBLISHED = {  # what → seconds, and the rest of what is said of it
    "published: airbench94 with Muon, A100": (2.59, "94.01 % (n=200), 0.29 PFLOP"),
    "published: airbench96_faster, A100": (27.3, "96 %, 3.1 PFLOP"),
    "published: usual ResNet-18, A100": (420.0, "96 %, 32.3 PFLOP"),
}


def rows() -> Iterator[Row]:
    """The published figures, and a word where there is nothing to hold against them."""
    for what, (seconds, note) in PUBLISHED.items():
        yield Row(what, (seconds,), "s", note=note)
    if not torch.cuda.is_available():
        yield Row("our recipes on a GPU", (), "s", note="not measured: no CUDA device")
