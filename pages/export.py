"""Take a model along: files for other runtimes, each with a proof, and a server."""

import streamlit as st

from imgcls.errors import ImgclsError
from imgcls.ui import exporting, frame, widgets

frame.page("pages/export.py")
frame.header(
    "Export", "A model for elsewhere, with the proof that it answers there as it does here."
)

try:
    run = widgets.choose_run(lambda run: run.model_path.exists(), shipped=True)
    assert run is not None  # one comes with imgcls
    exporting.files(run)
    exporting.server(run)
except ImgclsError as error:
    st.error(widgets.escape(error), icon=":material/error:")
