"""What the pages hand to the child processes. Heavy modules are imported there, not here."""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL import Image

from imgcls import preprocess
from imgcls.config import TrainConfig
from imgcls.data.catalog import Images
from imgcls.runs import Run
from imgcls.ui import inbox, pictures

SHOWN = 640  # pixels, the longer side at most of the copy of an upload that the page shows
SMALL = 320  # a smaller one is enlarged by whole numbers, up to this


class Progress(Protocol):
    """How far work is."""

    def __call__(self, done: float, total: float, text: str = "") -> None:
        """Say it."""


def import_images(
    source: Path,
    name: str,
    size: int,
    fit: str,
    on_bad: Literal["skip", "stop"],
    *,
    progress: Progress,
) -> Any:
    """`importer.import_source`; an upload is removed afterwards."""
    from imgcls.data import importer

    try:
        return importer.import_source(
            source, name, size=size, fit=fit, on_bad=on_bad, progress=progress
        )
    finally:
        inbox.discard(source)


def fetch(name: str, *, progress: Progress) -> Any:
    """`builtin.fetch`."""
    from imgcls.data import builtin

    return builtin.fetch(name, progress=lambda share, text: progress(share, 1.0, text))


def preview(pixels: Images, settings: TrainConfig, n: int, seed: int) -> Images:
    """`augment.preview`: n draws for one image."""
    from imgcls.data import augment

    return augment.preview(pixels, settings, n, seed)


def export(run: Run, name: str, output: Path, now: datetime, *, progress: Progress) -> Any:
    """`certified.export`, which says what it does three times."""
    from imgcls.export import certified

    steps = iter((0.05, 0.3, 0.65))
    return certified.export(run, name, output, now, lambda text: progress(next(steps), 1.0, text))


def predict(
    run: str,
    files: list[tuple[str, bytes]],
    top: int,
    coverage: float = 0.95,
    tta: bool = False,
) -> list[dict[str, Any]]:
    """`predict.predict`, and with each picture `shown`: PNG bytes of decoded pixels alone."""
    from imgcls import predict

    answers = predict.predict(run, files, top=top, coverage=coverage, tta=tta)
    for answer, (name, data) in zip(answers, files, strict=True):
        if "error" not in answer:
            image = preprocess.open_picture(data, name).image
            if max(image.size) > SHOWN:
                image.thumbnail((SHOWN, SHOWN))
            if (times := SMALL // max(image.size)) > 1:
                width, height = image.size
                image = image.resize((width * times, height * times), Image.Resampling.NEAREST)
            # A seventh larger, in a quarter of the time.
            answer["shown"] = pictures.png_of(image, level=1)
    return answers
