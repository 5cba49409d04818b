"""The Evaluate page's section on how a run got there: a time machine, and a map of its images."""

from collections.abc import Callable

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from imgcls.charts import replay
from imgcls.evaluate import dynamics, metrics
from imgcls.evaluate.dynamics import History
from imgcls.evaluate.metrics import Metrics
from imgcls.evaluate.predictions import Predictions
from imgcls.events import Epoch
from imgcls.preprocess import printable
from imgcls.runs import Run
from imgcls.ui import evaluation, stored
from imgcls.ui import history as live_history

Rows = NDArray[np.int64]

_mount = st.components.v2.component("imgcls.replay", html=replay.HTML, css=replay.CSS, js=replay.JS)


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
    """A slider that moves the matrix, the recalls and the map together."""
    confusions, maps = stored.derived_of(run)
    names = [printable(name) for name in history.classes]
    order = metrics.most_mistaken(confusions[-1], evaluation.DRAWN)  # the same at each epoch
    drawing = replay.epochs(
        history.epochs, maps, history.labels, history.predicted, confusions,
        dynamics.recalls(confusions), names, order,
    )  # fmt: skip
    at, rows = _chosen(f"epochs {run.id}", drawing, history)
    st.caption(
        "Each dot an image, each cross a mistake, by the two directions in which the last epoch's "
        "logits vary most. Draw around some, or choose a class, to see them."
        + f" Matrix and recalls: the {len(order)} of {len(names):,} classes with most mistakes."
        * (len(order) < len(names))
    )
    _show(run, history, at, rows, "map")


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
    drawing = replay.cartography(seen.variability, seen.confidence, seen.forgotten, titles)
    _, rows = _chosen(f"cartography {run.id}", drawing, history)
    st.caption(
        "Top: learned early and kept (easy). Right: the model changed its mind (ambiguous). "
        "Bottom left: never believed (hard, and often labelled wrongly). After Swayamdipta and "
        "others 2020; forgotten after Toneva and others 2018." + _thinned(run, history)
    )
    last = len(history.epochs) - 1
    if not len(rows):
        hardest = np.argsort(seen.confidence, kind="stable")[: evaluation.PER_SHEET]
        st.markdown("**The hardest**: least confidence in what they are said to be")
        _show(run, history, last, hardest, "hardest")
        return
    _show(run, history, last, rows, "chosen")


def _chosen(key: str, drawing: replay.Drawing, history: History) -> tuple[int, Rows]:
    """Show a drawing: at which of the epochs kept it stands, and the rows drawn around, if any."""
    result = _mount(key=key, data=drawing, on_chosen_change=lambda: None)
    last, chosen = len(history.epochs) - 1, result.get("chosen")
    none = np.empty(0, dtype=np.int64)
    if not isinstance(chosen, dict):
        return last, none
    at, rows, end = chosen.get("at"), chosen.get("rows"), len(history.labels)
    # What a browser says is checked: it may have drawn what is there no more.
    if not isinstance(rows, list) or not all(isinstance(r, int) and 0 <= r < end for r in rows):
        return last, none
    if len(drawing["epochs"]) == 1 or not isinstance(at, int) or not 0 <= at <= last:
        at = last
    return at, np.array(rows, dtype=np.int64)


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
    # Rows stand by class: some from each, not the first class alone.
    spread = np.linspace(0, len(rows) - 1, min(len(rows), evaluation.PER_SHEET)).round().astype(int)
    more = f"; {len(spread)} shown" if len(rows) > len(spread) else ""
    st.caption(f"{len(rows):,} images, as called after epoch {history.epochs[at]}{more}")
    evaluation.show_images(
        run,
        dynamics.answers(history, at),
        rows[spread],
        f"{key} {at} {hash(rows.tobytes())}",
    )
