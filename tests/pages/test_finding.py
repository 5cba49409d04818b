"""The trials of the Train page: found in a child process, used in the form."""

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.opened import open_page, said, settled


@pytest.fixture
def page(tiny_dataset):
    app = open_page("train")
    return app.selectbox("form_recipe_choice").set_value("tutorial-softmax").run()


def tried(app: AppTest, name: str) -> AppTest:
    app.button(f"finding_start_{name}").click().run()
    return settled(app, f"finding_job_{name}", seconds=180)


def keys(app: AppTest) -> set[str]:
    return {button.key for button in app.button}


def test_a_rate_is_found_and_fills_the_form(page):
    app = tried(page, "rate")

    assert not app.exception
    rate = app.session_state["finding_found_rate"][0]["suggestion"]
    assert f"{rate:g} is suggested for peak lr" in said(app).replace("*", "")
    (chart,) = app.get("plotly_chart")
    assert '"type":"log"' in chart.proto.spec

    app.button("finding_use_peak_lr").click().run()

    assert app.number_input("set_peak_lr").value == rate
    assert f"peak_lr={rate:g}" in app.code[0].value
    assert "Found with other settings" not in said(app)


def test_a_rate_found_with_other_settings_says_with_which(page):
    app = tried(page, "rate")

    app.number_input("set_batch_size").set_value(16).run()

    assert "Found with other settings: batch size 128." in said(app)


def test_with_phases_the_rate_is_told_and_fills_nothing(page):
    app = tried(page, "rate")
    epochs = app.number_input("set_epochs").value
    rate = app.number_input("set_peak_lr").value

    app.selectbox("set_schedule").set_value("phases").run()
    app.text_input("set_phases").set_value(f"{epochs}x{rate}").run()

    assert not app.exception
    assert not app.error
    assert "the rates stand in phases" in said(app)
    assert "finding_use_peak_lr" not in keys(app)


def test_a_batch_size_is_found_and_fills_the_form(page):
    app = tried(page, "batch")

    assert "There are 54 images to train on." in said(app)
    app.button("finding_use_batch_size").click().run()

    assert app.number_input("set_batch_size").value == 32


def test_a_trial_that_cannot_be_made_says_why(page):
    page.selectbox("set_precision").set_value("fp16")
    page.selectbox("set_device").set_value("cpu").run()

    app = tried(page, "rate")

    assert "fp16 is no use on a CPU" in said(app)
    assert not app.exception


def test_a_form_that_holds_a_wrong_setting_starts_no_trial(page):
    page.number_input("set_epochs").set_value(0).run()

    assert page.button("finding_start_rate").disabled
    assert page.button("finding_start_batch").disabled
