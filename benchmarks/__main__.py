"""Measure this machine: `python -m benchmarks [NAME...]`, or `make bench`.

Each module of this folder that has `rows(...)` measures something. It yields `Row`s for the table,
and dictionaries of what else should be kept; its parameters are the options that it takes. With
`--json` every one of them is appended to a file as soon as it is there, a line each.
"""

import argparse
import importlib
import inspect
import json
import math
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import Row, machine
from imgcls import config
from imgcls.errors import ImgclsError

OPTIONS: dict[str, tuple[type, str]] = {
    "dataset": (str, "which to learn from, by its name in IMGCLS_HOME (default: cifar10)"),
    "repeats": (int, "how often to measure each thing"),
    "seconds": (float, "how long each measurement of a speed takes"),
    "race": (str, "the only race to run, for time_to_accuracy"),
    "seed": (int, "the only seed to race with, for time_to_accuracy"),
}
Measurement = Row | dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Measure what is named, or everything, and print one table; 1 where something could not be."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.names if name not in files()]:
        parser.error(f"There is no {unknown[0]!r}. Choose of: {', '.join(names())}.")
    if asked.show:
        facts, rows = recorded(asked.show)
        show(rows, machine.described(facts))
        return 0
    facts = machine.facts()
    print(machine.described(facts), file=sys.stderr, flush=True)
    given = {name: getattr(asked, name) for name in OPTIONS if getattr(asked, name) is not None}
    rows, complete = [], True
    try:
        for name in asked.names or names():
            for measured in measure(name, given):
                keep(asked.json, facts, measured)
                if isinstance(measured, Row):
                    rows.append(measured)
                    print(f"{name}: {' · '.join(cells(measured))}", file=sys.stderr, flush=True)
                    complete = complete and not isinstance(measured, Impossible)
    except KeyboardInterrupt:
        complete = False
    show(rows, machine.described(facts))
    return 0 if complete else 1


class Impossible(Row):
    """A module that could not measure, and why."""


def measure(name: str, given: dict[str, Any]) -> Iterator[Measurement]:
    """What a module measures, with those of the given options that it takes."""
    rows: Callable[..., Iterator[Measurement]] = importlib.import_module(f"benchmarks.{name}").rows
    taken = given.keys() & inspect.signature(rows).parameters.keys()
    try:
        yield from rows(**{option: given[option] for option in taken})
    except ImgclsError as error:
        yield Impossible(name, (), "", note=str(error))


def names() -> list[str]:
    """The modules that measure something."""
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in files()}
    return [name for name, module in modules.items() if hasattr(module, "rows")]


def files() -> list[str]:
    """The modules of this folder but this one."""
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return sorted(name for name in found if name != "__main__")


def keep(file: Path | None, facts: dict[str, Any], measured: Measurement) -> None:
    """Append a measurement, with the machine that it was made on, to a file of JSON lines."""
    if file is None:
        return
    kind = "row" if isinstance(measured, Row) else "record"
    values = (
        {**asdict(measured), "ratio": measured.ratio} if isinstance(measured, Row) else measured
    )
    line = {"time": time.time(), "machine": facts, kind: values}
    with open(file, "a", encoding="utf-8") as lines:
        lines.write(config.dumps(line) + "\n")


def recorded(file: Path) -> tuple[dict[str, Any], list[Row]]:
    """The last machine and the rows in a file of `keep`; races of several calls are put together.

    A row measured again replaces the one before. Lines that are torn or foreign are passed over.
    """
    from benchmarks import time_to_accuracy

    facts: dict[str, Any] = {}
    rows: dict[tuple[str, str], Row] = {}
    races = []
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
            facts = line["machine"]
            if "row" in line:
                row = _row(line["row"])
                rows[row.what, row.baseline.what if row.baseline else ""] = row
            elif line["record"]["kind"] == time_to_accuracy.KIND:
                races.append(line["record"])
        except (ValueError, KeyError, TypeError):
            continue
    for row in time_to_accuracy.summary(races):
        rows[row.what, row.baseline.what if row.baseline else ""] = row
    return facts, list(rows.values())


def _row(values: dict[str, Any]) -> Row:
    return Row(
        what=values["what"],
        values=tuple(math.inf if v is None else v for v in values["values"]),
        unit=values["unit"],
        baseline=_row(values["baseline"]) if values["baseline"] else None,
        note=values["note"],
    )


def show(rows: list[Row], caption: str) -> None:
    """Print the table."""
    columns = ("what", "median", "range", "n", "against", "ratio", "range", "note")
    table = Table(*columns, caption=caption)
    for row in rows:
        table.add_row(*cells(row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def cells(row: Row) -> tuple[str, ...]:
    """A row as it is printed; a ratio to what was not reached is none."""
    unit = f" {row.unit}" if math.isfinite(row.median) else ""
    return (
        row.what,
        f"{_number(row.median)}{unit}" if row.values else "not measured",
        _range(row.values),
        str(len(row.values)),
        row.baseline.what if row.baseline else "",
        _number(row.ratio, 2) if row.ratios else "",
        _range(row.ratios, 2),
        row.note,
    )


def _range(values: tuple[float, ...], decimals: int | None = None) -> str:
    if len(values) < 2:
        return ""
    return f"{_number(min(values), decimals)} to {_number(max(values), decimals)}"


def _number(value: float, decimals: int | None = None) -> str:
    if not math.isfinite(value):
        return "not reached" if value > 0 else "–"
    if decimals is not None:
        return f"{value:.{decimals}f}" if value else "–"
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a module of this folder; all by default"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="append each measurement to it")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print what it holds, no more")
    for name, (kind, help) in OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, help=help)
    return parser


if __name__ == "__main__":
    sys.exit(main())
