"""find: what learning rate and what batch size suit a network here."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from imgcls import jobs, recipes
from imgcls.cli import show, train
from imgcls.config import TrainConfig

ROWS = 20  # about so many points of a curve are printed

app = typer.Typer(
    help="Try what learning rate or batch size suits a network on this machine.",
    no_args_is_help=True,
)

Recipe = Annotated[str, typer.Option(help="See: recipes.")]
Dataset = Annotated[str | None, typer.Option(help="A data set on disk; cifar10 if that is there.")]


@app.command("lr")
def learning_rate(
    recipe: Recipe = recipes.DEFAULT,
    dataset: Dataset = None,
    set_: train.Set = None,
    json: show.Json = False,
) -> None:
    """Raise the learning rate step by step, and suggest a peak_lr from the training loss."""
    from imgcls import finder  # brings torch

    settings = _settings(recipe, dataset, set_)
    with show.counting("trying rates") as progress:
        found = finder.learning_rate(settings, progress)
    if json:
        show.as_json({**_about(settings), **asdict(found)})
        return
    points = list(zip(found.rates, found.smoothed, strict=True))
    some = points[:: max(1, len(points) // ROWS)]
    show.table(("rate", "loss"), [(f"{rate:.1e}", loss) for rate, loss in some])
    print(f"{found.ended} Suggestion: --set peak_lr={found.suggestion:g}")


@app.command("batch-size")
def batch_size(
    recipe: Recipe = recipes.DEFAULT,
    dataset: Dataset = None,
    set_: train.Set = None,
    json: show.Json = False,
) -> None:
    """The largest power of two whose step fits into the memory of this machine."""
    from imgcls import finder  # brings torch

    settings = _settings(recipe, dataset, set_)
    with show.counting("trying batch sizes") as progress:
        fit = finder.batch_size(settings, progress)
    about_rate = finder.scaled_rate(settings, fit.batch_size)
    if json:
        rate = {"learning_rate": about_rate}
        show.as_json({**_about(settings), **asdict(fit), **rate})
        return
    print(
        f"{fit.batch_size:,} images a step need about {fit.needed / 2**30:.1f} of the "
        f"{fit.allowed / 2**30:.1f} GB that may be used. {fit.limit} {about_rate} "
        f"Suggestion: --set batch_size={fit.batch_size}"
    )


def _settings(recipe: str, dataset: str | None, changes: list[str] | None) -> TrainConfig:
    name = dataset or train.default_dataset()
    settings = recipes.config_for(recipe, name, **train.parse_settings(changes or []))
    jobs.check_possible(settings)
    return settings


def _about(settings: TrainConfig) -> dict[str, Any]:
    """What was asked about; `tried_batch_size` is what a trial was made with."""
    return {
        "recipe": settings.recipe,
        "dataset": settings.dataset,
        "model": settings.model,
        "optimizer": settings.optimizer,
        "tried_batch_size": settings.batch_size,
    }
