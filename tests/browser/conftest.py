"""A real Chromium and a real server for the tests of this folder."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MAC_CHROME = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
NO_BROWSER = (
    "No Chromium found: install one (apt install chromium, or .venv/bin/playwright install "
    "chromium) or name one in IMGCLS_CHROMIUM."
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",  # grants the camera without asking
    "--use-fake-device-for-media-stream",
]
START_SECONDS = 30
# Streamlit writes a slider's value in the primary colour, and white on that colour: on a dark
# ground no colour has 4.5:1 to both (docs/design-language.md).
UPSTREAM = ["[data-testid=stSliderThumbValue]"]


@cache
def executable() -> str | None:
    """The Chromium to drive: the one named, one on the path, or Playwright's own."""
    if named := os.environ.get("IMGCLS_CHROMIUM"):
        return named if Path(named).exists() else None
    if found := next(filter(None, map(shutil.which, BROWSERS)), None):
        return found
    if MAC_CHROME.exists():
        return str(MAC_CHROME)
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    optional = os.environ.get("CI", "").lower() != "true"
    for item in here:
        item.add_marker("browser")
        if optional and not executable():
            item.add_marker(pytest.mark.skip(reason=NO_BROWSER))


@dataclass
class App:
    """`streamlit run streamlit_app.py` with a home of its own."""

    home: Path
    port: int
    log: Path
    server: subprocess.Popen[bytes] | None = None
    children: set[psutil.Process] = field(default_factory=set)  # what servers of ours started

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers; fails with the end of its log."""
        with self.log.open("ab") as log:
            self.server = subprocess.Popen(
                [
                    sys.executable, "-m", "streamlit", "run", "streamlit_app.py",
                    "--server.port", str(self.port), "--server.address", "127.0.0.1",
                    "--server.headless", "true",
                ],
                cwd=ROOT,
                env={**os.environ, "IMGCLS_HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self.healthy():
            if self.server.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                pytest.fail(f"The server did not answer within {START_SECONDS} s.\n{tail}")
            time.sleep(0.1)

    def healthy(self) -> bool:
        """Whether the server answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """End the server alone, as a reboot of the app would: its runs go on."""
        if self.server is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            self.children |= set(psutil.Process(self.server.pid).children(recursive=True))
        self.server.terminate()
        try:
            self.server.wait(10)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait(10)
        self.server = None

    def restart(self) -> None:
        """End the server and start it again on the same port, so that open tabs reconnect."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End the server and whatever is left of what it started."""
        self.stop()
        left = [child for child in self.children if child.is_running()]
        for child in left:
            child.terminate()
        for child in psutil.wait_procs(left, timeout=10)[1]:
            child.kill()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for a module of tests; where CI=true a missing one is a failure.

    Not one for the whole session: while Playwright runs, so does its event loop, and whatever
    calls asyncio.run in a later module would fail.
    """
    found = executable()
    if not found:
        pytest.fail(NO_BROWSER, pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def app(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app, served for one module of tests; ended with everything it started."""
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = App(home=folder / "home", port=port, log=folder / "server.log")
    served.home.mkdir()
    try:
        served.start()
        yield served
    finally:
        served.close()


def barriers(page: Page) -> list[str]:
    """What axe calls serious or critical on the page as it is, but for Streamlit's own."""
    without = {"exclude": [[selector] for selector in UPSTREAM]}
    found = Axe().run(page, without, {"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """An empty tab in a profile of its own, 1440×900."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(20_000)  # ms
    yield context.new_page()
    context.close()
