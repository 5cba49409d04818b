"""The Evaluate page's section on confidence: is it true, and what can be done with it."""

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from imgcls import charts
from imgcls.evaluate import calibrate, metrics, predictions
from imgcls.evaluate.metrics import Metrics
from imgcls.evaluate.predictions import Predictions
from imgcls.runs import Run
from imgcls.ui import stored, widgets
from imgcls.ui.live import QUIET

ERRORS = {
    "expected calibration error": "ece",
    "largest gap in a bin": "mce",
    "Brier score": "brier",
    "log loss, nats": "loss",
}


def confidence(run: Run, answers: Predictions, found: Metrics) -> None:
    """Reliability before and after a temperature, answering only when sure, sets of labels."""
    held = None
    if predictions.fits_on_validation(run, answers.split):
        held = stored.predictions_of(run, "validation")
        if held is None:
            return
    plain = calibrate.scaled(answers.logits, 1.0)
    temperature = 1.0 if held is None else calibrate.temperature(held.logits, held.labels)
    shares = calibrate.scaled(answers.logits, temperature)
    _reliability(answers, plain, shares, None if held is None else temperature)
    left, right = st.columns(2, gap="medium")
    with left:
        _selective(answers, shares, held is not None)
    with right:
        _sets(answers, shares, held, temperature)


def _reliability(
    answers: Predictions,
    plain: calibrate.Floats,
    shares: calibrate.Floats,
    temperature: float | None,
) -> None:
    before = calibrate.reliability(plain, answers.labels)
    shown = {"as trained": (before.confidence, before.accuracy, before.counts)}
    columns = {"as trained": calibrate.errors(answers.logits, answers.labels, 1.0)}
    if temperature is not None:
        after = calibrate.reliability(shares, answers.labels)
        shown["with temperature"] = (after.confidence, after.accuracy, after.counts)
        columns["with temperature"] = calibrate.errors(answers.logits, answers.labels, temperature)
    left, right = st.columns([11, 9], gap="medium")
    with left:
        st.plotly_chart(
            charts.reliability(shown), key="reliability", config=QUIET,
            alt="Share of right answers over confidence, in bins",
        )  # fmt: skip
    with right:
        st.markdown(_verdict(plain.max(1), answers.correct))
        st.dataframe(
            {
                "figure": list(ERRORS),
                **{
                    name: [f"{getattr(found, field):.4f}" for field in ERRORS.values()]
                    for name, found in columns.items()
                },
            },
            hide_index=True,
        )
        if temperature is None:
            st.caption(
                "No temperature is fitted here: that needs validation images that the model did "
                "not learn from, and other images to judge it by."
                + (" Choose the test images." if answers.split == "validation" else "")
            )
        else:
            st.caption(
                f"Logits divided by {temperature:.3f}, which makes the log loss on validation "
                "least. No answer changes, only how sure it is. Dots: images in a bin."
            )


def _verdict(sure: calibrate.Floats, right: NDArray[np.bool_]) -> str:
    """Whether mean confidence and accuracy differ by more than these images' number explains."""
    said = (
        f"On average it is {widgets.percent(float(sure.mean()))} sure and "
        f"{widgets.percent(float(right.mean()))} right: "
    )
    low, high = calibrate.overconfidence(sure, right)
    between = f"95 % interval {100 * low:+.1f} to {100 * high:+.1f} points"
    if low <= 0 <= high:
        return f"{said}**true on average, within noise** ({between})."
    word = "too sure" if low > 0 else "not sure enough"
    off = abs(float(sure.mean() - right.mean()))
    return f"{said}**{word} by {100 * off:.1f} points** ({between})."


def _selective(answers: Predictions, shares: calibrate.Floats, scaled: bool) -> None:
    st.markdown("**Answer only when sure**" + (", after the temperature" if scaled else ""))
    threshold = st.slider(
        "At least so sure", 0.0, 1.0, 0.9, 0.01, format="percent", key="confidence_threshold"
    )
    answered = shares.max(1) >= threshold
    count, wrong = int(answered.sum()), int((answered & ~answers.correct).sum())
    _, coverage, risk = calibrate.risk_coverage(shares, answers.labels)
    if count:
        low, high = metrics.wilson_interval(wrong, count)
        st.markdown(
            f"Answers **{widgets.percent(count / len(shares))}** of the images; "
            f"**{widgets.percent(wrong / count)}** of these answers are wrong "
            f"(95 % interval {widgets.percent(low)} to {widgets.percent(high)})."
        )
    else:
        st.markdown("It is never so sure: no image is answered.")
    st.plotly_chart(
        charts.risk_coverage(
            coverage, risk, (count / len(shares), wrong / count) if count else None
        ),
        key="risk_coverage", config=QUIET, alt="Wrong answers over images answered",
    )  # fmt: skip


def _sets(
    answers: Predictions, shares: calibrate.Floats, held: Predictions | None, temperature: float
) -> None:
    st.markdown(
        "**Several labels instead of one**"
        + (", after the temperature" if held is not None else "")
    )
    if held is None:
        st.caption(
            "Sets need validation images that the model did not learn from, apart from those "
            "judged." + (" Choose the test images." if answers.split == "validation" else "")
        )
        return
    wanted = st.select_slider(
        "Sets that hold the true class", calibrate.COVERAGES, 0.9,
        format_func=lambda share: f"{share:.0%}", key="confidence_coverage",
    )  # fmt: skip
    of_held = calibrate.scaled(held.logits, temperature)
    found = calibrate.conformal(of_held, held.labels, shares, answers.labels, wanted)
    right = round(found.coverage * len(shares))
    low, high = metrics.wilson_interval(right, len(shares))
    st.markdown(
        f"Sets hold the true class of **{widgets.percent(found.coverage)}** of the images "
        f"(95 % interval {widgets.percent(low)} to {widgets.percent(high)}) and name "
        f"**{found.size:.2f} classes** on average."
    )
    st.caption(
        f"{widgets.percent(found.single)} of the sets name one class, "
        f"{widgets.percent(found.empty)} none. A class is in where its probability is at least "
        f"{found.threshold:.3f}: that comes from validation, the shares from {answers.split}."
    )
