"""Judge a run: how often it is right, where it errs, how sure it is, and whether it is better."""

import streamlit as st

from imgcls.data import catalog
from imgcls.errors import ImgclsError
from imgcls.evaluate import metrics, predictions
from imgcls.runs import Run
from imgcls.ui import (
    comparing,
    confidence,
    evaluation,
    figures,
    frame,
    learning,
    reporting,
    robust,
    seeds,
    shortcuts,
    stored,
    widgets,
)

frame.page("pages/evaluate.py")
frame.header(
    "Evaluate",
    "How often a trained model is right, where it errs, how sure it is, and whether it is better.",
)

SECTIONS = {
    "Confusion matrix": evaluation.matrix,
    "Classes": figures.classes,
    "Confident mistakes": evaluation.mistakes,
    "Random sheet": evaluation.sheet,
    "Shortcuts": shortcuts.shortcuts,
    "Confidence": confidence.confidence,
    "Comparison": comparing.comparison,
    "How it learned": learning.learning,
    "Robustness": robust.robust,
}


def choose_images(run: Run) -> str:
    """The split to judge by: of the run's own data set, or of another that its model fits."""
    fitting = predictions.fitting(run)
    name = fitting[0]
    if len(fitting) > 1:
        name = st.selectbox("Data set", fitting, key=f"evaluate_dataset {run.id}") or name
    own = name == fitting[0]
    if own and name not in catalog.names() and predictions.load(run, "test") is not None:
        st.caption(f"{widgets.escape(name)} is not on disk: figures are stored, images are not.")
        return "test"
    dataset = catalog.load(name)
    splits = [
        s
        for s in ("test", "validation", "train")
        if s in dataset.splits or (own and s == "validation")
    ]
    split = st.segmented_control("Images", splits, default=splits[0], key=f"evaluate_split {name}")
    return (split or splits[0]) if own else f"{name}/{split or splits[0]}"


def judge() -> None:
    """Everything below the choice of run and split."""
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        run = widgets.choose_run(lambda run: run.model_path.exists(), shipped=True)
    assert run is not None  # one comes with imgcls
    with right:
        split = choose_images(run)
    answers = stored.predictions_of(run, split)
    if answers is None:
        return
    found = metrics.summary(answers)
    evaluation.headline(found)
    if caution := predictions.caution(run, split):
        st.warning(caution, icon=":material/warning:")
    elif split == "test":
        st.caption(evaluation.TEST_OPENED)
    st.caption(evaluation.weights(run))
    seeds.spread(run, answers)
    names = list(SECTIONS)
    section = st.segmented_control(
        "Section", names, default=names[0], key="evaluate_section", label_visibility="collapsed"
    )
    SECTIONS[section or names[0]](run, answers, found)
    reporting.reporting(run, split)


try:
    judge()
except ImgclsError as error:
    st.error(widgets.escape(error), icon=":material/error:")
