"""What a source of images holds: its files, and which of them is what class in which split.

A source is a folder or a ZIP archive, laid out `<split>/<class>/image` or `<class>/image`, or
with a table of labels. Nothing is decoded here.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgcls.data import archive
from imgcls.errors import DataError
from imgcls.preprocess import printable

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
LAYOUT = "<class>/<image> or <split>/<class>/<image>"

Place = str | archive.Entry  # a local path, or where a file lies in the archive


@dataclass(frozen=True)
class Listing:
    """The files of a source, by their path inside it, with slashes."""

    files: dict[str, Place]
    refused: tuple[tuple[str, str], ...] = ()  # (file, reason)
    ignored: int = 0  # the operating system's own files, and hidden ones


@dataclass(frozen=True, slots=True)
class Item:
    """One image to take."""

    file: str
    place: Place
    label: str  # name of its class
    split: str  # train, validation or test


def list_zip(path: Path, limits: Mapping[str, int]) -> Listing:
    """The files of an archive; raises DataError for an unsafe one."""
    entries = archive.read_directory(path, limits)
    files: dict[str, Place] = {e.name: e for e in entries if not _is_junk(e.name)}
    return Listing(dict(sorted(files.items())), ignored=len(entries) - len(files))


def list_folder(root: Path, limits: Mapping[str, int]) -> Listing:
    """The files of a local folder. Links to folders and out of the folder are not followed."""
    inside = root.resolve()
    files: dict[str, Place] = {}
    refused: list[tuple[str, str]] = []
    ignored = seen = 0
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            found = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            refused.append((folder, f"cannot be opened ({error.strerror}); check its rights."))
            continue
        for entry in found:
            seen += 1
            if seen > limits["entries"]:
                raise DataError(
                    f"{printable(root.name)}: more than {limits['entries']:,} files; "
                    "import it in parts."
                )
            name = f"{folder}/{entry.name}".lstrip("/")
            if _is_junk(entry.name):
                ignored += 1
            elif entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif entry.is_symlink() and not _leads_inside(Path(entry.path), inside):
                refused.append((name, "a link that is not followed; put the file itself there."))
            elif entry.is_file():
                files[name] = entry.path
            else:
                refused.append((name, "not a regular file; remove it."))
    return Listing(dict(sorted(files.items())), tuple(refused), ignored)


def arrange(listing: Listing, shown: str) -> tuple[list[Item], list[tuple[str, str]]]:
    """Items by the folders they lie in, and what lies elsewhere with the reason.

    Raises DataError where the layout is not `LAYOUT`.
    """
    paths = {file: tuple(file.split("/")) for file in listing.files}
    skip = _wrappers(paths.values())
    paths = {file: parts[skip:] for file, parts in paths.items()}
    tops = {parts[0] for parts in paths.values() if len(parts) >= 2}
    nested = {parts[0] for parts in paths.values() if len(parts) >= 3}
    has_splits = any(split_of(top) == "train" for top in nested)
    if not has_splits and tops and all(split_of(top) for top in tops):
        raise DataError(
            f"{shown}: has no train/<class>/<image>, only {_some(tops)}; "
            f"lay it out as {LAYOUT} and retry."
        )
    items: list[Item] = []
    refused: list[tuple[str, str]] = []
    for file, parts in paths.items():
        split = split_of(parts[0]) if has_splits else "train"
        folders = parts[1:-1] if has_splits else parts[:-1]
        if split is None or not folders:
            refused.append((file, f"lies in no class folder; the layout is {LAYOUT}."))
        else:
            items.append(Item(file, listing.files[file], class_name(folders[0]), split))
    if not items:
        raise DataError(f"{shown}: holds no images in class folders; lay it out as {LAYOUT}.")
    return items, refused


def split_of(name: str) -> str | None:
    """The split that a folder or a table's cell of this name means."""
    return SPLIT_NAMES.get(name.strip().casefold())


_TURNS_TEXT = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # bidirectional controls


def class_name(name: str) -> str:
    """The name in its one Unicode form; raises DataError for one that cannot be shown."""
    clean = unicodedata.normalize("NFC", name).strip()
    hidden = any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in clean)
    if hidden or _TURNS_TEXT.search(clean) or not clean:
        raise DataError(
            f"Class {printable(name)!r} has a name that cannot be shown; rename it and retry."
        )
    if len(clean) > 64:
        raise DataError(
            f"Class {clean[:32]!r}… has a name of {len(clean)} characters, the limit is 64; "
            "rename it and retry."
        )
    return clean


def wrapped_table(files: Iterable[str]) -> str | None:
    """The labels.csv that lies at the top, or in the one folder that holds everything."""
    paths = [file.split("/") for file in files]
    found = [parts for parts in paths if parts[-1].lower() == "labels.csv" and len(parts) <= 2]
    if len(found) != 1:
        return None
    alone = len(found[0]) == 1 or all(parts[0] == found[0][0] for parts in paths)
    return "/".join(found[0]) if alone else None


def _wrappers(paths: Iterable[tuple[str, ...]]) -> int:
    """How many folders hold everything and are neither a split nor a class."""
    skip, deep = 0, [parts for parts in paths if len(parts) >= 2]
    while True:
        tops = {parts[skip] for parts in deep}
        deep = [parts for parts in deep if len(parts) >= skip + 3]
        if len(tops) != 1 or not deep or split_of(*tops):
            return skip
        skip += 1


def _is_junk(name: str) -> bool:
    parts = name.split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or (
        parts[-1].lower() in ("thumbs.db", "desktop.ini")
    )


def _leads_inside(link: Path, root: Path) -> bool:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return target.is_file() and target.is_relative_to(root)


def _some(names: Iterable[str]) -> str:
    ordered = sorted(printable(name) for name in names)
    return ", ".join(ordered[:5]) + (", …" if len(ordered) > 5 else "")
