"""The parts of the home page: the four steps, runs that go on, data sets on disk."""

import numpy as np
import streamlit as st

from imgcls.data import catalog
from imgcls.data.catalog import Dataset, Images
from imgcls.errors import ImgclsError
from imgcls.ui import history, widgets
from imgcls.ui.history import Row

STEPS = (
    (
        "explore",
        "Explore",
        ":material/grid_view:",
        "Classes, samples, statistics; import your own.",
    ),
    ("train", "Train", ":material/model_training:", "Pick a recipe, watch loss and accuracy live."),
    ("evaluate", "Evaluate", ":material/rule:", "Per class, confusion matrix, every mistake."),
    ("predict", "Predict", ":material/image_search:", "Upload pictures, get the five likeliest."),
)
SHOWN = 5  # recent runs


def steps() -> None:
    """The four steps as links, in order."""
    for column, (page, label, icon, text) in zip(st.columns(4), STEPS, strict=True):
        with column, st.container(border=True, height="stretch", gap="xxsmall"):
            st.page_link(f"pages/{page}.py", label=f"**{label}**", icon=icon)
            st.caption(text)


def runs_in_progress() -> None:
    """Runs, those alive first, renewed every two seconds while one is."""
    st.header("Runs", anchor=False)
    alive = any(row.alive for row in history.rows())
    st.fragment(_runs, run_every=2.0 if alive else None)(alive)


def datasets() -> None:
    """Data sets on disk with a few pictures of each."""
    st.header("Data sets", anchor=False)
    names = catalog.names()
    for name in names:
        try:
            dataset = catalog.load(name)
            pictures = _samples(name, dataset.fingerprint)
        except ImgclsError as error:
            st.error(widgets.escape(error))
            continue
        _dataset(dataset, pictures)
    if not names:
        widgets.next_step(
            "No data set is on disk yet. Handwritten digits come with the app; CIFAR-10 and your "
            "own images are a click away.",
            "explore",
            "Get a data set",
        )


def _runs(alive: bool) -> None:
    rows = history.rows()
    going = [row for row in rows if row.alive]
    if alive and not going:
        st.rerun()
    if not rows:
        widgets.next_step("No run yet.", "train", "Train a model")
        return
    with st.container(border=True, gap="small"):
        for row in going + [row for row in rows if not row.alive][:SHOWN]:
            _run(row)
    if len(rows) > SHOWN:
        st.page_link(
            "pages/runs.py", label=f"All {len(rows)} runs", icon=":material/arrow_forward:"
        )


def _run(row: Row) -> None:
    state, name, about = st.columns([3, 5, 5], vertical_alignment="center")
    with state:
        widgets.state_badge(row.state)
    if row.state == history.DAMAGED:
        with name:
            widgets.link("runs", row.id, None)
        return
    with name:
        widgets.link("train", widgets.escape(f"{row.recipe} on {row.dataset}"), None, run=row.id)
    best = "" if row.val_accuracy is None else f" · {widgets.percent(row.val_accuracy)}"
    about.caption(f"epoch {row.epochs} of {row.of_epochs}{best}")
    if row.alive:
        st.progress(min(row.epochs / max(row.of_epochs, 1), 1.0))


def _dataset(dataset: Dataset, pictures: Images) -> None:
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link(
                "pages/explore.py", label=f"**{dataset.name}**", icon=":material/database:",
                query_params={"dataset": dataset.name},
            )  # fmt: skip
            counts = ", ".join(f"{dataset.total(split):,} {split}" for split in dataset.splits)
            st.caption(
                f"{len(dataset.classes)} classes · {counts} · {dataset.size}×{dataset.size} px"
            )
        widgets.sheet(
            pictures, f"One training image of each of the first classes of {dataset.name}", side=40
        )


@st.cache_data(max_entries=32, show_spinner=False)
def _samples(name: str, fingerprint: str) -> Images:
    """The first training image of each of the first ten classes, in their order."""
    images, labels = catalog.arrays(name, "train")
    _, first = np.unique(np.asarray(labels), return_index=True)
    return np.asarray(images[first[:10]])
