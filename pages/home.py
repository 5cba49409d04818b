"""Home: what this is, what is here, what goes on, and where to begin."""

import streamlit as st

from imgcls.ui import device, frame, overview

frame.page("pages/home.py")
frame.header(
    "Image classification, from pictures to predictions",
    "Look at a data set, train a classifier on it and watch it learn, judge it like a skeptic, "
    "then let it name your own pictures. All of it runs on this machine; nothing is sent away.",
)
device.line()
overview.steps()
left, right = st.columns([5, 4], gap="large")
with left:
    overview.runs_in_progress()
with right:
    overview.datasets()
