"""Heavy or risky work for the pages, in child processes: this process never imports torch.

One child a kind of work: `model` predicts and evaluates, `long` does what takes minutes, so that
nobody who wants an answer waits for it, and `data` decodes what visitors upload. A child has a
memory limit, every call a time limit; a child that breaks either is replaced, and the page gets one
sentence. Not a ProcessPoolExecutor: that cannot end one overdue task, and under
Streamlit its children would run the router script again.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import streamlit as st

from imgcls import jobs
from imgcls.config import TrainConfig
from imgcls.errors import ImgclsError

Kind = Literal["model", "long", "data"]
# Bytes of address space.
MEMORY: dict[Kind, int] = {"model": 12 << 30, "long": 12 << 30, "data": 4 << 30}
_THREADS = str(min(os.cpu_count() or 1, 8))


@dataclass
class Job:
    """Work under way: its future, and how far it says it is."""

    future: Future[Any]
    progress: tuple[float, float, str] = (0.0, 1.0, "")  # done, total, text
    cancelled: bool = False

    def result(self) -> Any:
        """What the function returned; raises ImgclsError as `call` does."""
        return self.future.result()


class Worker:
    """A child process that does one thing at a time, replaced when it dies or is overdue."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._queue: SimpleQueue[tuple[Job, tuple[Any, ...], float] | None] = SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._lock = threading.Lock()
        # A daemon, unlike the threads of a ThreadPoolExecutor: the server ends without waiting.
        threading.Thread(target=self._work, name=f"imgcls-{kind}", daemon=True).start()

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], timeout: float, progress: bool
    ) -> Job:
        """Put work in line; the time limit counts from when its turn comes."""
        job = Job(Future())
        request = (function, args, progress, os.environ.get("IMGCLS_HOME"))
        self._queue.put((job, request, timeout))
        return job

    def end(self) -> None:
        """End the child now; the next request gets a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)  # and what it started
                self._process.wait()
            self._process = self._connection = None

    def cancel(self, job: Job) -> None:
        """Take work out of the line, or end the child that is at it."""
        job.cancelled = True
        if not job.future.cancel() and not job.future.done():
            self.end()

    def close(self) -> None:
        """End the child and take no more work."""
        self._queue.put(None)
        self.end()

    def _work(self) -> None:
        while item := self._queue.get():
            job, request, timeout = item
            if job.future.set_running_or_notify_cancel():
                try:
                    job.future.set_result(self._answer(job, request, timeout))
                except BaseException as error:
                    job.future.set_exception(error)
            del item, job, request  # a waiting thread holds no upload

    def _child(self) -> "Connection[Any, Any]":
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                if self._connection is not None:
                    self._connection.close()
                self._connection, theirs = Pipe()
                limited = jobs.device_kind(TrainConfig()) != "cuda"  # CUDA maps all GPU memory
                limit = MEMORY[self._kind] if limited else 0
                module = "imgcls.ui.compute_worker"
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module, str(theirs.fileno()), str(limit)],
                    cwd=Path(__file__).resolve().parents[2],
                    env={
                        **jobs.ENVIRONMENT,  # it often computes beside a training
                        "OMP_NUM_THREADS": _THREADS,
                        "OPENBLAS_NUM_THREADS": _THREADS,
                        **os.environ,
                    },
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
                theirs.close()
            assert self._connection is not None
            return self._connection

    def _answer(self, job: Job, request: tuple[Any, ...], timeout: float) -> Any:
        try:
            connection = self._child()
            connection.send(request)
            deadline = time.monotonic() + timeout
            while connection.poll(max(0.0, deadline - time.monotonic())):
                kind, value = connection.recv()
                if kind == "progress":
                    job.progress = value
                    continue
                return _outcome(kind, value, self._kind)
        except (EOFError, OSError):
            self.end()
            if job.cancelled:
                raise ImgclsError("Cancelled; nothing was stored.") from None
            raise ImgclsError(
                "The worker process died, probably out of memory: try a smaller file or fewer "
                "images."
            ) from None
        self.end()
        raise ImgclsError(f"This took longer than {timeout:g} s and was ended: try less at a time.")


def call(
    function: Callable[..., Any], *args: Any, timeout: float = 60.0, worker: Kind = "model"
) -> Any:
    """The result of a module-level function, computed in the child.

    Raises ImgclsError for a time-out, a death or a failure; the function's own ImgclsError comes
    through unchanged.
    """
    job = submit(function, *args, timeout=timeout, worker=worker)
    try:
        return job.future.result(timeout=2 * timeout)
    except FutureTimeoutError:
        job.future.cancel()
        raise ImgclsError("The server is busy with other work: try again in a minute.") from None


def submit(
    function: Callable[..., Any],
    *args: Any,
    timeout: float = 3600.0,
    worker: Kind = "data",
    progress: bool = False,
) -> Job:
    """Start long work; keep the Job in st.session_state and show it with `watch`.

    With `progress` the function is called with `progress=report`, to be called as
    `report(done, total, text="")`.
    """
    return _worker(worker).submit(function, args, timeout, progress)


def shared(key: str) -> Job | None:
    """The job under way that was started under this key, by whichever visitor."""
    return _shared().get((os.environ.get("IMGCLS_HOME"), key))


def share(key: str, job: Job | None) -> None:
    """Let every visitor find a job under this key, or none any more."""
    if job is None:
        _shared().pop((os.environ.get("IMGCLS_HOME"), key), None)
    else:
        _shared()[os.environ.get("IMGCLS_HOME"), key] = job


@st.cache_resource(show_spinner=False)
def _shared() -> dict[tuple[str | None, str], Job]:
    return {}


def cancel(job: Job, worker: Kind) -> None:
    """End a job that this kind of worker was given; its result says that it was cancelled."""
    _worker(worker).cancel(job)


def watch(job: Job, text: str) -> None:
    """A progress bar for a job; the page runs again when it has ended.

    Where the job has ended nothing is shown: ask `job.result()`.
    """
    if not job.future.done():
        st.fragment(_tick, run_every=0.5)(job, text)


def _tick(job: Job, text: str) -> None:
    if job.future.done():
        st.rerun()
    done, total, said = job.progress
    share = min(max(done / total if total > 0 else 0.0, 0.0), 1.0)
    st.progress(share, text=f"{text} · {said}" if said else text)


def _outcome(kind: str, value: Any, worker: Kind) -> Any:
    if kind == "result":
        return value
    if kind == "refused":
        raise value
    if kind == "memory":
        raise ImgclsError(
            f"This needs more than the {MEMORY[worker] >> 30} GB of memory it may use: try a "
            "smaller file or fewer images."
        )
    raise ImgclsError(f"This failed unexpectedly ({value}); the server's log says more.")


@st.cache_resource(show_spinner=False, on_release=Worker.close)
def _worker(kind: Kind) -> Worker:
    return Worker(kind)
