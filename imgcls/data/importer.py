"""A person's own images to a data set: folder, ZIP archive, or images with a table of labels.

Everything that can be refused is refused before anything is published: an import appears whole
or leaves no trace. Single bad images are listed and skipped, or stop the import.
"""

import csv as csv_files
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from imgcls.data import archive, catalog, labels, sources
from imgcls.data.catalog import Images, Labels
from imgcls.data.decoder import Original, Outcome, decode_all
from imgcls.data.sources import Item, Listing
from imgcls.errors import DataError
from imgcls.preprocess import FITS, printable

TEST_SHARE = 0.2  # of each class, where the source has no test images of its own
SIZES = (8, 512)  # pixels a side
_FIT_WORDS = {
    "squash": "squashed to {0}×{0} px, bicubic",
    "crop": "the central square, resized to {0}×{0} px, bicubic",
    "pad": "resized into {0}×{0} px on white, bicubic",
}

Refused = list[tuple[str, str]]


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
        _check_classes(found, {item.label for item in found.items}, bounds["classes"])
        _check_disk(len(found.items) * size * size * 3)
        with catalog.publishing(name) as draft:
            pixels = draft / "pixels.raw"
            outcomes = decode_all(
                found.items, found.zipped, pixels, size, fit, stop=on_bad == "stop",
                progress=progress,
            )  # fmt: skip
            return _publish(draft, name, found, outcomes, pixels, size, fit)
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


def _check_classes(found: _Source, classes: set[str], most: int) -> None:
    if len(classes) < 2:
        only = f" ({printable(*classes)})" if classes else ""
        raise DataError(
            f"{found.shown}: holds {len(classes)} usable class{only or 'es'}, "
            "a classifier needs at least 2; add images of another class and retry."
        )
    if len(classes) > most:
        raise DataError(
            f"{found.shown}: holds {len(classes):,} classes, the limit is {most:,}; "
            f"check that folders are laid out as {sources.LAYOUT}."
        )


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


def _publish(
    draft: Path,
    name: str,
    found: _Source,
    outcomes: Sequence[Outcome],
    pixels: Path,
    size: int,
    fit: str,
) -> Report:
    refused, notes = found.refused, found.notes
    good: dict[int, Original] = {}
    for row, (item, outcome) in enumerate(zip(found.items, outcomes, strict=True)):
        if isinstance(outcome, str):
            refused.append((item.file, outcome))
        else:
            good[row] = outcome
    notes += _drop_thin_classes(found.items, good, refused)
    classes = sorted({found.items[row].label for row in good})
    _check_classes(found, set(classes), len(classes))
    rows, labels_of = _split_rows(found.items, good, classes, notes)
    splits: dict[str, tuple[Images, Labels]] = {}
    for split, chosen in rows.items():
        images = _gather(pixels, chosen, draft / f"{split}.images.npy", size)
        splits[split] = images, labels_of[chosen]
    pixels.unlink()
    notes += _repeats(found.items, good, rows) + _habits(good)
    _write_tables(draft, found.items, good, rows, refused)
    dataset = catalog.write(
        draft,
        name=name,
        classes=classes,
        splits=splits,
        resized=_how_resized(good, size, fit),
        fit=fit,
        source=f"imported from {found.shown}",
        notes=notes,
    )
    shown = tuple((printable(file), reason) for file, reason in refused)
    return Report(dataset, len(good), shown, found.ignored, tuple(notes))


def _drop_thin_classes(
    items: Sequence[Item], good: dict[int, Original], refused: Refused
) -> list[str]:
    """Take the images of classes that cannot be learned out of `good`; returns notes."""
    counts = Counter(items[row].label for row in good)
    trainable = {items[row].label for row in good if items[row].split == "train"}
    notes = []
    for label in sorted({item.label for item in items}):
        if counts[label] < 2:
            why = f"{counts[label]} usable images, it needs 2"
        elif label not in trainable:
            why = "no usable train images"
        else:
            continue
        notes.append(f"Class {label!r} was left out: {why}.")
        for row in [row for row in good if items[row].label == label]:
            refused.append((items[row].file, f"its class {label!r} was left out: {why}."))
            del good[row]
    return notes


def _split_rows(
    items: Sequence[Item], good: Mapping[int, Original], classes: Sequence[str], notes: list[str]
) -> tuple[dict[str, Labels], Labels]:
    """Rows a split, ascending, and the label of every row (-1 where none was taken)."""
    index = {label: i for i, label in enumerate(classes)}
    labels_of = np.full(len(items), -1, np.int64)
    rows: dict[str, Labels] = {}
    for row in good:
        labels_of[row] = index[items[row].label]
    for split in catalog.SPLITS:
        chosen = [row for row in good if items[row].split == split]
        if chosen:
            rows[split] = np.array(chosen, np.int64)
    if "test" not in rows:
        train = rows["train"]
        kept, held = catalog.split_indices(labels_of[train], TEST_SHARE, 0)
        rows["train"], rows["test"] = train[kept], train[held]
        notes.append(
            f"The source has no test images: {TEST_SHARE:.0%} of each class, drawn from train by "
            "seed 0, became the test split."
        )
    return rows, labels_of


def _gather(pixels: Path, rows: Labels, target: Path, size: int) -> Images:
    """Copy some images to a .npy file of their own; a block at a time keeps memory small."""
    out = np.lib.format.open_memmap(
        target, mode="w+", dtype=np.uint8, shape=(len(rows), size, size, 3)
    )
    block = max(1, 2**24 // (size * size * 3))
    with pixels.open("rb") as source, target.open("r+b") as file:
        file.seek(out.offset)
        for start in range(int(rows[0]), int(rows[-1]) + 1, block):
            source.seek(start * size * size * 3)
            data = np.frombuffer(source.read(block * size * size * 3), np.uint8)
            some = rows[(rows >= start) & (rows < start + block)] - start
            file.write(data.reshape(-1, size, size, 3)[some].data)
    return out


def _repeats(
    items: Sequence[Item], good: Mapping[int, Original], rows: Mapping[str, Labels]
) -> list[str]:
    """Notes on byte-identical files: in two splits, or under two labels."""
    labels_by_hash: dict[str, set[str]] = defaultdict(set)
    hashes = {split: [good[row].sha256 for row in chosen] for split, chosen in rows.items()}
    for row, original in good.items():
        labels_by_hash[original.sha256].add(items[row].label)
    notes = []
    train = set(hashes["train"])
    for split in ("validation", "test"):
        twice = sum(digest in train for digest in hashes.get(split, []))
        if twice:
            notes.append(
                f"{twice:,} {split} images are byte-identical to train images: accuracy on them "
                "says nothing about new images."
            )
    two = sum(len(names) > 1 for names in labels_by_hash.values())
    if two:
        notes.append(f"{two:,} images occur under two or more labels.")
    return notes


def _how_resized(good: Mapping[int, Original], size: int, fit: str) -> str:
    if all((o.width, o.height) == (size, size) for o in good.values()):
        return f"kept as they are, {size}×{size} px"
    return _FIT_WORDS[fit].format(size)


def _habits(good: Mapping[int, Original]) -> list[str]:
    counts = Counter(note for original in good.values() for note in original.notes)
    return [f"{count:,} images: {note}." for note, count in counts.most_common(10)]


def _write_tables(
    draft: Path,
    items: Sequence[Item],
    good: Mapping[int, Original],
    rows: Mapping[str, Labels],
    refused: Refused,
) -> None:
    # Names of files may be bytes of no encoding, which UTF-8 cannot hold.
    how = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    with open(draft / "images.csv", "w", **how) as file:  # type: ignore[call-overload]
        table = csv_files.writer(file)
        table.writerow(catalog.IMAGE_COLUMNS)
        for split, chosen in rows.items():
            for index, row in enumerate(chosen.tolist()):
                o, item = good[row], items[row]
                table.writerow(
                    (split, index, item.file, item.label, o.bytes, o.width, o.height, o.mode,
                     o.format, o.sha256)
                )  # fmt: skip
    with open(draft / "refused.csv", "w", **how) as file:  # type: ignore[call-overload]
        csv_files.writer(file).writerows([("file", "reason"), *refused])
