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
        self.pool = self._new(workers)

    def _new(self, workers: int) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, context, decoder.guard)

    async def decode(self, name: str, data: bytes) -> Seen:
        """One picture; raises DataError with a sentence where it cannot be used."""
        pool = self.pool
        try:
            found = await self._within(pool, name, data)
        except (BrokenProcessPool, TimeoutError) as error:
            if self.pool is pool:  # and not replaced by another request already
                self.pool = self._new(self.workers)
                self._end(pool)
            if isinstance(error, TimeoutError):
                raise self._fatal(name) from None
            found = await self._alone(name, data)  # another picture may have ended the process
        if isinstance(found, str):
            raise DataError(found)
        return found

    async def _alone(self, name: str, data: bytes) -> "Seen | str":
        pool = self._new(1)
        try:
            return await self._within(pool, name, data)
        except (BrokenProcessPool, TimeoutError):
            raise self._fatal(name) from None
        finally:
            self._end(pool)

    async def _within(self, pool: ProcessPoolExecutor, name: str, data: bytes) -> "Seen | str":
        future = pool.submit(_decode, data, name, self.size, self.fit)
        return await asyncio.wait_for(asyncio.wrap_future(future), SECONDS)

    def _fatal(self, name: str) -> DataError:
        return DataError(
            f"{printable(name)}: decoding it ended its process or took more than {SECONDS:.0f} s; "
            "save it again and retry."
        )

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
        pool.shutdown(wait=False)  # what else was in it breaks, and is asked for again


def _decode(data: bytes, name: str, size: int, fit: str) -> Seen | str:
    try:
        picture = open_picture(data, name)
    except DataError as error:
        return str(error)
    return Seen(to_pixels(picture.image, size, fit), picture.notes)
