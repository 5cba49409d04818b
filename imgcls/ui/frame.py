"""The frame around every page: navigation, the guard for cold deep links, the header.

Streamlit runs a file in `pages/` alone, without the router, when a fresh server is first opened at
its address; `page` and `resume` together send such a visit through the router and back.
"""

import numpy as np
import pandas  # noqa: F401  # pandas, then plotly, before any fragment: else they import by halves
import plotly.graph_objects  # noqa: F401
import streamlit as st
from PIL import Image

PAGES = {  # file in pages/: title, icon
    "home": ("Home", ":material/home:"),
    "explore": ("Explore", ":material/grid_view:"),
    "train": ("Train", ":material/model_training:"),
    "runs": ("Runs", ":material/format_list_bulleted:"),
    "evaluate": ("Evaluate", ":material/rule:"),
    "predict": ("Predict", ":material/image_search:"),
    "export": ("Export", ":material/output:"),
}

# `$muted` is the text of what is switched off: Streamlit's own is too faint to read. `$chosen` is
# that of the chosen segment: a primary colour dark enough for white text is too dark for text.
_CSS = """<style>
[data-testid="stMainBlockContainer"] {
  padding-top: 4.25rem; padding-bottom: 3rem; max-width: 92rem;
}
[data-testid="stPageLink"] { margin-left: -.45rem; }
[data-testid="stMetricValue"] { font-variant-numeric: tabular-nums; }
[data-testid="stWidgetLabel"][disabled] p { color: $muted; }
button[data-variant="segmented_control"][data-selected] { color: $chosen !important; }
[data-testid="stPageLink-NavLink"] p { white-space: normal; }
</style>"""


def navigation() -> None:
    """What the router does: page settings, navigation, and the page that was asked for."""
    listed = [
        st.Page(f"pages/{name}.py", title=title, icon=icon, default=name == "home")
        for name, (title, icon) in PAGES.items()
    ]
    chosen = st.navigation(listed, position="top")
    st.set_page_config(page_title=f"{chosen.title} · imgcls", page_icon=_icon(), layout="wide")
    resume()
    chosen.run()


def _icon() -> Image.Image:
    """Nine images in a sheet, one of them picked; an icon's name would be fetched from a CDN."""
    icon = np.full((32, 32, 3), 255, np.uint8)
    for i in range(9):
        top, left = 1 + i // 3 * 11, 1 + i % 3 * 11
        icon[top : top + 9, left : left + 9] = (213, 94, 0) if i == 4 else (15, 95, 115)
    return Image.fromarray(icon)


def page(path: str) -> None:
    """First line of every page: go through the router when Streamlit came here without it."""
    if not st.session_state.pop("_framed", False):
        st.session_state["_wanted"] = (path, st.query_params.to_dict())
        st.switch_page("streamlit_app.py")
    muted, chosen = ("#8f9a9f", "#7cc7da") if dark() else ("#6b7277", "#0f5f73")
    st.html(_CSS.replace("$muted", muted).replace("$chosen", chosen))


def resume() -> None:
    """In the router, before the page runs: go where `page` was called from."""
    if wanted := st.session_state.pop("_wanted", None):
        st.switch_page(wanted[0], query_params=wanted[1])
    st.session_state["_framed"] = True


def header(title: str, purpose: str) -> None:
    """The page's title and one line of what it is for."""
    st.title(title, anchor=False)
    st.caption(purpose)


def dark() -> bool:
    """Whether this visitor reads light text on a dark ground."""
    return st.context.theme.type == "dark"
