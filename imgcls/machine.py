"""What this machine computes with: device, number format and threads, chosen once a process."""

import copy
import math
import time

import psutil
import torch
import torch.nn as nn
import torch.nn.functional as F

from imgcls.config import TrainConfig
from imgcls.errors import ConfigError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TRIALS = 4  # rounds in which each candidate is timed once, the first of which warms up
TRIAL_SECONDS = 8.0  # after which no further round begins
TRIAL_IMAGES = 128  # at most; what is faster for these is faster for more


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
    measured to be fastest in one training step of this very model. Otherwise fp32. Raises
    ConfigError for fp16 on a CPU.
    """
    name, threads = settings.precision, settings.threads
    if where.type == "cpu":
        if name == "fp16":
            raise ConfigError("fp16 is no use on a CPU: choose auto, fp32 or bf16.")
        formats = ("fp32", "bf16") if name == "auto" else (name,)
        counts = (threads,) if threads else tuple({1, torch.get_num_threads()})
        return _fastest_on_cpu(formats, counts, model, settings.batch_size, size)
    if name == "auto" and where.type == "cuda":
        capability = torch.cuda.get_device_capability(where)
        name = "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "fp32"
    return "fp32" if name == "auto" else name, threads or torch.get_num_threads()


def _fastest_on_cpu(
    formats: tuple[str, ...], counts: tuple[int, ...], model: nn.Module, batch: int, size: int
) -> tuple[str, int]:
    seconds = {(name, count): math.inf for count in counts for name in formats}
    if len(seconds) == 1:
        return next(iter(seconds))
    trial = copy.deepcopy(model).train()  # batch-norm statistics and gradients stay untouched
    shape = (min(batch, TRIAL_IMAGES), 3, size, size)
    images = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.int64)
    state, begin = torch.get_rng_state(), time.perf_counter()
    for round in range(TRIALS):  # each times all in turn, since a machine's speed drifts
        if round > 1 and time.perf_counter() - begin > TRIAL_SECONDS:
            break
        for name, count in seconds:
            torch.set_num_threads(count)
            start = time.perf_counter()
            with torch.autocast("cpu", DTYPES[name], enabled=name != "fp32"):
                loss = F.cross_entropy(trial(images), labels)
            loss.backward()
            seconds[name, count] = min(seconds[name, count], time.perf_counter() - start)
    torch.set_rng_state(state)
    return min(seconds, key=lambda key: seconds[key])
