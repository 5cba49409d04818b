"""A sheet of images that can be clicked: one PNG for all of them, a button for each."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from imgcls.data.catalog import Images
from imgcls.ui import pictures

TILE = 72  # CSS pixels
COLUMNS = 16  # of the PNG; on the page as many stand in a row as fit

_CSS = """
.sheet { display: flex; flex-wrap: wrap; gap: 6px; }
.tile { all: unset; cursor: pointer; display: block; border-radius: 2px; padding: 2px;
  border: 1px solid transparent; font: 11px/1.35 var(--st-font); color: var(--st-text-color); }
.tile:hover { border-color: var(--st-border-color); }
.tile:focus-visible { outline: 2px solid var(--st-primary-color); }
.tile[aria-pressed=true] { border-color: var(--st-primary-color);
  background: var(--st-secondary-background-color); }
.image { display: block; image-rendering: pixelated; background-repeat: no-repeat; }
.line { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
"""

_JS = """
const sheets = new WeakMap();
export default function ({ parentElement, data, setTriggerValue }) {
  const sheet = parentElement.querySelector(".sheet");
  const before = sheets.get(sheet);
  let url = before?.url;
  if (before?.png !== data.png) {
    if (url) URL.revokeObjectURL(url);
    const bytes = Uint8Array.from(atob(data.png), (c) => c.charCodeAt(0));
    url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  }
  sheets.set(sheet, { png: data.png, url });
  const { width, height, columns, scale } = data;
  const rows = Math.ceil(data.tiles.length / columns);
  sheet.replaceChildren(...data.tiles.map((tile, i) => {
    const button = document.createElement("button");
    button.className = "tile";
    button.type = "button";
    button.title = tile.title;
    button.setAttribute("aria-label", tile.title);
    button.setAttribute("aria-pressed", String(i === data.selected));
    button.style.width = `${width * scale}px`;
    const image = document.createElement("span");
    image.className = "image";
    image.style.cssText = `width:${width * scale}px;height:${height * scale}px`;
    image.style.backgroundImage = `url(${url})`;
    image.style.backgroundSize = `${columns * width * scale}px ${rows * height * scale}px`;
    image.style.backgroundPosition =
      `-${(i % columns) * width * scale}px -${Math.floor(i / columns) * height * scale}px`;
    button.append(image, ...tile.lines.map((text) => {
      const line = document.createElement("span");
      line.className = "line";
      line.textContent = text;
      return line;
    }));
    button.onclick = () => setTriggerValue("picked", i);
    return button;
  }));
}
"""

_mount = st.components.v2.component(
    "imgcls.gallery", html='<div class="sheet"></div>', css=_CSS, js=_JS
)


@dataclass(frozen=True)
class Tile:
    """What stands with one image; shown as text, so any class or file name is safe."""

    title: str  # hover text and accessible name
    lines: tuple[str, ...] = ()  # below the image


def gallery(
    images: Images,
    tiles: Sequence[Tile],
    key: str,
    *,
    selected: int | None = None,
    tile: int = TILE,
) -> int | None:
    """Show images (N, H, W, 3), one tile each; the index of the one clicked in this very run.

    tile: CSS pixels a side that a tile comes near to, by whole-number enlargement.
    """
    n, height, width, _ = images.shape
    columns = min(COLUMNS, max(n, 1))
    result = _mount(
        key=key,
        data={
            "png": pictures.base64_png(pictures.sprite(images, columns)) if n else "",
            "width": width,
            "height": height,
            "columns": columns,
            "scale": max(1, round(tile / max(height, width))),
            "tiles": [{"title": said.title, "lines": list(said.lines)} for said in tiles],
            "selected": selected,
        },
        on_picked_change=lambda: None,
    )
    picked = result.get("picked")
    return picked if isinstance(picked, int) and 0 <= picked < n else None
