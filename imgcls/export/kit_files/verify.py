"""Prove that this kit answers here as it did where it was made: python verify.py

The golden pictures go the whole way, from file to probabilities. Exit status 0 if all agree.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from imgcls.preprocess import open_picture, to_pixels

HERE = Path(__file__).parent


def main() -> int:
    """Compare pixels and logits with those that came along."""
    kit = json.loads((HERE / "kit.json").read_text("utf-8"))
    golden = json.loads((HERE / "golden" / "answers.json").read_text("utf-8"))
    answer, facts = importlib.import_module(kit["runtime"]).load(str(HERE / kit["model"]))
    card, differences, seen = facts["card"], [], 0
    for name, logits in golden["logits"].items():
        picture = open_picture((HERE / "golden" / name).read_bytes(), name)
        pixels = to_pixels(picture.image, card["size"], card["fit"])
        if name in golden["pixels"]:
            expected = np.array(golden["pixels"][name], np.int64)
            seen = max(seen, int(np.abs(pixels.astype(np.int64) - expected).max()))
        found = answer(pixels[None])
        told = (logits, golden["probabilities"][name])
        differences.append([np.abs(a[0] - b).max() for a, b in zip(found, told, strict=True)])
    worst, share = np.max(differences, axis=0)  # NaN where there is one, which agrees with nothing
    good = worst <= golden["tolerance"] and share <= golden["probability_tolerance"]
    good = good and seen <= golden["pixel_tolerance"]
    print(
        f"{'agrees' if good else 'DOES NOT AGREE'}: {len(golden['logits'])} pictures, a logit "
        f"differs by {worst:.2g} at most ({golden['tolerance']:.2g} allowed), a probability by "
        f"{share:.2g}, a pixel by {seen}."
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
