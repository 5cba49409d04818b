"""Say what is on pictures: python predict.py PICTURE…  Needs what requirements.txt names."""

import importlib
import json
import sys
from pathlib import Path

from imgcls.errors import DataError
from imgcls.preprocess import open_picture, to_pixels
from imgcls.trust import Trust

here = Path(__file__).parent
kit = json.loads((here / "kit.json").read_text("utf-8"))
answer, facts = importlib.import_module(kit["runtime"]).load(str(here / kit["model"]))
card, trust = facts["card"], facts["trust"] and Trust.from_dict(facts["trust"])
for path in sys.argv[1:]:
    try:
        picture = open_picture(Path(path).read_bytes(), path).image
    except (DataError, OSError) as error:
        print(error)
        continue
    pixels = to_pixels(picture, card["size"], card["fit"])[None]
    shares = answer(pixels)[1]
    unlike = trust and not trust.known(pixels, shares)[0]
    best = sorted(zip(shares[0], card["classes"], strict=True), reverse=True)[:5]
    said = ", ".join(f"{name} {share:.1%}" for share, name in best)
    print(f"{path}: {'unlike anything it knows; ' * bool(unlike)}{said}")
