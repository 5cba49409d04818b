"""What watching costs: training speed and server time with five open Train pages and with none.

A run trains in its worker process and `streamlit run` serves the app. The viewers are not browsers,
which would take the cores for themselves, but speak their protocol over real websockets: they
open the page of the run, keep cacheable messages and name them, and ask for the live part again at
the interval that the server sets. Windows without and with viewers take turns.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect

from benchmarks import Row, own_home
from imgcls import jobs, recipes
from imgcls.errors import RunError
from imgcls.events import Step
from imgcls.runs import Run

ROOT = Path(__file__).resolve().parents[1]
VIEWERS = 5
START_SECONDS = 120.0  # for the server, and for the run's first steps
ENDS = {  # of a tick
    ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY: "done",
    ForwardMsg.FINISHED_EARLY_FOR_RERUN: "cut",
}
SETTLE = 4.0  # seconds after viewers come or go that count for neither


def rows(dataset: str = "cifar10", repeats: int = 3, seconds: float = 30.0) -> Iterator[Row]:
    """Images a second of the default recipe, and the server's CPU time a tick a tab."""
    settings = recipes.config_for(recipes.DEFAULT, dataset, epochs=500, eval_every=500)
    with own_home(dataset) as home:
        run = jobs.new(settings, datetime.now())
        try:
            with serving(home) as (port, server):
                wait_for_steps(run)
                yield from measured(run, port, server, repeats, seconds)
        finally:
            end(run)


def measured(
    run: Run, port: int, server: psutil.Process, repeats: int, seconds: float
) -> Iterator[Row]:
    """Both kinds of window in turn, the first of them another one in each round."""
    alone, watched, a_tick, cut = [], [], [], []
    for round in range(repeats):
        for with_viewers in (False, True) if round % 2 == 0 else (True, False):
            if not with_viewers:
                time.sleep(SETTLE)
                alone.append(window(run, seconds))
                continue
            with watching(port, run.id) as ticks:
                time.sleep(SETTLE)
                before, busy = sum(ticks, Counter()), cpu_seconds(server)
                watched.append(window(run, seconds))
                busy = cpu_seconds(server) - busy
                ended = sum(ticks, Counter()) - before
                if not ended.total():
                    raise RunError(f"No tick in {seconds:g} s: measure for more --seconds.")
                a_tick.append(1000 * busy / ended.total())
                cut.append(100 * ended["cut"] / ended.total())
    none = Row("training, nobody watches", tuple(alone), "images/s")
    yield none
    yield Row(f"training, {VIEWERS} viewers", tuple(watched), "images/s", none)
    yield Row("server CPU a tick a tab", tuple(a_tick), "ms")
    yield Row("ticks during which the next was asked for", tuple(cut), "%")


def window(run: Run, seconds: float) -> float:
    """Images a second of training, by the run's own events, over about so many seconds."""
    first = last_step(run)
    time.sleep(seconds)
    last = last_step(run)
    if last.step == first.step:
        raise RunError(f"{run.id} took no step in {seconds:g} s: measure for more --seconds.")
    return (last.step - first.step) * run.config.batch_size / (last.seconds - first.seconds)


def last_step(run: Run) -> Step:
    """The newest word of a step; raises RunError where the run has ended."""
    if not run.alive():
        raise RunError(f"{run.id} ended while it was watched.")
    return next(e for e in reversed(run.events()) if isinstance(e, Step))


def wait_for_steps(run: Run) -> None:
    """Return when the run has told of its first steps."""
    deadline = time.monotonic() + START_SECONDS
    while not any(isinstance(e, Step) for e in run.events()):
        if time.monotonic() > deadline or not run.alive():
            raise RunError(f"{run.id} told of no step within {START_SECONDS:g} s.")
        time.sleep(0.5)


def end(run: Run) -> None:
    """End the run's worker at once; nothing of it is kept."""
    pid = run.worker_pid()
    if pid is not None and run.alive():
        with contextlib.suppress(psutil.NoSuchProcess):
            worker = psutil.Process(pid)
            worker.kill()
            worker.wait(30)


@contextlib.contextmanager
def serving(home: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The app on a free port of loopback, and its server's process; ended with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.headless", "true",
        "--server.port", str(port), "--server.address", "127.0.0.1",
    ]  # fmt: skip
    with open(home / "server.log", "wb") as log:
        server = subprocess.Popen(
            command, cwd=ROOT, env=dict(os.environ), stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while not healthy(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RunError(f"The app did not answer within {START_SECONDS:g} s.")
            time.sleep(0.2)
        yield port, psutil.Process(server.pid)
    finally:
        children = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        server.wait(30)
        for child in psutil.wait_procs(children, timeout=10)[1]:
            child.kill()


def healthy(port: int) -> bool:
    """Whether the app answers."""
    with contextlib.suppress(urllib.error.URLError, OSError):
        url = f"http://127.0.0.1:{port}/_stcore/health"
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    return False


def cpu_seconds(server: psutil.Process) -> float:
    """CPU time that the server and its children have taken."""
    total = 0.0
    for process in (server, *server.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextlib.contextmanager
def watching(port: int, run_id: str, viewers: int = VIEWERS) -> Iterator[list[Counter[str]]]:
    """Tabs on the page of a run, in a thread; the list counts each one's ticks as they go on.

    A tick is done, or cut where the next was asked for before the server was through with it.
    Returns control when every tab has had one. Raises RunError where the app answers none.
    """
    ticks: list[Counter[str]] = [Counter() for _ in range(viewers)]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    tabs = [asyncio.run_coroutine_threadsafe(view(port, run_id, counts), loop) for counts in ticks]
    try:
        deadline = time.monotonic() + START_SECONDS
        while not all(ticks):
            for tab in tabs:
                if tab.done():
                    tab.result()  # raises what went wrong
            if time.monotonic() > deadline:
                raise RunError(
                    f"{viewers} tabs had {[t.total() for t in ticks]} ticks in {START_SECONDS:g} s."
                )
            time.sleep(0.1)
        yield ticks
    finally:
        for tab in tabs:
            tab.cancel()
        asyncio.run_coroutine_threadsafe(_settle(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _settle() -> None:
    """Let cancelled tabs say goodbye to the server."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


async def view(port: int, run_id: str, ticks: Counter[str]) -> None:
    """One tab: opens the run's page and keeps it ticking until cancelled."""
    known: set[str] = set()  # hashes of what the server need not send again
    state: dict[str, Any] = {"query_string": f"run={run_id}", "page_name": "train"}
    timers: dict[str, asyncio.Task[None]] = {}
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    protocols: Any = ["streamlit"]
    async with connect(address, subprotocols=protocols, max_size=None) as socket:

        async def ask(**more: Any) -> None:
            message = BackMsg()
            asked = {**state, **more, "cached_message_hashes": sorted(known)}
            for name, value in asked.items():
                if name == "cached_message_hashes":
                    message.rerun_script.cached_message_hashes.extend(value)
                else:
                    setattr(message.rerun_script, name, value)
            await socket.send(message.SerializeToString())

        async def every(interval: float, fragment: str) -> None:
            while True:
                await asyncio.sleep(interval)
                await ask(fragment_id=fragment, is_auto_rerun=True)

        try:
            await ask()
            async for message in _messages(socket):
                kind = message.WhichOneof("type")
                if message.metadata.cacheable:
                    known.add(message.hash)
                if kind == "new_session" and message.new_session.page_script_hash:
                    state["page_script_hash"] = message.new_session.page_script_hash
                    state["page_name"] = ""
                elif kind == "auto_rerun":
                    timer = message.auto_rerun
                    if timer.fragment_id not in timers:
                        timers[timer.fragment_id] = asyncio.create_task(
                            every(timer.interval, timer.fragment_id)
                        )
                elif kind == "stop_auto_rerun":
                    for fragment in message.stop_auto_rerun.fragment_ids:
                        if fragment in timers:
                            timers.pop(fragment).cancel()
                elif kind == "script_finished" and message.script_finished in ENDS:
                    ticks[ENDS[message.script_finished]] += 1
        finally:
            for task in timers.values():
                task.cancel()


async def _messages(socket: Any) -> AsyncIterator[ForwardMsg]:
    async for data in socket:
        message = ForwardMsg()
        message.ParseFromString(data)
        yield message
