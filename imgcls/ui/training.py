"""What the Train and Runs pages do with a run: find it, stop, resume and delete it."""

from datetime import datetime

import streamlit as st

from imgcls import charts, jobs, runs, studies
from imgcls.config import TrainConfig
from imgcls.data import catalog
from imgcls.errors import ImgclsError
from imgcls.runs import Run, State
from imgcls.ui import history, live, settings, widgets

NEWEST = 5  # runs whose curves are drawn while none is ticked


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


def set_up_new_beside(run: Run) -> None:
    """A callback: show the form as it was left, on the data set of `run`."""
    dataset = history.row(run).dataset
    set_up_new()
    if dataset in catalog.names():
        st.session_state["dataset"] = dataset


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
                # While it starts, a second click on Resume would stop what the first began.
                disabled=row.state in (State.STARTING, State.STOPPING),
                help="Finishes the step, saves everything and ends. It can be resumed.",
            )  # fmt: skip
        if row.state in studies.RESUMABLE:
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
        st.button("New run", icon=":material/add:", on_click=set_up_new_beside, args=(run,))
        if run.model_path.is_file():
            widgets.link("evaluate", "Evaluate", ":material/rule:", run=run.id)
            widgets.link("predict", "Predict", ":material/image_search:", run=run.id)
        if study := study_of(run):
            widgets.link("train", "Its study", ":material/stacked_line_chart:", study=study)
    show_problem()


def study_of(run: Run) -> str:
    """The name of the study that a run belongs to; empty for none, or where nobody can tell."""
    try:
        return run.config.study
    except ImgclsError:
        return ""


def actions(chosen: list[Run]) -> None:
    """What can be done with the rows ticked in the table of runs."""
    rows = [history.row(run) for run in chosen]
    one = rows[0] if len(rows) == 1 and rows[0].state != history.DAMAGED else None
    startable = [
        run for run, row in zip(chosen, rows, strict=True) if row.state in studies.RESUMABLE
    ]
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


def ticked(found: list[Run]) -> list[Run]:
    """The runs of this list that the visitor has ticked.

    Ticks are rows of the list that the table was last drawn with, and other runs come and go; when
    they do, a new table takes the place of the old one, with the ticks at the same runs.
    """
    ids = [run.id for run in found]
    drawn, kept = st.session_state.get("runs_drawn", []), st.session_state.get("runs_ticked", [])
    if (table := st.session_state.get(_table_key())) is not None:
        kept = [drawn[i] for i in table["selection"]["rows"] if i < len(drawn)]
    if drawn != ids:
        st.session_state["runs_drawn"] = ids
        st.session_state["runs_table"] = st.session_state.get("runs_table", 0) + 1
    st.session_state["runs_ticked"] = kept = [id for id in kept if id in ids]
    return [run for run in found if run.id in kept]


def compare(found: list[Run], chosen: list[Run]) -> None:
    """The table of runs and their curves, each two seconds anew while one of them is alive."""
    rows = [history.row(run) for run in found]
    alive = any(row.alive for row in rows)
    draw = st.fragment(_compare, run_every=2.0 if alive else None)
    draw(found, chosen, [row.state for row in rows])


def _compare(found: list[Run], chosen: list[Run], states: list[str]) -> None:
    rows = [history.row(run) for run in found]
    if [row.state for row in rows] != states or runs.all_runs() != found:
        st.rerun()  # the buttons above belong to what was drawn with them
    places = [found.index(run) for run in chosen]
    st.dataframe(
        widgets.run_table(rows), column_config=widgets.run_columns(), hide_index=True,
        selection_mode="multi-row", on_select="rerun", key=_table_key(),
        selection_default={"selection": {"rows": places}}, placeholder="–", alt="Table of runs",
    )  # fmt: skip
    if ticked(found) != chosen:
        st.rerun()
    for row in map(history.row, chosen):
        if row.reason and row.state != State.FINISHED:
            st.caption(f"{row.id}: {widgets.escape(row.reason)}")
    events = {widgets.short_label(run): history.events(run) for run in (chosen or found[:NEWEST])}
    drawn = {name: seen for name, seen in events.items() if history.epochs(seen)}
    if not drawn:
        st.caption("Curves appear here when a run has ended its first epoch.")
        return
    st.markdown("**Curves of the ticked runs**" if chosen else "**Curves of the newest runs**")
    for column, metric in zip(
        st.columns(2, gap="medium"), ("val_accuracy", "val_loss"), strict=True
    ):
        figure = charts.compare_runs(drawn, metric)
        column.plotly_chart(figure, key=metric, config=live.QUIET, alt=f"{metric} by epoch")


def _table_key() -> str:
    return f"runs_table_{st.session_state.get('runs_table', 0)}"


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
