"""A picture through the model that ships: in this process, over HTTP, and many at once.

Servers with dynamic batching and without take turns, each asked by as many clients at once. Beside
pictures a second stands the processor time that a picture costs, of which other work on the machine
takes nothing: where all cores are busy, one is the inverse of the other.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import psutil

from benchmarks import Row, in_turn, own_home
from imgcls import predict, runs
from imgcls.errors import RunError
from imgcls.serve.app import Limits

CLIENTS = 32
SINGLE = 200  # pictures asked one after another
START_SECONDS = 120.0
PARTS = ("decoding", "waiting", "model")


def rows(repeats: int = 5, seconds: float = 5.0) -> Iterator[Row]:
    """Milliseconds of one picture, pictures a second of many, and where their time goes."""
    data = (runs.ASSETS / "examples" / "cat.jpg").read_bytes()
    with own_home() as _:
        predict.predict(runs.SHIPPED, [("cat.jpg", data)])  # loads it
        taken = []
        for _ in range(SINGLE):
            start = time.perf_counter()
            predict.predict(runs.SHIPPED, [("cat.jpg", data)])
            taken.append(1000 * (time.perf_counter() - start))
        yield Row("a picture, in this process", tuple(taken), "ms")
        with serving(Limits().batch) as batched, serving(1) as alone:
            servers = batched, alone
            idle = asyncio.run(one_by_one(batched[0], data))
            yield Row("a picture, over HTTP, idle", idle, "ms")
            rates: dict[int, list[float]] = {0: [], 1: []}
            costs: dict[int, list[float]] = {0: [], 1: []}
            before = [split(port) for port, _ in servers]
            for _, which in in_turn(2, repeats):
                port, process = servers[which]
                spent_before = processor_seconds(process)
                count, wall = asyncio.run(together(port, data, seconds))
                rates[which].append(count / wall)
                costs[which].append(1000 * (processor_seconds(process) - spent_before) / count)
            after = [split(port) for port, _ in servers]
    plain = Row(f"{CLIENTS} clients, batching off", tuple(rates[1]), "pictures/s")
    yield plain
    yield Row(f"{CLIENTS} clients, in batches", tuple(rates[0]), "pictures/s", plain)
    costly = Row("processor time, batching off", tuple(costs[1]), "ms a picture")
    yield costly
    yield Row("processor time, in batches", tuple(costs[0]), "ms a picture", costly)
    for name, early, late in zip(("in batches", "batching off"), before, after, strict=True):
        for part in PARTS:
            spent, answered = (late[part][i] - early[part][i] for i in (0, 1))
            yield Row(f"{part}, {name}, mean", (1000 * spent / max(answered, 1),), "ms")


@contextmanager
def serving(batch: int) -> Iterator[tuple[int, psutil.Process]]:
    """A server of the model that ships: its port, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "imgcls", "serve", "shipped", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--batch", str(batch)], stderr=subprocess.DEVNULL, env=os.environ.copy()
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if time.monotonic() > deadline or process.poll() is not None:
                raise RunError("The server did not start.")
            time.sleep(0.2)
        yield port, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


async def one_by_one(port: int, data: bytes) -> tuple[float, ...]:
    """Milliseconds of each of some requests, one at a time."""
    taken = []
    async with connected(port) as ask:
        for _ in range(SINGLE):
            start = time.perf_counter()
            await ask(data)
            taken.append(1000 * (time.perf_counter() - start))
    return tuple(taken)


def processor_seconds(server: psutil.Process) -> float:
    """Of a server and its decoders, with what their clients in this process take."""
    processes = (server, *server.children(recursive=True), psutil.Process())
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def together(port: int, data: bytes, seconds: float) -> tuple[int, float]:
    """Pictures of CLIENTS that ask again as soon as they are answered, and the seconds taken."""
    done, deadline = 0, time.perf_counter() + seconds

    async def client() -> None:
        nonlocal done
        async with connected(port) as ask:
            while time.perf_counter() < deadline:
                await ask(data)
                done += 1

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return done, time.perf_counter() - start


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    """One connection that stays open; a client's library would take as long as the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(data: bytes) -> None:
        body = (
            b'--b\r\ncontent-disposition: form-data; name="files"; filename="cat.jpg"\r\n\r\n'
            + data
            + b"\r\n--b--\r\n"
        )
        writer.write(
            b"POST /predict HTTP/1.1\r\nhost: bench\r\n"
            b"content-type: multipart/form-data; boundary=b\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        answer = await reader.readexactly(int(length[1]) if length else 0)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RunError(f"The server answers {head[9:12]!r}: {answer[:200]!r}")

    try:
        yield ask
    finally:
        writer.close()


def split(port: int) -> dict[str, tuple[float, float]]:
    """Seconds and pictures so far, a part."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found = {}
    for part in PARTS:
        told = dict(re.findall(rf'imgcls_seconds_(sum|count){{part="{part}"}} (\S+)', text))
        found[part] = float(told.get("sum", 0)), float(told.get("count", 0))  # none as yet
    return found
