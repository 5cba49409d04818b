"""Opening a page as a visitor does, and waiting until work that it started has ended."""

import hashlib
import re
import time
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]


def open_page(name: str, **query: str) -> AppTest:
    """A page opened through the router, with the query parameters of a deep link."""
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=60).run()
    for key, value in query.items():
        app.query_params[key] = value
    return app.switch_page(f"pages/{name}.py").run()


def settled(app: AppTest, job: str, seconds: float = 60) -> AppTest:
    """Run the page again, as its timer would, until the job of this session key is gone."""
    deadline = time.monotonic() + seconds
    while job in app.session_state and time.monotonic() < deadline:
        time.sleep(0.1)
        app.run()
    assert job not in app.session_state, "the work did not end in time"
    return app.run()


def said(app: AppTest) -> str:
    """Everything in boxes and text on the page, as one text without Markdown's backslashes."""
    kinds = (app.error, app.warning, app.info, app.success, app.markdown, app.caption)
    return "\n".join(str(e.value) for kind in kinds for e in kind).replace("\\", "")


def bars(app: AppTest) -> list[tuple[str, str]]:
    """The classes of the page's first bars of probabilities, each with its share as written."""
    table = next(e.proto.body for e in app.get("html") if "likeliest classes" in e.proto.body)
    cells = [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", table)]
    return list(zip(cells[::3], cells[2::3], strict=True))


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with the SHA-256 of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A ZIP archive of these files, under exactly these names."""
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return made.getvalue()
