"""Measure this machine: `python -m benchmarks`, or `make bench`.

Each other module of this folder has `rows()`, which yields what it measured. A ratio is against the
baseline named on its line, measured in the same run.
"""

import importlib
import pkgutil
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import Row

PACKAGES = ("imgcls", "torch", "pillow", "numpy", "streamlit")


def main() -> None:
    """Run every benchmark and print one table with what it was measured on."""
    names = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = [importlib.import_module(f"benchmarks.{n}") for n in names if n != "__main__"]
    table = Table("what", "median", "range", "n", "against", "ratio", caption=machine())
    for module in modules:
        for row in module.rows():
            table.add_row(*cells(row))
    Console(width=None if sys.stdout.isatty() else 130).print(table)


def cells(row: Row) -> tuple[str, ...]:
    """A row as it is printed."""
    low, high = min(row.values), max(row.values)
    return (
        row.what,
        f"{row.median:,.3g} {row.unit}" if row.median < 1000 else f"{row.median:,.0f} {row.unit}",
        f"{low:,.3g} to {high:,.3g}" if high < 1000 else f"{low:,.0f} to {high:,.0f}",
        str(len(row.values)),
        row.baseline.what if row.baseline else "",
        f"{row.median / row.baseline.median:.2f}" if row.baseline else "",
    )


def machine() -> str:
    """Processor, cores, memory, system and versions, in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {known(name)}" for name in PACKAGES)
    return (
        f"{model}, {psutil.cpu_count(logical=False)} cores ({psutil.cpu_count()} threads), "
        f"{memory:.0f} GiB; {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, {versions}; load {psutil.getloadavg()[0]:.1f}"
    )


def known(package: str) -> str:
    """The version of an installed package, or of imgcls from its source."""
    return (
        importlib.import_module("imgcls").__version__ if package == "imgcls" else version(package)
    )


if __name__ == "__main__":
    main()
