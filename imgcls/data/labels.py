"""The table of labels that may come with images: `filename,label[,split]`.

Whatever is ambiguous is refused with its row (the header is row 1): a wrong label that goes
unnoticed costs more than a table that must be mended.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path, PurePosixPath

from imgcls.data.sources import Item, Place, class_name, split_of
from imgcls.errors import DataError
from imgcls.preprocess import printable

MAX_BYTES = 100_000_000
_NOTHING = {"", "nan", "null", "n/a"}


def read_labels(
    data: bytes, shown: str, find: Callable[[str], Place | None]
) -> tuple[list[Item], list[str]]:
    """Items in the order of the table, and notes; `find` gives the place of a file, or None.

    Accepts UTF-8 with or without BOM, any line ends, and comma, semicolon or tab. Without a split
    column every image is train. Raises DataError naming the row for anything else.
    """
    rows = _rows(data, shown)
    header = _names(rows[0])
    file_at, label_at = header.index("filename"), header.index("label")
    split_at = header.index("split") if "split" in header else None
    taken: dict[str, tuple[int, Item]] = {}
    spellings: dict[Decimal | str, tuple[int, str]] = {}
    repeated = 0
    for number, row in enumerate(rows[1:], start=2):
        says = f"{shown}, row {number}:"
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise DataError(f"{says} has {len(row)} cells, the header has {len(header)}.")
        file = _clean_path(row[file_at])
        label = row[label_at].strip()
        if label.casefold() in _NOTHING:
            raise DataError(f"{says} {printable(file)!r} has no label; fill it in or drop the row.")
        try:
            label = class_name(label)
        except DataError as error:
            raise DataError(f"{says} {error}") from None
        first_number, first = spellings.setdefault(_as_number(label), (number, label))
        if first != label:
            raise DataError(
                f"{says} label {label!r} is the same number as {first!r} in row {first_number}; "
                "write it in one way."
            )
        split = "train" if split_at is None else split_of(row[split_at])
        if split is None:
            raise DataError(
                f"{says} split {printable(row[split_at or 0])!r} must be train, validation or test."
            )
        if file in taken:
            before, item = taken[file]
            if (item.label, item.split) != (label, split):
                raise DataError(
                    f"{says} {printable(file)!r} is {label!r} in {split} here and {item.label!r} "
                    f"in {item.split} in row {before}; keep one."
                )
            repeated += 1
            continue
        place = find(file)
        if place is None:
            raise DataError(
                f"{says} no file {printable(file)!r} beside the table; "
                "add it, correct the name or drop the row."
            )
        taken[file] = number, Item(file, place, label, split)
    if not taken:
        raise DataError(f"{shown}, row 2: has a header but no images; add rows and retry.")
    extra = [printable(c) for c in header if c not in ("filename", "label", "split")]
    notes = [f"Columns of {shown} that were ignored: {', '.join(extra[:10])}."] if extra else []
    if repeated:
        notes.append(f"{repeated} rows of {shown} repeat an earlier row.")
    return [item for _, item in taken.values()], notes


def folder_finder(root: Path) -> Callable[[str], Place | None]:
    """Looks files up in a folder, and never outside of it."""
    inside = root.resolve()

    def find(file: str) -> Place | None:
        if ".." in file.split("/"):  # else one file could have two names, and two labels
            return None
        for form in (file, unicodedata.normalize("NFD", file)):  # as macOS writes names
            try:
                path = (root / form).resolve(strict=True)
            except (OSError, RuntimeError, ValueError):
                continue
            if path.is_file() and path.is_relative_to(inside):
                return str(path)
        return None

    return find


def _rows(data: bytes, shown: str) -> list[list[str]]:
    if len(data) > MAX_BYTES:
        raise DataError(f"{shown}: exceeds the {MAX_BYTES // 10**6} MB limit; import it in parts.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{shown}, row {row}: is not UTF-8 text; save the table as UTF-8 and retry."
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    first_line = text.split("\n", 1)[0]
    for delimiter in ",;\t":
        names = _header(first_line, delimiter)
        if names.count("filename") == 1 and names.count("label") == 1 and names.count("split") < 2:
            break
    else:
        raise DataError(
            f"{shown}, row 1: must be the header filename,label or filename,label,split, "
            f"got {printable(first_line.strip())[:80]!r}."
        )
    rows: list[list[str]] = []
    try:
        rows.extend(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(f"{shown}, row {len(rows) + 1}: cannot be read ({error}).") from None
    return rows


def _header(line: str, delimiter: str) -> list[str]:
    try:
        return _names(next(csv.reader([line], delimiter=delimiter, strict=True), []))
    except csv.Error:
        return []


def _names(cells: list[str]) -> list[str]:
    return [cell.strip().casefold() for cell in cells]


def _clean_path(cell: str) -> str:
    text = unicodedata.normalize("NFC", cell.strip().replace("\\", "/"))
    return PurePosixPath(text).as_posix()


def _as_number(label: str) -> Decimal | str:
    return Decimal(label) if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", label) else label
