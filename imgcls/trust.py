"""How far a model may be believed: calibrated shares, label sets, and pictures unlike all it knows.

Everything is fitted by `evaluate.belief` on images that the model did not learn from, and travels
with it as numbers. Needs NumPy alone, since deploy kits carry this file.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 2**20  # pixels that are floats at a time
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
SMALLEST = 4  # pixels a side of the last of an image's halvings
FLOOR = 1e-5  # added to an energy, about that of one step of 255 in one pixel of a hundred

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trust:
    """What is known of a model from `n` images that it did not learn from."""

    source: str  # which images, and which run's answers to them
    n: int
    temperature: float  # logits are divided by it: Guo et al. 2017
    label_sets: dict[str, float]  # coverage asked for, as 0.95: the least share of a label in a set
    center: Floats  # (D,) mean of `appearance`
    precision: Floats  # (D, D), the inverse of its covariance
    strangeness: Floats  # (ranks,) ascending, of distances by the two above
    doubt: Floats  # (ranks,) ascending, of 1 - the largest share
    limit: float  # of `unlikeness`; 95 % of known images are at most this

    def unlikeness(self, pictures: Images, shares: Floats) -> Floats:
        """(N,), 0 and up: how much it says that (N, S, S, 3) pictures are not of the known kind.

        Fisher's combination, -ln p₁ - ln p₂, of two tails among known images: how strange a picture
        looks (Mahalanobis distance of `appearance`) and how little sure the model is (Hendrycks
        and Gimpel 2017, arXiv:1610.02136). The second alone does not see a digit or a blur.
        """
        strange = distances(appearance(pictures), self.center, self.precision)
        tails = (_tail(strange, self.strangeness), _tail(1 - shares.max(1), self.doubt))
        total: Floats = -np.log(tails[0]) - np.log(tails[1])
        return total

    def known(self, pictures: Images, shares: Floats) -> NDArray[np.bool_]:
        """(N,) whether pictures are like those that the model was made for."""
        verdict: NDArray[np.bool_] = self.unlikeness(pictures, shares) <= self.limit
        return verdict

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Trust":
        """The inverse of `to_dict`."""
        arrays = ("center", "precision", "strangeness", "doubt")
        return cls(**(values | {name: np.array(values[name]) for name in arrays}))


def appearance(pictures: Images) -> Floats:
    """(N, D) of uint8 (N, S, S, 3) pictures: brightness, contrast, detail at each scale, colour.

    Log energies of the Haar wavelet's three directions, of luminance at each halving down to
    4 pixels and of both colour differences at the last one, with the means of all three and the log
    variance of luminance. Finer colour is left out: JPEG files halve it, and a picture would be
    strange for having been saved as PNG.
    """
    found = []
    at_once = max(1, AT_ONCE // pictures.shape[1] ** 2)
    for start in range(0, len(pictures), at_once):
        rgb = pictures[start : start + at_once].astype(np.float32) / 255
        luma = rgb @ np.array(LUMA, np.float32)
        found.append(
            np.stack(
                [
                    luma.mean((1, 2)), np.log(luma.var((1, 2)) + FLOOR), *_details(luma),
                    *(part for color in (rgb[..., 2] - luma, rgb[..., 0] - luma)
                      for part in (color.mean((1, 2)), *_details(color)[-3:])),
                ],
                axis=1,
            )
        )  # fmt: skip
    return np.concatenate(found).astype(np.float64)


def _details(plane: NDArray[Any]) -> list[NDArray[Any]]:
    """Log energies of (N, H, W): across, down and diagonal at each halving, the finest first."""
    found = []
    while True:
        even = plane[:, : plane.shape[1] // 2 * 2, : plane.shape[2] // 2 * 2]
        a, b, c, d = even[:, ::2, ::2], even[:, 1::2, ::2], even[:, ::2, 1::2], even[:, 1::2, 1::2]
        for part in (a + b - c - d, a - b + c - d, a - b - c + d):
            found.append(np.log((part**2).mean((1, 2)) + FLOOR))
        plane = (a + b + c + d) / 4
        if min(plane.shape[1:]) < 2 * SMALLEST:
            return found


def distances(looks: Floats, center: Floats, precision: Floats) -> Floats:
    """(N,) squared Mahalanobis distances of `appearance` from what is usual."""
    apart = looks - center
    squared: Floats = np.einsum("nd,de,ne->n", apart, precision, apart)
    return squared


def _tail(values: Floats, among: Floats) -> Floats:
    """(N,) the share of a distribution that is at least as large, never 0."""
    below = np.searchsorted(among, values, side="left")
    share: Floats = (len(among) - below + 1) / (len(among) + 1)
    return share
