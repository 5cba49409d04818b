"""A sheet of images: one PNG for all of them, and for each a button, where it can be clicked."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from imgcls.data.catalog import Images
from imgcls.ui import pictures

TILE = 72  # CSS pixels
COLUMNS = 16  # of the PNG; on the page as many stand in a row as fit

_CSS = """
.sheet { display: flex; flex-wrap: wrap; gap: 6px; }
.tile { all: unset; display: block; border-radius: 2px; padding: 2px;
  border: 1px solid transparent; font: 11px/1.35 var(--st-font); color: var(--st-text-color); }
button.tile { cursor: pointer; }
button.tile:hover { border-color: var(--st-border-color); }
.tile:focus-visible { outline: 2px solid var(--st-primary-color); }
.tile.on { border-color: var(--st-primary-color);
  background: var(--st-secondary-background-color); }
.image { display: block; image-rendering: pixelated; background-repeat: no-repeat; }
.line { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2;
  overflow: hidden; overflow-wrap: anywhere; }
"""

# A sheet is one tab stop: the arrow keys, Home and End move within it. Tiles are made anew only
# when what they show has changed, and the focus stays where it was.
_JS = """
const sheets = new WeakMap();
export default function ({ parentElement, data, setTriggerValue }) {
  const sheet = parentElement.querySelector(".sheet");
  const state = sheets.get(sheet) ?? { stop: 0 };
  sheets.set(sheet, state);
  state.pick = (i) => setTriggerValue("picked", i);
  const { selected, ...drawn } = data;
  const shown = JSON.stringify(drawn);
  if (shown !== state.shown) {
    const focused = [...sheet.children].indexOf(sheet.getRootNode().activeElement);
    if (state.png !== data.png) {
      if (state.url) URL.revokeObjectURL(state.url);
      const bytes = Uint8Array.from(atob(data.png), (c) => c.charCodeAt(0));
      state.url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    }
    Object.assign(state, { shown, png: data.png, stop: 0, selected: undefined });
    sheet.replaceChildren(...data.tiles.map((tile, i) => made(tile, i, data, state)));
    if (focused >= 0) sheet.children[Math.min(focused, data.tiles.length - 1)]?.focus();
  }
  if (selected !== state.selected) state.stop = selected ?? state.stop;
  state.selected = selected;
  [...sheet.children].forEach((tile, i) => {
    tile.classList.toggle("on", i === selected);
    if (data.clickable) tile.setAttribute("aria-pressed", String(i === selected));
  });
  if (!data.clickable) return;
  const rove = (to) => {
    state.stop = to;
    [...sheet.children].forEach((tile, i) => { tile.tabIndex = i === to ? 0 : -1; });
  };
  rove(state.stop);
  sheet.setAttribute("role", "toolbar");
  sheet.setAttribute("aria-label", "Images; the arrow keys move among them");
  state.rove = rove;
  if (state.listens) return;
  state.listens = true;
  // A dialog that a tile opens gives the focus back to the host, which hands it on to the tile.
  // Only then may the host take focus: with any tabindex, Tab would pass over what is inside.
  const root = sheet.getRootNode(), host = root.host;
  const elsewhere = (event) => {
    if (event.target !== host && !event.target.closest("[role=dialog], [data-focus-guard]")) done();
  };
  const done = () => {
    host.removeAttribute("tabindex");
    document.removeEventListener("focusin", elsewhere);
  };
  sheet.addEventListener("click", () => {
    host.tabIndex = -1;
    document.addEventListener("focusin", elsewhere);
  });
  sheet.addEventListener("keydown", done);
  host.addEventListener("focus", () => {
    if (!root.activeElement) sheet.children[state.stop]?.focus({ preventScroll: true });
  });
  sheet.addEventListener("focusin", (event) => {
    state.rove([...sheet.children].indexOf(event.target));
  });
  sheet.addEventListener("keydown", (event) => {
    const tiles = [...sheet.children];
    const across = tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across,
      Home: -state.stop, End: tiles.length - 1 - state.stop };
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    tiles[state.stop + steps[event.key]]?.focus();
  });
}

function made(said, i, data, state) {
  const { width, height, columns, scale } = data;
  const rows = Math.ceil(data.tiles.length / columns);
  const tile = document.createElement(data.clickable ? "button" : "div");
  tile.className = "tile";
  tile.title = said.title;
  tile.setAttribute("aria-label", said.title);
  tile.style.width = `${width * scale}px`;
  if (data.clickable) {
    tile.type = "button";
    tile.onclick = () => state.pick(i);
  } else {
    tile.setAttribute("role", "img");
  }
  const image = document.createElement("span");
  image.className = "image";
  image.style.cssText = `width:${width * scale}px;height:${height * scale}px`;
  image.style.backgroundImage = `url(${state.url})`;
  image.style.backgroundSize = `${columns * width * scale}px ${rows * height * scale}px`;
  image.style.backgroundPosition =
    `-${(i % columns) * width * scale}px -${Math.floor(i / columns) * height * scale}px`;
  tile.append(image, ...said.lines.map((text) => {
    const line = document.createElement("span");
    line.className = "line";
    line.textContent = text;
    return line;
  }));
  return tile;
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
    clickable: bool = True,
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
            "clickable": clickable,
        },
        on_picked_change=lambda: None,
    )
    picked = result.get("picked")
    return picked if isinstance(picked, int) and 0 <= picked < n else None
