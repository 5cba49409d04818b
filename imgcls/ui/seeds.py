"""The Evaluate page's word on seeds: the same training begun elsewhere, and what came of it."""

import streamlit as st

from imgcls import charts
from imgcls.evaluate import predictions, seeds
from imgcls.evaluate.predictions import Predictions
from imgcls.runs import Run
from imgcls.ui import figures, stored, widgets
from imgcls.ui.live import QUIET


def spread(run: Run, answers: Predictions) -> None:
    """Mean and standard deviation over runs that differ in their seed alone, with each as a dot."""
    alike = seeds.siblings(run)
    if len(alike) < 2:
        return
    judged = {other.id: predictions.load(other, answers.split) for other in alike}
    known = [one for one in judged.values() if one is not None]
    missing = [other for other in alike if judged[other.id] is None]
    found = seeds.spreads([_figures(one) for one in known]) if len(known) > 1 else []
    if found:
        accuracy = found[0]
        st.caption(
            f"Over {len(known)} seeds of this training: accuracy {100 * accuracy.mean:.2f} ± "
            f"{100 * accuracy.sd:.2f} %."
        )
    with widgets.opened(f"{len(alike)} seeds of this training", ":material/casino:") as open:
        if not open:
            return
        if found:
            _show(found, [widgets.short_label(o) for o in alike if judged[o.id] is not None])
            st.caption(
                f"{answers.split.capitalize()} images. Runs of the same settings and data that "
                "differ in their seed alone: mean ± standard deviation, and the mean's 95 % "
                "interval by Student's t. Two trainings alike differ by about so much: judge a "
                "change by several seeds."
            )
        if missing and st.button(
            f"Judge {len(missing)} more by {answers.split} images", icon=":material/play_arrow:"
        ):
            for other in missing:
                stored.made(other, answers.split)
            st.rerun()


def _show(found: list[seeds.Spread], labels: list[str]) -> None:
    accuracy = found[0]
    st.plotly_chart(
        charts.arms([("accuracy", accuracy.values, accuracy.interval)], x="accuracy"),
        key="seeds", config=QUIET, alt="Accuracy of each seed, their mean and its interval",
    )  # fmt: skip
    st.dataframe(
        {
            "figure": [one.name for one in found],
            "mean": [f"{one.mean:.4f}" for one in found],
            "standard deviation": [f"{one.sd:.4f}" for one in found],
            "95 % of the mean": [
                f"{one.interval[0]:.4f} – {one.interval[1]:.4f}" if one.interval else ""
                for one in found
            ],
            **{label: [f"{one.values[i]:.4f}" for one in found] for i, label in enumerate(labels)},
        },
        hide_index=True,
    )


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={Predictions: figures.same})
def _figures(answers: Predictions) -> dict[str, float]:
    return seeds.figures(answers)
