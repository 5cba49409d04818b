"""The Evaluate page's section on comparison: is another run really better than this one."""

import numpy as np
import streamlit as st

from imgcls import charts, runs
from imgcls.errors import ImgclsError
from imgcls.evaluate import compare, predictions
from imgcls.evaluate.metrics import Metrics
from imgcls.evaluate.predictions import Predictions
from imgcls.preprocess import printable
from imgcls.runs import Run
from imgcls.ui import evaluation, history, stored, widgets
from imgcls.ui.live import QUIET

SENTENCES = 5  # verdicts in words; the table holds all


def comparison(run: Run, answers: Predictions, found: Metrics) -> None:
    """Choose other runs on the same data set; differences, verdicts, images and curves."""
    others = {
        other.id: other
        for other in runs.all_runs()
        if other.id != run.id
        and other.model_path.exists()
        and history.row(other).dataset in (run.config.dataset, answers.dataset)
    }
    if not others:
        st.info(f"No other run on {widgets.escape(answers.dataset)} has a model yet.")
        return
    names = {name: widgets.short_label(other) for name, other in others.items()}
    chosen = st.multiselect(
        "Compare with", list(names), format_func=names.__getitem__, key=f"compare {run.id}",
        max_selections=compare.MOST - 1, placeholder="Choose one or more runs",
    )  # fmt: skip
    # The box forgets its value when another section is shown; the report asks for it there too.
    st.session_state[f"compared {run.id}"] = chosen
    if not chosen:
        st.caption(
            f"Runs are compared on the very same {answers.split} images: what counts is where "
            "they disagree. Runs on other data sets are not offered, for they saw other images."
        )
        return
    judged = [answers]
    for name in chosen:
        other = stored.predictions_of(others[name], answers.split)
        if other is None:
            return
        judged.append(other)
    try:
        compare.check_fair([run, *(others[name] for name in chosen)], answers.split)
        pairs = compare.pairs(judged)
    except ImgclsError as error:
        st.error(widgets.escape(error), icon=":material/error:")
        return
    labels = {run.id: widgets.short_label(run), **names}
    for name in chosen:
        if others[name].config.recipe == "imported":
            caution = predictions.caution(others[name], answers.split)
            st.warning(f"{widgets.escape(labels[name])}: {caution}", icon=":material/warning:")
    _verdicts(pairs, len(judged) - 1, labels)
    _curves([run, *(others[name] for name in chosen)], labels)
    _by_class(judged, labels)
    _only(run, others, judged, labels)


def _verdicts(pairs: list[compare.Pair], others: int, labels: dict[str, str]) -> None:
    for pair in pairs[: min(others, SENTENCES)]:  # the first are those of the page's own run
        better, worse = (pair.b, pair.a) if pair.difference >= 0 else (pair.a, pair.b)
        with st.container(horizontal=True, vertical_alignment="center"):
            if pair.real:
                st.badge(pair.verdict, icon=":material/check:", color="green")
            else:
                st.badge(pair.verdict, icon=":material/waves:", color="gray")
            ahead = (
                f"{100 * abs(pair.difference):.2f} points above"
                if pair.difference
                else "level with"
            )
            p = compare.p_text(pair.p_holm)
            low, high = (pair.low, pair.high) if better == pair.b else (-pair.high, -pair.low)
            st.markdown(
                f"**{widgets.escape(labels[better])}** is {ahead} "
                f"{widgets.escape(labels[worse])} on {pair.n:,} images "
                f"(95 % interval {100 * low:+.2f} to {100 * high:+.2f} points, p {p})"
            )
    st.plotly_chart(
        charts.differences(
            [
                (labels[p.b], labels[p.a], p.difference, p.low, p.high, p.real)
                for p in pairs
            ]
        ),
        key="differences", config=QUIET, alt="Differences in accuracy with 95 % intervals",
    )  # fmt: skip
    if len(pairs) > 1:
        st.dataframe(
            {
                "B": [labels[p.b] for p in pairs],
                "A": [labels[p.a] for p in pairs],
                "B − A, points": [f"{100 * p.difference:+.2f}" for p in pairs],
                "95 %": [f"{100 * p.low:+.2f} to {100 * p.high:+.2f}" for p in pairs],
                "only A right": [p.only_a for p in pairs],
                "only B right": [p.only_b for p in pairs],
                "p": [compare.p_text(p.p) for p in pairs],
                "p, corrected": [compare.p_text(p.p_holm) for p in pairs],
                "verdict": [p.verdict for p in pairs],
            },
            hide_index=True,
        )
    st.caption(
        "Exact McNemar test on the images that only one of two calls right; p is corrected for the "
        "number of pairs (Holm); a difference is called real below 0.05. Intervals: 95 %, Bonett "
        "and Price, each pair for itself."
    )


def _known(value: float, form: str) -> str:
    """Nothing for what is undefined: a class without images."""
    return "" if np.isnan(value) else format(value, form)


def _curves(compared: list[Run], labels: dict[str, str]) -> None:
    with widgets.opened("How they learned", ":material/show_chart:") as open:
        if not open:
            return
        st.plotly_chart(
            charts.compare_runs({labels[run.id]: history.events(run) for run in compared}),
            key="compared_curves", config=QUIET, alt="Validation accuracy over epochs",
        )  # fmt: skip


def _by_class(judged: list[Predictions], labels: dict[str, str]) -> None:
    with widgets.opened("Class by class", ":material/category:") as open:
        if not open:
            return
        shares = compare.recalls(judged)
        base = judged[0]
        widgets.small_table(
            {
                "class": [printable(name) for name in base.classes],
                "images": [f"{n:,}" for n in np.bincount(base.labels, minlength=len(shares[0]))],
                **{
                    f"{labels[one.run]}, recall": [_known(share, ".3f") for share in row]
                    for one, row in zip(judged, shares, strict=True)
                },
                **{
                    f"{labels[one.run]} − first, points": [
                        _known(100 * change, "+.1f") for change in row - shares[0]
                    ]
                    for one, row in zip(judged[1:], shares[1:], strict=True)
                },
            }
        )


def _only(
    run: Run, others: dict[str, Run], judged: list[Predictions], labels: dict[str, str]
) -> None:
    first = judged[0]
    with widgets.opened("Images that only one of two calls right", ":material/compare:") as open:
        if not open:
            return
        second = judged[1]
        if len(judged) > 2:
            picked = st.selectbox(
                "Second run", range(1, len(judged)), key=f"only {run.id} {len(judged)}",
                format_func=lambda i: labels[judged[i].run],
            )  # fmt: skip
            second = judged[picked or 1]
        who = {
            f"only {labels[first.run]}": (others[second.run], second, first),
            f"only {labels[second.run]}": (run, first, second),
        }
        which = st.segmented_control(
            "Right is", list(who), default=next(iter(who)), key=f"only_which {second.run}"
        )
        wrong_run, wrong, right = who[which or next(iter(who))]
        rows = compare.only_right(right, wrong)
        if not len(rows):
            st.info("No image.", icon=":material/info:")
            return
        st.caption(
            f"{len(rows):,} images. Below each what {widgets.escape(labels[wrong.run])} says, its "
            "surest mistakes first."
        )
        evaluation.show_images(wrong_run, wrong, rows[: evaluation.PER_SHEET], f"only {right.run}")
