"""The Evaluate page's section on shortcuts: do mistakes go with simple traits of the images."""

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from imgcls import charts
from imgcls.errors import ImgclsError
from imgcls.evaluate import compare, traits
from imgcls.evaluate.metrics import Metrics
from imgcls.evaluate.predictions import Predictions
from imgcls.evaluate.traits import Trait
from imgcls.runs import Run
from imgcls.ui import evaluation, figures, widgets
from imgcls.ui.live import QUIET


def shortcuts(run: Run, answers: Predictions, found: Metrics) -> None:
    """Share of mistakes over each trait, which of them chance explains, and the images behind."""
    try:
        rows, measured = _of_run(run, answers)
    except ImgclsError as error:
        st.error(widgets.escape(error), icon=":material/error:")
        return
    if not measured:
        st.info("The images are all alike in every trait that is looked at.")
        return
    st.dataframe(
        {
            "trait": [trait.name for trait in measured],
            "wrong among": [
                f"{first} {widgets.percent(trait.rates[0])}, {last} "
                f"{widgets.percent(trait.rates[-1])}"
                for trait in measured
                for first, last in [traits.NAMES[trait.name]]
            ],
            "p, corrected": [compare.p_text(trait.p) for trait in measured],
            "verdict": [
                "mistakes go with it" if trait.real else "within noise" for trait in measured
            ],
        },
        hide_index=True,
    )
    names = [trait.name for trait in measured]
    chosen = st.segmented_control(
        "Trait", names, default=names[0], key=f"trait {run.id} {answers.split}"
    )
    _trait(run, answers, rows, measured[names.index(chosen or names[0])], 1 - found.accuracy)
    part = f"{len(rows):,} of {len(answers.labels):,} images, evenly drawn. " * (
        len(rows) < len(answers.labels)
    )
    missing = "Sizes of files are not known of this data set. " * (
        "file size" not in names
    ) + "No image has a plain margin. " * ("margin" not in names)
    st.caption(
        f"{part}{missing}Groups of about equal number; 95 % intervals by Wilson. p: χ² test that "
        "all groups err alike, corrected for the number of traits (Holm). That mistakes go with a "
        "trait does not say that it is their cause: classes differ in it too."
    )


@st.fragment
def _trait(
    run: Run, answers: Predictions, rows: NDArray[np.int64], trait: Trait, overall: float
) -> None:
    """One trait's curve; click on a group for its mistakes."""
    chosen = st.plotly_chart(
        charts.error_rates(
            trait.middle, trait.rates, trait.low, trait.high, trait.images, overall, trait.name
        ),
        key=f"trait_chart {trait.name}", on_select="rerun", selection_mode="points", config=QUIET,
        alt=f"Share of wrong answers over {trait.name}",
    )  # fmt: skip
    points = [p for p in chosen["selection"]["points"] if p.get("point_index") is not None]
    group = int(points[0]["point_index"]) if points else int(trait.rates.argmax())
    members = rows[trait.group == group]
    wrong = members[~answers.correct[members]]
    wrong = wrong[np.argsort(-answers.confidence[wrong], kind="stable")]
    st.caption(
        f"Group {group + 1} of {len(trait.images)}"
        + ("" if points else ", where mistakes are most frequent; click a point for another")
        + f": {len(wrong):,} mistakes in {len(members):,} images, the most confident first"
    )
    if len(wrong):
        evaluation.show_images(
            run, answers, wrong[: evaluation.PER_SHEET], f"trait {trait.name} {group}"
        )


@st.cache_data(
    max_entries=16, show_spinner="Looking at the images",
    hash_funcs={Predictions: figures.same, Run: lambda run: run.id},
)  # fmt: skip
def _of_run(run: Run, answers: Predictions) -> tuple[NDArray[np.int64], list[Trait]]:
    return traits.of_run(run, answers)
