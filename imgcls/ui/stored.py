"""What is stored of a run's answers, for the pages: got, or made first where it is not there."""

from concurrent.futures import wait

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from imgcls.data import catalog
from imgcls.errors import ImgclsError
from imgcls.evaluate import dynamics, predictions
from imgcls.evaluate.dynamics import History
from imgcls.evaluate.predictions import Predictions
from imgcls.runs import Run
from imgcls.ui import compute, widgets

ANEW = (
    "What was stored of these answers is void, as of another model or other data, or damaged: "
    "what is shown was asked anew."
)


def predictions_of(run: Run, split: str) -> Predictions | None:
    """Stored predictions, else None while they are being made, with a bar, or cannot be."""
    found = predictions.load(run, split)
    key = (run.id, split)
    kept = st.session_state.get("evaluate_job")
    if found is not None:
        _say_if_anew(key)
        if kept is not None and kept[0] == key:
            del st.session_state["evaluate_job"]
        return found
    if predictions.is_stale(run, split):
        st.session_state.setdefault("evaluate_anew", set()).add(key)
    if kept is None or kept[0] != key:
        job = compute.submit(
            predictions.compute, run.id, split, worker="model", progress=True, timeout=1800
        )
        kept = st.session_state["evaluate_job"] = (key, job)
    job = kept[1]
    wait([job.future], timeout=1.0)
    if not job.future.done():
        compute.watch(job, f"Asking the model about every {split} image")
        return None
    try:
        job.result()
        found = predictions.load(run, split)
        if found is None:
            raise ImgclsError("The run or its data set changed meanwhile.")
    except ImgclsError as error:
        st.error(widgets.escape(error), icon=":material/error:")
        if st.button("Try again", icon=":material/refresh:"):
            del st.session_state["evaluate_job"]
            st.rerun()
        return None
    _say_if_anew(key)
    return found


def _say_if_anew(key: tuple[str, str]) -> None:
    """Say once that these answers replaced void ones."""
    if key in st.session_state.get("evaluate_anew", ()):
        st.session_state["evaluate_anew"].remove(key)
        st.info(ANEW, icon=":material/update:")


def made(run: Run, split: str) -> None:
    """Wait until a run's predictions are stored; raises ImgclsError where they cannot be."""
    if predictions.load(run, split) is None:
        with st.spinner(f"Asking the model about every {split} image"):
            compute.call(predictions.compute, run.id, split, timeout=1800.0)


def history_of(run: Run) -> History | None:
    """What training kept of the answers to validation images; None where nothing was."""
    return _history(*_key(run), run)


def derived_of(run: Run) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The confusions and the maps of a run that has a history, one an epoch kept."""
    return _derived(*_key(run), run)


def _key(run: Run) -> tuple[str, tuple[int, ...], int, str]:
    """What a run's history depends on: where it lies, what it holds, since when, on which data."""
    epochs = run.answered_epochs()
    changed = run.answers_path(epochs[-1]).stat().st_mtime_ns if epochs else 0
    try:
        data = catalog.load(run.config.dataset).fingerprint
    except ImgclsError:
        data = ""  # gone, or damaged
    return str(run.path), tuple(epochs), changed, data


@st.cache_resource(max_entries=8, show_spinner=False)
def _history(
    path: str, epochs: tuple[int, ...], changed: int, data: str, _run: Run
) -> History | None:
    return dynamics.load(_run)


@st.cache_resource(max_entries=3, show_spinner=False)
def _derived(
    path: str, epochs: tuple[int, ...], changed: int, data: str, _run: Run
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    history = _history(path, epochs, changed, data, _run)
    assert history is not None
    return dynamics.confusions(history), dynamics.maps(history)
