"""Start, watch and stop the worker process of a run. Imports neither torch nor streamlit."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from imgcls import config, runs
from imgcls.config import TrainConfig
from imgcls.data import catalog
from imgcls.errors import ConfigError, ImgclsError, RunError
from imgcls.runs import Run

# What must be set before a worker begins, and can be set otherwise from outside. Threads that spin
# for each other starve a machine that does other work too, and threads that sleep at once are late
# on a quiet one: they spin briefly. glibc returns large blocks to the system at once, so each step
# would have its memory mapped and zeroed anew.
ENVIRONMENT = {
    "GOMP_SPINCOUNT": "10000",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 28),
}


def new(settings: TrainConfig, now: datetime) -> Run:
    """Create a run on a data set that is on disk, and start its worker."""
    check_possible(settings)
    run = runs.create(settings, catalog.load(settings.dataset).fingerprint, now)
    start(run)
    return run


def start(run: Run) -> None:
    """Start or resume a run in a process that outlives this one; returns once it is alive.

    Raises RunError where the run is already training, or its worker ends at once.
    """
    check_startable(run)
    environment = {
        **ENVIRONMENT,
        **os.environ,
        "IMGCLS_HOME": str(config.home().resolve()),
    }
    with open(run.log_path, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "imgcls.worker", run.id],
            cwd=Path(__file__).resolve().parents[1],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # neither Ctrl-C nor the server's end reaches it
        )
    threading.Thread(target=process.wait, daemon=True).start()  # leaves no zombie
    deadline = time.monotonic() + runs.START_SECONDS
    while time.monotonic() < deadline and process.returncode is None:
        if run.worker_pid() == process.pid:
            return
        time.sleep(0.02)
    if process.returncode not in (None, 0):
        raise RunError(f"The worker of {run.id} ended at once: {_last_line(run)}")


def within(settings: TrainConfig, minutes: float) -> dict[str, Any]:
    """`budget.within`, measured in a process like those that train, whose speed it is about.

    Returns the settings that it fixes, and `told`, the same in words. Raises ConfigError where not
    even one step fits, and what it raises else as RunError.
    """
    asked = config.dumps({"settings": settings.to_dict(), "minutes": minutes})
    done = subprocess.run(
        [sys.executable, "-m", "imgcls.budget"],
        cwd=Path(__file__).resolve().parents[1],
        env={**ENVIRONMENT, **os.environ, "IMGCLS_HOME": str(config.home().resolve())},
        input=asked.encode(),
        stdout=subprocess.PIPE,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if "refused" in answer:
        raise ConfigError(answer["refused"])
    if "fixed" not in answer:
        raise RunError(f"The measurement ended with status {done.returncode}: give epochs instead.")
    return {**answer["fixed"], "told": answer["told"]}


def check_possible(settings: TrainConfig) -> None:
    """Raise where it can be told without torch that a run of these settings cannot begin."""
    found = device_kind(TrainConfig())
    if settings.device not in ("auto", "cpu", found):
        raise ConfigError(
            f"Device {settings.device} is not usable on this machine; choose auto"
            f"{'' if found == 'cpu' else f', {found}'} or cpu."
        )
    if settings.weights and not Path(settings.weights).is_file():
        raise ConfigError(f"There is no weights file {settings.weights}: correct weights.")
    config.check_size(settings, catalog.load(settings.dataset).size)


def check_startable(run: Run) -> None:
    """Raise RunError where a run is already alive or has nothing left to do."""
    pid = run.worker_pid()
    if run.alive():
        raise RunError(
            f"Run {run.id} is already being trained by process {pid}; watch it or stop it first."
        )
    state = run.state()
    if state == runs.State.FINISHED:
        raise RunError(f"Run {run.id} has finished: start a new one to train longer.")


def waiting_before(run: Run) -> int:
    """How many runs wait for the same device and came first."""
    kind, count = device_kind(run.config), 0
    for other in runs.all_runs():
        if other.id < run.id and other.state() == runs.State.QUEUED:
            with contextlib.suppress(ImgclsError):  # somebody damaged its settings: it will fail
                count += device_kind(other.config) == kind
    return count


def device_kind(settings: TrainConfig) -> str:
    """cuda, mps or cpu, as far as can be told without importing torch: what a run queues for."""
    if settings.device != "auto":
        return settings.device
    if any(Path(p).exists() for p in ("/dev/nvidia0", "/proc/driver/nvidia/version", "/dev/dxg")):
        return "cuda"
    return "mps" if sys.platform == "darwin" and os.uname().machine == "arm64" else "cpu"


def _last_line(run: Run) -> str:
    lines = run.log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing."
