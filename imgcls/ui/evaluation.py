"""The Evaluate page's first sections: stored predictions as figures and images."""

from collections.abc import Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from imgcls import card, charts
from imgcls.errors import ImgclsError
from imgcls.evaluate import metrics, predictions
from imgcls.evaluate.metrics import Metrics
from imgcls.evaluate.predictions import Predictions
from imgcls.preprocess import printable
from imgcls.runs import Run, State
from imgcls.ui import frame, one_image, widgets
from imgcls.ui.gallery import TILE, Tile, gallery
from imgcls.ui.live import QUIET

PER_SHEET = 60
PAIRS = 15  # of classes listed as most confused
DRAWN = (
    50  # classes of a matrix at most: more cells than a browser draws at once, or eyes tell apart
)
KINDS = {"Counts": "", "% of true": "true", "% of predicted": "predicted"}
NAMED = 96  # CSS pixels a tile with names below it: room for `✗ automobile`
TEST_OPENED = (
    "The test set is open: no choice was made by these images. It stays honest as long as you make "
    "none by these figures; compare runs on validation."
)


def headline(found: Metrics) -> None:
    """Accuracy with its interval, loss, and how many images they rest on."""
    margin = f"{found.accuracy_low:.1%} to {found.accuracy_high:.1%}"
    wrong = found.n - int(np.trace(found.confusion))
    for column, (label, value, help) in zip(
        st.columns([2, 3, 2, 2, 2]),
        (
            ("Accuracy", f"{found.accuracy:.2%}", "Share of the images that are called right."),
            ("95 % interval", margin, "Wilson's: where the accuracy on all such images may lie."),
            ("Log loss", f"{found.loss:.4f}", "Mean of −ln(probability of the true class), nats."),
            ("Images", f"{found.n:,}", "Judged, each once."),
            ("Mistakes", f"{wrong:,}", "Images that are called wrong."),
        ),
        strict=True,
    ):
        column.metric(label, value, help=help)


def weights(run: Run) -> str:
    """Which weights are judged, and whether the run came to its end, in words."""
    of_model, state = card.read(run.model_path), run.state()
    said = f"Judged are the weights after epoch {of_model.epoch} of {run.config.epochs}"
    if of_model.val_accuracy is not None:
        said += ", the best on validation"
    if run.config.recipe == "imported":
        said = "Judged are the weights as imported"
    return f"{said}." + ("" if state == State.FINISHED else f" The run is {state}.")


def matrix(run: Run, answers: Predictions, found: Metrics) -> None:
    """The confusion matrix, and the images behind one cell of it."""
    left, right = st.columns([11, 9], gap="medium")
    names = [printable(name) for name in found.classes]
    # Per data set, so that a cell of another one's matrix is never looked for in this one's.
    true_key, predicted_key = f"cell_true/{found.dataset}", f"cell_predicted/{found.dataset}"
    if true_key not in st.session_state:
        st.session_state[true_key], st.session_state[predicted_key] = _worst(found.confusion)

    def clicked() -> None:
        points = st.session_state["confusion"]["selection"]["points"]
        if points:
            true, predicted, _ = points[0]["customdata"]
            st.session_state[true_key], st.session_state[predicted_key] = int(true), int(predicted)

    with left:
        kind = st.segmented_control(
            "Show", list(KINDS), default=next(iter(KINDS)), key="confusion_kind",
            label_visibility="collapsed",
        )  # fmt: skip
        with st.container(horizontal=True):
            diagonal = not st.toggle("Mistakes only", key="confusion_mistakes")
            by_likeness = st.toggle(
                "Similar classes side by side", key="confusion_similar",
                help="Classes that are often taken for each other stand together.",
            )  # fmt: skip
        order = metrics.most_mistaken(found.confusion, DRAWN)
        if by_likeness:
            order = order[metrics.similarity_order(found.confusion[np.ix_(order, order)])]
        st.plotly_chart(
            charts.confusion(
                found.confusion,
                names,
                KINDS[kind or next(iter(KINDS))],
                frame.dark(),
                marked=(st.session_state[true_key], st.session_state[predicted_key]),
                diagonal=diagonal,
                order=order,
            ),
            key="confusion",
            on_select=clicked,
            selection_mode="points",
            alt="Confusion matrix, true classes down, predicted ones across",
            config=QUIET,
        )
        some = f"The {DRAWN} of {len(names):,} classes with most mistakes. " * (len(names) > DRAWN)
        st.caption(
            f"{some}Click a cell for its images. Each scale has its own maximum: right, mistakes."
        )
        _pairs(found, names)
    with right:
        a, b = st.columns(2)
        everything = range(len(names))
        true = a.selectbox("True", everything, format_func=names.__getitem__, key=true_key)
        predicted = b.selectbox(
            "Predicted", everything, format_func=names.__getitem__, key=predicted_key
        )
        rows = metrics.cell(answers, int(true), int(predicted))
        if not len(rows):
            st.info("No image lies in this cell.", icon=":material/info:")
            return
        of = int(found.confusion[true].sum())
        st.markdown(
            f"**{widgets.escape(names[true])} → {widgets.escape(names[predicted])}**: "
            f"{len(rows):,} of {of:,}, the most confident first"
            + (f"; {PER_SHEET} shown" if len(rows) > PER_SHEET else "")
        )
        show_images(run, answers, rows[:PER_SHEET], "cell", with_names=False)


def _pairs(found: Metrics, names: list[str]) -> None:
    """The classes most often taken for each other, as a list."""
    pairs = metrics.confused_pairs(found.confusion, PAIRS)
    if not pairs:
        return
    with widgets.opened("The pairs most confused", ":material/swap_horiz:") as open:
        if not open:
            return
        widgets.small_table(
            {
                "true": [names[true] for true, *_ in pairs],
                "called": [names[called] for _, called, *_ in pairs],
                "images": [f"{count:,}" for *_, count, _ in pairs],
                "of that class": [f"{share:.1%}" for *_, share in pairs],
            }
        )


def mistakes(run: Run, answers: Predictions, found: Metrics) -> None:
    """What the model is surest of and wrong about, or right about and hardly sure."""
    which = st.segmented_control(
        "Which", list(_RANKED), default=next(iter(_RANKED)), key="mistakes_which",
        label_visibility="collapsed",
    )  # fmt: skip
    rank, none, said = _RANKED[which or next(iter(_RANKED))]
    rows = rank(answers, PER_SHEET)
    if not len(rows):
        st.success(none, icon=":material/check:")
        return
    st.caption(said)
    show_images(run, answers, rows, "mistakes")


_RANKED = {
    "Wrong and sure": (
        metrics.confident_mistakes,
        "No mistakes on these images.",
        "The most confident mistakes: look for wrong labels and for shared traits.",
    ),
    "Right and in doubt": (
        metrics.doubtful_hits,
        "Nothing is called right.",
        "Right answers that could as well have been others: what new images may break first.",
    ),
}


def sheet(run: Run, answers: Predictions, found: Metrics) -> None:
    """A random sheet, true → predicted."""
    draw = st.session_state.setdefault("sheet_draw", 0)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Images at random, true → predicted; a cross marks a mistake.")
        if st.button("New draw", icon=":material/casino:"):
            st.session_state["sheet_draw"] = draw = draw + 1
    show_images(run, answers, metrics.sample(answers, PER_SHEET, draw), "sheet")


def show_images(
    run: Run, answers: Predictions, rows: NDArray[np.int64], key: str, *, with_names: bool = True
) -> None:
    """These rows' images, each with what it is, what the model says and how sure it is."""
    try:
        images = predictions.pictures(run, answers.split, rows)
    except ImgclsError as error:
        st.error(widgets.escape(error), icon=":material/error:")
        return
    tiles = []
    for row in rows:
        true, called = one_image.called(answers, int(row))
        sure = f"{answers.confidence[row]:.1%}"
        lines: Sequence[str] = (sure,)
        if with_names:
            right = bool(answers.correct[row])
            lines = (true, f"{'✓' if right else '✗'} {called}", sure)
        tiles.append(Tile(f"{true} → {called}, {sure}", tuple(lines)))
    picked = gallery(
        images,
        tiles,
        key=f"{key} {run.id} {answers.split} {rows[0]} {len(rows)}",
        tile=NAMED if with_names else TILE,
    )
    if picked is not None:
        one_image.show(run, images[picked], answers, int(rows[picked]))


def _worst(confusion: NDArray[np.int64]) -> tuple[int, int]:
    """The cell with the most mistakes, (true, predicted)."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    true, predicted = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return int(true), int(predicted)
