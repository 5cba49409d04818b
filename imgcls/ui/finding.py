"""A learning rate and a batch size for the Train page's form, found by short trials."""

from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any

import streamlit as st

from imgcls import charts, config, doctor
from imgcls.config import SETTINGS, TrainConfig
from imgcls.errors import ImgclsError
from imgcls.ui import compute, live, trials, widgets

LIMIT = 600.0  # seconds that a trial may take
# What neither trial depends on; of the others, a change is told.
_IDLE = (
    "recipe", "study", "peak_lr", "schedule", "phases", "epochs", "steps", "step_epochs", "gamma",
    "patience", "warmup_share", "eval_every", "early_stopping", "tensorboard", "processes",
    "compile", "hard_share", "hard_from",
)  # fmt: skip


@dataclass(frozen=True)
class _Trial:
    """One of the two: its button, its work, and how its result is shown."""

    label: str
    running: str
    work: Callable[..., Any]
    show: Callable[[dict[str, Any], TrainConfig], None]
    idle: tuple[str, ...]  # settings that it does not depend on


def panel(settings: TrainConfig | None) -> None:
    """Two buttons and what their trials found; None where the form holds a wrong setting."""
    with st.expander("Find a learning rate or batch size", icon=":material/search:", key="finding"):
        st.caption(
            "Short trials with the settings above, on training images alone; nothing of them is "
            "kept. They are slower while a run trains on the same device."
        )
        busy = any(f"finding_job_{name}" in st.session_state for name in _TRIALS)
        with st.container(horizontal=True, gap="small"):
            for name, trial in _TRIALS.items():
                st.button(
                    trial.label,
                    key=f"finding_start_{name}",
                    disabled=busy or settings is None,
                    on_click=_start,
                    args=(name, settings),
                )
        for name, trial in _TRIALS.items():
            _collect(name, trial)
            if settings is not None:
                _outcome(name, trial, settings)


def _start(name: str, settings: TrainConfig) -> None:
    for kind in ("found", "problem"):
        st.session_state.pop(f"finding_{kind}_{name}", None)
    job = compute.submit(_TRIALS[name].work, settings, worker="model", progress=True, timeout=LIMIT)
    st.session_state[f"finding_job_{name}"] = (job, settings)


def _collect(name: str, trial: _Trial) -> None:
    """Take the result of a trial that has ended, or show how far it is."""
    key = f"finding_job_{name}"
    if key not in st.session_state:
        return
    job, asked = st.session_state[key]
    wait([job.future], timeout=0.3)
    if not job.future.done():
        compute.watch(job, trial.running)
        return
    del st.session_state[key]
    try:
        st.session_state[f"finding_found_{name}"] = (job.result(), asked)
    except ImgclsError as error:
        st.session_state[f"finding_problem_{name}"] = str(error)
    st.rerun()  # the buttons above were drawn as busy


def _outcome(name: str, trial: _Trial, settings: TrainConfig) -> None:
    if problem := st.session_state.get(f"finding_problem_{name}"):
        st.error(widgets.escape(problem), icon=":material/error:")
    if kept := st.session_state.get(f"finding_found_{name}"):
        found, asked = kept
        trial.show(found, settings)
        if changed := _changed(asked, settings, trial.idle):
            st.warning(
                f"Found with other settings: {widgets.escape(changed)}. Try again to know for "
                "those above.",
                icon=":material/history:",
            )


def _changed(asked: TrainConfig, now: TrainConfig, idle: tuple[str, ...]) -> str:
    """What a trial depended on and the form no longer says, with the values of the trial."""
    before, after = asked.to_dict(), now.to_dict()
    return ", ".join(
        f"{name.replace('_', ' ')} {config.format_value(value) or 'empty'}"
        for name, value in before.items()
        if name not in idle and value != after[name]
    )


def _show_rate(found: dict[str, Any], settings: TrainConfig) -> None:
    rate = found["suggestion"]
    st.plotly_chart(
        charts.lr_curve(found["rates"], found["losses"], found["smoothed"], rate),
        key="finding_curve",
        config=live.QUIET,
        alt=f"Training loss by learning rate; suggested is {rate:g}",
    )
    st.markdown(
        f"**{rate:g}** is suggested for peak lr. {widgets.escape(found['ended'])} "
        f"{len(found['rates'])} steps, {widgets.duration(found['seconds'])}."
    )
    if settings.schedule == "phases":
        st.info(f"With schedule phases the rates stand in phases: put {rate:g} there as highest.")
    else:
        _use("peak_lr", {"peak_lr": rate}, f"Use {rate:g}")


def _show_batch(found: dict[str, Any], settings: TrainConfig) -> None:
    size, needed, allowed = found["batch_size"], found["needed"], found["allowed"]
    st.markdown(
        f"**{size:,}** images a step need about {needed / 2**30:.1f} of the "
        f"{allowed / 2**30:.1f} GB that may be used. {widgets.escape(found['limit'])} "
        f"{widgets.escape(found['advice'])}"
    )
    change = doctor.with_batch_size(settings, size)
    said = "".join(f" and peak lr {value:g}" for name, value in change.items() if name == "peak_lr")
    _use("batch_size", change, f"Use batch size {size}{said}")


def _use(key: str, change: dict[str, Any], label: str) -> None:
    st.button(
        label,
        key=f"finding_use_{key}",
        icon=":material/check:",
        # Before the form is drawn again: a widget's value cannot be set after it.
        on_click=st.session_state.update,
        args=({f"set_{name}": SETTINGS[name].kind(value) for name, value in change.items()},),
    )


_TRIALS = {
    "rate": _Trial("Find a learning rate", "Trying rates", trials.learning_rate, _show_rate, _IDLE),
    "batch": _Trial(
        "Find a batch size",
        "Trying batch sizes",
        trials.batch_size,
        _show_batch,
        (*_IDLE, "batch_size", "start_size", "full_size_from", "label_smoothing", "seed"),
    ),
}
