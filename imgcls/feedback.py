"""Pictures that a model got wrong, kept with their right label: a folder that can be imported."""

import hashlib
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from imgcls import config, files
from imgcls.errors import DataError
from imgcls.preprocess import open_picture, printable

LONGEST = 64  # characters of a class's name
MOST = 10_000  # pictures kept: a public page must not fill a disk
SIDE = 1024  # pixels, the longer side at most of what is kept


@dataclass(frozen=True)
class Kept:
    """A picture that is kept."""

    path: Path
    before: Path | None  # where it was kept until then, which may be `path`; None if it was not


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


def keep(name: str, data: bytes, label: str) -> Kept:
    """Keep a picture under its right label, upright, at most SIDE wide or high, without metadata.

    The same picture is kept once: a later label replaces an earlier one. Raises DataError for a
    picture that cannot be used, a label that cannot be a folder, and where no room is left.
    """
    folder = root() / checked(label)
    image = open_picture(data, name).image
    image.thumbnail((SIDE, SIDE))  # a photograph as PNG would exceed what may be imported
    digest = hashlib.sha256(image.tobytes() + repr(image.size).encode()).hexdigest()[:32]
    path = folder / f"{digest}.png"
    before = list(root().glob(f"*/{digest}.png"))
    if not before and sum(1 for _ in root().glob("*/*.png")) >= MOST:
        raise DataError(
            f"{MOST:,} pictures are kept already: import them, then empty the folder feedback."
        )
    folder.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, lambda draft: _save(image, draft))
    for other in before:
        if other != path:
            other.unlink(missing_ok=True)
    return Kept(path, before[0] if before else None)


def take_back(kept: Sequence[Kept]) -> None:
    """Leave pictures as they were before `keep`: under their earlier label, or not kept at all.

    Those that are gone already are no matter. What another visitor told of the same picture
    meanwhile is lost with it.
    """
    for one in reversed(kept):  # the same picture may be among them twice
        if one.before is None:
            one.path.unlink(missing_ok=True)
        else:
            with suppress(FileNotFoundError):
                one.before.parent.mkdir(exist_ok=True)
                one.path.replace(one.before)


def counts() -> dict[str, int]:
    """Pictures kept, by class."""
    found = {folder.name: len(list(folder.glob("*.png"))) for folder in sorted(root().glob("*/"))}
    return {name: count for name, count in found.items() if count}


def pictures(label: str) -> list[Path]:
    """The files kept under a class, in a lasting order."""
    return sorted(path for path in (root() / label).glob("*.png") if path.is_file())


def _save(image: Image.Image, path: Path) -> None:
    image.save(path, "PNG")
