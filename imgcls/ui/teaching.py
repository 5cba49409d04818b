"""The Predict page's way to right a model: pictures kept under their label, and new classes asked.

A label that the model does not know makes a new class at once; see `taught`.
"""

from typing import Any

import numpy as np
import streamlit as st

from imgcls import feedback, taught
from imgcls.card import Card
from imgcls.errors import ImgclsError
from imgcls.preprocess import printable
from imgcls.runs import Run
from imgcls.ui import compute, one_image, stored, widgets

Answer = dict[str, Any]  # see `predict.predict`


def tell(files: list[tuple[str, bytes]], model: Card, called: str = "") -> None:
    """Keep pictures under their right label, which may be a new class."""
    alone, pictures = len(files) == 1, hash(tuple(data for _, data in files))
    label = st.selectbox(
        "It is" if alone else f"All {len(files)} are",
        [name for name in model.classes if name != called], index=None,
        format_func=printable, accept_new_options=True, placeholder="A class, or a new one",
        key=f"predict_label {pictures}",  # stays with its pictures
    )  # fmt: skip
    key = "predict_keep" if alone else "predict_keep_all"
    past = st.session_state.setdefault(f"predict_kept {pictures}", [])  # what was told, last last
    if st.button(
        "Keep it" if alone else "Keep them", icon=":material/save:", key=key, disabled=not label
    ):
        kept, refused = [], ""
        for file in files:
            try:
                kept.append(compute.call(feedback.keep, *file, label))
            except ImgclsError as error:
                refused = widgets.escape(error)
        count = "" if alone else f" {len(kept):,}"
        changed = [one for one in kept if one.before != one.path]
        if changed or not past:  # the same told twice is taken back once
            past.append((f"Kept{count} as {widgets.escape(label)}.", changed))
        st.session_state[f"{key} refused"] = refused
        st.rerun()  # so that the answers above are held against a new class
    refused = st.session_state.pop(f"{key} refused", "")
    if past:
        said, changed = past[-1]
        with st.container(horizontal=True, vertical_alignment="center"):
            st.success(said, icon=":material/check:")
            if changed and st.button("Take back", icon=":material/undo:", key=f"{key} undo"):
                feedback.take_back(changed)
                past.pop()
                st.rerun()
    if refused:
        st.error(refused, icon=":material/error:")
    if counts := feedback.counts():
        told = ", ".join(f"{widgets.escape(name)} {count:,}" for name, count in counts.items())
        st.caption(
            f"Kept so far: {told}. From about five pictures on it can recognise a new class, "
            "less surely than one that it was trained on. To train on two or more a class, with "
            "the folder feedback of this app's workspace as FOLDER:"
        )
        st.code("python -m imgcls data import FOLDER --name mine", language=None, wrap_lines=True)


def ask(run: Run, found: list[Answer]) -> None:
    """Add to each answer, as `taught`, what is said of it by new classes' kept pictures, if any."""
    usable = [answer for answer in found if "seen" in answer]
    for answer in usable:
        answer.pop("taught", None)  # they are kept between runs of the page
    if not usable or not taught.new_classes(run):
        return
    try:
        _ask(run, usable)
    except ImgclsError as error:
        st.error(widgets.escape(error), icon=":material/error:")


def _ask(run: Run, usable: list[Answer]) -> None:
    if taught.known_images(run) is None:
        st.caption(
            "Pictures of new classes were kept. To hold others against them, the model has to look "
            "at its validation images once; it is stored."
        )
        if not st.button("Look at the validation images", icon=":material/play_arrow:"):
            return
        stored.made(run, "validation")
        if taught.known_images(run) is None:
            st.info(one_image.NO_FEATURES)
            return
        st.rerun()  # these images calibrate the answers as well
    said = compute.call(taught.ask, run.id, np.stack([answer["seen"] for answer in usable]))
    for answer, one in zip(usable, said, strict=True):
        answer["taught"] = one


def new(answer: Answer) -> taught.Said | None:
    """What was taught and found in a picture."""
    said: taught.Said | None = answer.get("taught")
    return said if said and said.is_new else None


def sentence(said: taught.Said) -> str:
    """What is said of a picture by the classes that were taught."""
    name = widgets.escape(printable(said.name))
    share = f"{said.share:.1%} of pictures of what it knows are as much like it"
    if said.is_new:
        return f"By what it was taught: **{name}**; {share}."
    return f"Of what it was taught most like {name}, but {share}."
