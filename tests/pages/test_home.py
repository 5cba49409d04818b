"""Home through AppTest: the first look on an empty machine, and on a busy one."""

import time

import numpy as np
import pytest

from imgcls.data import catalog
from imgcls.ui import overview, widgets
from tests.pages.opened import open_page, said
from tests.pages.recorded import alive, record


def links(app):
    return {link.proto.label.replace("\\", "") for link in app.get("page_link")}


def test_an_empty_machine_is_told_where_to_begin(home):
    app = open_page("home")

    assert not app.exception
    assert {"Get a data set", "Train a model", "**Explore**", "**Predict**"} <= links(app)


def test_the_device_fills_in_without_holding_up_the_page(home):
    app = open_page("home")
    deadline = time.monotonic() + 90
    while "torch" not in said(app) and time.monotonic() < deadline:
        time.sleep(0.5)
        app.run()

    assert not app.exception
    assert "threads" in said(app)


def test_data_sets_and_runs_are_listed_with_what_they_hold(tiny_dataset):
    record(hour=1, epochs=8)
    with alive(record("interrupted", hour=2)):
        app = open_page("home")

    assert not app.exception
    assert "3 classes · 60 train, 30 test · 32×32 px" in said(app)
    assert {"quick on tiny", "**tiny**"} <= links(app)
    assert "running" in said(app)
    assert "finished" in said(app)


def test_the_pictures_of_a_data_set_stand_in_the_order_of_its_classes(tiny_dataset):
    dataset = catalog.load(tiny_dataset)
    images, labels = catalog.arrays(tiny_dataset, "train")
    backwards = [np.ascontiguousarray(part[::-1]) for part in (images, labels)]
    splits = {"train": tuple(backwards), "test": catalog.arrays(tiny_dataset, "test")}
    with catalog.publishing("backwards") as draft:
        catalog.write(
            draft,
            name="backwards",
            classes=dataset.classes,
            splits=splits,
            resized="no",
            source="x",
        )

    shown = overview._samples("backwards", "f")

    assert shown.mean((1, 2)).argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("images", "width"), [(2, 128), (10, 640), (12, 640)])
def test_a_sheet_of_few_pictures_is_no_wider_than_they_are(images, width):
    pixels = np.ones((images, 32, 32, 3), np.uint8)

    assert widgets.joined(pixels, columns=10, side=64).shape[1] == width


def test_a_damaged_data_set_is_named_and_the_others_stay(tiny_dataset):
    (catalog.root() / "worse").mkdir()
    (catalog.root() / "worse" / "dataset.json").write_text("{")

    app = open_page("home")

    assert not app.exception
    assert "'worse' is damaged" in said(app)
    assert "**tiny**" in links(app)
