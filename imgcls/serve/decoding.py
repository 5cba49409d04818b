"""A stranger's bytes to pixels, in child processes that may die of them."""

import asyncio
import multiprocessing
import os
import time
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
SLICE = 0.05  # seconds after which a process gives back those of its task not begun


@dataclass(frozen=True)
class Seen:
    """A picture as the model gets it."""

    pixels: NDArray[np.uint8]  # (S, S, 3)
    notes: tuple[str, ...]  # what was done to it


@dataclass(frozen=True, eq=False)
class Asked:
    """A picture that waits."""

    name: str
    data: bytes
    asker: object
    found: asyncio.Future[Seen | DataError]  # done before it is known where its client has left


Task = list[Asked]


class Decoders:
    """Processes that decode; each that dies is replaced, which costs no picture but its own.

    A process that is free takes its share of what waits as one task, as a batch of the model does:
    a round trip costs as much as decoding a small picture. Askers take turns, and what a task does
    not come to within SLICE waits for another: few bytes may take more than a second to decode.
    """

    def __init__(self, size: int, fit: str, workers: int, most: int = 16, bound: int = 256) -> None:
        self.size, self.fit, self.workers, self.most, self.bound = size, fit, workers, most, bound
        self.pool = self._new(workers)
        self.waiting: dict[object, deque[Asked]] = {}  # by asker, whose turn it is first
        self.running: set[asyncio.Task[None]] = set()

    def _new(self, workers: int) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, context, decoder.guard)

    async def decode(self, name: str, data: bytes, asker: object = None) -> Seen:
        """One picture; raises DataError where it cannot be used, Busy where too many wait.

        asker: anything hashable that pictures of one request have in common.
        """
        if self._count() >= self.bound:
            raise Busy(f"{self.bound} pictures wait already: ask again in a moment.")
        one = Asked(name, data, asker, asyncio.get_running_loop().create_future())
        self.waiting.setdefault(asker, deque()).append(one)
        self._go()
        found = await one.found
        if isinstance(found, DataError):
            raise found
        return found

    def _go(self) -> None:
        """Give what waits to processes that are free."""
        while self.waiting and len(self.running) < self.workers:
            task = self._next()
            if not task:
                return
            runner = asyncio.create_task(self._run(task))
            self.running.add(runner)
            runner.add_done_callback(self._ended)

    def _count(self) -> int:
        return sum(map(len, self.waiting.values()))

    def _next(self) -> Task:
        """Pictures of the asker whose turn it is, or of several where each has but one."""
        task: Task = []
        share = min(self.most, -(-self._count() // self.workers))
        room = TOGETHER
        for asker, theirs in list(self.waiting.items()):
            if task and len(theirs) > 1:
                break
            while theirs and len(task) < share and (not task or len(theirs[0].data) <= room):
                one = theirs.popleft()
                if one.found.done():  # its client has left
                    continue
                task.append(one)
                room -= len(one.data)
            if theirs and task[-1].asker is not asker:
                break  # there was no room for it
            del self.waiting[asker]
            if theirs:
                self.waiting[asker] = theirs  # behind all others
                break
        return task

    def _give_back(self, rest: Task, had: Asked) -> None:
        """Let what a task left wait again: before all others but for the asker that `had` it."""
        for one in reversed(rest):
            theirs = self.waiting.pop(one.asker, deque())
            theirs.appendleft(one)
            if one.asker is had.asker:
                self.waiting[one.asker] = theirs
            else:  # behind large pictures again it would never have its turn
                self.waiting = {one.asker: theirs, **self.waiting}

    def _ended(self, runner: asyncio.Task[None]) -> None:
        self.running.discard(runner)
        self._go()

    async def _run(self, task: Task) -> None:
        try:
            decoded = await self._decoded(task)
        except Exception as error:
            for one in task:
                if not one.found.done():
                    one.found.set_exception(error)
            return
        for one, found in zip(task, decoded, strict=False):
            if not one.found.done():  # its client may have left
                one.found.set_result(found)
        self._give_back(task[len(decoded) :], had=task[0])

    async def _decoded(self, task: Task) -> "list[Seen | DataError]":
        pool = self.pool
        try:
            return await self._within(pool, task)
        except (BrokenProcessPool, TimeoutError) as error:
            if self.pool is pool:  # and not replaced by another task already
                self.pool = self._new(self.workers)
                self._end(pool)
            if len(task) == 1 and isinstance(error, TimeoutError):
                return [self._fatal(task[0].name)]
            return await self._one_by_one(task)  # another picture may have ended the process

    async def _one_by_one(self, task: Task) -> "list[Seen | DataError]":
        found: list[Seen | DataError] = []
        pool = self._new(1)
        try:
            for one in task:
                if one.found.done():  # its client has left, so nobody waits for this
                    found.append(self._fatal(one.name))
                    continue
                try:
                    found += await self._within(pool, [one])
                except (BrokenProcessPool, TimeoutError):
                    found.append(self._fatal(one.name))
                    self._end(pool)
                    pool = self._new(1)
        finally:
            self._end(pool)
        return found

    async def _within(self, pool: ProcessPoolExecutor, task: Task) -> "list[Seen | DataError]":
        async with asyncio.timeout(SECONDS):
            pictures = [(one.name, one.data) for one in task]
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
        for theirs in self.waiting.values():
            for one in theirs:
                one.found.cancel()
        self.waiting.clear()
        for runner in self.running:
            runner.cancel()
        self._end(self.pool)

    def _end(self, pool: ProcessPoolExecutor) -> None:
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        pool.shutdown(wait=False)  # what else was in it breaks, and is asked for again


def _decode(pictures: list[tuple[str, bytes]], size: int, fit: str) -> list[Seen | DataError]:
    """What comes of the pictures, or of the first ones where they take long."""
    found: list[Seen | DataError] = []
    start = time.monotonic()
    for name, data in pictures:
        if found and time.monotonic() - start > SLICE:
            break
        try:
            picture = open_picture(data, name)
        except DataError as error:
            found.append(error)
        else:
            found.append(Seen(to_pixels(picture.image, size, fit), picture.notes))
    return found
