"""Look at a data set, or get one."""

import streamlit as st

from imgcls.data import catalog
from imgcls.errors import ImgclsError
from imgcls.ui import adding, exploring, frame, widgets

frame.page("pages/explore.py")
frame.header("Explore", "The images a model learns from: how many, which, and what they look like.")

ADD = "Add data"


def look() -> None:
    """Everything below the heading."""
    busy = adding.collect()
    adding.outcome()
    sections = [*exploring.SECTIONS, ADD]
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    with left:
        name = widgets.choose_dataset()
    if name is None:
        if not busy:
            st.info(
                "No data set is on disk yet. Get the digits for a start: they need no network.",
                icon=":material/info:",
            )
            adding.add_data()
        return
    with right:
        st.session_state.setdefault(adding.SECTION, sections[0])
        section = st.segmented_control(
            "Section", sections, key=adding.SECTION, label_visibility="collapsed"
        )
    if section == ADD:
        if not busy:
            adding.add_data()
        return
    exploring.SECTIONS[section or sections[0]](catalog.load(name))


try:
    look()
except ImgclsError as error:
    st.error(widgets.escape(error), icon=":material/error:")
