"""What the Train and Runs pages do with a run: find it, stop, resume and delete it."""

from datetime import datetime

import streamlit as st

from imgcls import jobs, runs
from imgcls.config import TrainConfig
from imgcls.errors import ImgclsError
from imgcls.runs import Run, State
from imgcls.ui import history, settings, widgets

RESUMABLE = (State.STOPPED, State.INTERRUPTED, State.FAILED)


def current_run() -> Run | None:
    """The run to show: the one in the URL, else the newest alive; None for the form.

    A visitor who asked for a new run gets the form while others train.
    """
    run = widgets.asked_run()
    if run is None and not st.session_state.get("new_run"):
        run = next((run for run in runs.all_runs() if history.row(run).alive), None)
    if run is not None:
        show(run.id)
    return run


def show(run_id: str) -> None:
    """From the next look on, this is the run of this visitor."""
    st.session_state["new_run"] = False
    st.session_state["run"] = run_id
    if st.query_params.to_dict() != {"run": run_id}:
        st.query_params.from_dict({"run": run_id})


def set_up_new(run: Run | None = None) -> None:
    """A callback: show the form, filled with the settings of `run` where one is given."""
    if run is not None:
        settings.fill(run.config)
        st.session_state["dataset"] = run.config.dataset
    st.session_state["new_run"] = True
    st.query_params.clear()


def start(config: TrainConfig) -> None:
    """Create and start a run, then show it; what prevents it is said in place."""
    try:
        with st.spinner("Starting…"):
            run = jobs.new(config, datetime.now())
    except ImgclsError as error:
        st.error(widgets.escape(error))
        return
    show(run.id)
    st.rerun()


def controls(run: Run) -> None:
    """A run's state, and what can be done with it now."""
    row = history.row(run)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        widgets.state_badge(row.state)
        if row.alive:
            st.button(
                "Stop", icon=":material/stop_circle:", on_click=stop, args=(run,),
                disabled=row.state == State.STOPPING,
                help="Finishes the step, saves everything and ends. It can be resumed.",
            )  # fmt: skip
        if row.state in RESUMABLE:
            st.button(
                "Resume", icon=":material/play_arrow:", type="primary", on_click=resume,
                args=(run,), help="Goes on from the last checkpoint.",
            )  # fmt: skip
        if row.state == history.DAMAGED:
            if st.button("Delete", icon=":material/delete:"):
                delete([run])
        else:
            st.button(
                "Same settings again", icon=":material/content_copy:", on_click=set_up_new,
                args=(run,), help="Opens the form filled with this run's settings.",
            )  # fmt: skip
        st.button("New run", icon=":material/add:", on_click=set_up_new)
        if run.model_path.is_file():
            widgets.link("evaluate", "Evaluate", ":material/rule:", run=run.id)
            widgets.link("predict", "Predict", ":material/image_search:", run=run.id)
    show_problem()


def actions(chosen: list[Run]) -> None:
    """What can be done with the rows ticked in the table of runs."""
    rows = [history.row(run) for run in chosen]
    one = rows[0] if len(rows) == 1 and rows[0].state != history.DAMAGED else None
    startable = [run for run, row in zip(chosen, rows, strict=True) if row.state in RESUMABLE]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "Resume", icon=":material/play_arrow:", disabled=not startable,
            on_click=resume,
            args=startable,
            help="Stopped, interrupted and failed runs go on from their last checkpoint.",
        )  # fmt: skip
        if st.button(
            "Delete", icon=":material/delete:",
            disabled=not chosen or any(row.alive for row in rows),
            help="Asks first. A run in progress must be stopped before.",
        ):  # fmt: skip
            delete(chosen)
        if one:
            widgets.link("train", "Open", ":material/monitoring:", run=one.id)
            if chosen[0].model_path.is_file():
                widgets.link("evaluate", "Evaluate", ":material/rule:", run=one.id)
                widgets.link("predict", "Predict", ":material/image_search:", run=one.id)
        elif not chosen:
            st.caption("Nothing ticked.")


def show_problem() -> None:
    """Say what the last click could not do."""
    if problem := st.session_state.pop("run_problem", None):
        st.error(widgets.escape(problem))


def stop(run: Run) -> None:
    """A callback: ask a run to stop; whoever asks twice is told nothing new."""
    try:
        run.request_stop()
        st.toast("Stopping: it finishes its step and saves.")
    except (ImgclsError, OSError) as error:
        st.session_state["run_problem"] = str(error)


def resume(*chosen: Run) -> None:
    """A callback: start runs again from their last checkpoints."""
    for run in chosen:
        try:
            jobs.start(run)
        except (ImgclsError, OSError) as error:
            st.session_state["run_problem"] = str(error)


@st.dialog("Delete runs")
def delete(chosen: list[Run]) -> None:
    """Ask, then delete."""
    noun = "this run" if len(chosen) == 1 else f"these {len(chosen)} runs"
    st.markdown(f"Delete {noun} with weights, checkpoints and predictions? There is no way back.")
    st.code("\n".join(run.id for run in chosen), language=None)
    with st.container(horizontal=True):
        if st.button("Delete", type="primary", icon=":material/delete:"):
            for run in chosen:
                try:
                    run.delete()
                except (ImgclsError, OSError) as error:
                    st.session_state["run_problem"] = str(error)
            st.rerun()
        if st.button("Keep"):
            st.rerun()
