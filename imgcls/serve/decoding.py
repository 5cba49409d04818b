"""A stranger's bytes to pixels, in child processes that may die of them."""

import asyncio
import multiprocessing
import os
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgcls.data import decoder
from imgcls.errors import DataError
from imgcls.preprocess import open_picture, printable, to_pixels
from imgcls.serve.batching import Busy

SECONDS = 20.0  # that a task may take
TOGETHER = 2**20  # bytes of pictures in one task, so that only small ones wait for each other


@dataclass(frozen=True)
class Seen:
    """A picture as the model gets it."""

    pixels: NDArray[np.uint8]  # (S, S, 3)
    notes: tuple[str, ...]  # what was done to it


Asked = tuple[str, bytes, asyncio.Future[Seen | DataError]]  # name, contents, what comes of it
Task = list[Asked]


class Decoders:
    """Processes that decode; each that dies is replaced, which costs no picture but its own.

    A process that is free takes its share of what waits as one task, as a batch of the model does:
    a round trip costs as much as decoding a small picture.
    """

    def __init__(self, size: int, fit: str, workers: int, most: int = 16, bound: int = 256) -> None:
        self.size, self.fit, self.workers, self.most, self.bound = size, fit, workers, most, bound
        self.pool = self._new(workers)
        self.waiting: deque[Asked] = deque()
        self.running: set[asyncio.Task[None]] = set()

    def _new(self, workers: int) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, context, decoder.guard)

    async def decode(self, name: str, data: bytes) -> Seen:
        """One picture; raises DataError where it cannot be used, Busy where too many wait."""
        if len(self.waiting) >= self.bound:
            raise Busy(f"{self.bound} pictures wait already: ask again in a moment.")
        future: asyncio.Future[Seen | DataError] = asyncio.get_running_loop().create_future()
        self.waiting.append((name, data, future))
        self._go()
        found = await future
        if isinstance(found, DataError):
            raise found
        return found

    def _go(self) -> None:
        """Give what waits to processes that are free."""
        while self.waiting and len(self.running) < self.workers:
            task: Task = []
            share = min(self.most, -(-len(self.waiting) // self.workers))
            room = TOGETHER
            while self.waiting and len(task) < share:
                if task and len(self.waiting[0][1]) > room:
                    break
                one = self.waiting.popleft()
                if one[2].done():  # its client has left
                    continue
                task.append(one)
                room -= len(one[1])
            if not task:
                return
            runner = asyncio.create_task(self._run(task))
            self.running.add(runner)
            runner.add_done_callback(self._ended)

    def _ended(self, runner: asyncio.Task[None]) -> None:
        self.running.discard(runner)
        self._go()

    async def _run(self, task: Task) -> None:
        futures = [future for _, _, future in task]
        try:
            for future, found in zip(futures, await self._decoded(task), strict=True):
                if not future.done():  # its client may have left
                    future.set_result(found)
        except Exception as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    async def _decoded(self, task: Task) -> "list[Seen | DataError]":
        pool = self.pool
        try:
            return await self._within(pool, task)
        except (BrokenProcessPool, TimeoutError) as error:
            if self.pool is pool:  # and not replaced by another task already
                self.pool = self._new(self.workers)
                self._end(pool)
            if len(task) == 1 and isinstance(error, TimeoutError):
                return [self._fatal(task[0][0])]
            return await self._one_by_one(task)  # another picture may have ended the process

    async def _one_by_one(self, task: Task) -> "list[Seen | DataError]":
        found: list[Seen | DataError] = []
        pool = self._new(1)
        for one in task:
            if one[2].done():  # its client has left, so nobody waits for this
                found.append(self._fatal(one[0]))
                continue
            try:
                found += await self._within(pool, [one])
            except (BrokenProcessPool, TimeoutError):
                found.append(self._fatal(one[0]))
                self._end(pool)
                pool = self._new(1)
        self._end(pool)
        return found

    async def _within(self, pool: ProcessPoolExecutor, task: Task) -> "list[Seen | DataError]":
        async with asyncio.timeout(SECONDS):
            pictures = [(name, data) for name, data, _ in task]
            return await asyncio.wrap_future(pool.submit(_decode, pictures, self.size, self.fit))

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
        """End the processes, and what waits for them."""
        for _, _, future in self.waiting:
            future.cancel()
        self.waiting.clear()
        for runner in self.running:
            runner.cancel()
        self._end(self.pool)

    def _end(self, pool: ProcessPoolExecutor) -> None:
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        pool.shutdown(wait=False)  # what else was in it breaks, and is asked for again


def _decode(pictures: list[tuple[str, bytes]], size: int, fit: str) -> list[Seen | DataError]:
    found: list[Seen | DataError] = []
    for name, data in pictures:
        try:
            picture = open_picture(data, name)
        except DataError as error:
            found.append(error)
        else:
            found.append(Seen(to_pixels(picture.image, size, fit), picture.notes))
    return found
