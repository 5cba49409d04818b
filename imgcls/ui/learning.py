"""The Evaluate page's section on how a run got there: a time machine, and a map of its images."""

from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from imgcls import charts
from imgcls.evaluate import dynamics, metrics
from imgcls.evaluate.dynamics import History
from imgcls.evaluate.metrics import Metrics
from imgcls.evaluate.predictions import Predictions
from imgcls.events import Epoch
from imgcls.preprocess import printable
from imgcls.runs import Run
from imgcls.ui import evaluation, frame, stored
from imgcls.ui import history as live_history
from imgcls.ui.live import QUIET

Rows = NDArray[np.int64]


def learning(run: Run, answers: Predictions, found: Metrics) -> None:
    """The validation images through the epochs, and which of them were easy or hard to learn."""
    history = stored.history_of(run)
    if history is None:
        st.info(
            "Nothing was kept of this run's answers while it learned, or it is of no use by now: "
            "the run trained on its validation images, or before imgcls kept them, or its data set "
            "is gone or another. Train again to see how it gets there.",
            icon=":material/info:",
        )
        return
    parts: dict[str, Callable[[Run, History], None]] = {
        "Epoch by epoch": _epochs,
        "Easy, ambiguous, hard": _cartography,
    }
    names = list(parts)
    part = st.segmented_control(
        "Part", names, default=names[0], key="learning_part", label_visibility="collapsed"
    )
    parts[part or names[0]](run, history)


@st.fragment
def _epochs(run: Run, history: History) -> None:
    """A slider that moves the matrix, the curves and the map together."""
    last = history.epochs[-1]
    epoch = last
    if len(history.epochs) > 1:
        epoch = st.select_slider("After epoch", history.epochs, value=last, key=f"epoch {run.id}")
    at = history.epochs.index(epoch)
    confusions, maps = stored.derived_of(run)
    names = [printable(name) for name in history.classes]
    order = metrics.most_mistaken(confusions[-1], evaluation.DRAWN)  # the same at each epoch
    right = float((history.predicted[at] == history.labels).mean())
    st.caption(
        f"{len(history.labels):,} validation images; {right:.2%} called right after epoch {epoch}"
    )
    left, middle = st.columns([11, 9], gap="medium")
    with left:
        st.plotly_chart(
            charts.confusion(
                confusions[at], names, dark=frame.dark(), order=order, clickable=False
            ),
            key="epoch_confusion", config=QUIET,
            alt=f"Confusion matrix after epoch {epoch}",
        )  # fmt: skip
    with middle:
        chosen = st.plotly_chart(
            charts.image_map(
                maps[at], history.labels, history.predicted[at], names, _frame(maps[-1])
            ),
            key="epoch_map", on_select="rerun", selection_mode=("points", "lasso", "box"),
            config=QUIET, alt=f"Map of the validation images after epoch {epoch}",
        )  # fmt: skip
        st.caption(
            "Each dot an image, each cross a mistake, by the two directions in which the last "
            "epoch's logits vary most. Draw around some to see them."
        )
    st.plotly_chart(
        charts.class_curves(
            history.epochs, dynamics.recalls(confusions)[:, order], [names[i] for i in order], epoch
        ),
        key="epoch_curves", config=QUIET, alt="Recall of each class over epochs",
    )  # fmt: skip
    if len(order) < len(names):
        st.caption(
            f"Matrix and curves: the {len(order)} of {len(names):,} classes with most mistakes."
        )
    _show(run, history, at, _rows(chosen), "map")


@st.fragment
def _cartography(run: Run, history: History) -> None:
    """Each image by how the run saw it through its epochs; draw around some to see them."""
    if len(history.epochs) < 2:
        st.info("One epoch tells nothing of change: train for more.", icon=":material/info:")
        return
    seen = dynamics.cartography(history)
    names = [printable(name) for name in history.classes]
    titles = [
        f"{names[label]}: {100 * sure:.0f} % sure, right in {100 * right:.0f} % of evaluations, "
        f"forgotten {times}×"
        for label, sure, right, times in zip(
            history.labels, seen.confidence, seen.correct, seen.forgotten, strict=True
        )
    ]
    chosen = st.plotly_chart(
        charts.cartography(seen.variability, seen.confidence, seen.forgotten, titles),
        key="cartography", on_select="rerun", selection_mode=("points", "lasso", "box"),
        config=QUIET, alt="Images by confidence in their true class and its variability",
    )  # fmt: skip
    st.caption(
        "Top: learned early and kept (easy). Right: the model changed its mind (ambiguous). "
        "Bottom left: never believed (hard, and often labelled wrongly). After Swayamdipta and "
        "others 2020; forgotten after Toneva and others 2018." + _thinned(run, history)
    )
    rows = _rows(chosen)
    if not len(rows):
        hardest = np.argsort(seen.confidence, kind="stable")[: evaluation.PER_SHEET]
        st.markdown("**The hardest**: least confidence in what they are said to be")
        _show(run, history, len(history.epochs) - 1, hardest, "hardest")
        return
    _show(run, history, len(history.epochs) - 1, rows, "chosen")


def _thinned(run: Run, history: History) -> str:
    """A word on evaluations that were not kept, which hold what is counted here too low."""
    ended = [e for e in live_history.events(run) if isinstance(e, Epoch)]
    all_of_them = sum(e.val_loss is not None for e in ended)
    if len(history.epochs) >= all_of_them:
        return ""
    return f" Of {all_of_them} evaluations {len(history.epochs)} were kept, and count here."


def _show(run: Run, history: History, at: int, rows: Rows, key: str) -> None:
    if not len(rows):
        return
    more = f"; {evaluation.PER_SHEET} shown" if len(rows) > evaluation.PER_SHEET else ""
    st.caption(f"{len(rows):,} images, as called after epoch {history.epochs[at]}{more}")
    evaluation.show_images(
        run,
        dynamics.answers(history, at),
        rows[: evaluation.PER_SHEET],
        f"{key} {at} {hash(rows.tobytes())}",
    )


def _rows(chosen: Any) -> Rows:
    """The rows behind the points of a selection."""
    points = chosen["selection"]["points"] if chosen else []
    return np.array([_row(point["customdata"]) for point in points], dtype=np.int64)


def _row(customdata: Any) -> int:
    return int(customdata[0] if isinstance(customdata, (list, tuple)) else customdata)


def _frame(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Left, right, bottom, top around all points, with a little room."""
    low, high = points.min(0), points.max(0)
    room = 0.05 * np.maximum(high - low, 1e-6)
    (left, bottom), (right, top) = low - room, high + room
    return float(left), float(right), float(bottom), float(top)
