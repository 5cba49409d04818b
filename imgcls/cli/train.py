"""train and recipes."""

import statistics
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from imgcls import config, jobs, runs, studies
from imgcls import recipes as recipe_book
from imgcls.cli import show, watch
from imgcls.config import TrainConfig
from imgcls.errors import ConfigError, DataError
from imgcls.runs import Run, State

OWN_OPTIONS = {"recipe": "--recipe", "dataset": "--dataset"}

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change any setting; may be repeated."),
]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once; the run goes on.")]


def train(
    recipe: Annotated[str, typer.Option(help="See: recipes.")] = recipe_book.DEFAULT,
    dataset: Annotated[
        str | None, typer.Option(help="A data set on disk; cifar10 if that is there.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides weights, order, augmentation.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="A study of so many runs, seeds 0 to N-1.", min=1, max=1000)
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Processes that train together, one a GPU.", min=1)
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="As many steps as fit, after a short measurement.", min=0.1, max=1e5),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write event files for TensorBoard.")
    ] = False,
    set_: Set = None,
    detach: Detach = False,
    json: show.Json = False,
) -> None:
    """Train a classifier and stay until it ends; Ctrl-C stops it cleanly, to be resumed later."""
    if seed is not None and seeds is not None:
        raise typer.BadParameter("give --seed or --seeds, not both.")
    changes = parse_settings(set_ or [])
    changes |= {
        k: v
        for k, v in (("epochs", epochs), ("seed", seed), ("processes", processes))
        if v is not None
    }
    changes |= {"tensorboard": True} if tensorboard else {}
    name, now = dataset or default_dataset(), datetime.now()
    settings = recipe_book.config_for(recipe, name, **changes)
    jobs.check_possible(settings)
    if minutes is not None:
        if epochs is not None:
            raise typer.BadParameter("give --epochs or --minutes, not both.")
        fixed = within(settings, minutes)
        settings = recipe_book.config_for(recipe, name, **{**changes, **fixed})
    if seeds is None:
        done = [jobs.new(settings, now)] if detach else one_after_the_other([settings])
    else:
        plan = studies.seeds(settings, seeds, now)
        again = studies.command(settings.replace(study=plan[0].study), count=seeds)
        if detach:
            studies.queue(plan)
        else:
            one_after_the_other(plan, again)
        done = list(studies.begun(plan).values())
    report(done, several=seeds is not None, json=json)


def recipes(json: show.Json = False) -> None:
    """List every recipe with what it is expected to reach."""
    found = [
        {
            "name": name,
            "model": recipe.config.model,
            "expected": recipe.expected,
            "title": recipe.title,
            "source": recipe.source,
            "settings": recipe.config.changed(),
        }
        for name, recipe in recipe_book.RECIPES.items()
    ]
    if json:
        show.as_json(found)
    else:
        columns = ("name", "model", "expected")
        show.table(columns, [[one[column] for column in columns] for one in found])


def parse_settings(texts: list[str]) -> dict[str, Any]:
    """The values of `key=value` texts; raises ConfigError for a key or value that is none."""
    values: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign:
            raise typer.BadParameter(f"--set takes KEY=VALUE, got {text!r}.")
        if key in OWN_OPTIONS:
            raise ConfigError(f"Give {key} with {OWN_OPTIONS[key]}, not with --set.")
        values[key] = config.parse(key, value)
    return values


def report(done: list[Run], *, several: bool, json: bool) -> None:
    """Print how runs ended; raises SystemExit(1) where one failed."""
    found = [runs.summary(run) for run in done]
    if json:
        show.as_json(_together(found) if several else found[0])
    else:
        for one in found:
            print(_sentence(one))
        if several and len(found) > 1:
            print(_mean_and_deviation(_together(found)))
    failed = next((one for one in found if one["state"] in _FAILED), None)
    if failed:
        reason = failed["reason"] or "its process died; see log.txt in its folder"
        show.fail(f"Run {failed['run']} {_FAILED[failed['state']]}: {reason}")


_FAILED = {
    State.FAILED: "failed",
    State.DIVERGED: "diverged",
    State.INTERRUPTED: "was interrupted",
}


def one_after_the_other(plan: Sequence[TrainConfig], again: str = "") -> list[Run]:
    """Train runs and show each; one that fails does not keep the next from its turn.

    Runs of a study that are done already are left out, and those that were cut short go on.
    `again` is the command that takes up what Ctrl-C left.
    """
    from imgcls.data import catalog

    todo = studies.remaining(plan) if again else [(settings, None) for settings in plan]
    done: list[Run] = []
    with watch.signals() as got:
        for i, (settings, run) in enumerate(todo, start=1):
            if len(todo) > 1:
                show.note(f"Run {i} of {len(todo)} of study {settings.study}, seed {settings.seed}")
            if run is None:
                fingerprint = catalog.load(settings.dataset).fingerprint
                run = runs.create(settings, fingerprint, datetime.now())
            done.append(run)
            watch.start_and_follow(run, got)
            if got or run.state() == State.STOPPED:
                if again:
                    show.note(f"Go on with: {again}")
                break
    return done


def within(settings: TrainConfig, minutes: float) -> dict[str, Any]:
    """The settings by which a run lasts so many minutes, from a short measurement."""
    print(f"Measuring how long a step of {settings.recipe} takes here…", file=sys.stderr)
    fixed = jobs.within(settings, minutes)
    told = fixed.pop("told")
    print(f"{told} fit into {minutes:g} minutes, which begin now.", file=sys.stderr)
    return fixed


def default_dataset() -> str:
    """cifar10 where that is on disk; raises DataError where it is not."""
    from imgcls.data import catalog

    names = catalog.names()
    if "cifar10" in names:
        return "cifar10"
    if not names:
        raise DataError("No data set is on disk. Start with: python -m imgcls data get digits")
    raise DataError(f"Say which data set to learn from: --dataset {' | '.join(names)}")


def _together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Summaries of several seeds as one: mean and standard deviation of those that finished."""
    reached = [
        one["val_accuracy"]
        for one in found
        if one["state"] == State.FINISHED and one["val_accuracy"] is not None
    ]
    return {
        **found[-1],
        "seconds": sum(one["seconds"] for one in found),
        "val_accuracy": statistics.mean(reached) if reached else None,
        "val_accuracy_sd": statistics.stdev(reached) if len(reached) > 1 else None,
        "n": len(reached),
        "runs": found,
    }


def _mean_and_deviation(together: dict[str, Any]) -> str:
    spread = show.percent(together["val_accuracy_sd"])
    return (
        f"validation {show.percent(together['val_accuracy'])} ± {spread} "
        f"(mean ± standard deviation, n = {together['n']})"
    )


def _sentence(one: dict[str, Any]) -> str:
    said = (
        f"{one['run']}: {one['state']} after {one['epochs']} of {one['of_epochs']} epochs, "
        f"{one['seconds']:.1f} s, best validation accuracy {show.percent(one['val_accuracy'])}."
    )
    if one["state"] == State.FINISHED:
        return f"{said} Next: python -m imgcls evaluate {one['run']}"
    if one["state"] == State.STOPPED:
        return f"{said} Go on with: python -m imgcls runs resume {one['run']}"
    return said
