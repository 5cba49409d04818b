"""The Export page's parts: a file with its certificate, its deploy kit, and a server to paste."""

from concurrent.futures import wait
from datetime import datetime
from pathlib import Path

import streamlit as st

from imgcls import card, config
from imgcls.errors import ImgclsError
from imgcls.evaluate import belief
from imgcls.export import certified, kit
from imgcls.export.formats import FORMATS
from imgcls.runs import Run
from imgcls.ui import compute, tasks, widgets

SECONDS = 3600.0  # that an export may take
SERVE = "python -m imgcls serve {run} --port 8000"
CURL = "curl -F files=@picture.jpg http://127.0.0.1:8000/predict"
PYTHON = """import requests

url = "http://127.0.0.1:8000/predict"
with open("picture.jpg", "rb") as picture:
    answer = requests.post(url, files={"files": picture})
for entry in answer.json()["predictions"]:
    print(entry["file"], entry["top"][0], entry["known"])"""


def files(run: Run) -> None:
    """Choose a format, write and prove it, take it along."""
    name = st.selectbox(
        "Format", list(FORMATS), key="export_format",
        format_func=lambda one: f"{one} · {FORMATS[one].about}",
    )  # fmt: skip
    name = name or next(iter(FORMATS))
    if FORMATS[name].package != "imgcls":
        size = card.read(run.model_path).size
        shares = "calibrated probabilities" if belief.of_run(run) else "probabilities as trained"
        st.caption(
            f"Preprocessing is inside: uint8 pictures (N, {size}, {size}, 3) in, logits and "
            f"{shares} out."
        )
    path = _path(run, name)
    key = f"export_job {run.id} {name}"
    if st.button("Export and prove", icon=":material/verified:", type="primary", key="export"):
        path.parent.mkdir(parents=True, exist_ok=True)
        st.session_state[key] = compute.submit(
            tasks.export,
            run,
            name,
            path,
            datetime.now(),
            worker="long",
            timeout=SECONDS,
            progress=True,
        )
    if key in st.session_state and not _done(key):
        return
    _offer(run, name, path)


def _done(key: str) -> bool:
    """Whether the export is there; says how it goes, or why it was refused."""
    job = st.session_state[key]
    wait([job.future], timeout=1.0)
    if not job.future.done():
        compute.watch(job, "Exporting")
        return False
    del st.session_state[key]
    try:
        job.result()
    except ImgclsError as error:
        st.error(widgets.escape(error), icon=":material/gpp_bad:")
        return False
    return True


def _offer(run: Run, name: str, path: Path) -> None:
    """The file on disk with its certificate, where it is there and of the model as it is now."""
    if not path.exists():
        return
    try:
        certificate = certified.certificate_of(path)
    except ImgclsError as error:
        st.caption(widgets.escape(error))
        return
    trust = belief.of_run(run)
    older = path.stat().st_mtime_ns < run.model_path.stat().st_mtime_ns
    if older or certificate.get("temperature") != (trust.temperature if trust else 1.0):
        st.caption(
            "An older export of this run is void: its model has changed, or what calibrates it. "
            "Export it again."
        )
        return
    st.badge("proved", icon=":material/verified:", color="green")
    _certificate(certificate)
    with st.container(horizontal=True):
        st.download_button(
            f"{path.name}, {certificate['bytes'] / 1e6:.1f} MB", path.read_bytes(), path.name,
            icon=":material/download:", on_click="ignore", key="export_file",
        )  # fmt: skip
        st.download_button(
            "Certificate", certified.certificate_path(path).read_bytes(),
            certified.certificate_path(path).name, "application/json",
            icon=":material/verified:", on_click="ignore", key="export_certificate",
        )  # fmt: skip
        if FORMATS[name].package != "imgcls":
            _kit(run, path)
    if "load" in certificate:
        st.code(certificate["load"], language=None)  # colours of a language lack contrast


def _certificate(certificate: certified.Certificate) -> None:
    names, figures = zip(*certified.rows(certificate), strict=True)
    by = certificate["source"].split(", fingerprint")[0]
    widgets.small_table({"proved by": names, by: figures})
    st.caption(
        "By a fresh process that loads nothing but the file and its runtime, "
        f"{certificate['made'].replace('T', ' ')}."
    )


def _kit(run: Run, path: Path) -> None:
    zipped = path.with_name(f"{path.name}.zip")
    if st.button(
        "Make the deploy kit", icon=":material/deployed_code:", key="export_kit",
        help="A zip: model, certificate, card, predict.py, Dockerfile, golden pictures, verify.py.",
    ):  # fmt: skip
        with st.spinner("Packing"):
            compute.call(kit.pack, run, path, zipped, timeout=600.0)
    if zipped.exists() and zipped.stat().st_mtime_ns >= path.stat().st_mtime_ns:
        st.download_button(
            f"{zipped.name}, {zipped.stat().st_size / 1e6:.1f} MB", zipped.read_bytes(),
            zipped.name, "application/zip", icon=":material/download:", on_click="ignore",
            key="export_zip",
        )  # fmt: skip


def server(run: Run) -> None:
    """What to paste to serve the model over HTTP."""
    st.header("Serve", anchor=False)
    st.caption(
        "Dynamic batches, a bounded queue, Prometheus metrics; what it takes stands under /docs. "
        "On another address than loopback every request needs a token."
    )
    st.code(SERVE.format(run=run.id), language=None, wrap_lines=True)
    a, b = st.columns(2)
    a.caption("Then, in another terminal")
    a.code(CURL, language=None, wrap_lines=True)
    b.caption("or from Python")
    b.code(PYTHON, language=None, wrap_lines=True)


def _path(run: Run, name: str) -> Path:
    """Where exports of a run are kept."""
    return config.home() / "exports" / run.id / f"{run.id}{FORMATS[name].suffix}"
