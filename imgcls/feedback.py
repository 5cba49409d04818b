"""Pictures that a model got wrong, kept with their right label: a folder that can be imported."""

import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from imgcls import config, files
from imgcls.errors import DataError
from imgcls.preprocess import open_picture, printable

LONGEST = 64  # characters of a class's name
MOST = 10_000  # pictures kept: a public page must not fill a disk
SIDE = 1024  # pixels, the longer side at most of what is kept


def root() -> Path:
    """Where pictures are kept, a folder a class: `data import` takes it as it is."""
    return config.home() / "feedback"


def checked(label: str) -> str:
    """A class's name as a folder may be called; raises DataError where it cannot be."""
    name = unicodedata.normalize("NFC", label).strip()
    if not name or name.startswith(".") or not name.isprintable() or set(name) & set('/\\:*?"<>|'):
        raise DataError(
            f"{printable(label)!r} cannot be a class's name: use letters, digits and spaces."
        )
    if len(name) > LONGEST:
        raise DataError(f"A class's name has at most {LONGEST} characters, this has {len(name)}.")
    return name


def keep(name: str, data: bytes, label: str) -> Path:
    """Keep a picture under its right label, upright, at most SIDE wide or high, without metadata.

    Gives its path. The same picture is kept once: a later label replaces an earlier one. Raises
    DataError for a picture that cannot be used, a label that cannot be a folder, and where no room
    is left.
    """
    folder = root() / checked(label)
    image = open_picture(data, name).image
    image.thumbnail((SIDE, SIDE))  # a photograph as PNG would exceed what may be imported
    digest = hashlib.sha256(image.tobytes() + repr(image.size).encode()).hexdigest()[:32]
    path = folder / f"{digest}.png"
    before = [other for other in root().glob(f"*/{digest}.png") if other != path]
    if not before and not path.exists() and sum(1 for _ in root().glob("*/*.png")) >= MOST:
        raise DataError(
            f"{MOST:,} pictures are kept already: import them, then empty the folder feedback."
        )
    folder.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, lambda draft: _save(image, draft))
    for other in before:
        other.unlink(missing_ok=True)
    return path


def take_back(paths: Sequence[Path]) -> None:
    """Forget pictures that `keep` has just kept; those that are gone already are no matter."""
    for path in paths:
        path.unlink(missing_ok=True)


def counts() -> dict[str, int]:
    """Pictures kept, by class."""
    found = {folder.name: len(list(folder.glob("*.png"))) for folder in sorted(root().glob("*/"))}
    return {name: count for name, count in found.items() if count}


def pictures(label: str) -> list[Path]:
    """The files kept under a class, in a lasting order."""
    return sorted(path for path in (root() / label).glob("*.png") if path.is_file())


def _save(image: Image.Image, path: Path) -> None:
    image.save(path, "PNG")
