"""runs list, show, stop, resume, delete, import."""

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from imgcls import jobs, runs
from imgcls.cli import show, train, watch
from imgcls.config import TrainConfig, format_value
from imgcls.errors import RunError

app = typer.Typer(
    help="Runs on disk: look, stop, resume, delete, import.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

STOP_SECONDS = 120.0  # how long a worker may take for the step it is in, and to save


@app.command("list")
def list_(json: show.Json = False) -> None:
    """List all runs, the newest first."""
    found: list[dict[str, Any]] = []
    for run in runs.all_runs():
        try:
            found.append(runs.summary(run))
        except RunError as error:
            found.append({"run": run.id, "error": str(error)})
    if json:
        show.as_json(found)
        return
    if not found:
        show.note("There is no run yet. Start one with: python -m imgcls train")
    columns = ("run", "state", "model", "dataset", "epochs", "val_accuracy", "seconds")
    show.table(columns, [[one.get(column) for column in columns] for one in found])


@app.command("show")
def show_(run: show.RunName, json: show.Json = False) -> None:
    """Show the state, results and settings of a run."""
    found = show.find_run(run)
    facts = {**runs.summary(found), "settings": found.config.to_dict()}
    if json:
        show.as_json({**facts, "fingerprint": found.facts["fingerprint"]})
        return
    settings = {name: format_value(value) for name, value in found.config.changed().items()}
    show.table(["what", "value"], [[k, str(v)] for k, v in facts.items() if k != "settings"])
    print("\nsettings that differ from their defaults")
    show.table(["setting", "value"], list(settings.items()))


@app.command()
def stop(run: show.RunName, json: show.Json = False) -> None:
    """Ask a run to finish its step, save and end; waits until it has."""
    found = show.find_run(run)
    found.request_stop()
    deadline = time.monotonic() + STOP_SECONDS
    while found.alive():
        if time.monotonic() > deadline:
            raise RunError(
                f"Run {found.id} was asked to stop, but is still in its step: look later."
            )
        time.sleep(0.1)
    train.report([found], several=False, json=json)


@app.command()
def resume(run: show.RunName, detach: train.Detach = False, json: show.Json = False) -> None:
    """Go on with a stopped or interrupted run from its last checkpoint, and stay until it ends."""
    found = show.find_run(run)
    if detach:
        jobs.start(found)
    else:
        with watch.signals() as got:
            watch.start_and_follow(found, got)
    train.report([found], several=False, json=json)


@app.command()
def delete(run: show.RunName, yes: show.Yes = False, json: show.Json = False) -> None:
    """Delete a run with its weights, checkpoints and predictions."""
    found = show.find_run(run)
    if not found.alive():  # a run that trains is refused below, without a question
        show.confirm(f"Delete {found.id} for good?", yes=yes)
    found.delete()
    show.as_json({"deleted": found.id}) if json else show.note(f"Deleted {found.id}.")


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A plain state_dict .pth, or an export .safetensors."),
    ],
    model: Annotated[
        str | None, typer.Option(help="The network that the weights of a .pth belong to.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="The data set on disk that a .pth was trained on.")
    ] = None,
    set_: train.Set = None,
    json: show.Json = False,
) -> None:
    """Make a run of weights from elsewhere, to evaluate and use them here.

    A .pth needs --model, --dataset, --set normalization=… and --set stem=… as it was trained with;
    what imgcls exported as .safetensors tells all that itself.
    """
    told = model or dataset or set_
    if file.suffix == ".safetensors":
        if told:
            raise typer.BadParameter(
                f"{file.name} tells its network itself: leave out the options."
            )
        from imgcls.export import returned

        found = returned.import_run(file, datetime.now())
    else:
        if not (model and dataset):
            raise typer.BadParameter(
                f"{file.name} does not tell its network: add --model and --dataset."
            )
        changes = train.parse_settings(set_ or [])
        settings = TrainConfig.from_dict({**changes, "model": model, "dataset": dataset})
        from imgcls.models import foreign

        found = foreign.import_run(file, settings, datetime.now())
    train.report([found], several=False, json=json)
