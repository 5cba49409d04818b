"""ablate and studies."""

from datetime import datetime
from typing import Annotated, Any

import typer

from imgcls import jobs, recipes, studies
from imgcls.cli import show, train
from imgcls.errors import RunError
from imgcls.runs import State
from imgcls.studies import Arm, Study


def ablate(
    vary: Annotated[
        list[str],
        typer.Option(metavar="KEY=V1,V2,…", help="The one setting to change, and to what."),
    ],
    recipe: Annotated[str, typer.Option(help="See: recipes.")] = recipes.DEFAULT,
    dataset: Annotated[
        str | None, typer.Option(help="A data set on disk; cifar10 if that is there.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each value.", min=1, max=1000)] = 3,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    seed: Annotated[int | None, typer.Option(help="The first seed.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="As many epochs as fit for the unchanged recipe; all get as many.",
            min=0.1,
            max=1e5,
        ),
    ] = None,
    set_: train.Set = None,
    detach: train.Detach = False,
    json: show.Json = False,
) -> None:
    """Compare a recipe with itself, one setting changed, several seeds each; Ctrl-C stops it."""
    if epochs is not None and minutes is not None:
        raise typer.BadParameter("give --epochs or --minutes, not both.")
    if len(vary) > 1:
        raise typer.BadParameter(f"an ablation changes one setting: give --vary once, got {vary}.")
    setting, sign, text = vary[0].partition("=")
    if not sign:
        raise typer.BadParameter(f"--vary takes KEY=V1,V2, got {vary[0]!r}.")
    values = studies.parse_values(setting, text)
    given = (("epochs", epochs), ("seed", seed))
    changes = train.parse_settings(set_ or []) | {k: v for k, v in given if v is not None}
    name, now = dataset or train.default_dataset(), datetime.now()
    settings = recipes.config_for(recipe, name, **changes)
    # All are made before the first is trained: a wrong value is told at once.
    plan = studies.ablation(settings, setting, values, seeds, now)
    for one in plan:
        jobs.check_possible(one)
    if minutes is not None:
        fixed = train.within(settings, minutes)
        if setting == "batch_size":
            fixed.pop("steps")  # equal epochs are then other steps
        settings = recipes.config_for(recipe, name, **{**changes, **fixed})
        plan = studies.ablation(settings, setting, values, seeds, now)
    if detach:
        studies.queue(plan)
    else:
        settings = settings.replace(study=plan[0].study)
        again = studies.command(settings, setting, values, seeds)
        train.one_after_the_other(plan, again)
    _report(studies.find(plan[0].study), json=json)


def studies_(
    name: Annotated[
        str | None, typer.Argument(help="Its name, the beginning of it, or: latest.")
    ] = None,
    json: show.Json = False,
) -> None:
    """List the studies on disk, or show one: several seeds, or one setting changed."""
    known = studies.names()
    if name is not None:
        _report(studies.find(_meant(name, known)), json=json, judge=False)
        return
    found = [_about(studies.find(one)) for one in known]
    if json:
        show.as_json(found)
        return
    if not found:
        show.note("There is no study yet. Start one with: python -m imgcls ablate --help")
    columns = ("study", "dataset", "varied", "values", "runs", "finished", "alive")
    show.table(columns, [[one[column] for column in columns] for one in found])


def _meant(text: str, known: list[str]) -> str:
    if text == "latest" and known:
        return known[0]
    matches = [name for name in known if text and name.startswith(text)]
    if len(matches) > 1 and text not in matches:
        some = ", ".join(matches[:5])
        raise RunError(f"{len(matches)} studies begin with {text!r}: {some}. Type more of it.")
    return matches[0] if len(matches) == 1 else text


def _about(study: Study) -> dict[str, Any]:
    states = [result.state for result in study.results]
    return {
        "study": study.name,
        "recipe": study.recipe,
        "dataset": study.dataset,
        "varied": ", ".join(study.varied) or "seed",
        "values": ", ".join(arm.label for arm in study.arms),
        "runs": len(states),
        "finished": states.count(State.FINISHED),
        "alive": len(study.alive),
    }


def _report(study: Study, *, json: bool, judge: bool = True) -> None:
    """Print a study; raises SystemExit(1) where `judge` is set and one of its runs failed."""
    arms = [_arm(study, arm) for arm in study.arms]
    if json:
        show.as_json({**_about(study), "arms": arms})
    else:
        about = _about(study)
        print(f"{study.name}: {about['finished']} of {about['runs']} runs finished.")
        show.table(
            [about["varied"], "n", "mean", "sd", "95 % interval", "difference", "its interval",
             "verdict", "not finished"],
            [
                [
                    one["value"], one["n"], *map(show.percent, (one["mean"], one["sd"])),
                    _range(one["interval"]), points(one["difference"]),
                    _range(one["difference_interval"], points), one["verdict"],
                    ", ".join(f"{count} {state}" for state, count in one["unfinished"].items()),
                ]
                for one in arms
            ],
        )  # fmt: skip
        print(
            "Best validation accuracy of finished runs; intervals of 95 %, Student's for a mean "
            "and Welch's for a difference in points. They tell of seeds, and need two of them."
        )
    ended_badly = [r for r in study.results if r.state in (State.FAILED, State.DIVERGED)]
    if judge and ended_badly:
        one = ended_badly[0]
        show.fail(
            f"{len(ended_badly)} of {len(study.results)} runs failed or diverged; the first: "
            f"python -m imgcls runs show {one.run.id}"
        )


def _arm(study: Study, arm: Arm) -> dict[str, Any]:
    difference, between, verdict = study.difference(arm)
    return {
        "value": arm.label,
        "n": len(arm.accuracies),
        "accuracies": arm.accuracies,
        "mean": arm.mean,
        "sd": arm.sd,
        "interval": arm.interval,
        "difference": difference,
        "difference_interval": between,
        "verdict": verdict,
        "unfinished": arm.unfinished,
        "runs": [
            {"run": r.run.id, "seed": r.seed, "state": r.state.value, "val_accuracy": r.accuracy}
            for r in arm.results
        ],
    }


def points(share: float | None) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return "–" if share is None else f"{100 * share:+.2f}"


def _range(interval: studies.Interval | None, said: Any = show.percent) -> str:
    return "–" if interval is None else f"{said(interval[0])} to {said(interval[1])}"
