"""Runs: all of them in one table, their curves over each other, resume and delete."""

import streamlit as st

from imgcls import runs
from imgcls.ui import frame, training, widgets

frame.page("pages/runs.py")
frame.header("Runs", "Every run on disk, newest first. Tick rows to compare, resume or delete.")
training.show_problem()
widgets.asked_run()  # tells where a link names a run that is gone

found = runs.all_runs()
if not found:
    widgets.next_step(
        "No run yet. A first one takes a minute on handwritten digits.", "train", "Train a model"
    )
    st.stop()

chosen = training.ticked(found)
training.actions(chosen)
training.compare(found, chosen)
