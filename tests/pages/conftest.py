import sys
from collections.abc import Iterator
from typing import Any

import pytest
import streamlit as st
from streamlit.runtime.pages_manager import PagesManager


@pytest.fixture(autouse=True)
def warm_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run of an AppTest start at the router, as on a server that has shown a page.

    AppTest forgets between two runs that st.navigation was used, so that each would take the way
    of a cold deep link, on which a click is lost.
    """
    as_before = PagesManager.__init__

    def start(self: PagesManager, *args: Any, **kwargs: Any) -> None:
        PagesManager.uses_pages_directory = False
        as_before(self, *args, **kwargs)

    monkeypatch.setattr(PagesManager, "__init__", start)


@pytest.fixture(autouse=True)
def main_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An AppTest leaves its script as __main__, which every process spawned later would run."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session", autouse=True)
def no_child_left() -> Iterator[None]:
    """End the child processes of `imgcls.ui.compute` when the tests have ended."""
    yield
    st.cache_resource.clear()
