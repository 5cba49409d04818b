"""data import, get, list, show, delete."""

import csv
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from imgcls import runs
from imgcls.cli import show
from imgcls.errors import DataError, RunError

app = typer.Typer(
    help="Data sets on disk: import, fetch, look, delete.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the data set.")]
SHOWN_REFUSALS = 20


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder, zip, or labels CSV.")],
    name: Annotated[str, typer.Option("--name", help="Name of the new data set.")],
    size: Annotated[int, typer.Option(help="Pixels a side that images get.", min=8, max=512)] = 32,
    fit: Annotated[
        Literal["squash", "crop", "pad"], typer.Option(help="What to do where it is not square.")
    ] = "squash",
    on_bad: Annotated[
        Literal["skip", "stop"], typer.Option(help="What to do at a file that is no image.")
    ] = "skip",
    labels: Annotated[
        Path | None, typer.Option(help="A filename,label[,split] table that lies elsewhere.")
    ] = None,
    json: show.Json = False,
) -> None:
    """Import a folder or zip of <split>/<class>/image or <class>/image, or a labels CSV."""
    from imgcls.data import importer

    with show.counting("reading") as progress:
        report = importer.import_source(
            source, name, size=size, fit=fit, on_bad=on_bad, csv=labels, progress=progress
        )
    facts = _facts(report.dataset.name)
    if json:
        show.as_json({**facts, "taken": report.taken, "ignored": report.ignored})
    else:
        _print(facts)


@app.command()
def get(name: Name, json: show.Json = False) -> None:
    """Fetch a well-known data set: digits (embedded), cifar10, cifar100 or mnist."""
    from imgcls.data import builtin

    with show.counting(f"fetching {name}") as progress:
        dataset = builtin.fetch(name, progress=lambda share, text: progress(share, 1.0, text))
    facts = _facts(dataset.name)
    show.as_json(facts) if json else _print(facts)


@app.command("list")
def list_(json: show.Json = False) -> None:
    """List the data sets on disk."""
    from imgcls.data import catalog

    found: list[dict[str, Any]] = []
    for name in catalog.names():
        try:
            found.append(_facts(name))
        except DataError as error:
            found.append({"name": name, "error": str(error)})
    if json:
        show.as_json(found)
        return
    if not found:
        show.note("No data set is on disk. Start with: python -m imgcls data get digits")
    columns = ("name", "classes", "train", "validation", "test", "size")
    whole = [{**facts, "classes": len(facts.get("classes", ()))} for facts in found]
    show.table(columns, [[facts.get(column) for column in columns] for facts in whole])


@app.command("show")
def show_(name: Name, json: show.Json = False) -> None:
    """Show what is known of a data set, and which files its import refused."""
    facts = _facts(name)
    show.as_json(facts) if json else _print(facts)


@app.command()
def delete(name: Name, yes: show.Yes = False, json: show.Json = False) -> None:
    """Delete a data set from disk; its runs stay, but can no longer be evaluated."""
    from imgcls.data import catalog

    dataset = catalog.load(name) if name in catalog.names() else None
    users = [run for run in runs.all_runs() if _uses(run, name)]
    busy = next((run for run in users if run.alive()), None)
    if busy:
        raise RunError(f"Run {busy.id} is training on {name}: stop it before you delete its data.")
    if dataset:
        total = sum(dataset.total(split) for split in dataset.splits)
        question = f"Delete {name} with its {total:,} images? {len(users)} runs learned from it."
        show.confirm(question, yes=yes)
    catalog.delete(name)
    show.as_json({"deleted": name}) if json else show.note(f"Deleted {name}.")


def _uses(run: runs.Run, name: str) -> bool:
    try:
        return run.config.dataset == name
    except RunError:  # a damaged run uses nothing
        return False


def _facts(name: str) -> dict[str, Any]:
    from imgcls.data import catalog

    dataset = catalog.load(name)
    return {
        "name": dataset.name,
        "classes": list(dataset.classes),
        **{split: dataset.total(split) for split in catalog.SPLITS},
        "counts": dataset.counts,
        "size": dataset.size,
        "mean": dataset.mean,
        "std": dataset.std,
        "fingerprint": dataset.fingerprint,
        "resized": dataset.resized,
        "source": dataset.source,
        "notes": list(dataset.notes),
        "refused": _refused(catalog.path(name) / "refused.csv"),
    }


def _refused(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    return [{"file": row["file"], "reason": row["reason"]} for row in rows]


def _print(facts: dict[str, Any]) -> None:
    print(
        f"{facts['name']}: {len(facts['classes'])} classes, {facts['size']}×{facts['size']} pixels"
    )
    print(f"source: {facts['source']}; {facts['resized']}")
    for text in facts["notes"]:
        print(f"note: {text}")
    splits = list(facts["counts"])
    counts = zip(*(facts["counts"][split] for split in splits), strict=True)
    rows = [[name, *row] for name, row in zip(facts["classes"], counts, strict=True)]
    show.table(["class", *splits], [*rows, ["all", *(facts[split] for split in splits)]])
    refused = facts["refused"]
    if refused:
        print(f"{len(refused):,} files were refused:")
        show.table(["file", "reason"], [[r["file"], r["reason"]] for r in refused[:SHOWN_REFUSALS]])
        if len(refused) > SHOWN_REFUSALS:
            more = len(refused) - SHOWN_REFUSALS
            print(f"… and {more:,} more; all of them: data show {facts['name']} --json")
