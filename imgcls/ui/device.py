"""What this machine computes with, asked once a server in the child that may import torch."""

from typing import Any

import streamlit as st

from imgcls.errors import ImgclsError
from imgcls.ui import compute, widgets


def found() -> dict[str, str | int | float]:
    """`machine.found`, in the child."""
    from imgcls import machine

    return machine.found()


def line() -> None:
    """One line about the device; until it is known the page says so and goes on."""
    done = _asked().future.done()
    st.fragment(_line, run_every=None if done else 0.5)(done)


def _line(known: bool) -> None:
    job = _asked()
    if not job.future.done():
        st.caption(":material/memory: Looking for the device…")
        return
    if not known:
        st.rerun()
    try:
        there: dict[str, Any] = job.result()
        text = (
            f"**{widgets.escape(there['device'])}** · {there['threads']} threads · "
            f"{there['memory_gb']:.0f} GB memory · torch {widgets.escape(there['torch'])}"
        )
        st.caption(f":material/memory: {text}")
    except ImgclsError as error:
        _asked.clear()  # the next look asks again
        st.warning(widgets.escape(error))


@st.cache_resource(show_spinner=False)
def _asked() -> compute.Job:
    return compute.submit(found, timeout=120.0, worker="model")
