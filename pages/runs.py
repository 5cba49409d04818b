"""Runs: all of them in one table, their curves over each other, resume and delete."""

import streamlit as st

from imgcls import charts, runs
from imgcls.runs import State
from imgcls.ui import frame, history, live, training, widgets

frame.page("pages/runs.py")
frame.header("Runs", "Every run on disk, newest first. Tick rows to compare, resume or delete.")
training.show_problem()

found = runs.all_runs()
if not found:
    widgets.next_step(
        "No run yet. A first one takes a minute on handwritten digits.", "train", "Train a model"
    )
    st.stop()

rows = [history.row(run) for run in found]
ticked = st.dataframe(
    widgets.run_table(rows), column_config=widgets.run_columns(), hide_index=True,
    selection_mode="multi-row", on_select="rerun", key="runs_table",
    placeholder="–", alt="Table of runs",
).selection.rows  # fmt: skip
chosen = [found[i] for i in ticked if i < len(found)]
training.actions(chosen)
for row in map(history.row, chosen):
    if row.reason and row.state != State.FINISHED:
        st.caption(f"{row.id}: {widgets.escape(row.reason)}")

compared = chosen or found[:5]
events = {widgets.short_label(run): history.events(run) for run in compared}
drawn = {name: seen for name, seen in events.items() if history.epochs(seen)}
if not drawn:
    st.caption("Curves appear here when a run has ended its first epoch.")
    st.stop()

st.markdown("**Curves of the ticked runs**" if chosen else "**Curves of the newest runs**")
left, right = st.columns(2, gap="medium")
for column, metric in ((left, "val_accuracy"), (right, "val_loss")):
    with column:
        figure = charts.compare_runs(drawn, metric)
        st.plotly_chart(figure, key=metric, config=live.QUIET, alt=f"{metric} by epoch")
