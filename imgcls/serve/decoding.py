"""A stranger's bytes to pixels, in child processes that may die of them."""

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgcls.data import decoder
from imgcls.errors import DataError
from imgcls.preprocess import open_picture, printable, to_pixels

SECONDS = 20.0  # that a picture may take


@dataclass(frozen=True)
class Seen:
    """A picture as the model gets it."""

    pixels: NDArray[np.uint8]  # (S, S, 3)
    notes: tuple[str, ...]  # what was done to it


class Decoders:
    """Processes that decode; each that dies is replaced."""

    def __init__(self, size: int, fit: str, workers: int) -> None:
        self.size, self.fit, self.workers = size, fit, workers
        self.pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, context, _start)

    async def decode(self, name: str, data: bytes) -> Seen:
        """One picture; raises DataError with a sentence where it cannot be used."""
        pool = self.pool
        try:
            future = pool.submit(_decode, data, name, self.size, self.fit)
            found = await asyncio.wait_for(asyncio.wrap_future(future), SECONDS)
        except (BrokenProcessPool, TimeoutError):
            if self.pool is pool:  # and not replaced by another request already
                self.pool = self._new()
                self._end(pool)
            raise DataError(
                f"{printable(name)}: decoding it ended its process or took more than "
                f"{SECONDS:.0f} s; save it again and retry."
            ) from None
        if isinstance(found, str):
            raise DataError(found)
        return found

    async def warm(self) -> None:
        """Start every process, so that no first request waits for it."""
        pids = [asyncio.wrap_future(self.pool.submit(os.getpid)) for _ in range(2 * self.workers)]
        await asyncio.gather(*pids)

    def close(self) -> None:
        """End the processes."""
        self._end(self.pool)

    def _end(self, pool: ProcessPoolExecutor) -> None:
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)


def _start() -> None:
    decoder.guard()


def _decode(data: bytes, name: str, size: int, fit: str) -> Seen | str:
    try:
        picture = open_picture(data, name)
    except DataError as error:
        return str(error)
    return Seen(to_pixels(picture.image, size, fit), picture.notes)
