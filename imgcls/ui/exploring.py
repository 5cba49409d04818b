"""The sections of the Explore page; each computes only when it is the one that is open."""

import numpy as np
import pandas as pd
import streamlit as st

from imgcls import charts, recipes
from imgcls.config import SETTINGS
from imgcls.data import catalog, statistics
from imgcls.data.catalog import Dataset, Images
from imgcls.errors import ImgclsError
from imgcls.preprocess import printable
from imgcls.ui import compute, pictures, tasks, widgets
from imgcls.ui.gallery import Tile, gallery
from imgcls.ui.live import QUIET

PER_SHEET = 120
DRAWS = (5, 30, 17)  # beside the original: fewest, most, at first
LARGE = 288  # CSS pixels of one image, which fit beside the sheet
AUGMENTATIONS = ("flip", "crop_pad", "rotation", "color_jitter", "noise", "cutout")


def counts(dataset: Dataset) -> None:
    """Images a class and split, as figure and table."""
    table = statistics.counts(dataset)
    totals = [(split.capitalize(), f"{dataset.total(split):,}") for split in dataset.splits]
    for column, (label, value) in zip(
        st.columns(len(totals) + 2),
        [
            *totals,
            ("Classes", str(len(dataset.classes))),
            ("Size", f"{dataset.size}×{dataset.size}"),
        ],
        strict=True,
    ):
        column.metric(label, value)
    left, right = st.columns([3, 2], gap="medium")
    left.plotly_chart(
        charts.class_counts(dataset, height=360),
        key="counts",
        alt="Images a class and split",
        config=QUIET,
    )
    right.dataframe(table.rename_axis("class"))


def images(dataset: Dataset) -> None:
    """Contact sheets by class and split, and one image large."""
    a, b, c = st.columns([2, 2, 1], vertical_alignment="bottom")
    split = a.segmented_control("Split", dataset.splits, default=dataset.splits[0], key="split")
    split = split or dataset.splits[0]
    kinds = ["All classes", *dataset.classes]
    kind = b.selectbox("Class", range(len(kinds)), format_func=kinds.__getitem__, key="class")
    pixels, labels = catalog.arrays(dataset.name, split)
    mixed = np.random.default_rng(0).permutation(len(labels))  # files often lie class by class
    shown = np.flatnonzero(labels == kind - 1) if kind else mixed
    sheets = max(1, -(-len(shown) // PER_SHEET))
    place = f"{dataset.name}/{split}/{kind}"
    sheet = c.number_input(f"Sheet of {sheets:,}", 1, sheets, 1, key=f"sheet/{place}")
    if not len(shown):
        st.info("This class has no images in this split.", icon=":material/info:")
        return
    here = shown[(int(sheet) - 1) * PER_SHEET :][:PER_SHEET]
    names = [printable(dataset.classes[label]) for label in labels[here]]
    chosen, opened = f"index/{dataset.name}/{split}", _opened(dataset, split)
    if st.session_state.get(chosen, st.session_state.get(opened)) not in shown:
        st.session_state[chosen] = int(here[0])  # never an image of a class that is filtered out
    elif chosen not in st.session_state:
        st.session_state[chosen] = st.session_state[opened]
    left, right = st.columns([5, 2], gap="medium")
    with left:
        before = st.session_state[chosen]
        picked = gallery(
            np.asarray(pixels[here]),
            [Tile(f"{name}, image {i}") for name, i in zip(names, here, strict=True)],
            key=f"sheet of {place}",
            selected=int(np.flatnonzero(here == before)[0]) if before in here else None,
        )
        st.caption(
            f"Images {(int(sheet) - 1) * PER_SHEET + 1:,} to "
            f"{(int(sheet) - 1) * PER_SHEET + len(here):,} of {len(shown):,}"
            f"{'' if kind else ', shuffled the same way each time'}. Click one to see it large."
        )
    if picked is not None and int(here[picked]) != before:
        st.session_state[chosen] = int(here[picked])
        st.rerun()  # so that the sheet marks it
    with right:

        def typed() -> None:
            if kind and labels[st.session_state[chosen]] != kind - 1:
                st.session_state["class"] = 0  # the image asked for is of another class

        index = st.number_input("Image", 0, len(labels) - 1, key=chosen, on_change=typed)
        st.session_state[opened] = int(index)
        _one(dataset, split, int(index), np.asarray(pixels[index]), int(labels[index]))


def _opened(dataset: Dataset, split: str) -> str:
    """Under what the session keeps the image opened last; a widget's own key would not last."""
    return f"opened/{dataset.name}/{dataset.fingerprint}/{split}"


def _one(dataset: Dataset, split: str, index: int, image: Images, label: int) -> None:
    name = dataset.classes[label]
    st.image(
        pictures.png(pictures.enlarged(image, LARGE)),
        caption=widgets.escape(name),
        output_format="PNG",
        width="content",
        alt=f"Image {index} of {split}, enlarged: {name}",
    )
    st.plotly_chart(
        charts.histogram(image, height=170),
        key="one_histogram",
        alt="Histogram of the image, a line a channel",
        config=QUIET,
    )
    if facts := statistics.image_facts(dataset.name, split, index):
        st.markdown("**Original file**")
        width = max(map(len, facts)) + 2
        lines = (f"{key:{width}}{printable(value)}" for key, value in facts.items())
        st.code("\n".join(lines), language=None, wrap_lines=True)


@st.cache_data(max_entries=16, show_spinner="Reading every pixel once…")
def _split_statistics(name: str, fingerprint: str, split: str) -> statistics.SplitStatistics:
    pixels, labels = catalog.arrays(name, split)
    return statistics.split_statistics(pixels, labels, len(catalog.load(name).classes))


def channels(dataset: Dataset) -> None:
    """Mean and deviation a channel, the histogram of all pixels, the mean image a class."""
    chosen = st.segmented_control(
        "Split", dataset.splits, default=dataset.splits[0], key="of_split"
    )
    split = chosen or dataset.splits[0]
    found = _split_statistics(dataset.name, dataset.fingerprint, split)
    left, right = st.columns([2, 3], gap="medium")
    table = pd.DataFrame(
        {"mean": found.mean, "standard deviation": found.std}, index=["red", "green", "blue"]
    ).rename_axis("channel")
    left.dataframe(table.style.format("{:.4f}"))
    left.caption(
        "Over all pixels, 0 to 1. Training with normalization `dataset` uses the train images' own."
    )
    right.plotly_chart(
        charts.pixel_counts(found.histogram, height=220),
        key="all_histogram",
        alt="Histogram of all pixels, a line a channel",
        config=QUIET,
    )
    st.subheader("Mean image a class", anchor=False)
    gallery(
        found.class_means,
        [
            Tile(f"Mean of {n:,} images: {printable(name)}", (printable(name),))
            for name, n in zip(dataset.classes, dataset.counts[split], strict=True)
        ],
        key=f"means {dataset.name} {split}",
        clickable=False,
    )


def augmentation(dataset: Dataset) -> None:
    """One image beside draws of what training would make of it."""
    left, right = st.columns([1, 3], gap="large")
    split = dataset.splits[0]
    pixels, labels = catalog.arrays(dataset.name, split)
    with left:
        recipe = st.selectbox("Recipe", list(recipes.RECIPES), key="augment_recipe")
        start = recipes.RECIPES[recipe].config
        values = {}
        for name in AUGMENTATIONS:
            setting, key = SETTINGS[name], f"augment/{recipe}/{name}"
            value = getattr(start, name)
            label = name.replace("_", " ").capitalize()
            if setting.kind is bool:
                values[name] = st.toggle(label, value, key=key, help=setting.help)
            else:
                low, high = setting.kind(setting.low or 0), setting.kind(setting.high or 1)
                if name in ("crop_pad", "cutout"):
                    high = min(high, dataset.size)
                values[name] = st.slider(
                    label, low, high, min(value, high), key=key, help=setting.help
                )
        opened, key = _opened(dataset, split), f"augment_index/{dataset.name}"
        if key not in st.session_state:
            st.session_state[key] = st.session_state.get(opened, 0)
        index = st.number_input(
            f"Image of {split}", 0, len(labels) - 1, key=key,
            help="At first the one opened last in Images.",
        )  # fmt: skip
        st.session_state[opened] = int(index)
        count = st.slider("Draws", *DRAWS, key="augment_draws")
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="augment_seed")
    original = np.asarray(pixels[int(index)])
    with right:
        try:
            settings = start.replace(**values)
            draws = compute.call(tasks.preview, original, settings, int(count), int(seed))
        except ImgclsError as error:
            st.error(widgets.escape(str(error)), icon=":material/error:")
            return
        name = printable(dataset.classes[int(labels[int(index)])])
        gallery(
            np.concatenate([original[None], draws]),
            [
                Tile(f"Original: {name}", ("original",)),
                *(Tile(f"Draw {i} of {name}", (f"draw {i}",)) for i in range(1, int(count) + 1)),
            ],
            key="draws",
            selected=0,
            tile=96,
            clickable=False,
        )
        st.caption(
            "Made by the code that trains. Training draws anew for each image and step, from its "
            "seed and the step alone."
        )


def source(dataset: Dataset) -> None:
    """Where the data set comes from, and what was refused."""
    facts = {
        "source": dataset.source,
        "resized": dataset.resized,
        "fingerprint": dataset.fingerprint,
        "classes": ", ".join(map(printable, dataset.classes[:40])),
    }
    for note in dataset.notes:
        st.warning(widgets.escape(note), icon=":material/info:")
    st.dataframe(pd.Series(facts, name=dataset.name).rename_axis("data set"))
    refused = statistics.refused(dataset.name)
    if len(refused):
        st.subheader(f"Refused: {len(refused):,} files", anchor=False)
        st.dataframe(refused, hide_index=True)


SECTIONS = {
    "Counts": counts,
    "Images": images,
    "Channels": channels,
    "Augmentation": augmentation,
    "Source": source,
}
