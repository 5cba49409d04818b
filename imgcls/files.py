"""Files that are old or new, never half, and locks that end with the process that holds them."""

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED_SECONDS = 600.0  # after which nobody writes to a draft any more


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a draft beside `path`, flush it, and rename it: old or new, never half."""
    # Of its own for each writer: two that write one file at once must not share a draft.
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.draft")
    for old in path.parent.glob(f".{path.name}.*.draft"):  # of writers that were killed
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > ABANDONED_SECONDS:
                old.unlink()
    with dropping(draft):
        write(draft)
        fsync(draft)
        os.replace(draft, path)
        fsync(path.parent)


@contextmanager
def dropping(draft: Path) -> Iterator[None]:
    """Remove `draft` if the block fails: a disk that is full must not stay so by our doing."""
    try:
        yield
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def lock(path: Path, patience: float = 0.5) -> int | None:
    """Take a lock: a descriptor to keep open, or None where it stays taken for `patience` seconds.

    Whoever asks `is_locked` holds a shared lock for microseconds: patience waits those out.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(handle)
                return None
            time.sleep(0.02)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock of this file."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def fsync(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
