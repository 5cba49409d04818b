"""What this machine computes with: device, number format and threads, chosen once a process.

What was measured is remembered in `<home>/cache/machine.json`; a file that cannot be read or
written means only that it is measured again.
"""

import contextlib
import copy
import itertools
import json
import math
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.nn as nn
import torch.nn.functional as F

from imgcls import config, files
from imgcls.config import TrainConfig
from imgcls.errors import ConfigError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TRIALS = 4  # rounds at least, in which each candidate is timed once; the first warms up
TRIAL_LEAST = 0.4  # seconds of rounds at least: a few steps of a millisecond tell nothing
TRIAL_SECONDS = 8.0  # after which no further round begins, if two have been
TRIAL_IMAGES = 128  # at most; what is faster for these is faster for more
TRIAL_PIXELS = 2**18  # at most, of all of them; large images are few
TRIAL_FEW = 8  # images of a first look at each format
HOPELESS = 4  # times the quickest: a format that takes longer over these few is out
# Sides of square matrices: small ones are done before a busy CPU goes on to another process, and
# large ones have work for many cores.
PRODUCT_SIDES = {"cpu": (256, 512, 1024, 2048), "cuda": (4096, 8192)}
PRODUCT_SECONDS = 0.3  # for all sides, about
STEPS = 2  # raised when steps or their trials change, so that number formats are measured anew


def device(name: str) -> torch.device:
    """The device of this name; auto takes cuda, then mps, then cpu.

    Raises ConfigError where the named device is not usable here.
    """
    usable = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    chosen = next(kind for kind, works in usable.items() if works) if name == "auto" else name
    if not usable[chosen]:
        there = ", ".join(kind for kind, works in usable.items() if works)
        raise ConfigError(f"Device {chosen} is not usable on this machine; usable: {there}, auto.")
    return torch.device(chosen)


def describe(where: torch.device) -> str:
    """The device as a person would call it, such as `NVIDIA A100` or `CPU, 8 cores`."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    if where.type == "mps":
        return "Apple GPU"
    return f"CPU, {psutil.cpu_count(logical=False) or psutil.cpu_count() or 1} cores"


def found() -> dict[str, str | int | float]:
    """What the home page shows of this machine."""
    where = device("auto")
    return {
        "device": describe(where),
        "kind": where.type,
        "threads": torch.get_num_threads(),
        "memory_gb": psutil.virtual_memory().total / 2**30,
        "torch": str(torch.__version__),
    }


def prepare(where: torch.device) -> None:
    """Set up this process for training."""
    # Weight decay drives weights below 1e-38, where x86 gets slow. Threads made later inherit it.
    torch.set_flush_denormal(True)
    if where.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")


def memory_mb(where: torch.device) -> float:
    """Memory in use: allocated on a GPU, resident on a CPU. Does not wait for the device."""
    if where.type == "cuda":
        return torch.cuda.memory_allocated(where) / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20


def choose(
    settings: TrainConfig, where: torch.device, model: nn.Module, size: int
) -> tuple[str, int]:
    """Number format (fp32, bf16 or fp16) and CPU threads: those asked for, or what suits best.

    CUDA: bf16 from compute capability 8.0, fp16 from 7.0 (tensor cores without bf16). CPU: what is
    measured to be fastest in one training step of this very model; its number format is remembered,
    and threads, which depend on what else goes on, are measured each time. Otherwise fp32. Raises
    ConfigError for fp16 on a CPU.
    """
    name, threads = settings.precision, settings.threads
    if where.type == "cpu":
        if name == "fp16":
            raise ConfigError("fp16 is no use on a CPU: choose auto, fp32 or bf16.")
        key = _step_key(settings, where, size)  # before trials with other threads
        known = remembered(settings, where, size) if name == "auto" else name
        formats = (known,) if known else ("fp32", "bf16")
        counts = (threads,) if threads else tuple({1, torch.get_num_threads()})
        fastest = _fastest_on_cpu(formats, counts, model, settings.batch_size, size)
        if not known:
            _remember("format", key, fastest[0])
        return fastest
    if name == "auto" and where.type == "cuda":
        capability = torch.cuda.get_device_capability(where)
        name = "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "fp32"
    return "fp32" if name == "auto" else name, threads or torch.get_num_threads()


def remembered(settings: TrainConfig, where: torch.device, size: int) -> str | None:
    """The number format that an earlier run of this kind was measured to be fastest with."""
    known = _recall("format", _step_key(settings, where, size))
    return next((name for name in DTYPES if name == known), None)


def matrix_product(where: torch.device, precision: str) -> float:
    """FLOP/s of a large matrix product in this number format with the threads of this process.

    The best that was ever measured here: each call takes half a second to look for a better, since
    one that was taken beside other work would be wrong for good. What one thread can do, several
    can, even where they wait for each other now.
    """
    threads = torch.get_num_threads()
    key = _key(where, precision, f"{threads} threads")
    known = _recall("matrix product", key)
    best = float(known) if isinstance(known, (int, float)) and 0 < known < math.inf else 0.0
    measured = 0.0
    for count in sorted({1, threads} if where.type == "cpu" else {threads}):
        torch.set_num_threads(count)  # the last of them are those of this process again
        measured = max(measured, _matrix_product(where, DTYPES[precision]))
    if measured > best:
        _remember("matrix product", key, measured)
    return max(measured, best)


def _matrix_product(where: torch.device, dtype: torch.dtype) -> float:
    sides = PRODUCT_SIDES.get(where.type, PRODUCT_SIDES["cpu"])
    best, begin = 0.0, time.perf_counter()
    for side in sides:
        if time.perf_counter() - begin > PRODUCT_SECONDS:
            break
        best = max(best, 2 * side**3 / _product_seconds(where, dtype, side, len(sides)))
    return best


def _product_seconds(where: torch.device, dtype: torch.dtype, side: int, sides: int) -> float:
    """Of the fastest of several products, two at least, the first of which warms up."""
    chance = torch.Generator(where).manual_seed(0)  # zeros would draw less power, and run faster
    a, b = (torch.rand(side, side, device=where, generator=chance).to(dtype) for _ in range(2))
    out, seconds, begin, count = torch.empty_like(a), math.inf, time.perf_counter(), 0
    while count < 2 or time.perf_counter() - begin < PRODUCT_SECONDS / sides:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        if where.type != "cpu":
            torch.accelerator.synchronize(where)
        seconds = min(seconds, time.perf_counter() - start)
        count += 1
    return seconds


def _key(where: torch.device, *more: object) -> str:
    name = describe(where)
    if where.type == "cpu":
        name = f"{_cpu_name()} ({torch.backends.cpu.get_cpu_capability()}), {name}"
    return " | ".join(map(str, (name, f"torch {torch.__version__}", *more)))


def _step_key(settings: TrainConfig, where: torch.device, size: int) -> str:
    """What a step's cost depends on."""
    names = ("model", "stem", "freeze", "batch_size", "micro_batch", "input_size", "threads")
    parts = [f"{name} {getattr(settings, name)}" for name in names]
    if settings.flip and settings.mirror_pairs:
        parts.append("mirrored pairs")
    return _key(
        where, *parts, f"steps {STEPS}", f"{size} px", f"up to {torch.get_num_threads()} threads"
    )


def _cpu_name() -> str:
    with contextlib.suppress(OSError):  # a file that only Linux has
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cache() -> Path:
    return config.home() / "cache" / "machine.json"


def _recalled() -> dict[str, dict[str, Any]]:
    """All that is remembered, by kind and key."""
    try:
        known = json.loads(_cache().read_text())
        return {kind: dict(values) for kind, values in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _recall(kind: str, key: str) -> Any:
    return _recalled().get(kind, {}).get(key)


def _remember(kind: str, key: str, value: str | float) -> None:
    known = _recalled()
    known.setdefault(kind, {})[key] = value

    def write(draft: Path) -> None:
        draft.write_text(json.dumps(known, indent=1))

    with contextlib.suppress(OSError):  # read-only or full: then it is measured again
        _cache().parent.mkdir(exist_ok=True)
        files.write_atomically(_cache(), write)


def _fastest_on_cpu(
    formats: tuple[str, ...], counts: tuple[int, ...], model: nn.Module, batch: int, size: int
) -> tuple[str, int]:
    seconds: dict[tuple[str, int], list[float]] = {(n, c): [] for c in counts for n in formats}
    if len(seconds) == 1:
        return next(iter(seconds))
    trial = copy.deepcopy(model).train()  # batch-norm statistics and gradients stay untouched
    shape = (min(batch, TRIAL_IMAGES, max(2, TRIAL_PIXELS // size**2)), 3, size, size)
    images = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.int64)

    def timed(name: str, count: int, n: int) -> float:
        torch.set_num_threads(count)
        start = time.perf_counter()
        with torch.autocast("cpu", DTYPES[name], enabled=name != "fp32"):
            loss = F.cross_entropy(trial(images[:n]), labels[:n])
        loss.backward()
        return time.perf_counter() - start

    state, begin, n = torch.get_rng_state(), time.perf_counter(), len(images)
    few = {name: min(timed(name, counts[0], TRIAL_FEW) for _ in range(2)) for name in formats}
    for name, count in list(seconds):
        if few[name] > HOPELESS * min(few.values()):
            del seconds[name, count]  # without bf16 units all rounds would take minutes
    rounds = time.perf_counter()
    for round in itertools.count():  # each times all in turn, since a machine's speed drifts
        now = time.perf_counter()
        enough = round >= TRIALS and now - rounds > TRIAL_LEAST
        if enough or (round > 1 and now - begin > TRIAL_SECONDS):
            break
        for (name, count), told in seconds.items():
            told.append(timed(name, count, n))
    torch.set_rng_state(state)
    return min(seconds, key=lambda key: statistics.median(seconds[key][1:]))
