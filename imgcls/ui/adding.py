"""Getting a data set: fetch a built-in one, or import a zip, a folder or a table."""

from concurrent.futures import wait
from typing import Any

import pandas as pd
import streamlit as st

from imgcls.data import catalog
from imgcls.data.importer import SIZES
from imgcls.errors import ImgclsError
from imgcls.preprocess import FITS, printable
from imgcls.ui import compute, inbox, tasks, widgets

SECTION = "explore_section"  # key of the section of the Explore page
BUILT_IN = {  # what stands beside the button
    "digits": "1,797 handwritten digits in ten classes; comes with the app and needs no network.",
    "cifar10": "60,000 photographs, 32×32, in ten classes; a download of 170 MB.",
    "cifar100": "60,000 photographs, 32×32, in a hundred classes; a download of 169 MB.",
    "mnist": "70,000 handwritten digits, 28×28, in ten classes; a download of 12 MB.",
}
_FITS = {
    "squash": "Squash to a square",
    "crop": "Crop the central square",
    "pad": "Pad with white",
}
_ON_BAD = {
    "skip": "Skip and list it",
    "stop": "Stop the import",
}
_UPLOAD, _SERVER = "Upload a zip", "Take it from the server"
_LAYOUT = """A zip or folder holds one folder a class, with or without `train`, `validation` and \
`test` folders above them:

```
train/cat/1.jpg            cat/1.jpg
train/dog/2.jpg      or    dog/2.jpg
test/cat/3.jpg
```
A CSV beside its images has the columns `filename,label` and, if you like, `split`. \
Images are PNG, JPEG or WebP."""


def collect() -> bool:
    """Take the result of an import or fetch that has ended; whether one is still under way.

    A success opens the images of its data set; the report or the error waits for `outcome`. Must
    come before the widgets that choose a data set and a section.
    """
    job: compute.Job | None = st.session_state.get("adding_job")
    if job is None:
        return False
    name = st.session_state["adding_name"]
    wait([job.future], timeout=0.3)  # small ones end at once, without a bar that flashes
    if not job.future.done():
        compute.watch(job, f"Preparing {widgets.escape(name)}")
        return True
    del st.session_state["adding_job"]
    try:
        st.session_state["adding_report"] = (name, job.result())
        st.session_state["dataset"] = name
        st.query_params["dataset"] = name
        st.session_state[SECTION] = "Images"
    except ImgclsError as error:
        st.session_state["adding_error"] = str(error)
    return False


def outcome() -> None:
    """The report or the error of the last import, until it is dismissed."""
    if error := st.session_state.get("adding_error"):
        st.error(widgets.escape(error), icon=":material/error:")
        _dismiss("adding_error")
    if found := st.session_state.get("adding_report"):
        with st.container(border=True):
            _report(*found)
            _dismiss("adding_report")


def add_data() -> None:
    """Both ways of getting a data set, side by side."""
    left, right = st.columns([2, 3], gap="large")
    with left:
        _fetch()
    with right:
        _import()


def _dismiss(key: str) -> None:
    st.button(
        "Dismiss",
        key=f"dismiss_{key}",
        type="tertiary",
        icon=":material/close:",
        on_click=st.session_state.pop,
        args=(key, None),
    )


def _start(name: str, function: Any, *args: Any) -> None:
    for key in ("adding_error", "adding_report"):
        st.session_state.pop(key, None)
    st.session_state["adding_name"] = name
    st.session_state["adding_job"] = compute.submit(function, *args, worker="data", progress=True)


def _fetch() -> None:
    st.subheader("Ready-made", anchor=False)
    here = catalog.names()
    for name, what in BUILT_IN.items():
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{name}**  \n{what}", width="stretch")
            if name in here:
                st.badge("here", color="gray")
            elif st.button(
                "Get",
                key=f"get_{name}",
                type="primary" if name == "digits" else "secondary",
                width=64,
            ):
                _start(name, tasks.fetch, name)
                st.rerun()


def _import() -> None:
    st.subheader("Your own images", anchor=False)
    where = st.segmented_control(
        "Where they are", (_UPLOAD, _SERVER), default=_UPLOAD, key="import_where"
    )
    upload, typed = None, None
    if where == _SERVER:
        typed = st.selectbox(
            "Folder, zip or CSV",
            inbox.offered(),
            index=None,
            accept_new_options=True,
            key="import_path",
            placeholder="Choose or type a path",
            help="What lies below " + ", ".join(f"{root.name}/" for root in inbox.roots()),
        )
    else:
        upload = st.file_uploader("Zip file, up to 200 MB", type="zip", key="import_upload")
    source = typed or (upload.name if upload else None)
    name = st.text_input(
        "Name of the data set",
        value=inbox.suggested_name(source, catalog.names()) if source else "",
        key=f"import_name_{source}",
        max_chars=64,
        help="1 to 64 of a-z, 0-9, '.', '_' and '-'.",
    )
    with st.container(horizontal=True):  # what does not fit in the row goes to the next
        size = st.number_input("Size in pixels a side", *SIZES, 32, key="import_size", width=150)
        fit = st.selectbox(
            "Other shapes", FITS, format_func=_FITS.__getitem__, key="import_fit", width=230
        )
        on_bad = st.selectbox(
            "A damaged file", list(_ON_BAD), format_func=_ON_BAD.__getitem__, key="import_on_bad",
            width=180,
        )  # fmt: skip
    if st.button("Import", type="primary", disabled=source is None, key="import_go"):
        try:
            catalog.path(name)
            if upload is not None:
                path = inbox.receive(upload.name, upload.getbuffer())
            else:
                path = inbox.resolve(typed or "")
        except ImgclsError as error:
            st.error(widgets.escape(error), icon=":material/error:")
        else:
            _start(name, tasks.import_images, path, name, int(size), fit, on_bad)
            st.rerun()
    with st.expander("How the files must lie"):
        st.markdown(_LAYOUT)


def _report(name: str, report: Any) -> None:
    refused = list(getattr(report, "refused", ()))
    dataset = catalog.load(name)
    total = sum(dataset.total(split) for split in dataset.splits)
    text = f"**{widgets.escape(name)}**: {total:,} images in {len(dataset.classes)} classes"
    if refused:
        text += f", {len(refused):,} file{'s' * (len(refused) > 1)} refused"
    if ignored := getattr(report, "ignored", 0):
        text += f", {ignored:,} other file{'s' * (ignored > 1)} ignored"
    notes = [f"- {widgets.escape(note)}" for note in getattr(report, "notes", ())]
    show = st.warning if refused else st.success
    show("\n".join([f"{text}.\n", *notes]), icon=":material/inventory_2:")
    if refused:
        rows = [(printable(file), reason) for file, reason in refused]
        st.dataframe(pd.DataFrame(rows, columns=["file", "reason"]), hide_index=True)
