"""Processes of one machine that train one model together: the first leads, the others follow.

Each takes its share of every batch; gradients are averaged by DistributedDataParallel, so all hold
the same weights after every step. Followers keep nothing: when the leader is gone, so are they.
"""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn as nn
from torch import Tensor

from imgcls.errors import ConfigError

WAIT = timedelta(hours=2)  # for the slowest of the others, a long validation included


@dataclass(frozen=True)
class Team:
    """This process's place among those that train together."""

    rank: int = 0  # 0 leads
    size: int = 1

    def share(self, rows: Tensor) -> Tensor:
        """Which of a step's rows this process takes."""
        return rows[self.rank :: self.size]

    def parts(self, rows: int, size: int) -> int:
        """Into how many parts of at most `size` images every process parts its share; 1 for 0.

        The same for all, though shares differ by one: each backward pass waits for the others. No
        part is empty, for which that of the larger share may hold one image more.
        """
        smallest, largest = rows // self.size, -(-rows // self.size)
        return min(-(-largest // size), smallest) if size else 1

    def accumulate(self, forward: Any, *, last: bool) -> AbstractContextManager[None]:
        """In it gradients stay this process's own, but for the last part of a batch."""
        return contextlib.nullcontext() if self.size == 1 or last else forward.no_sync()

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model to call: one that averages gradients over the team in its backward pass."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)

    def add(self, values: Tensor) -> Tensor:
        """The sum over the team, on every process."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def hear(self, *values: float) -> tuple[float, ...]:
        """What the leader says here, on every process."""
        if self.size == 1:
            return values
        message = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(message, 0)
        return tuple(message.tolist())


ALONE = Team()


@contextlib.contextmanager
def lead(run_id: str, size: int) -> Iterator[Team]:
    """Start the followers of a run, and end them with the block."""
    if size == 1:
        yield Team()
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "imgcls.worker", run_id, str(port)]
    followers = [subprocess.Popen([*command, str(rank)]) for rank in range(1, size)]
    try:
        yield join(0, size, port)
    finally:
        for follower in followers:
            follower.kill()
            follower.wait()


def join(rank: int, size: int, port: int) -> Team:
    """Meet the others; raises ConfigError where there are fewer GPUs than processes."""
    cuda = torch.cuda.is_available()
    if cuda and torch.cuda.device_count() < size:
        raise ConfigError(
            f"{size} processes need {size} GPUs, this machine has {torch.cuda.device_count()}: "
            "set processes to that."
        )
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=size,
        timeout=WAIT,
    )
    return Team(rank, size)
