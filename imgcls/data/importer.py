"""A person's own images to a data set: folder, ZIP archive, or images with a table of labels.

Everything that can be refused is refused before anything is published: an import appears whole
or leaves no trace. Single bad images are listed and skipped, or stop the import.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imgcls.data import archive, catalog, labels, sources
from imgcls.data.assemble import Refused, assemble, check_classes
from imgcls.data.decoder import decode_all
from imgcls.data.sources import Item, Listing
from imgcls.errors import DataError
from imgcls.preprocess import FITS, printable

SIZES = (8, 512)  # pixels a side


@dataclass(frozen=True)
class Report:
    """What an import took and what it refused."""

    dataset: catalog.Dataset
    taken: int  # images
    refused: tuple[tuple[str, str], ...]  # (file, reason)
    ignored: int  # files of the operating system and hidden ones
    notes: tuple[str, ...]  # what a reader should know; the data set keeps them too


@dataclass(frozen=True)
class _Source:
    shown: str
    zipped: Path | None
    items: list[Item]
    refused: Refused
    ignored: int
    notes: list[str]


def import_source(
    source: Path,
    name: str,
    *,
    size: int = 32,
    fit: str = "squash",
    on_bad: Literal["skip", "stop"] = "skip",
    csv: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    limits: Mapping[str, int] | None = None,
) -> Report:
    """Publish the data set `name` from a folder, a ZIP archive or a table of labels.

    source: laid out `<split>/<class>/image` or `<class>/image`, or with a labels.csv; or the
    table itself, its file names relative to its folder. `csv` names a table that lies elsewhere.
    size: pixels a side of the square images; fit: see `preprocess.to_pixels`.
    on_bad: skip lists images that cannot be used, stop raises DataError at the first.
    progress: called with (images done, images in all). limits: replaces some of `archive.LIMITS`.

    Without test images 20 % of each class are cut from train by seed 0. A class with fewer than
    two usable images, or none to train on, is left out and noted. Raises DataError, with the data
    sets on disk unchanged, for everything else. A script must call this under
    `if __name__ == "__main__":`, since images are decoded in other processes.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise DataError(f"size must be {SIZES[0]} to {SIZES[1]} pixels, got {size}.")
    if fit not in FITS:
        raise DataError(f"fit must be one of {', '.join(FITS)}, got {fit!r}.")
    if on_bad not in ("skip", "stop"):
        raise DataError(f"on_bad must be skip or stop, got {on_bad!r}.")
    if catalog.path(name).exists():
        raise DataError(
            f"A data set named {name!r} exists: choose another name or delete it first."
        )
    bounds = {**archive.LIMITS, **(limits or {})}
    try:
        found = _open_source(Path(source), csv, bounds)
        check_classes(found.shown, {item.label for item in found.items}, bounds["classes"])
        _check_disk(len(found.items) * size * size * 3)
        with catalog.publishing(name) as draft:
            pixels = draft / "pixels.raw"
            outcomes = decode_all(
                found.items, found.zipped, pixels, size, fit, stop=on_bad == "stop",
                progress=progress,
            )  # fmt: skip
            dataset = assemble(
                draft, name, found.items, outcomes, found.refused, found.notes, pixels, size, fit,
                source=f"imported from {found.shown}",
            )  # fmt: skip
            shown = tuple((printable(file), reason) for file, reason in found.refused)
            taken = sum(map(sum, dataset.counts.values()))
            return Report(dataset, taken, shown, found.ignored, dataset.notes)
    except (OSError, MemoryError) as error:
        why = getattr(error, "strerror", None) or "out of memory"
        raise DataError(
            f"{printable(Path(source).name)}: could not be imported ({why}); "
            "make room or check the rights, and retry."
        ) from None


def _open_source(source: Path, table: Path | None, limits: Mapping[str, int]) -> _Source:
    shown = printable(source.name or str(source))
    if source.is_dir():
        if table is None and (source / "labels.csv").is_file():
            table = source / "labels.csv"
        if table is not None:
            return _from_table(table, shown, labels.folder_finder(source), None, Listing({}))
        listing, zipped = sources.list_folder(source, limits), None
    elif not source.is_file():
        raise DataError(f"{shown}: no such file or folder; check the path and retry.")
    elif source.suffix.lower() in (".csv", ".tsv"):
        return _from_table(source, shown, labels.folder_finder(source.parent), None, Listing({}))
    else:
        listing, zipped = sources.list_zip(source, limits), source
        inner = sources.wrapped_table(listing.files)
        if table is not None:
            return _from_table(table, shown, listing.files.get, zipped, listing)
        if inner is not None:
            return _from_zipped_table(inner, shown, zipped, listing)
    items, refused = sources.arrange(listing, shown)
    return _Source(shown, zipped, items, [*listing.refused, *refused], listing.ignored, [])


def _from_table(
    table: Path,
    shown: str,
    find: Callable[[str], sources.Place | None],
    zipped: Path | None,
    listing: Listing,
) -> _Source:
    if not table.is_file():
        raise DataError(f"{printable(table.name)}: no such table; check the path and retry.")
    with table.open("rb") as file:
        data = file.read(labels.MAX_BYTES + 1)
    items, notes = labels.read_labels(data, printable(table.name), find)
    notes += _unlisted(listing, items)
    return _Source(shown, zipped, items, list(listing.refused), listing.ignored, notes)


def _from_zipped_table(inner: str, shown: str, zipped: Path, listing: Listing) -> _Source:
    entry = listing.files[inner]
    assert not isinstance(entry, str)
    if entry.size > labels.MAX_BYTES:
        raise DataError(f"{shown}: {inner} exceeds {labels.MAX_BYTES // 10**6} MB.")
    with zipped.open("rb") as file:
        data = archive.read(file, entry)
    prefix = inner[: -len("labels.csv")]
    items, notes = labels.read_labels(
        data, printable(inner), lambda name: listing.files.get(prefix + name)
    )
    others = Listing({file: place for file, place in listing.files.items() if file != inner})
    notes += _unlisted(others, items)
    return _Source(shown, zipped, items, list(listing.refused), listing.ignored, notes)


def _unlisted(listing: Listing, items: Sequence[Item]) -> list[str]:
    named = {item.place for item in items}
    count = sum(place not in named for place in listing.files.values())
    return [f"Files that the table does not name, left out: {count:,}."] if count else []


def _check_disk(needed: int) -> None:
    place = catalog.root()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if 2 * needed > free:  # decoded pixels lie there once more while they are sorted into splits
        raise DataError(
            f"The import needs {2 * needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free; "
            "make room or choose a smaller size."
        )
