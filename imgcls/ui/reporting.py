"""A report on a run, made on the Evaluate page and downloaded: one file, readable offline."""

from datetime import datetime

import streamlit as st

from imgcls import runs
from imgcls.errors import ImgclsError
from imgcls.evaluate import predictions, report
from imgcls.runs import Run
from imgcls.ui import compute, stored, widgets


@st.fragment
def reporting(run: Run, split: str) -> None:
    """Make the report when asked, then offer it."""
    with st.expander("A report to hand over", icon=":material/description:"):
        st.markdown(
            "All of this in one HTML file that needs nothing else: figures, images, settings, and "
            "the commands to repeat it."
        )
        chosen = st.session_state.get(f"compared {run.id}", [])
        against = [other for other in runs.all_runs() if other.id in chosen]
        if against:
            named = ", ".join(widgets.escape(widgets.short_label(other)) for other in against)
            st.caption(f"With the comparison to {named}, as chosen in the section Comparison.")
        if not st.button("Make the report", icon=":material/description:", key=f"report {run.id}"):
            return
        try:
            if predictions.fits_on_validation(run, split):
                stored.made(run, "validation")
            for other in against:
                stored.made(other, split)
            with st.spinner("Writing"):
                html = compute.call(report.page, run, split, against, datetime.now())
        except ImgclsError as error:
            st.error(widgets.escape(error), icon=":material/error:")
            return
        name = f"{run.id}-{split.replace('/', '-')}.html"
        st.download_button(
            f"Download, {len(html) / 1e6:.0f} MB", html, name, "text/html",
            icon=":material/download:", on_click="ignore", type="primary",
        )  # fmt: skip
