"""The dialog on one image, opened as the Evaluate page opens it."""

import json

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from imgcls import answers as keeping
from imgcls import charts
from imgcls.data import catalog
from imgcls.evaluate import predictions
from tests.making import untrained_run
from tests.pages.opened import bars, said

SCRIPT = """
from imgcls import runs
from imgcls.evaluate import predictions
from imgcls.ui import one_image

run = runs.get("{run}")
answers = predictions.load(run, "{split}")
one_image.show(run, predictions.pictures(run, "{split}", [{row}])[0], answers, {row})
"""


@pytest.fixture
def run(tiny_dataset):
    run = untrained_run(model="simple_cnn")
    for split in catalog.SPLITS:
        predictions.compute(run.id, split)
    return run


def opened(run, split="test", row=3):
    script = SCRIPT.format(run=run.id, split=split, row=row)
    return AppTest.from_string(script, default_timeout=60).run()


def test_it_says_what_the_image_is_and_how_likely_each_class(run):
    app = opened(run)

    stored = predictions.load(run, "test")
    true, called = (stored.classes[i] for i in (stored.labels[3], stored.predicted[3]))
    assert not app.exception
    assert f"truly **{true}**, called **{called}**" in said(app)
    assert bars(app)[0][1] == f"{stored.confidence[3]:.1%}"


def test_through_training_the_true_class_is_always_shown_in_its_own_colour(run, monkeypatch):
    _, labels, held = catalog.select("tiny", "validation", 0.1, 0)
    for epoch in (1, 2):
        keeping.keep(run, epoch, np.eye(3, dtype=np.float16)[labels[held]] * epoch)
    monkeypatch.setattr("imgcls.ui.one_image.TOP", 1)  # as with more classes than are shown
    stored = predictions.load(run, "validation")
    row = int(np.flatnonzero(~stored.correct)[0])

    app = opened(run, "validation", row)

    curves = json.loads(app.get("plotly_chart")[0].proto.spec)["data"]
    names = [curve["name"] for curve in curves]
    assert stored.classes[stored.labels[row]] in names
    color = dict(zip(names, (curve["line"]["color"] for curve in curves), strict=True))
    called = stored.classes[stored.predicted[row]]
    assert bars(app)[0][0] == called
    assert color[called] == charts.class_colors(stored.classes)[called]


def test_where_it_looks_can_be_asked_for_another_class(run):
    app = opened(run)
    app.segmented_control("one_part").set_value("Where it looks").run()
    assert not app.exception
    assert not app.error
    assert "Three methods that share no assumption" in said(app)

    box = app.selectbox[0]
    box.set_value(box.options.index(box.options[-1])).run()

    assert not app.exception


def test_it_looks_like_training_images_with_their_labels(run):
    app = opened(run)
    app.segmented_control("one_part").set_value("It looks like these").run()

    assert not app.exception
    assert "training images most alike to the model" in said(app)


def test_a_network_without_features_says_so(tiny_dataset):
    run = untrained_run()
    for split in ("test", "train"):
        predictions.compute(run.id, split)
    app = opened(run)

    app.segmented_control("one_part").set_value("It looks like these").run()

    assert "There are no features to compare by" in said(app)
