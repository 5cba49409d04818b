"""Pasting pictures: what the clipboard holds goes through the page's file uploader."""

import streamlit as st

# A picture that is pasted anywhere on the page is put into the uploader's own input, so that its
# limits of type, size and number hold for it as for a file that was chosen.
_JS = """
export default function ({ data }) {
  const paste = (event) => {
    const input = document.querySelector(`.st-key-${data.uploader} input[type=file]`);
    const files = [...(event.clipboardData?.files ?? [])];
    if (!input || !files.length) return;
    event.preventDefault();
    const held = new DataTransfer();
    files.forEach((file) => held.items.add(file));
    input.files = held.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  document.addEventListener("paste", paste);
  return () => document.removeEventListener("paste", paste);
}
"""

_mount = st.components.v2.component("imgcls.pasting", html="", js=_JS)


def into(uploader: str) -> None:
    """Let pictures be pasted into the file uploader of this key while it is on the page."""
    _mount(key=f"paste {uploader}", data={"uploader": uploader})
