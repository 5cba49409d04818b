"""What commands print: one JSON value or a plain table on stdout, progress and errors on stderr."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from imgcls import config, preprocess, runs
from imgcls.errors import RunError
from imgcls.runs import Run

if TYPE_CHECKING:
    from rich.progress import Progress

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="Its id, the beginning of it, or: latest.")
]


def as_json(value: Any) -> None:
    """Print one strict JSON value."""
    print(config.dumps(value))


def note(text: str) -> None:
    """Say something on stderr, beside the answer."""
    print(_plain(text), file=sys.stderr)


def fail(sentence: str) -> NoReturn:
    """One sentence on stderr, and exit status 1."""
    note(sentence)
    raise SystemExit(1)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns, whole whatever the terminal's width; numbers stand to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    number = [
        bool(rows) and all(isinstance(row[i], (int, float, type(None))) for row in rows)
        for i in range(len(columns))
    ]
    for line in ([*columns], *cells):
        fitted = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, number, strict=True)
        )
        print("  ".join(fitted).rstrip())


def percent(share: float | None) -> str:
    """0.8312 as `83.12 %`; a dash for what is not known."""
    return "–" if share is None or share != share else f"{share:.2%}".replace("%", " %")


def find_run(text: str) -> Run:
    """The run that RUN means: an id, a beginning that only one id has, `latest` or `shipped`.

    Raises RunError where there is none, or more than one.
    """
    if text == runs.SHIPPED:
        return runs.shipped()
    known = runs.all_runs()
    if text == "latest":
        if not known:
            raise RunError("There is no run yet. Start one with: python -m imgcls train")
        return known[0]
    matches = [run for run in known if text and run.id.startswith(text)]
    if len(matches) > 1 and text not in (run.id for run in matches):
        some = ", ".join(run.id for run in matches[:5])
        raise RunError(f"{len(matches)} runs begin with {text!r}: {some}. Type more of the id.")
    return runs.get(matches[0].id if len(matches) == 1 else text)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is lost; whoever is no terminal has said what they want."""
    if not yes and sys.stdin.isatty():
        typer.confirm(question, abort=True, err=True)


@contextmanager
def bar() -> Iterator["Progress"]:
    """A progress display on stderr that shows itself on terminals only."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False, markup=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


@contextmanager
def counting(text: str) -> Iterator[Callable[..., None]]:
    """A bar for work that reports `(done, total, what)`."""
    with bar() as progress:
        task = progress.add_task(text, total=None)

        def report(done: float, total: float, what: str = "") -> None:
            described = _plain(what) or text
            progress.update(task, completed=done, total=total or None, description=described)

        yield report


def _cell(value: object) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return preprocess.printable(str(value))


def _plain(text: str) -> str:
    """Without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
