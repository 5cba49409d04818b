"""What the page may import from: an upload, or what lies below the allowed folders."""

import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from imgcls import config
from imgcls.errors import DataError

KINDS = (".zip", ".csv")  # besides folders
OFFERED = 200  # entries shown at most
STALE_SECONDS = 6 * 3600  # an upload this old belongs to no import any more


def roots() -> list[Path]:
    """The folders of IMGCLS_DATA_ROOTS (a path list), by default `<home>/import/`."""
    named = os.environ.get("IMGCLS_DATA_ROOTS", "")
    return [Path(p) for p in named.split(os.pathsep) if p] or [config.home() / "import"]


def offered() -> list[str]:
    """Folders, zips and tables directly below the roots, as `resolve` takes them."""
    found: list[str] = []
    for root in roots():
        try:
            entries = sorted(root.iterdir())
        except OSError:
            continue
        for entry in entries:
            if not entry.name.startswith(".") and (entry.suffix in KINDS or entry.is_dir()):
                found.append(f"{root.name}/{entry.name}")
    return found[:OFFERED]


def resolve(text: str) -> Path:
    """The folder, zip or CSV that `text` names: absolute, or starting at a root's own name.

    Raises DataError for what does not exist or, links followed, lies outside every root.
    """
    given = Path(text.strip())
    tried = [given] if given.is_absolute() else [root.parent / given for root in roots()]
    shown = text.strip()[:200]
    try:
        allowed = [root.resolve() for root in roots()]
        inside = [
            path
            for path in (candidate.resolve() for candidate in tried)
            if any(path.is_relative_to(root) for root in allowed)
        ]
        found = next((path for path in inside if path.exists()), None)
    except (OSError, ValueError, RuntimeError):  # a NUL, a name too long, a loop of links
        raise DataError(f"{shown!r} is no path: name a folder, a zip or a CSV.") from None
    if not inside:
        raise DataError(
            f"{shown!r} lies outside the folders that may be imported from: move it into "
            f"{roots()[0].name}/, or let whoever runs the server name its folder in "
            "IMGCLS_DATA_ROOTS."
        )
    if found is None:
        raise DataError(f"There is no {shown!r}: check the spelling.")
    return found


def receive(name: str, data: bytes | memoryview) -> Path:
    """Write an upload to a temporary file in a folder of its own, and return its path."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if time.time() - old.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    plain = re.sub(r"[^\w.-]+", "-", Path(name).name).strip(".-")[-80:] or "upload.zip"
    path = Path(tempfile.mkdtemp(dir=folder)) / plain
    path.write_bytes(data)
    return path


def discard(path: Path) -> None:
    """Remove what `receive` wrote; other files stay."""
    if path.parent.parent == _folder():
        shutil.rmtree(path.parent, ignore_errors=True)


def suggested_name(source: str, taken: list[str]) -> str:
    """A free name for a data set from a file's name."""
    stem = Path(source).stem.lower()
    plain = re.sub(r"[^a-z0-9._-]+", "-", stem).strip("._-")[:56] or "images"
    name, n = plain, 2
    while name in taken:
        name, n = f"{plain}-{n}", n + 1
    return name


def _folder() -> Path:
    return config.home().resolve() / "cache" / "uploads"
