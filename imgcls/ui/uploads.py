"""Ways into the page's file uploader besides choosing: pasting, and examples to drag or click.

What comes goes through the uploader's own input, so that its limits of type, size and number hold
for it as for a file that was chosen.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

_PUT = """
const put = (uploader, files) => {
  const input = document.querySelector(`.st-key-${uploader} input[type=file]`);
  if (!input || !files.length) return false;
  const held = new DataTransfer();
  files.forEach((file) => held.items.add(file));
  input.files = held.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  return true;
};
"""

_PASTE = (
    _PUT
    + """
export default function ({ data }) {
  const paste = (event) => {
    if (put(data.uploader, [...(event.clipboardData?.files ?? [])])) event.preventDefault();
  };
  document.addEventListener("paste", paste);
  return () => document.removeEventListener("paste", paste);
}
"""
)

# A browser offers no file of a picture that is dragged within a page, so the uploader gets it from
# here; it is the uploader, not the page, that shows a drop to be possible.
_EXAMPLES = (
    _PUT
    + """
const KIND = "application/x-imgcls-example";
export default function ({ parentElement, data }) {
  const strip = parentElement.querySelector(".strip");
  const file = async ({ name, source }) =>
    new File([await (await fetch(source)).blob()], name, { type: "image/jpeg" });
  const give = async (i) => put(data.uploader, [await file(data.examples[i])]);
  strip.replaceChildren(...data.examples.map(({ name, source }, i) => {
    const image = document.createElement("img");  // of a button nothing could be dragged
    Object.assign(image, { src: source, tabIndex: 0, role: "button", draggable: true });
    image.alt = image.title = `Example ${name}`;
    image.onclick = () => give(i);
    image.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      give(i);
    };
    image.ondragstart = (event) => {
      event.dataTransfer.setData(KIND, String(i));
      event.dataTransfer.effectAllowed = "copy";
    };
    return image;
  }));
  const over = (event) => event.dataTransfer?.types.includes(KIND)
    && event.target.closest?.(`.st-key-${data.uploader}`);
  const drag = (event) => { if (over(event)) event.preventDefault(); };
  const drop = (event) => {
    if (!over(event)) return;
    event.preventDefault();
    event.stopPropagation();
    give(Number(event.dataTransfer.getData(KIND)));
  };
  const listeners = [["dragenter", drag], ["dragover", drag], ["drop", drop]];
  listeners.forEach(([name, one]) => document.addEventListener(name, one, true));
  return () => listeners.forEach(([name, one]) => document.removeEventListener(name, one, true));
}
"""
)

_CSS = """
.strip { display: flex; flex-wrap: wrap; gap: 8px; }
img { width: 72px; height: 72px; object-fit: cover; border-radius: 4px; cursor: grab; }
img:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
"""

_paste = st.components.v2.component("imgcls.paste", html="", js=_PASTE)
_examples = st.components.v2.component(
    "imgcls.examples", html='<div class="strip"></div>', css=_CSS, js=_EXAMPLES
)


def pasted(uploader: str) -> None:
    """Let pictures be pasted into the file uploader of this key while it is on the page."""
    _paste(key=f"paste {uploader}", data={"uploader": uploader})


def dragged(uploader: str, examples: Sequence[Path]) -> None:
    """JPEG files to drag into the file uploader of this key; a click puts one in as well."""
    told = [
        {
            "name": path.name,
            "source": f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}",
        }
        for path in examples
    ]
    _examples(key=f"examples {uploader}", data={"uploader": uploader, "examples": told})
