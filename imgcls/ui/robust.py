"""The Evaluate page's section on robustness: what is left when images get worse."""

import numpy as np
import streamlit as st
from scipy.special import softmax

from imgcls import charts
from imgcls.errors import ImgclsError
from imgcls.evaluate import predictions, robustness
from imgcls.evaluate.metrics import Metrics
from imgcls.evaluate.predictions import Predictions
from imgcls.evaluate.robustness import LEVELS, SEVERITIES, Robustness
from imgcls.preprocess import printable
from imgcls.runs import Run
from imgcls.ui import compute, widgets
from imgcls.ui.gallery import Tile, gallery
from imgcls.ui.live import QUIET

TILE = 128  # CSS pixels a side of one image under a corruption
HOURS = 6 * 3600.0  # seconds after which a measurement is ended


def robust(run: Run, answers: Predictions, found: Metrics) -> None:
    """Accuracy under corruptions of all images, and one image under one of them."""
    measured = robustness.load(run, answers.split)
    if measured is None:
        _measure(run, answers)
    else:
        _curves(answers, measured)
    _one(run, answers)


def _measure(run: Run, answers: Predictions) -> None:
    """Offer the measurement, or show how far it is."""
    key = f"robustness {run.id} {answers.split}"
    job = st.session_state.get(key)
    if job is None:
        passes = 1 + len(SEVERITIES) * LEVELS
        st.markdown(
            f"Noise, blur, JPEG, brightness, contrast, rotation, translation and pixelation at "
            f"{LEVELS} severities: the model answers {passes} times for each of "
            f"{len(answers.labels):,} images. It takes minutes, goes on while you look elsewhere, "
            "and is stored."
        )
        if st.button("Measure robustness", type="primary", icon=":material/bolt:"):
            st.session_state[key] = compute.submit(
                robustness.compute, run.id, answers.split,
                worker="long", progress=True, timeout=HOURS,
            )  # fmt: skip
            st.rerun()
        return
    if not job.future.done():
        compute.watch(job, f"Judging {answers.split} images under corruptions")
        if st.button("Cancel", icon=":material/close:"):
            compute.cancel(job, "long")
            st.rerun()
        return
    del st.session_state[key]
    try:
        job.result()
    except ImgclsError as error:
        st.error(widgets.escape(error), icon=":material/error:")
        if st.button("Try again", icon=":material/refresh:"):
            st.rerun()
        return
    st.rerun()


def _curves(answers: Predictions, measured: Robustness) -> None:
    left, middle, right = st.columns(3)
    left.metric("Accuracy", f"{measured.clean:.2%}", help="On the images as they are.")
    middle.metric(
        "Mean corruption accuracy", f"{measured.mean:.2%}",
        help="Over all corruptions and severities alike.",
    )  # fmt: skip
    lost = measured.clean - measured.accuracy.mean(1)
    worst = list(SEVERITIES)[int(lost.argmax())]
    right.metric("Hurts most", worst, f"−{100 * lost.max():.1f} points", delta_color="off")
    curves = {
        name: [measured.clean, *shares]
        for name, shares in zip(SEVERITIES, measured.accuracy.tolist(), strict=True)
    }
    st.plotly_chart(
        charts.severity_curves(curves, 1 / len(answers.classes)),
        key="severities", config=QUIET, alt="Accuracy over severity, a line a corruption",
    )  # fmt: skip
    st.caption(
        f"{measured.n:,} {answers.split} images each; the dashed line is chance. Severities as in "
        "CIFAR-10-C (Hendrycks and Dietterich 2019) where that has them."
    )
    with st.expander("The numbers", icon=":material/table_rows:"):
        st.dataframe(
            {
                "corruption": list(SEVERITIES),
                **{
                    f"severity {level + 1}": [
                        f"{share:.1%}" for share in measured.accuracy[:, level]
                    ]
                    for level in range(LEVELS)
                },
                "mean": [f"{share:.1%}" for share in measured.accuracy.mean(1)],
            },
            hide_index=True,
        )


@st.fragment
def _one(run: Run, answers: Predictions) -> None:
    """One image at every severity, and what the model says of it."""
    st.markdown("**One image, worse and worse**")
    left, right = st.columns(2)
    with left:
        name = st.selectbox("Corruption", list(SEVERITIES), key="corruption") or "noise"
    with right:
        row = st.number_input(
            "Image", 0, len(answers.labels) - 1, 0, key=f"worse {run.id} {answers.split}",
            help="Its place among the images judged.",
        )  # fmt: skip
    try:
        image = predictions.pictures(run, answers.split, np.array([int(row)]))[0]
        versions, logits = compute.call(robustness.series, run.id, image, name)
    except ImgclsError as error:
        st.error(widgets.escape(error), icon=":material/error:")
        return
    shares = softmax(logits, axis=1)
    true = int(answers.labels[int(row)])
    tiles = []
    for level, called in enumerate(shares.argmax(1)):
        said = f"{'✓' if called == true else '✗'} {printable(answers.classes[called])}"
        sure = f"{shares[level, called]:.1%}"
        title = "as it is" if not level else f"severity {level}"
        tiles.append(Tile(f"{title}: {said}, {sure}", (title, said, sure)))
    st.caption(f"Truly {widgets.escape(printable(answers.classes[true]))}.")
    gallery(
        versions, tiles, key=f"worse {run.id} {answers.split} {row} {name}", tile=TILE,
        clickable=False,
    )  # fmt: skip
