"""Say what is on pictures: python predict.py PICTURE…  Needs what requirements.txt names."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from imgcls.errors import DataError
from imgcls.preprocess import open_picture, to_pixels

HERE = Path(__file__).parent


def main(paths: list[str]) -> None:
    """A line a picture: its likeliest classes, or why it cannot be used."""
    kit = json.loads((HERE / "kit.json").read_text("utf-8"))
    answer, facts = importlib.import_module(kit["runtime"]).load(str(HERE / kit["model"]))
    card = facts["card"]
    for path in paths:
        try:
            picture = open_picture(Path(path).read_bytes(), path)
        except (DataError, OSError) as error:
            print(error)
            continue
        pixels = to_pixels(picture.image, card["size"], card["fit"])
        shares = answer(pixels[None])[1][0]
        best = np.argsort(-shares, kind="stable")[:5]
        print(f"{path}: " + ", ".join(f"{card['classes'][i]} {shares[i]:.1%}" for i in best))


if __name__ == "__main__":
    main(sys.argv[1:])
