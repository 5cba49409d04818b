"""A report's look at single images: what is said of each, where the model looks, what it is like.

Asks the model again, for where it looks: the one part of a report that needs torch.
"""

from collections.abc import Callable, Iterator
from html import escape

import numpy as np
from numpy.typing import NDArray

from imgcls.data.catalog import Images
from imgcls.evaluate import metrics, predictions, saliency
from imgcls.evaluate.predictions import Predictions
from imgcls.preprocess import printable
from imgcls.runs import Run

IMAGES = 6  # the most confident mistakes
ALIKE = 6  # training images beside each
TOP = 3  # classes named

Uris = Callable[[Images], Iterator[str]]  # images to what <img> shows


def section(run: Run, answers: Predictions, uris: Uris) -> str:
    """HTML: the most confident mistakes, each with three heat maps and its nearest images."""
    rows = metrics.confident_mistakes(answers, IMAGES)
    if not len(rows):
        return ""
    return (
        "<h3>Its most confident mistakes, closely</h3><p class='muted'>Orange speaks for the class "
        "that is called, blue against it. Beside them the training images most alike to the model, "
        "with their labels.</p>" + "".join(_one(run, answers, int(row), uris) for row in rows)
    )


def _one(run: Run, answers: Predictions, row: int, uris: Uris) -> str:
    image = predictions.pictures(run, answers.split, np.array([row]))[0]
    shares = answers.probabilities[row]
    order = np.argsort(-shares, kind="stable")[:TOP]
    true = printable(answers.classes[answers.labels[row]])
    said = ", ".join(f"{printable(answers.classes[i])} {shares[i]:.1%}" for i in order)
    heat = saliency.maps(run.id, image, int(answers.predicted[row]))
    shown = [("the image", image), *((n, saliency.over(image, h)) for n, h in heat.items())]
    shown += _alike(run, answers, row)
    figures = "".join(
        f'<figure><img src="{uri}" alt="{escape(name)}"><figcaption>{escape(name)}</figcaption>'
        "</figure>"
        for uri, (name, _) in zip(uris(np.stack([one for _, one in shown])), shown, strict=True)
    )
    head = f"<p>Truly <strong>{escape(true)}</strong>: {escape(said)}</p>"
    return f'{head}<div class="sheet">{figures}</div>'


def alike(
    run: Run, answers: Predictions, row: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Rows of the training images nearest to one image, without itself, and their cosines.

    None where no features are stored of one of the two splits; see `predictions.features`.
    """
    of_train, of_split = (predictions.features(run, s) for s in ("train", answers.split))
    if of_train is None or of_split is None:
        return None
    same = answers.split == "train"  # then the nearest of all is the image itself
    rows, cosines = predictions.nearest(of_train, of_split[row], count + same)
    others = rows != row if same else np.full(len(rows), True)
    return rows[others][:count], cosines[others][:count]


def _alike(run: Run, answers: Predictions, row: int) -> list[tuple[str, NDArray[np.uint8]]]:
    """The nearest training images with their labels; none where no features are stored."""
    found, learned = alike(run, answers, row, ALIKE), predictions.load(run, "train")
    if found is None or learned is None:
        return []
    images = predictions.pictures(run, "train", found[0])
    return [
        (f"{printable(learned.classes[learned.labels[r]])}, {cosine:.2f}", image)
        for r, cosine, image in zip(*found, images, strict=True)
    ]
