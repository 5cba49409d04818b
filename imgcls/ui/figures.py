"""The Evaluate page's section of figures: each with its interval, to read and to take along."""

import hashlib
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from imgcls.data import spreadsheet
from imgcls.evaluate import intervals, metrics
from imgcls.evaluate.metrics import Metrics
from imgcls.evaluate.predictions import Predictions
from imgcls.preprocess import printable
from imgcls.runs import Run

FIGURES = ("precision", "recall", "F1", "AUC")


def classes(run: Run, answers: Predictions, found: Metrics) -> None:
    """All figures with their intervals, overall and a class; to take along as CSV and LaTeX."""
    overall, table = _estimates(answers)
    table = pd.concat([table, _averages(found)], ignore_index=True)
    wide = spreadsheet.to_csv(list(table.columns), table.to_numpy().tolist())
    with st.container(horizontal=True):
        for label, data, ending, kind in (
            ("Classes as CSV", wide, "csv", "text/csv"),
            ("Classes as LaTeX", _latex(table), "tex", "text/x-tex"),
        ):
            st.download_button(
                label, data, f"{run.id}-{answers.split.replace('/', '-')}.{ending}", kind,
                icon=":material/download:", on_click="ignore",
            )  # fmt: skip
    shown: dict[str, Any] = {"class": [printable(name) for name in table["class"]]}
    for name in FIGURES:
        shown[name] = table[name]
        shown[f"{name}, 95 %"] = _spans(table[f"{name} low"], table[f"{name} high"])
    share = {
        name: st.column_config.ProgressColumn(name, format="%.3f", min_value=0.0, max_value=1.0)
        for name in FIGURES
    }
    share["class"] = st.column_config.TextColumn("class", width=130)
    st.dataframe(
        {**shown, "support": table["support"]},
        hide_index=True,
        column_config=share,
        height="content" if len(table) < 30 else 900,
    )
    st.caption(
        "Precision: of the images called so, the share that is. Recall: of the images that are so, "
        "the share called so. F1: their harmonic mean. AUC: the chance that an image of the class "
        "gets a higher probability of it than one of another. Empty: undefined, or for an "
        f"average told below. {metrics.left_out(found)}Click a column's head to sort."
    )
    st.markdown("**All images together**")
    st.dataframe(
        {
            "figure": overall["figure"],
            "value": ["" if np.isnan(value) else f"{value:.4f}" for value in overall["value"]],
            "95 % interval": _spans(overall["low"], overall["high"]),
        },
        hide_index=True,
        width="content",
        height="content",
    )
    st.caption(
        "Intervals: Wilson's for shares of images, Hanley and McNeil's for AUC, of the mean for "
        "log loss, and a bootstrap of 1,000 draws for the others. Empty where the figure is "
        "undefined, or so extreme that the method knows no spread."
    )


def _averages(found: Metrics) -> pd.DataFrame:
    """Both averages as rows of the table; macro F1's interval stands below it."""
    return pd.DataFrame(
        [
            {
                "class": row.name, "precision": row.precision, "recall": row.recall, "F1": row.f1,
                "support": row.support,
            }
            for row in (found.macro, found.weighted)
        ]
    )  # fmt: skip


def same(answers: Predictions) -> tuple[str, str, bytes]:
    """What tells stored predictions from others, to keep by it what was made of them."""
    digest = hashlib.blake2b(repr(answers.classes).encode())
    for array in (answers.logits, answers.labels, answers.indices):
        digest.update(array.tobytes())
    return answers.run, answers.split, digest.digest()


@st.cache_data(
    max_entries=32, show_spinner="Drawing images anew, for the intervals",
    hash_funcs={Predictions: same},
)  # fmt: skip
def _estimates(answers: Predictions) -> tuple[pd.DataFrame, pd.DataFrame]:
    return intervals.estimates(answers)


def _latex(table: pd.DataFrame) -> str:
    shown = pd.DataFrame({"class": table["class"]})
    for name in FIGURES:
        spans = _spans(table[f"{name} low"], table[f"{name} high"])
        shown[name] = [
            "–" if np.isnan(value) else f"{value:.3f}" + (f" ({span})" if span else "")
            for value, span in zip(table[name], spans, strict=True)
        ]
    shown["support"] = table["support"]
    text: str = shown.to_latex(index=False, escape=True)
    return text


def _spans(lows: "pd.Series[float]", highs: "pd.Series[float]") -> list[str]:
    return [
        "" if np.isnan(low) else f"{low:.3f} – {high:.3f}"
        for low, high in zip(lows, highs, strict=True)
    ]
