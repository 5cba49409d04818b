"""The command line: python -m imgcls. It does what the pages do, and prints JSON for scripts.

Heavy modules are imported inside the commands that use them, so that `--help` answers at once.
"""

import os
import sys

import typer

from imgcls.cli import data, export, find, runs, serve, show, study, train, use
from imgcls.errors import ImgclsError

app = typer.Typer(
    name="python -m imgcls",
    help="Explore, train, judge and use image classifiers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("ablate")(study.ablate)
app.command("studies")(study.studies_)
app.add_typer(find.app, name="find")
app.command("recipes")(train.recipes)
app.add_typer(runs.app, name="runs")
app.command("evaluate")(use.evaluate)
app.command("compare")(use.compare)
app.command("predict")(use.predict)
app.command("export")(export.export)
app.command("serve")(serve.serve)


def main() -> None:
    """Run one command and exit: 0 when it worked, 2 for wrong use, 1 after a sentence on stderr."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(
            errors="replace"
        )  # a class name may not exist in the terminal's code
    try:
        app()
    except ImgclsError as error:
        show.fail(str(error))
    except OSError as error:
        named = os.fsdecode(error.filename) if error.filename else "a file"
        show.fail(
            f"{named}: {error.strerror or error}; check its place, rights and the free space."
        )
    except MemoryError:
        show.fail("Out of memory: close other programs, or use fewer or smaller images.")
