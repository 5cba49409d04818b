"""An ablation in a real browser: asked for on the Train page, watched until its chart is whole."""

import re

from playwright.sync_api import TimeoutError, expect

from imgcls import studies
from imgcls.data import builtin
from tests.browser.test_journey import IDLE, PATIENCE, go, no_exception

FINISH = 240_000  # ms; four runs, each of which imports torch


def test_an_ablation_from_the_form_to_its_chart(app, page, monkeypatch):
    monkeypatch.setenv("IMGCLS_HOME", str(app.home))  # the test looks at the same disk
    builtin.fetch("digits")

    # Ask for it.
    go(page, app, "train?dataset=digits")
    choose(page, "form_recipe_choice", "tutorial-softmax", "--recipe tutorial-softmax")
    fill(page, "set_epochs", "2", "--epochs 2")
    page.locator(".st-key-several summary").click()
    fill(page, "several_seeds", "2", "--seeds 2")
    choose(page, "several_setting", "peak lr", "Name at least one other value")
    fill(page, "several_peak_lr", "0.1", "--vary peak_lr=0.1 --seeds 2")
    page.get_by_role("button", name="Start 4 runs").click()
    page.wait_for_url(re.compile(r"study="), timeout=PATIENCE)

    # It goes on by itself, and the chart comes with real results.
    expect(page.get_by_role("button", name="Stop all")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text(re.compile("[1-3] of 4 runs finished"))).to_be_visible(timeout=FINISH)
    chart = page.locator(".st-key-study_arms .js-plotly-plot")
    expect(chart).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("4 of 4 runs finished", exact=True)).to_be_visible(timeout=FINISH)
    expect(page.get_by_role("button", name="Stop all")).to_have_count(0, timeout=PATIENCE)
    page.wait_for_selector(IDLE, timeout=PATIENCE)
    expect(chart.locator(".scatterlayer .trace").first.locator(".point")).to_have_count(4)
    expect(chart.locator(".scatterlayer .trace").last.locator(".point")).to_have_count(2)
    expect(chart.get_by_text("0.01 (unchanged)")).to_be_visible()
    no_exception(page)
    study = studies.find(page.url.split("study=")[1])
    assert [(arm.label, len(arm.accuracies)) for arm in study.arms] == [("0.01", 2), ("0.1", 2)]

    # The address alone finds it again, and a run of it leads back.
    page.reload()
    expect(page.get_by_text("4 of 4 runs finished", exact=True)).to_be_visible(timeout=PATIENCE)
    go(page, app, f"train?run={study.results[0].run.id}")
    page.get_by_role("link", name="Its study").click()
    expect(page.get_by_text("4 of 4 runs finished", exact=True)).to_be_visible(timeout=PATIENCE)
    no_exception(page)


def fill(page, key, text, appears):
    page.locator(f".st-key-{key} input").fill(text)
    page.keyboard.press("Enter")
    settle(page, appears)


def choose(page, key, option, appears):
    wanted = page.get_by_role("option", name=re.compile(option)).first
    for patience in (5_000, PATIENCE):  # a late rerun of the page may close the list
        page.locator(f".st-key-{key} input").click()
        page.keyboard.type(option)
        try:
            wanted.click(timeout=patience)
        except TimeoutError:
            page.keyboard.press("Escape")
        else:
            break
    settle(page, appears)


def settle(page, appears):
    expect(page.get_by_text(appears).first).to_be_visible(timeout=PATIENCE)
    page.wait_for_selector(IDLE, timeout=PATIENCE)
