"""Runs through AppTest: the table, curves over each other, and directories that are broken."""

import json

import pytest

from imgcls import runs
from tests.pages.broken import BREAKS
from tests.pages.opened import open_page, said
from tests.pages.recorded import alive, record


def curves(app):
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_without_a_run_the_page_leads_to_training(home):
    app = open_page("runs")

    assert not app.exception
    assert "No run yet" in said(app)


def test_the_table_tells_recipe_data_state_epochs_accuracy_and_time(home):
    record(hour=1, epochs=8)
    with alive(record("interrupted", hour=2)):
        app = open_page("runs")

    table = app.dataframe[0].value
    assert [list(state) for state in table["state"]] == [["running"], ["finished"]]
    assert list(table["recipe"]) == ["quick", "quick"]
    assert list(table["epochs"]) == ["2 of 8", "8 of 8"]
    assert list(table["accuracy"]) == [0.52, 0.58]
    assert list(table["time"]) == ["8 s", "24 s"]


def test_runs_are_drawn_over_each_other_each_in_its_colour(home):
    record(hour=1)
    record(hour=2)

    accuracy, loss = curves(open_page("runs"))

    assert len(accuracy["data"]) == len(loss["data"]) == 2
    assert len({line["line"]["color"] for line in accuracy["data"]}) == 2


def test_nothing_ticked_nothing_can_be_deleted(home):
    record()
    app = open_page("runs")

    delete = next(b for b in app.button if b.label == "Delete")

    assert delete.disabled


@pytest.mark.parametrize("page", ["home", "runs", "train"])
def test_broken_run_directories_break_no_page(tiny_dataset, page):
    for i, change in enumerate(BREAKS.values()):
        change(record(hour=i % 24).path)
    sound = record(hour=23)

    app = open_page(page)

    assert not app.exception
    if page == "runs":
        states = {row["run"]: row["state"][0] for _, row in app.dataframe[0].value.iterrows()}
        assert len(states) == len(BREAKS) + 1
        assert states[sound.id] == "finished"
        assert list(states.values()).count("damaged") >= 14


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_run_can_be_opened_and_deleted(tiny_dataset, name):
    run = record()
    BREAKS[name](run.path)

    app = open_page("train", run=run.id)

    assert not app.exception
    assert runs.get(run.id).id == run.id
    next(b for b in app.button if b.label in ("Delete", "New run")).click().run()
    assert not app.exception
    run.delete()
    assert not run.path.exists()
