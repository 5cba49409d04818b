"""Runs through AppTest: the table, curves over each other, and directories that are broken."""

import json
import os

import pytest

from imgcls import runs
from imgcls.recipes import RECIPES
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
    planned = RECIPES["quick"].config.epochs
    assert list(table["epochs"]) == [f"2 of {planned}", f"8 of {planned}"]
    assert list(table["accuracy"]) == [52.0, 58.0]
    assert list(table["time"]) == ["8 s", "24 s"]


def test_runs_are_drawn_over_each_other_each_in_its_colour(home):
    record(hour=1)
    record(hour=2)

    accuracy, loss = curves(open_page("runs"))

    assert len(accuracy["data"]) == len(loss["data"]) == 2
    assert len({line["line"]["color"] for line in accuracy["data"]}) == 2


def tick(app, *rows):
    key = f"runs_table_{app.session_state['runs_table']}"
    app.session_state[key] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    return app.run()


def to_be_deleted(app):
    next(b for b in app.button if b.label == "Delete").click().run()
    return app.code[0].value.splitlines()


def test_ticks_stay_at_their_runs_when_another_run_comes(home):
    first, second = record(hour=1), record(hour=2)
    app = tick(open_page("runs"), 1)
    assert "Curves of the ticked runs" in said(app)

    record(hour=3)
    app.run()

    assert list(app.dataframe[0].value["run"])[1:] == [second.id, first.id]
    assert len(curves(app)[0]["data"]) == 1
    assert to_be_deleted(app) == [first.id]


def test_a_tick_goes_with_its_run_and_to_no_other(home):
    first, second, third = record(hour=1), record(hour=2), record(hour=3)
    app = tick(open_page("runs"), 0, 2)

    third.delete()
    app.run()

    assert list(app.dataframe[0].value["run"]) == [second.id, first.id]
    assert to_be_deleted(app) == [first.id]


def test_taking_a_tick_away_takes_the_run_out(home):
    record(hour=1)
    app = tick(open_page("runs"), 0)

    tick(app)

    assert "Nothing ticked." in said(app)
    assert next(b for b in app.button if b.label == "Delete").disabled


@pytest.mark.parametrize("asked", ["nonsense", "../../etc", "20260101-000000-x-0000"])
def test_an_unknown_run_in_the_link_is_a_notice_and_the_table(home, asked):
    record()

    app = open_page("runs", run=asked)

    assert not app.exception
    assert "is on disk; it may have been deleted" in app.info[0].value
    assert len(app.dataframe) == 1


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
    for path in run.path.iterdir():
        os.utime(path, (0, 0))  # else a run without events counts as starting, and is kept

    app = open_page("train", run=run.id)

    assert not app.exception
    assert runs.get(run.id).id == run.id
    next(b for b in app.button if b.label in ("Delete", "New run")).click().run()
    assert not app.exception
    run.delete()
    assert not run.path.exists()
