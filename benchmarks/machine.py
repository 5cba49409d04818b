"""What this machine is, and what it can do at most: every measurement is kept with it."""

import platform
import time
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

import imgcls

PACKAGES = ("torch", "torchvision", "pillow", "numpy", "streamlit")
SIDES = (512, 1024, 2048, 4096)  # of the square matrices multiplied
TRIALS = 3  # of each side; the fastest of all counts
PATIENCE = 1.0  # seconds a product, after which no larger one is tried


def facts() -> dict[str, Any]:
    """Processor, cores, memory, threads, versions, date, and matrix products a second."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": processor(),
        "cores": psutil.cpu_count(logical=False),
        "hardware_threads": psutil.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {
            "imgcls": imgcls.__version__,
            **{name: number for name in PACKAGES if (number := _version(name))},
        },
        "load": round(psutil.getloadavg()[0], 1),
        "teraflops": {name: matrix_product(name) for name in ("fp32", "bf16")},
    }


def _version(package: str) -> str | None:
    """None where it is not installed: not everything that is measured needs the app's pages."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def described(facts: dict[str, Any]) -> str:
    """The same as a table's caption."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    rates = ", ".join(f"{name} {rate:.2f}" for name, rate in facts["teraflops"].items())
    return (
        f"{facts['date']}; {facts['cpu']}, {facts['cores']} cores ({facts['hardware_threads']} "
        f"threads), {facts['memory_gib']} GiB; GPU: {facts['gpu'] or 'none'}; {facts['system']}; "
        f"Python {facts['python']}, {versions}; torch threads {facts['torch_threads']}; matrix "
        f"product of up to {SIDES[-1]}³ in TFLOP/s: {rates}; load {facts['load']}"
    )


def processor() -> str:
    """The processor's name, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def matrix_product(format: str, sides: tuple[int, ...] = SIDES) -> float:
    """TFLOP/s of a square matrix product in fp32 or bf16, on the GPU where there is one."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[format]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    best = 0.0
    for side in sides:
        matrix, seconds = torch.randn(side, side, device=device).to(dtype), 0.0
        for _ in range(TRIALS + 1):  # the first warms up and is never the fastest
            start = time.perf_counter()
            _ = (matrix @ matrix)[0, 0].item()
            seconds = time.perf_counter() - start
            best = max(best, 2 * side**3 / seconds / 1e12)
        if seconds > PATIENCE:
            break
    return round(best, 3 if best > 0.01 else 5)
