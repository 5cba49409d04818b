"""A learning rate looked for, taken over and trained with; then where the time went, and advice."""

import re

from playwright.sync_api import expect

from imgcls import runs
from imgcls.data import builtin
from tests.browser.test_journey import IDLE, PATIENCE, go, no_exception
from tests.browser.test_studies import choose, fill, settle

FINISH = 240_000  # ms; a trial and a run, each of which imports torch


def test_from_a_learning_rate_to_the_advice_of_its_run(app, page, monkeypatch):
    monkeypatch.setenv("IMGCLS_HOME", str(app.home))  # the test looks at the same disk
    builtin.fetch("digits")
    go(page, app, "train?dataset=digits")
    choose(page, "form_recipe_choice", "tutorial-net", "--recipe tutorial-net")
    fill(page, "set_epochs", "3", "--epochs 3")

    # Look for a learning rate, see its curve, take it over.
    page.locator(".st-key-finding summary").click()
    page.get_by_role("button", name="Find a learning rate", exact=True).click()
    expect(page.locator(".st-key-finding .js-plotly-plot")).to_be_visible(timeout=FINISH)
    expect(page.get_by_text("is suggested for peak lr")).to_be_visible()
    use = page.locator(".st-key-finding_use_peak_lr button")
    rate = use.inner_text().split()[-1]
    use.click()
    settle(page, f"--set peak_lr={rate}")

    # Train with it; the page tells where its time went and what would make it faster.
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile("run="), timeout=PATIENCE)
    expect(page.get_by_text("Where the time goes")).to_be_visible(timeout=FINISH)
    expect(page.get_by_text(re.compile("FLOP an image"))).to_be_visible(timeout=FINISH)
    (run,) = runs.all_runs()
    assert run.config.peak_lr == float(rate)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0, timeout=FINISH)
    page.wait_for_selector(IDLE, timeout=PATIENCE)
    advice = page.get_by_role("button", name=re.compile("Try batch size"))
    expect(advice).to_have_count(1, timeout=PATIENCE)  # steps of four images are overhead anywhere
    size, rate = re.search(r"batch size (\d+), peak lr (\S+)", advice.inner_text()).groups()
    advice.click()
    settle(page, f"--set batch_size={size}")
    expect(page.get_by_text(f"peak_lr={rate}").first).to_be_visible()
    no_exception(page)
