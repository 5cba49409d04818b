"""Requests that come within a few milliseconds of each other are answered as one batch."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from imgcls.data.catalog import Images
from imgcls.errors import ImgclsError

A = TypeVar("A")  # what is answered of one picture


class Busy(ImgclsError):
    """More pictures wait than the queue holds."""


@dataclass(frozen=True)
class Timed(Generic[A]):
    """One picture's answer, and where its time went."""

    answer: A
    waited: float  # seconds, in the queue
    model: float  # seconds, of the batch it was in
    batch: int  # pictures in that batch


class Batcher(Generic[A]):
    """One thread that asks the model, and a bounded queue before it.

    A batch takes whatever waits, up to `most`, and waits `patience` seconds for more only while it
    is alone: under load the time of the batch before it gathers the next.
    """

    def __init__(
        self,
        answer: Callable[[Images], Sequence[A]],  # of (N, S, S, 3) pictures
        most: int = 64,
        patience: float = 0.002,
        bound: int = 256,
    ) -> None:
        self.answer, self.most, self.patience = answer, most, patience
        self.queue: asyncio.Queue[tuple[NDArray[np.uint8], float, asyncio.Future[Timed[A]]]] = (
            asyncio.Queue(bound)
        )
        self.thread = ThreadPoolExecutor(1, "model")

    async def ask(self, picture: NDArray[np.uint8]) -> Timed[A]:
        """Answer one (S, S, 3) picture; raises Busy where the queue is full."""
        future: asyncio.Future[Timed[A]] = asyncio.get_running_loop().create_future()
        try:
            self.queue.put_nowait((picture, time.perf_counter(), future))
        except asyncio.QueueFull:
            raise Busy(
                f"{self.queue.maxsize} pictures wait already: ask again in a moment."
            ) from None
        return await future

    async def run(self) -> None:
        """Answer batch after batch until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self.queue.get()]
            if self.most > 1 and self.queue.empty() and self.patience:
                await asyncio.sleep(self.patience)
            while len(batch) < self.most and not self.queue.empty():
                batch.append(self.queue.get_nowait())
            batch = [asked for asked in batch if not asked[2].done()]  # nobody waits any more
            if not batch:
                continue
            start = time.perf_counter()
            pictures = np.stack([picture for picture, _, _ in batch])
            try:
                answers = await loop.run_in_executor(self.thread, self.answer, pictures)
            except Exception as error:
                for _, _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            taken = time.perf_counter() - start
            for (_, asked, future), one in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(Timed(one, start - asked, taken, len(batch)))
