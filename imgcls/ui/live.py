"""A run as it goes on: figures and live curve redrawn each second, the rest every few.

The live curve keeps its DOM node over ticks; Plotly figures are drawn anew only at epoch ends, when
their contents change.
"""

import itertools
import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa  # what charts are sent as: a frame would be converted at each tick
import streamlit as st

from imgcls import charts, doctor, jobs
from imgcls.events import Epoch, Event, Judging, Profile, Started, Step, Validating
from imgcls.runs import Run, State
from imgcls.ui import history, settings, widgets
from imgcls.ui.history import Row

SLOW_SECONDS = 5.0  # between two looks at what changes slowly, as often as a Profile comes
POINTS = 300  # most points of the live curve
LOG_BYTES = 12_000  # of the log's end that the page shows
QUIET = {"displayModeBar": False, "plotGlPixelRatio": 1}
CURVE = {  # st.line_chart would begin at zero, and show a loss of 2.3 to 1.9 as flat
    "mark": {"type": "line", "color": charts.PALETTE[0]},
    "encoding": {
        "x": {"field": "step", "type": "quantitative", "axis": {"grid": False, "tickMinStep": 1}},
        "y": {"field": "loss", "type": "quantitative", "scale": {"zero": False}},
        "tooltip": [{"field": "step", "format": ","}, {"field": "loss", "format": ".4f"}],
    },
}
SHARES = {  # the same for every tick: only data change, and the chart stays where it is
    "mark": {"type": "bar", "orient": "horizontal"},
    "encoding": {
        "y": {"value": 0},
        "y2": {"value": 20},  # pixels, whatever room the legend leaves
        "x": {"field": "share", "type": "quantitative", "axis": None, "scale": {"domain": [0, 1]}},
        "order": {"field": "place"},
        "color": {
            "field": "part",
            "type": "nominal",
            "sort": None,  # as they come, which is the order of the colours too
            "scale": {"range": [*(charts.PALETTE[i] for i in (1, 0, 4, 2, 3)), charts.GREY]},
            "legend": {"orient": "bottom", "title": None, "columns": 3},  # fits a phone
        },
        "tooltip": [{"field": "part"}],
    },
}
TIMED = (
    "Wall-clock seconds of each step's parts since the run was last started. Idle is what lies "
    "between steps, such as the writing of checkpoints."
)
SAMPLED = " On a GPU one step in eight is timed, and stands for the others."


def watch(run: Run) -> None:
    """The run as it is now, again and again while it is alive."""
    now = history.row(run)
    has_model = run.model_path.is_file()
    st.fragment(show, run_every=1.0 if now.alive else None)(run, now.state, has_model)
    st.fragment(show_rest, run_every=SLOW_SECONDS if now.alive else None)(run)


def show(run: Run, drawn: str, has_model: bool) -> None:
    """What changes each second: progress, figures and live curve of a run.

    The buttons above were drawn for the state `drawn`, and the links for a run that `has_model`.
    """
    now = history.row(run)
    if now.state != drawn or run.model_path.is_file() != has_model:
        st.rerun()  # anew with them; and an ended run needs no timer
    seen = history.events(run)
    steps = [e for e in seen if isinstance(e, Step)]
    epochs = history.epochs(seen)
    started = next((e for e in reversed(seen) if isinstance(e, Started)), None)
    last = seen[-1] if seen else None
    _progress(run, now, steps, started, last)
    _metrics(steps, epochs)
    st.markdown("**Loss each step**, training")
    if steps:
        st.vega_lite_chart(thin(steps), CURVE, height=230, alt="Training loss by step")
    else:
        st.caption("The curve begins with the first steps.")


def show_rest(run: Run) -> None:
    """What changes with epochs or every few seconds: their curves, where the time goes, the log."""
    seen = history.events(run)
    epochs = history.epochs(seen)
    started = next((e for e in reversed(seen) if isinstance(e, Started)), None)
    for column, metric in zip(st.columns(2, gap="medium"), ("accuracy", "loss"), strict=True):
        with column:
            st.markdown(f"**{metric.title()} each epoch**, training and validation")
            _epoch_chart(epochs, metric)
    if started:
        _time(run, seen, started)
    _started(started)
    _log(run)


def thin(steps: list[Step], points: int = POINTS) -> pa.Table:
    """Step and mean loss of at most `points` equal groups of events, one at least."""
    starts = np.arange(0, len(steps), -(-len(steps) // points))
    losses = np.array([charts.number(e.loss) for e in steps], np.float64)
    known = np.isfinite(losses)
    sums = np.add.reduceat(np.where(known, losses, 0.0), starts)
    with np.errstate(invalid="ignore"):  # a group without any finite loss is a gap
        means = sums / np.add.reduceat(known, starts, dtype=np.int64)
    last = [*(starts[1:] - 1), len(steps) - 1]
    return pa.table({"step": [steps[i].step for i in last], "loss": means})


def _progress(
    run: Run, now: Row, steps: list[Step], started: Started | None, newest: Event | None
) -> None:
    total = run.config.total_steps(started.steps_per_epoch) if started else 0
    last = steps[-1] if steps else None
    done = min(last.step / total, 1.0) if last and total > 0 else 0.0
    if now.state == State.FINISHED:
        done = 1.0
    if now.state == State.QUEUED:
        ahead = jobs.waiting_before(run)
        waiting = f", after {ahead} more in line" if ahead else ""
        text = f"Waits for the run on its device to end{waiting}."
    elif now.state == State.STARTING:
        text = "Starting: importing torch and loading the data takes some seconds."
    elif now.alive and isinstance(newest, Judging):
        done = 1.0
        text = f"Trained; judging {newest.split} images, {newest.done:,} of {newest.total:,}"
    else:
        text = f"Epoch {min(last.epoch if last else 0, now.of_epochs)} of {now.of_epochs}"
        if last and now.alive and 0 < done < 1:
            left = last.seconds / last.step * (total - last.step)
            text += f" · {widgets.percent(done, 0)} · about {widgets.duration(left)} left"
            if isinstance(newest, Validating):
                text += f" · validating {newest.done:,} of {newest.total:,}"
        elif last:
            text += f" · step {last.step:,} · {widgets.duration(last.seconds)}"
    st.progress(done, text)
    if now.reason and not now.alive:
        shown = st.error if now.state in (State.FAILED, State.DIVERGED) else st.info
        shown(widgets.escape(now.reason))


def _metrics(steps: list[Step], epochs: list[Epoch]) -> None:
    last = steps[-1] if steps else None
    best = history.best_accuracy(epochs)
    shown = {
        "Training loss": f"{last.loss:.4f}" if last and last.loss is not None else "–",
        "Training accuracy": widgets.percent(last.accuracy)
        if last and last.accuracy is not None
        else "–",
        "Best validation": widgets.percent(best, 2) if best is not None else "–",
        "Learning rate": f"{last.lr:.3g}" if last else "–",
        "Images/s": f"{last.images_per_second:,.0f}" if last else "–",
        "Memory": f"{last.memory_mb:,.0f} MB" if last else "–",
    }
    for column, (label, value) in zip(st.columns(len(shown)), shown.items(), strict=True):
        column.metric(label, value)


def _epoch_chart(epochs: list[Epoch], metric: str) -> None:
    if not epochs:
        st.caption("The curve begins with the end of the first epoch.")
        return
    drawn = _epoch_curves(tuple(epochs), metric)
    st.plotly_chart(drawn, key=f"epochs_{metric}", alt=f"{metric} by epoch", config=QUIET)


@st.cache_resource(max_entries=32, show_spinner=False, hash_funcs={Epoch: repr})
def _epoch_curves(epochs: tuple[Epoch, ...], metric: str) -> go.Figure:
    """Drawn once an epoch however many tabs look, and never changed."""
    return charts.epoch_curves(epochs, metric)


def _time(run: Run, seen: list[Event], started: Started) -> None:
    """Where the time went since `started`, how that compares, and what to do about it."""
    sitting = itertools.takewhile(lambda event: event is not started, reversed(seen))
    profiles = [e for e in sitting if isinstance(e, Profile) and _is_sound(e)][::-1]
    seconds = {part: sum(e.seconds.get(part, 0.0) for e in profiles) for part in doctor.PARTS}
    total = sum(seconds.values())
    if not total:
        return
    on_cpu = started.device.startswith("CPU")
    st.markdown("**Where the time goes**", help=TIMED if on_cpu else TIMED + SAMPLED)
    rows = [
        {"part": f"{part} {widgets.percent(value / total, 0)}", "share": value / total, "place": i}
        for i, (part, value) in enumerate(seconds.items())
    ]
    said = ", ".join(str(row["part"]) for row in rows)
    st.vega_lite_chart(
        pa.Table.from_pylist(rows), SHARES, height=96, alt=f"Shares of the time: {said}"
    )
    config = run.config
    sound = _numbers(started.flops_by_side)
    rate = doctor.flop_rate(profiles, started) if sound else None
    if started.flops:
        full = " of full size" if sound and len(started.flops_by_side) > 1 else ""
        text = f"{_flops(started.flops)}FLOP an image{full}, forward and backward"
        if rate and started.peak_flops:
            text += (
                f" · {_flops(rate)}FLOP/s, {widgets.percent(rate / started.peak_flops)} of the "
                f"{_flops(started.peak_flops)}FLOP/s of a large matrix product in "
                f"{started.precision} here"
            )
        st.caption(text)
    advice = doctor.advise(
        seconds, config, on_cpu=on_cpu, images=started.train_images,
        rate=rate / started.peak_flops if rate and started.peak_flops else None,
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(advice.text, width="content")
        change = ", ".join(f"{n.replace('_', ' ')} {v}" for n, v in advice.change.items())
        if change and st.button(
            f"Try {change}", icon=":material/tune:", key="try_advice",
            help="Opens the form filled with this run's settings and this change.",
        ):  # fmt: skip
            from imgcls.ui import training  # which imports this module

            training.set_up_new(run)
            settings.fill(config.replace(**advice.change))
            st.rerun()  # the whole page, of which this is a part


def _is_sound(profile: Profile) -> bool:
    """Whether it holds seconds and counts: its file may be damaged."""
    return _numbers(profile.seconds) and _numbers(profile.sides)


def _numbers(values: Any) -> bool:
    return isinstance(values, dict) and all(
        isinstance(value, (int, float)) and 0 <= value < math.inf for value in values.values()
    )


def _flops(value: float) -> str:
    """FLOPs with three digits and the unit's first letter, as `1.23 G`."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.3g} "


def _started(started: Started | None) -> None:
    if started:
        st.caption(
            f"{widgets.escape(started.device)}, {started.precision}, {started.threads} "
            f"{'thread' if started.threads == 1 else 'threads'} · "
            f"{started.parameters:,} parameters · {started.train_images:,} images to train on, "
            f"{started.validation_images:,} to validate on"
        )


def _log(run: Run) -> None:
    with st.expander("Log"):
        st.code(log_end(run) or "The worker has said nothing yet.", language=None, height=260)


def log_end(run: Run) -> str:
    """The end of the worker's log."""
    try:
        with open(run.log_path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
