"""How long until the command line answers; torch is what it must not wait for."""

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks import Row, in_turn

COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "python -m imgcls --help": ("-m", "imgcls", "--help"),
    "import torch": ("-c", "import torch"),
}


def rows(repeats: int = 7) -> Iterator[Row]:
    """Wall time of each command, in turn with a Python that does nothing; warm file cache."""
    commands = list(COMMANDS.values())
    for command in commands:
        timed(command)  # fills the file cache
    seconds: list[list[float]] = [[] for _ in commands]
    for _, which in in_turn(len(commands), repeats):
        seconds[which].append(timed(commands[which]))
    nothing = Row("python -c pass", tuple(seconds[0]), "s")
    yield nothing
    for what, values in list(zip(COMMANDS, seconds, strict=True))[1:]:
        yield Row(what, tuple(values), "s", nothing)


def timed(command: tuple[str, ...]) -> float:
    """Seconds that Python takes with these arguments."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - start
