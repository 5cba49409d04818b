"""A run judged like a skeptic: a cell of its matrix, its past, another run, and its report."""

import re
import subprocess
import sys

from playwright.sync_api import expect

from imgcls import runs
from imgcls.data import builtin
from tests.browser.conftest import ROOT, barriers
from tests.browser.test_journey import IDLE, PATIENCE, go, no_exception

SECTION = ".st-key-evaluate_section"


def imgcls(*arguments):
    subprocess.run([sys.executable, "-m", "imgcls", *arguments], cwd=ROOT, check=True)


def section(page, name):
    # A choice that is clicked while the page is still drawn can be put back by it.
    page.wait_for_selector(IDLE, timeout=PATIENCE)
    page.locator(SECTION).get_by_text(name, exact=True).click()
    page.wait_for_selector(IDLE, timeout=PATIENCE)


def test_from_a_cell_of_the_matrix_to_the_report(app, page, monkeypatch, tmp_path):
    monkeypatch.setenv("IMGCLS_HOME", str(app.home))  # the test works on the same disk
    builtin.fetch("digits")
    for seed in ("0", "1"):
        imgcls(
            "train", "--recipe", "tutorial-net", "--dataset", "digits", "--seed", seed,
            "--epochs", "3", "--set", "threads=1",
        )  # fmt: skip
    other, run = sorted(one.id for one in runs.all_runs())
    go(page, app, f"evaluate?run={run}")
    expect(page.get_by_text("95 % interval").first).to_be_visible(timeout=PATIENCE)

    # A click on the matrix opens the images of that cell: the first on the diagonal.
    matrix = page.locator(".st-key-confusion .nsewdrag").first
    box = matrix.bounding_box()
    matrix.click(position={"x": box["width"] / 20, "y": box["height"] / 20})
    expect(page.get_by_text(re.compile(r"^0 → 0"))).to_be_visible(timeout=PATIENCE)

    # Its right answers can be left out, and similar classes put side by side.
    page.get_by_text("Mistakes only", exact=True).click()
    page.get_by_text("Similar classes side by side", exact=True).click()
    page.wait_for_selector(IDLE, timeout=PATIENCE)
    no_exception(page)

    # The same training from two seeds, each a dot.
    page.get_by_text("2 seeds of this training", exact=True).click()
    page.get_by_role("button", name="Judge 1 more").or_(
        page.get_by_text("Student")
    ).first.wait_for()

    # Shortcuts: a click on a group opens its mistakes.
    section(page, "Shortcuts")
    expect(page.get_by_text("where mistakes are most frequent")).to_be_visible(timeout=PATIENCE)
    point = page.locator("[class*=st-key-trait_chart] .scatterlayer .point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.get_by_text(re.compile(r"Group 1 of \d+: "))).to_be_visible(timeout=PATIENCE)

    # The time machine goes back an epoch.
    section(page, "How it learned")
    expect(page.get_by_text("called right after epoch 3")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("slider").press("ArrowLeft")
    expect(page.get_by_text("called right after epoch 2")).to_be_visible(timeout=PATIENCE)

    # What is drawn around on its map is shown, as it was called after that epoch.
    dots = page.locator(".replay .dots canvas")
    dots.scroll_into_view_if_needed()
    box = dots.bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    for across, down in ((0.99, 0.01), (0.99, 0.99), (0.01, 0.99)):
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"], steps=4)
    page.mouse.up()
    expect(page.get_by_text(re.compile(r"images, as called after epoch 2"))).to_be_visible(
        timeout=PATIENCE
    )
    page.get_by_text("Easy, ambiguous, hard", exact=True).click()
    expect(page.get_by_text("The hardest")).to_be_visible(timeout=PATIENCE)

    # Another run is held against it.
    section(page, "Comparison")
    page.get_by_label("Compare with").click()
    page.get_by_role("option").first.click()
    page.keyboard.press("Escape")
    expect(page.get_by_text(re.compile("within noise|real difference")).first).to_be_visible(
        timeout=PATIENCE
    )
    no_exception(page)

    # The report opens where nothing else can be reached.
    report = tmp_path / "report.html"
    imgcls("evaluate", run, "--report", str(report), "--against", other)
    page.context.set_offline(True)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    expect(page.locator(".js-plotly-plot")).not_to_have_count(0)
    assert page.locator(".js-plotly-plot svg.main-svg").count() >= 6
    expect(page.get_by_text("Against other runs")).to_be_visible()
    assert barriers(page) == []
    page.get_by_role("slider", name="After epoch").press("Home")
    expect(page.get_by_text("called right after epoch 1")).to_be_visible()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_no_section_has_a_barrier_in_light_or_dark(app, page, monkeypatch):
    monkeypatch.setenv("IMGCLS_HOME", str(app.home))
    run = max(one.id for one in runs.all_runs())  # of the test above
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        go(page, app, f"evaluate?run={run}")
        expect(page.get_by_text("95 % interval").first).to_be_visible(timeout=PATIENCE)
        for name in page.locator(f"{SECTION} button").all_inner_texts():
            section(page, name)
            assert barriers(page) == [], f"{name}, {scheme}"

        section(page, "Random sheet")
        page.get_by_role("toolbar").get_by_role("button").first.click()
        dialog = page.get_by_role("dialog")
        for part in ("Answer", "Where it looks", "It looks like these"):
            dialog.get_by_text(part, exact=True).click()
            page.wait_for_selector(IDLE, timeout=PATIENCE)
            assert barriers(page) == [], f"{part}, {scheme}"
