"""Decoded images to the files of a data set: their splits, and what a reader should know."""

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from imgcls.data import catalog
from imgcls.data.catalog import Images, Labels
from imgcls.data.decoder import Original, Outcome
from imgcls.data.sources import LAYOUT, Item
from imgcls.errors import DataError
from imgcls.preprocess import printable

TOLD = 3  # reasons of a kind that a refusal names
TEST_SHARE = 0.2  # of each class, where the source has no test images of its own
_FIT_WORDS = {
    "squash": "squashed to {0}×{0} px, bicubic",
    "crop": "the central square, resized to {0}×{0} px, bicubic",
    "pad": "resized into {0}×{0} px on white, bicubic",
}

Refused = list[tuple[str, str]]  # (file, reason)


def assemble(
    draft: Path,
    name: str,
    items: Sequence[Item],
    outcomes: Sequence[Outcome],
    refused: Refused,
    notes: list[str],
    pixels: Path,
    size: int,
    fit: str,
    *,
    source: str,
) -> catalog.Dataset:
    """Write a data set into `draft` from the rows of `pixels`; consumes that file.

    What the outcomes refuse is added to `refused`. Raises DataError where fewer than two classes
    are left.
    """
    good: dict[int, Original] = {}
    for row, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
        if isinstance(outcome, str):
            refused.append((item.file, outcome))
        else:
            good[row] = outcome
    why = [f"{printable(file)}: {reason}" for file, reason in refused[:TOLD]]
    thin = _drop_thin_classes(items, good, refused)
    notes = [*notes, *thin]
    classes = sorted({items[row].label for row in good})
    shown = source.removeprefix("imported from ")
    check_classes(shown, set(classes), len(classes), [*thin[:TOLD], *why])
    rows, labels_of = _split_rows(items, good, classes, notes)
    splits: dict[str, tuple[Images, Labels]] = {}
    for split, chosen in rows.items():
        images = _gather(pixels, chosen, draft / f"{split}.images.npy", size)
        splits[split] = images, labels_of[chosen]
    pixels.unlink()
    _write_tables(draft, items, good, rows, refused)
    return catalog.write(
        draft,
        name=name,
        classes=classes,
        splits=splits,
        resized=_how_resized(good, size, fit),
        fit=fit,
        source=source,
        notes=[*notes, *_repeats(items, good, rows), *_habits(good)],
    )


def check_classes(shown: str, classes: set[str], most: int, why: Sequence[str] = ()) -> None:
    """Raises DataError where there are too few or too many to learn.

    why: a sentence each on what fell away, said after that there are too few.
    """
    if len(classes) < 2:
        only = f" ({printable(*classes)})" if classes else ""
        text = (
            f"{shown}: holds {len(classes)} usable class{only or 'es'}, "
            "a classifier needs at least 2; add images of another class and retry."
        )
        raise DataError(" ".join([text, *why]))
    if len(classes) > most:
        raise DataError(
            f"{shown}: holds {len(classes):,} classes, the limit is {most:,}; "
            f"check that folders are laid out as {LAYOUT}."
        )


def _drop_thin_classes(
    items: Sequence[Item], good: dict[int, Original], refused: Refused
) -> list[str]:
    """Take the images of classes that cannot be learned out of `good`; returns notes."""
    counts = Counter(items[row].label for row in good)
    trainable = {items[row].label for row in good if items[row].split == "train"}
    notes = []
    for label in sorted({item.label for item in items}):
        if counts[label] < 2:
            why = f"{'one' if counts[label] else 'no'} usable image, it needs 2"
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
        table = csv.writer(file)
        table.writerow(catalog.IMAGE_COLUMNS)
        for split, chosen in rows.items():
            for index, row in enumerate(chosen.tolist()):
                o, item = good[row], items[row]
                table.writerow(
                    (split, index, item.file, item.label, o.bytes, o.width, o.height, o.mode,
                     o.format, o.sha256)
                )  # fmt: skip
    with open(draft / "refused.csv", "w", **how) as file:  # type: ignore[call-overload]
        csv.writer(file).writerows([("file", "reason"), *refused])
