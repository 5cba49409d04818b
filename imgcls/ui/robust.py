"""The Evaluate page's section on robustness: what is left when images get worse."""

from collections.abc import Callable
from concurrent.futures import CancelledError

import numpy as np
import streamlit as st
from scipy.special import softmax

from imgcls import charts
from imgcls.data import catalog
from imgcls.errors import ImgclsError
from imgcls.evaluate import adversarial, metrics, predictions, robustness
from imgcls.evaluate.metrics import Metrics
from imgcls.evaluate.predictions import Predictions
from imgcls.evaluate.robustness import LEVELS, SEVERITIES
from imgcls.evaluate.tallies import Tally
from imgcls.preprocess import printable
from imgcls.runs import Run
from imgcls.ui import compute, pictures, widgets
from imgcls.ui.gallery import Tile, gallery
from imgcls.ui.live import QUIET

TILE = 128  # CSS pixels a side of one image under a corruption
TOP = 5  # classes shown of one image
HOURS = 6 * 3600.0  # seconds after which a measurement is ended


def robust(run: Run, answers: Predictions, found: Metrics) -> None:
    """Accuracy under corruptions and under attack, and one image under one corruption."""
    st.markdown("**Worse pictures**")
    passes = 1 + len(SEVERITIES) * LEVELS
    measured = robustness.load(run, answers.split)
    if measured is not None:
        _corruptions(answers, measured)
    else:
        _measure(
            run, answers, robustness.compute, run.robustness_path(answers.split).exists(),
            "Measure robustness",
            "Noise, blur, JPEG, brightness, contrast, rotation, translation and pixelation at "
            f"{LEVELS} severities: the model answers {passes} times for each of "
            f"{len(answers.labels):,} images.",
        )  # fmt: skip
    _one(run, answers)
    st.markdown("**The worst pictures**")
    attacked = adversarial.load(run, answers.split)
    if attacked is not None:
        _attacks(answers, attacked)
    else:
        count = min(adversarial.IMAGES, len(answers.labels))
        _measure(
            run, answers, adversarial.compute, run.adversarial_path(answers.split).exists(),
            "Attack the model",
            "Each pixel is moved a little, so as to do the most harm: FGSM in one step, PGD in "
            f"{adversarial.STEPS}, on {count:,} images drawn at random.",
        )  # fmt: skip


def _measure(
    run: Run,
    answers: Predictions,
    compute_it: Callable[..., None],
    stale: bool,
    label: str,
    text: str,
) -> None:
    """Offer a measurement, or show how far it is; `stale` where one of before is void by now."""
    key = f"{label} {run.id} {answers.split}"
    job = compute.shared(key)  # not of this tab: it outlives a reload
    if job is None:
        if stale:
            st.info(
                "What was measured before is void: the model or its data set is another now.",
                icon=":material/update:",
            )
        st.markdown(f"{text} It takes minutes, goes on while you look elsewhere, and is stored.")
        if st.button(label, type="primary", icon=":material/bolt:"):
            job = compute.submit(
                compute_it, run.id, answers.split, worker="long", progress=True, timeout=HOURS
            )
            compute.share(key, job)
            st.rerun()
        return
    if not job.future.done():
        compute.watch(job, label)
        if st.button("Cancel", icon=":material/close:", key=f"cancel {key}"):
            compute.cancel(job, "long")
            st.rerun()
        return
    compute.share(key, None)
    try:
        job.result()
    except (ImgclsError, CancelledError) as error:
        st.error(widgets.escape(error) or "Cancelled.", icon=":material/error:")
        if st.button("Try again", icon=":material/refresh:", key=f"again {key}"):
            st.rerun()
        return
    st.rerun()


def _corruptions(answers: Predictions, measured: Tally) -> None:
    left, middle, right = st.columns(3)
    left.metric("Accuracy", f"{measured.clean:.2%}", help="On the images as they are.")
    middle.metric(
        "Mean corruption accuracy", f"{measured.mean:.2%}",
        help="Over all corruptions and severities alike.",
    )  # fmt: skip
    lost = measured.clean - measured.accuracy.mean(1)
    if lost.max() > 0:
        worst = list(SEVERITIES)[int(lost.argmax())]
        right.metric("Hurts most", worst, f"-{100 * lost.max():.1f} points", delta_color="off")
    else:
        right.metric("Hurts most", "none")
    curves = {
        name: [measured.clean, *shares]
        for name, shares in zip(SEVERITIES, measured.accuracy.tolist(), strict=True)
    }
    st.plotly_chart(
        charts.strength_curves(
            range(LEVELS + 1), curves, 1 / len(answers.classes), "severity"
        ),
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
                    f"severity {level}": [f"{share:.1%}" for share in shares]
                    for level, shares in enumerate(measured.accuracy.T, start=1)
                },
                "mean": [f"{share:.1%}" for share in measured.accuracy.mean(1)],
            },
            hide_index=True,
        )


def _attacks(answers: Predictions, attacked: Tally) -> None:
    curves = {
        name: [attacked.clean, *shares]
        for name, shares in zip(adversarial.ATTACKS, attacked.accuracy.tolist(), strict=True)
    }
    st.plotly_chart(
        charts.strength_curves(
            [0, *adversarial.EPSILONS], curves, 1 / len(answers.classes),
            "largest change of a channel, of 255", height=340,
        ),
        key="attacks", config=QUIET, alt="Accuracy over the largest change allowed, by attack",
    )  # fmt: skip
    epsilon = st.select_slider(
        "Largest change of a channel, of 255", adversarial.EPSILONS, adversarial.EPSILONS[0],
        key="epsilon",
    )  # fmt: skip
    at = adversarial.EPSILONS.index(epsilon)
    for column, (name, right) in zip(
        st.columns(len(adversarial.ATTACKS)),
        zip(adversarial.ATTACKS, attacked.right[:, at].tolist(), strict=True),
        strict=True,
    ):
        low, high = metrics.wilson_interval(right, attacked.n)
        column.metric(
            f"Left under {name}", widgets.percent(right / attacked.n),
            help=f"95 % interval {widgets.percent(low)} to {widgets.percent(high)}.",
        )  # fmt: skip
    st.caption(
        f"{attacked.n:,} {answers.split} images. Whoever attacks knows the model's weights; nobody "
        "may draw from this that it withstands other attacks. FGSM: Goodfellow and others 2014; "
        f"PGD of {adversarial.STEPS} steps: Madry and others 2017."
    )


@st.fragment
def _one(run: Run, answers: Predictions) -> None:
    """One image at every severity, and what the model says of it."""
    st.caption("One image, worse and worse")
    left, right = st.columns(2)
    with left:
        name = st.selectbox("Corruption", list(SEVERITIES), key="corruption") or "noise"
    with right:
        row = st.number_input(
            "Image", 0, len(answers.labels) - 1, 0, key=f"worse {run.id} {answers.split}",
            help="Its place among the images judged.",
        )  # fmt: skip
    try:
        data = catalog.load(answers.dataset).fingerprint
    except ImgclsError as error:
        st.error(widgets.escape(error), icon=":material/error:")
        return
    asked = (run.id, run.model_path.stat().st_mtime_ns, answers.split, data, int(row), name)
    kept = st.session_state.get("worse_kept")
    if kept is None or kept[0] != asked:
        try:
            image = predictions.pictures(run, answers.split, np.array([int(row)]))[0]
            with st.spinner("Asking the model"):
                kept = asked, *compute.call(robustness.series, run.id, image, name)
        except ImgclsError as error:
            st.error(widgets.escape(error), icon=":material/error:")
            return
        st.session_state["worse_kept"] = kept
    _, versions, logits = kept
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
    level = st.slider("Severity", 0, LEVELS, 3, key="severity", help="0: the picture as it is.")
    left, right = st.columns([2, 3], vertical_alignment="center")
    with left:
        st.image(
            pictures.png(pictures.enlarged(versions[level], 256)), output_format="PNG",
            width="content", alt=f"{name} at severity {level}",
        )  # fmt: skip
    with right:
        order = np.argsort(-shares[level], kind="stable")[:TOP]
        top = [(answers.classes[i], float(shares[level, i])) for i in order]
        widgets.bars(top, answers.classes)
