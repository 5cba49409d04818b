"""How long until the command line answers; torch is what it must not wait for."""

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks import Row

REPEATS = 7
COMMANDS = {
    "python -m imgcls --help": ("-m", "imgcls", "--help"),
    "import torch": ("-c", "import torch"),
}


def rows() -> Iterator[Row]:
    """Wall time of each command, against a Python that does nothing; warm file cache."""
    nothing = Row("python -c pass", timed("-c", "pass"), "s")
    yield nothing
    for what, arguments in COMMANDS.items():
        yield Row(what, timed(*arguments), "s", nothing)


def timed(*arguments: str) -> tuple[float, ...]:
    """Seconds of each repeat, after one that fills the file cache."""
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return tuple(seconds[1:])
