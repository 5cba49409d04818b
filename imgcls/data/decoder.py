"""Many image files to one block of pixels, in processes of their own.

The bytes are a stranger's, so what decodes them has bounded memory and may die: its death costs
the one file that caused it. These processes import neither torch nor pandas.
"""

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from imgcls.data import archive
from imgcls.data.sources import Item, Place
from imgcls.errors import DataError
from imgcls.preprocess import LIMITS, open_picture, printable, to_pixels

CHUNK_FILES = 256  # per task
CHUNK_BYTES = 16 * 2**20
MEMORY = 2**30  # bytes of address space a process may add; 25 MP of anything fits
MAX_DEATHS = 20
WORKERS = 8  # at most, so that memory stays bounded on large machines


@dataclass(frozen=True, slots=True)
class Original:
    """What images.csv says of one file."""

    bytes: int
    width: int
    height: int
    mode: str
    format: str
    sha256: str
    notes: tuple[str, ...] = ()


Outcome = Original | str  # a string says why the file was refused
Task = list[tuple[int, Place, str]]  # row, place, file


def decode_all(
    items: Sequence[Item],
    zipped: Path | None,
    pixels: Path,
    size: int,
    fit: str,
    *,
    stop: bool,
    progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Write row i of `pixels`, raw uint8 (N, size, size, 3), for item i; returns what each was.

    Places are inside the archive `zipped` or, where that is None, local paths. A refused row is
    left zero. With `stop`, raises DataError at the first refused item.
    """
    with pixels.open("wb") as empty:
        empty.truncate(len(items) * size * size * 3)
    outcomes: list[Outcome] = [""] * len(items)
    done = deaths = 0
    suspects: list[Task] = []
    tasks = list(_chunks(items))
    settings = (zipped, pixels, size, fit)
    while tasks or suspects:
        # After a death the files in flight are tried one by one, to find the one that kills.
        careful = bool(suspects)
        queue = [[job] for task in suspects for job in task] if careful else tasks
        suspects, tasks = [], tasks if careful else []
        running = _run(queue, settings, 1 if careful else _workers(len(queue)))
        with closing(running):
            for task, result in running:
                if result is None and careful:
                    deaths += 1
                    if deaths > MAX_DEATHS:
                        raise DataError(
                            f"More than {MAX_DEATHS} images ended the process that decoded them, "
                            f"the last was {printable(task[0][2])}; check the source."
                        )
                    result = ["ends the process that decodes it; save it again or remove it."]
                if result is None:
                    suspects.append(task)
                    continue
                for (row, _, file), outcome in zip(task, result, strict=True):
                    outcomes[row] = outcome
                    if stop and isinstance(outcome, str):
                        raise DataError(f"{printable(file)}: {outcome}")
                done += len(task)
                if progress:
                    progress(done, len(items))
    return outcomes


def _chunks(items: Sequence[Item]) -> Iterator[Task]:
    task: Task = []
    weight = 0
    for row, item in enumerate(items):
        task.append((row, item.place, item.file))
        if isinstance(item.place, archive.Entry):
            weight += item.place.size
        else:
            with suppress(OSError):  # the process that reads it will say why it cannot
                weight += os.stat(item.place).st_size
        if len(task) == CHUNK_FILES or weight > CHUNK_BYTES:
            yield task
            task, weight = [], 0
    if task:
        yield task


def _workers(tasks: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(tasks, cores or 1, WORKERS))


def _run(
    queue: list[Task], settings: tuple[Path | None, Path, int, str], workers: int
) -> Generator[tuple[Task, list[Outcome] | None], None, None]:
    """Each task with its outcomes in order, or with None where its process died.

    A pool that broke is replaced; few tasks are in flight at a time, so few are suspects.
    """
    waiting = deque(queue)
    while waiting:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, settings)
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool:
            pool.shutdown()
            raise DataError(
                "The processes that decode images cannot start; a script must call the import "
                'under `if __name__ == "__main__":`.'
            ) from None
        flying: deque[tuple[Task, Future[list[Outcome]]]] = deque()
        broken = False
        try:
            while flying or (waiting and not broken):
                while waiting and not broken and len(flying) < (2 * workers if workers > 1 else 1):
                    task = waiting.popleft()
                    try:
                        flying.append((task, pool.submit(_decode, task)))
                    except BrokenProcessPool:
                        waiting.appendleft(task)
                        broken = True
                task, future = flying.popleft()
                try:
                    yield task, future.result()
                except BrokenProcessPool:
                    broken = True
                    yield task, None
        finally:
            pool.shutdown(cancel_futures=True)


# What follows runs in the decoding processes.

_zip: BinaryIO | None = None
_pixels: FileIO
_size: int
_fit: str


def _start(zipped: Path | None, pixels: Path, size: int, fit: str) -> None:
    global _zip, _pixels, _size, _fit
    _zip = zipped.open("rb") if zipped else None
    _pixels = pixels.open("r+b", buffering=0)
    _size, _fit = size, fit
    guard()


def guard() -> None:
    """In a process that decodes: bound its memory, leave Ctrl-C to its parent, and end with it."""
    _limit_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's processes wait for work forever, even where the one that gives it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _limit_memory() -> None:
    if sys.platform != "linux":  # elsewhere address space cannot be limited or measured so
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + MEMORY
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or bound < hard:
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))


def _decode(task: Task) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for row, place, file in task:
        try:
            data = _read(place)
            picture = open_picture(data, file)
        except DataError as error:
            outcomes.append(str(error).removeprefix(f"{printable(file)}: "))
            continue
        except OSError as error:
            outcomes.append(f"cannot be read ({error.strerror}); check the file.")
            continue
        pixels = to_pixels(picture.image, _size, _fit)
        _pixels.seek(row * pixels.nbytes)
        _pixels.write(pixels.data)
        outcomes.append(
            Original(
                len(data),
                picture.width,
                picture.height,
                picture.mode,
                picture.format,
                hashlib.sha256(data).hexdigest(),
                picture.notes,
            )
        )
    return outcomes


def _read(place: Place) -> bytes:
    if isinstance(place, archive.Entry):
        _check_bytes(place.size)
        assert _zip is not None
        return archive.read(_zip, place)
    with open(place, "rb") as file:
        _check_bytes(os.fstat(file.fileno()).st_size)
        return file.read(LIMITS["bytes"] + 1)


def _check_bytes(size: int) -> None:
    """Before reading, as `open_picture` would after it."""
    if size > LIMITS["bytes"]:
        raise DataError(
            f"{size / 2**20:.1f} MB exceeds the {LIMITS['bytes'] // 2**20} MB limit; "
            "save it smaller and retry."
        )
