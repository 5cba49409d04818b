"""The Predict page's work: pictures in, answers out, one shown large, several as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from imgcls import predict, runs
from imgcls.card import Card
from imgcls.data import catalog
from imgcls.errors import DataError, ImgclsError, ModelError, RunError
from imgcls.evaluate import belief, predictions, views
from imgcls.evaluate.calibrate import COVERAGES
from imgcls.preprocess import LIMITS, printable
from imgcls.runs import Run
from imgcls.ui import compute, one_image, pictures, stored, tasks, teaching, uploads, widgets
from imgcls.ui.gallery import Tile, gallery

MOST = 200  # pictures at a time
CHUNK = 16  # pictures a call
TOP = 5
COVERAGE = 0.95  # of label sets, unless another is chosen
EXAMPLES = 24
CAMERA = 480  # CSS pixels
ROWS = 15  # a longer table scrolls
LISTED = 20  # refusals told below the table
_UPLOAD, _EXAMPLE, _CAMERA = "Upload", "Examples", "Camera"

_KNOWN = {True: "yes", False: "unlike all", None: ""}

File = tuple[str, bytes]
Answer = dict[str, Any]  # see `predict.predict`; with `shown`, PNG bytes


def about(run: Run, model: Card) -> None:
    """What the model knows, and how far it may be believed."""
    known = belief.of_run(run)
    classes = ", ".join(widgets.escape(printable(name)) for name in model.classes[:12])
    more = f" and {len(model.classes) - 12:,} more" if len(model.classes) > 12 else ""
    said = f"It knows {len(model.classes)} classes and nothing else: {classes}{more}. "
    if known is None:
        said += (
            "Its probabilities are as trained, and it names a class whatever it is shown: nothing "
            "is known of its confidence from images that it did not learn from."
        )
    else:
        said += (
            f"Probabilities are calibrated, and pictures unlike those it knows are called so, by "
            f"{known.n:,} images that it did not learn from."
        )
    st.caption(said)
    if run.id == runs.SHIPPED:
        with st.expander("Its card", icon=":material/badge:"):
            st.markdown((run.path / "CARD.md").read_text("utf-8").split("\n", 1)[1])


def chosen_pictures(run: Run) -> list[File]:
    """What the visitor wants judged, as (name, bytes as they came); nothing is decoded."""
    way = st.segmented_control(
        "Pictures",
        (_UPLOAD, _EXAMPLE, _CAMERA),
        default=_EXAMPLE if run.id == runs.SHIPPED else _UPLOAD,
        key=f"predict_way {run.id}",
    )
    if way == _CAMERA:
        photo = st.camera_input("Take a photo", key="predict_camera", width=CAMERA)
        return [(photo.name, photo.getvalue())] if photo else []
    if way == _EXAMPLE:
        return _example(run)
    files = st.file_uploader(
        f"PNG, JPEG or WebP, up to {LIMITS['bytes'] >> 20} MB each; Ctrl+V pastes one",
        type=["png", "jpg", "jpeg", "jfif", "webp"],
        accept_multiple_files=True,
        max_upload_size=LIMITS["bytes"] >> 20,
        key="predict_upload",
    )
    uploads.pasted("predict_upload")
    if not files:
        st.caption("Or drag one of these into it.")
        uploads.dragged("predict_upload", _samples())
    if len(files) > MOST:
        st.warning(
            f"{len(files):,} pictures are more than {MOST} at a time: the first {MOST} are judged. "
            "Take the command line for more.",
            icon=":material/warning:",
        )
    return [(file.name, file.getvalue()) for file in files[:MOST]]


def prepare(run: Run) -> None:
    """Load the model while the visitor chooses pictures; torch alone takes seconds to import."""
    key = f"prepared {run.id}"
    if compute.shared(key) is None:
        compute.share(key, compute.submit(predict.predict, run.id, [], worker="model"))


def asked_with_views(run: Run) -> bool:
    """Whether each answer shall be the mean over several views, and what that costs."""
    passes = views.passes(run.config)
    if passes == 1:  # the model was trained on pictures as they are
        return False
    return st.toggle(
        f"Mean of {passes} views",
        key=f"predict_views {run.id}",
        help=(
            f"Test-time augmentation: the picture mirrored and moved by a pixel. It takes {passes} "
            "passes of the model instead of one; the time is said with the answer."
        ),
    )


def chosen_coverage(run: Run) -> float:
    """How often a label set shall hold the true class; 0.95 where nothing is known of that."""
    if belief.of_run(run) is None:
        return COVERAGE
    return st.select_slider(
        "Label sets hold the true class in",
        COVERAGES,
        value=COVERAGE,
        format_func=lambda share: f"{share:.0%}",
        key=f"predict_coverage {run.id}",
        width=320,
        help="Of pictures like those that it knows; the surer it shall be, the more classes.",
    )


def answers(run: Run, files: list[File], coverage: float, tta: bool) -> list[Answer]:
    """The model's answer for each picture, kept in this session alone while they stay the same."""
    key = (
        run.id,
        run.model_path.stat().st_mtime_ns,
        belief.of_run(run),
        coverage,
        tta,
        tuple((n, hash(d)) for n, d in files),
    )
    kept = st.session_state.get("predict_answers")
    if kept is not None and kept[0] == key:
        return list(kept[1])
    found: list[Answer] = []
    text = "Asking the model…"
    with st.spinner(text):
        bar = st.progress(0.0) if len(files) > CHUNK else None
        for start in range(0, len(files), CHUNK):
            found += _ask(run.id, files[start : start + CHUNK], coverage, tta)
            if bar:
                bar.progress(len(found) / len(files), f"{len(found)} of {len(files)} pictures")
        if bar:
            bar.empty()
    st.session_state["predict_answers"] = (key, found)
    return found


def one(answer: Answer, classes: Sequence[str]) -> None:
    """One answer: the picture, what the model sees, the likeliest classes."""
    if "error" in answer:
        st.error(widgets.escape(answer["error"]), icon=":material/broken_image:")
        return
    a, b, c = st.columns([3, 2, 4], gap="large")
    size = answer["seen"].shape[0]
    a.image(
        answer["shown"],
        caption=widgets.escape(answer["file"]),
        output_format="PNG",
        width="content",
        alt=f"The picture {answer['file']}",
    )
    b.image(
        pictures.png(pictures.enlarged(answer["seen"], 192)),
        caption=f"What the model sees: {size}×{size} pixels",
        output_format="PNG",
        width="content",
        alt=f"The picture at {size}×{size} pixels",
    )
    best = answer["top"][0]
    with c:
        if answer["known"] is False:
            st.badge("unlike anything it knows", icon=":material/help:", color="orange")
        st.metric(
            "Most likely",
            widgets.escape(best["class"]),
            f"{best['probability']:.1%}",
            delta_color="off",
            delta_arrow="off",
        )
        widgets.bars([(best["class"], best["probability"]) for best in answer["top"]], classes)
        if answer["labels"] is not None and answer["known"]:  # of others nothing is promised
            held = " or ".join(widgets.escape(printable(name)) for name in answer["labels"])
            st.markdown(
                f"Label set: **{held or 'none of its classes'}**",
                help="The classes that hold the true one in as many of such pictures as chosen.",
            )
        if "taught" in answer:
            st.markdown(teaching.sentence(answer["taught"]))
        told = [f"{answer['seconds'] * 1000:.0f} ms from file to answer", *answer["notes"]]
        st.caption(widgets.escape(" · ".join(told)))


def closer(run: Run, file: File, answer: Answer, model: Card) -> None:
    """What else can be asked about one picture: where the model looks, what others say, a wrong."""
    if "error" in answer:
        return
    best = answer["top"][0]["class"]
    with widgets.opened("Where it looks", ":material/center_focus_strong:") as open:
        if open:
            target = st.selectbox(
                "What speaks for", [one["class"] for one in answer["top"]],
                key=f"predict_target {run.id}", format_func=printable,
            )  # fmt: skip
            place = model.classes.index(target or best)
            key = f"predict_where {run.id} {place} {hash(answer['seen'].tobytes())}"
            one_image.where(run, answer["seen"], place, key)
    with widgets.opened("It looks like these", ":material/grid_view:") as open:
        if open:
            try:
                _alike(run, answer, model)
            except ImgclsError as error:
                st.error(widgets.escape(error), icon=":material/error:")
    with widgets.opened("What other models say", ":material/compare_arrows:") as open:
        if open:
            _others(run, file)
    with widgets.opened("Wrong? Tell it", ":material/feedback:") as open:
        if open:
            teaching.tell([file], model, best)


def _alike(run: Run, answer: Answer, model: Card) -> None:
    """The training images that the model finds most like the picture."""
    if predictions.load(run, "train") is None:
        if run.config.dataset not in catalog.names():
            st.info(
                "The images that it learned from are not on disk: import them on Explore under the "
                f"name {widgets.escape(run.config.dataset)} to see those that are most alike."
            )
            return
        st.caption("The model has to look at the images that it learned from once; it is stored.")
        if not st.button("Look at the training images", icon=":material/play_arrow:"):
            return
        stored.made(run, "train")
    learned, features = predictions.load(run, "train"), predictions.features(run, "train")
    if learned is None or features is None:
        st.info(one_image.NO_FEATURES)
        return
    seen = compute.call(predictions.see, run.id, answer["seen"][None])
    rows, cosines = predictions.nearest(features, seen[0], one_image.ALIKE)
    said = model.classes.index(answer["top"][0]["class"])
    one_image.alike_images(run, learned, rows, cosines, said)


def _others(run: Run, file: File) -> None:
    others = [one for one in runs.all_runs() if one.id != run.id and one.model_path.exists()]
    if run.id != runs.SHIPPED:
        others.append(runs.shipped())
    names = {one.id: widgets.run_label(one) for one in others}
    chosen = st.multiselect(
        "Models", list(names), format_func=names.__getitem__, key=f"predict_others {run.id}",
        max_selections=5, placeholder="Choose up to five",
    )  # fmt: skip
    if not chosen:
        return
    rows: dict[str, list[str]] = {"model": [], "most likely": [], "then": [], "known": []}
    for name in chosen:
        (found,) = _ask(name, [file])
        if "error" in found:
            st.error(widgets.escape(found["error"]), icon=":material/broken_image:")
            return
        told = [f"{printable(one['class'])} {one['probability']:.1%}" for one in found["top"]]
        rows["model"].append(names[name])
        rows["most likely"].append(told[0])
        rows["then"].append(", ".join(told[1:3]))
        rows["known"].append(_KNOWN[found["known"]])
    widgets.small_table(rows)


def several(run: Run, files: list[File], found: list[Answer], model: Card) -> None:
    """Several answers: thumbnails, of which one opens, and a table, also as CSV."""
    refused = [answer["error"] for answer in found if "error" in answer]
    bad = len(refused)
    seconds = sum(answer.get("seconds", 0.0) for answer in found)
    text = f"{len(found) - bad:,} pictures judged in {seconds:.2f} s"
    a, b = st.columns([4, 1], vertical_alignment="center")
    a.markdown(text + (f", {bad:,} refused: the reasons stand below the table." if bad else "."))
    b.download_button(
        "Table as CSV",
        predict.to_csv(found),
        "predictions.csv",
        "text/csv",
        icon=":material/download:",
        key="predict_csv",
        on_click="ignore",
        width="stretch",
    )
    usable = [i for i, answer in enumerate(found) if "seen" in answer]
    if usable:
        _thumbnails(run, [files[i] for i in usable], [found[i] for i in usable], model)
    table = pd.DataFrame([_row(answer) for answer in found])
    if not bad:
        table = table.drop(columns="error")
    if not any(table["taught"]):
        table = table.drop(columns="taught")
    share = st.column_config.ProgressColumn(
        "probability", format="percent", min_value=0.0, max_value=1.0
    )
    st.dataframe(
        table,
        hide_index=True,
        row_height=44,
        height="content" if len(table) <= ROWS else 44 * (ROWS + 1),
        column_config={
            "picture": st.column_config.ImageColumn("picture", width="small"),
            "class": st.column_config.TextColumn("class", width=110),
            "probability": share,
            "then": st.column_config.TextColumn("then", width="large"),
            "error": st.column_config.TextColumn("error", width="large"),
        },
    )
    if refused:
        told = [f"- {widgets.escape(reason)}" for reason in refused[:LISTED]]
        if bad > LISTED:
            told.append(f"- and {bad - LISTED:,} more: the column error of the table names them.")
        st.markdown("Refused:\n\n" + "\n".join(told))
    with widgets.opened("Teach it", ":material/school:") as open:
        if open and usable:
            teaching.tell([files[i] for i in usable], model)


@st.fragment
def _thumbnails(run: Run, files: list[File], found: list[Answer], model: Card) -> None:
    """Every picture as the model sees it, and what it is called; the one clicked stands below."""
    tiles = [
        Tile(
            f"{answer['file']}: {printable(best['class'])} {best['probability']:.1%}",
            (
                printable(best["class"]),
                f"{best['probability']:.1%}",
                *(["unlike all"] if answer["known"] is False else []),
                *([f"{printable(new.name)}, taught"] if (new := teaching.new(answer)) else []),
            ),
        )
        for answer in found
        for best in answer["top"][:1]
    ]
    key = f"predict_thumbnails {run.id} {hash(tuple(hash(data) for _, data in files))}"
    chosen = st.session_state.get(f"{key} chosen")
    sheet = np.stack([answer["seen"] for answer in found])
    picked = gallery(sheet, tiles, key=key, selected=chosen)
    if picked is not None and picked != chosen:
        st.session_state[f"{key} chosen"] = picked
        st.rerun(scope="fragment")
    if chosen is None:
        st.caption("Click a picture to see it large, and what else can be asked about it.")
    else:
        one(found[chosen], model.classes)
        closer(run, files[chosen], found[chosen], model)


def _row(answer: Answer) -> dict[str, Any]:
    top = answer.get("top") or [{"class": "", "probability": None}]
    others = (f"{best['class']} {best['probability']:.1%}" for best in top[1:])
    return {
        "picture": pictures.data_uri(answer["seen"]) if "seen" in answer else "",
        "file": answer["file"],
        "class": top[0]["class"],
        "probability": top[0]["probability"],
        "known": _KNOWN[answer.get("known")],
        "taught": new.name if (new := teaching.new(answer)) else "",
        "then": ", ".join(others),
        "error": answer.get("error", "").removeprefix(f"{answer['file']}: "),
    }


def _ask(
    run: str, files: list[File], coverage: float = COVERAGE, tta: bool = False
) -> list[Answer]:
    try:
        answered: list[Answer] = compute.call(tasks.predict, run, files, TOP, coverage, tta)
    except (RunError, ModelError):
        raise
    except ImgclsError as error:  # one picture ended the child: the others still get an answer
        if len(files) == 1:
            return [{"file": printable(files[0][0]), "error": f"{printable(files[0][0])}: {error}"}]
        return [answer for file in files for answer in _ask(run, [file], coverage, tta)]
    return answered


def _samples() -> list[Path]:
    """The pictures that come with imgcls, the cat first."""
    return sorted((runs.ASSETS / "examples").glob("*.jpg"), key=lambda path: path.stem != "cat")


def _sample() -> list[File]:
    """A picture of those that come with imgcls."""
    found = _samples()
    name = st.segmented_control(
        "Example", [path.stem for path in found], default=found[0].stem, key="example_sample"
    )
    st.caption(
        "Samples of scikit-image, free to share; what the model knows may not be among them."
    )
    chosen = next((path for path in found if path.stem == name), found[0])
    return [(chosen.name, chosen.read_bytes())]


def _example(run: Run) -> list[File]:
    if run.config.dataset not in catalog.names():
        return _sample()
    dataset = catalog.load(run.config.dataset)
    split = "test" if "test" in dataset.splits else dataset.splits[0]
    pixels, labels = catalog.arrays(dataset.name, split)
    if not len(labels):
        raise DataError(f"{dataset.name} has no {split} images to take an example from.")
    draw = st.session_state.setdefault("example_draw", 0)
    order = np.random.default_rng(draw).permutation(len(labels))[:EXAMPLES]
    here = np.sort(order)
    chosen = st.session_state.get("example_index")
    if chosen not in here:
        chosen = int(order[0])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"From the {split} images of {widgets.escape(dataset.name)}. Click one.")
        if st.button("Other examples", key="example_more", icon=":material/casino:"):
            st.session_state["example_draw"] = draw + 1
            st.rerun()
    picked = gallery(
        np.asarray(pixels[here]),
        [Tile(f"Example {i}: {printable(dataset.classes[labels[i]])}") for i in here],
        key=f"examples {run.id} {draw}",
        selected=int(np.flatnonzero(here == chosen)[0]),
    )
    if picked is not None and here[picked] != chosen:
        st.session_state["example_index"] = int(here[picked])
        st.rerun()
    name = f"{split} image {chosen}, truly {printable(dataset.classes[labels[chosen]])}"
    return [(name, pictures.png(np.asarray(pixels[chosen])))]
