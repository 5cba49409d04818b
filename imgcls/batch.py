"""Any number of pictures to a table, in constant memory, and on from where it was interrupted.

Child processes read and decode while the model answers; rows are written in the order of the files,
so that as many files are done as the table has rows.
"""

import csv
import hashlib
import json
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np

import imgcls
from imgcls import files, predict
from imgcls.data import decoder, spreadsheet
from imgcls.errors import DataError
from imgcls.preprocess import LIMITS, open_picture, printable, to_pixels
from imgcls.runs import Run
from imgcls.serve import served

LONGEST = 2**20  # bytes of a row at most
CHUNK = 32  # files a task, and pictures a batch
AHEAD = 3  # tasks a process that wait or are done, so that none idles

Tell = Callable[[int, int], object]  # files done, of them refused
Block = list[tuple[str, bytes | str]]  # a name with its pixels, or with why there are none


@dataclass(frozen=True)
class Told:
    """What came of it."""

    files: int
    refused: int
    resumed: int  # files that an earlier, interrupted call had done


def to_table(
    run: Run, paths: Iterable[Path], table: Path, top: int, tell: Tell = lambda done, bad: None
) -> Told:
    """Write a row a file, in the order of `paths`, to a CSV that appears when all is done.

    Until then rows stand in `TABLE.part`; a later call with the same model, calibration, `top` and
    files goes on there. Files that cannot be used are rows with their reason. Raises DataError
    where that part does not fit the files, ModelError where the model answers NaN.
    """
    loaded = served.load(run)
    held = files.lock(_part(table))
    if held is None:
        raise DataError(f"{table.name} is being written by another call: wait, or name another.")
    try:
        return _write(loaded, files.sha256(run.model_path), iter(paths), table, top, tell)
    finally:
        os.close(held)


def _write(
    loaded: served.Served, model: str, paths: Iterator[Path], table: Path, top: int, tell: Tell
) -> Told:
    ranks = min(top, len(loaded.card.classes))
    part = _part(table)
    header = predict.to_csv([], ranks).encode()
    trust = json.dumps(loaded.trust.to_dict() if loaded.trust else None)
    facts = {
        "imgcls": imgcls.__version__, "model": model, "top": top,
        "trust": hashlib.sha256(trust.encode()).hexdigest(),
    }  # fmt: skip
    resumed, refused = _resume(part, facts, header, paths)
    done = resumed
    with open(part, "ab") as file:
        for block in _decoded(paths, loaded.card.size, loaded.card.fit):
            entries = _answers(loaded, block, top)
            rows = predict.to_csv(entries, ranks).encode()[len(header) :]
            file.write(rows)
            file.flush()
            done += len(entries)
            refused += sum("error" in entry for entry in entries)
            tell(done, refused)
        os.fsync(file.fileno())
    os.replace(part, table)
    _facts_path(part).unlink(missing_ok=True)
    return Told(done, refused, resumed)


def is_own(path: Path, table: Path) -> bool:
    """Whether a file is the table itself, or what stands beside it while it is written."""
    own = (table, _part(table), _facts_path(_part(table)))
    return path.name in {one.name for one in own} and path.resolve() in {o.resolve() for o in own}


def _part(table: Path) -> Path:
    return table.with_name(f"{table.name}.part")


def _answers(loaded: served.Served, block: Block, top: int) -> list[dict[str, Any]]:
    size = loaded.card.size
    seen = [np.frombuffer(p, np.uint8).reshape(size, size, 3) for _, p in block if type(p) is bytes]
    judged = iter(loaded.judged(np.stack(seen)) if seen else ())
    entries = []
    for name, pixels in block:
        if isinstance(pixels, str):
            entries.append({"file": name, "error": pixels})
            continue
        entries.append({"file": name, **loaded.entry(next(judged), top, 0.95)})
    return entries


def _resume(
    part: Path, facts: dict[str, Any], header: bytes, paths: Iterator[Path]
) -> tuple[int, int]:
    """How many files an earlier call had done, taken from `paths`, and how many it had refused.

    Anew, with a header alone, where there is none or it was another model's.
    """
    try:
        known = json.loads(_facts_path(part).read_text("utf-8")) == facts
        with open(part, "rb") as file:
            known = known and file.read(len(header)) == header
    except (OSError, ValueError):
        known = False
    if not known:
        part.write_bytes(header)
        _facts_path(part).write_text(json.dumps(facts), encoding="utf-8")
        return 0, 0
    _drop_half_row(part)
    done = refused = 0
    with open(part, encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            path = next(paths, None)
            if path is None or row["file"] != _cell(name_of(path)):
                raise DataError(
                    f"{part.name} is of other files than these (at {row['file'][:80]}): delete it "
                    "to begin anew."
                )
            done += 1
            refused += bool(row["error"])
    return done, refused


def _cell(name: str) -> str:
    """A file's name as a table holds it."""
    row: list[str] = next(csv.reader([spreadsheet.to_csv([_one_line(name)], [])]))
    return row[0]


def _one_line(name: str) -> str:
    """A name as it is, but for characters that end a line or show nothing."""
    controls = ("Cc", "Cs", "Zl", "Zp")
    return "".join("\N{REPLACEMENT CHARACTER}" if category(c) in controls else c for c in name)


def _drop_half_row(part: Path) -> None:
    """A row that was cut off by the end of the process is done again."""
    with open(part, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - LONGEST)
        file.seek(start)
        file.truncate(start + file.read().rfind(b"\r\n") + 2)


def _facts_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _decoded(paths: Iterator[Path], size: int, fit: str) -> Iterator[Block]:
    """Blocks of files in order, decoded ahead by as many processes as there are cores."""
    workers = max(1, min(decoder.WORKERS, os.cpu_count() or 1))
    pool = _pool(workers)
    flying: deque[tuple[list[Path], Future[Block]]] = deque()
    try:
        while True:
            while len(flying) < AHEAD * workers and (chunk := list(islice(paths, CHUNK))):
                flying.append((chunk, pool.submit(_decode, chunk, size, fit)))
            if not flying:
                return
            chunk, future = flying.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                pool.shutdown(wait=False, cancel_futures=True)
                yield [_alone(path, size, fit) for path in chunk]
                pool = _pool(workers)  # what else was in flight is asked for again
                flying = deque((c, pool.submit(_decode, c, size, fit)) for c, _ in flying)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _alone(path: Path, size: int, fit: str) -> tuple[str, bytes | str]:
    """One file in a process of its own, to find the one that ends it."""
    with _pool(1) as pool:
        try:
            return pool.submit(_decode, [path], size, fit).result()[0]
        except BrokenProcessPool:
            name = name_of(path)
            why = "it ends the process that decodes it; save it again or remove it."
            return _one_line(name), f"{printable(name)}: {why}"


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), decoder.guard)


# What follows runs in the decoding processes.


def _decode(chunk: list[Path], size: int, fit: str) -> Block:
    block: Block = []
    for path in chunk:
        name = _one_line(name_of(path))
        try:
            picture = open_picture(read(path), name_of(path))
            block.append((name, to_pixels(picture.image, size, fit).tobytes()))
        except DataError as error:
            block.append((name, str(error)))
    return block


def read(path: Path) -> bytes:
    """The file's bytes, no more than a picture may have and one; DataError where there are none."""
    name = printable(name_of(path))
    if not path.is_file():  # never waits at a pipe, nor reads a device
        why = "no regular file" if path.exists() else "there is no such file"
        raise DataError(f"{name}: {why}; check the path.")
    try:
        with open(path, "rb") as file:
            return file.read(LIMITS["bytes"] + 1)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); check its rights.") from None


def name_of(path: Path) -> str:
    """A path as text, whatever bytes it is made of."""
    return os.fsencode(path).decode("utf-8", "replace")
