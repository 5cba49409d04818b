"""One image, large: what the model says of it, where it looks, and what it takes it for."""

from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from imgcls import charts
from imgcls.data.catalog import Images
from imgcls.errors import ImgclsError
from imgcls.evaluate import closely, predictions, saliency
from imgcls.evaluate.predictions import Predictions
from imgcls.preprocess import printable
from imgcls.runs import Run
from imgcls.ui import compute, pictures, stored, widgets
from imgcls.ui.gallery import Tile, gallery
from imgcls.ui.live import QUIET

TOP = 5  # classes shown
ALIKE = 12  # training images shown
SIDE = 160  # CSS pixels of a picture with a heat map over it
PREPARED = "saliency is prepared"
NO_FEATURES = (
    "There are no features to compare by: this network's last layer sees more than "
    f"{predictions.MOST_FEATURES:,} numbers of a picture, or there is no such layer."
)
PARTS = ("Answer", "Where it looks", "It looks like these")


@st.dialog("One image", width="large")
def show(run: Run, image: NDArray[np.uint8], answers: Predictions, row: int) -> None:
    """A dialog about one of a run's judged images, (H, W, 3)."""
    if compute.shared(PREPARED) is None:  # while the answer is read, for whoever looks further
        compute.share(PREPARED, compute.submit(saliency.prepare, worker="model"))
    true, said = called(answers, row)
    st.markdown(
        f"Image {answers.indices[row]} of {answers.split}: truly **{widgets.escape(true)}**, "
        f"called **{widgets.escape(said)}**, {answers.confidence[row]:.1%} sure"
        + (f", after epoch {answers.epoch}" if answers.epoch is not None else "")
    )
    part = st.segmented_control(
        "Part", PARTS, default=PARTS[0], key="one_part", label_visibility="collapsed"
    )
    if part != PARTS[0] and answers.epoch is not None:
        st.caption("By the model that the run kept, not by that of the epoch.")
    try:
        if part == PARTS[1]:
            _where(run, image, answers, row)
        elif part == PARTS[2]:
            _alike(run, answers, row)
        else:
            _answer(run, image, answers, row)
    except ImgclsError as error:
        st.error(widgets.escape(error), icon=":material/error:")


def called(answers: Predictions, row: int) -> tuple[str, str]:
    """What an image is, and what it is called, fit to be shown."""
    true, said = answers.labels[row], answers.predicted[row]
    return printable(answers.classes[true]), printable(answers.classes[said])


def _likeliest(answers: Predictions, row: int) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.argsort(-answers.probabilities[row], kind="stable")[:TOP]
    return order


def _answer(run: Run, image: NDArray[np.uint8], answers: Predictions, row: int) -> None:
    true, said = called(answers, row)
    left, right = st.columns([2, 3], vertical_alignment="center")
    with left:
        st.image(
            pictures.png(pictures.enlarged(image, 256)), output_format="PNG", width="content",
            alt=f"{true}, called {said}",
        )  # fmt: skip
    shares, order = answers.probabilities[row], _likeliest(answers, row)
    with right:
        widgets.bars([(answers.classes[i], float(shares[i])) for i in order], answers.classes)
    if answers.split == "validation":
        _through_training(run, answers, row, order)


def _through_training(run: Run, answers: Predictions, row: int, order: NDArray[np.int64]) -> None:
    """What the run thought of a validation image after each epoch, where that was kept."""
    history = stored.history_of(run)
    if history is None or len(history.epochs) < 2:
        return
    if (true := int(answers.labels[row])) not in order:
        order = np.append(order, true)
    st.markdown("**Through training**")
    st.plotly_chart(
        charts.class_curves(
            history.epochs, history.probabilities(row)[:, order],
            [printable(answers.classes[i]) for i in order], height=260, y="probability",
            colors=[charts.class_colors(answers.classes)[answers.classes[i]] for i in order],
        ),
        key="one_curves", alt="Probabilities of its likeliest classes over epochs", config=QUIET,
    )  # fmt: skip


def _where(run: Run, image: NDArray[np.uint8], answers: Predictions, row: int) -> None:
    order = [int(i) for i in _likeliest(answers, row)]
    if (true := int(answers.labels[row])) not in order:
        order.append(true)
    target = st.selectbox(
        "What speaks for", order, key=f"one_target {run.id} {answers.split} {row}",
        format_func=lambda i: printable(answers.classes[i]),
    )  # fmt: skip
    where(run, image, int(target), f"where {run.id} {answers.split} {row} {target}")


def where(run: Run, image: NDArray[np.uint8], target: int, key: str) -> None:
    """Heat maps of what speaks for a class in an (S, S, 3) image, by three methods."""
    with st.spinner("Asking the model where it looks"):
        found = compute.call(saliency.maps, run.id, image, target)
    shown = np.stack([image, *(saliency.over(image, heat) for heat in found.values())])
    names = ["the picture", *found]
    gallery(
        np.stack([pictures.enlarged(one, SIDE) for one in shown]),
        [Tile(name, (name,)) for name in names],
        key=key, tile=SIDE, clickable=False,
    )  # fmt: skip
    if saliency.GRAD_CAM not in found:
        st.caption("No convolution of this network sees the whole picture: there is no Grad-CAM.")
    st.caption(
        "Orange speaks for the class, blue against it. Three methods that share no assumption: "
        "believe what they agree on."
    )


def _alike(run: Run, answers: Predictions, row: int) -> None:
    learned = predictions.load(run, "train")
    if learned is None or predictions.load(run, answers.split) is None:
        st.caption("The model has to look at the images that it learned from once; it is stored.")
        if st.button("Look at the training images", icon=":material/play_arrow:"):
            stored.made(run, answers.split)
            stored.made(run, "train")
            st.rerun(scope="fragment")
        return
    found = closely.alike(run, answers, row, ALIKE)
    if found is None:
        st.info(NO_FEATURES)
        return
    rows, cosines = found
    alike_images(run, learned, rows, cosines, int(answers.predicted[row]))


def alike_images(
    run: Run, learned: Predictions, rows: NDArray[np.int64], cosines: Any, said: int
) -> None:
    """Training images as a sheet; how many are labelled as the class that the model said."""
    name = printable(learned.classes[said])
    agree = int((learned.labels[rows] == said).sum())
    st.caption(
        f"The training images most alike to the model: {agree} of {len(rows)} are labelled "
        f"{widgets.escape(name)}. Below each its label and the cosine of the features."
    )
    tiles = []
    for row, cosine in zip(rows, cosines, strict=True):
        label = printable(learned.classes[learned.labels[row]])
        tiles.append(Tile(f"{label}, {cosine:.3f}", (label, f"{cosine:.3f}")))
    images: Images = predictions.pictures(run, "train", rows)
    gallery(images, tiles, key=f"alike {run.id} {rows.tolist()}", tile=96, clickable=False)
