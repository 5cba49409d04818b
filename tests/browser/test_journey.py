"""The main job in a real browser: from a ZIP of pictures to an answer for a new one."""

import io
import re
import time
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from imgcls import runs
from imgcls.evaluate import metrics, predictions

PAGES = ("", "explore", "train", "runs", "evaluate", "predict", "export")
TRAIN, TEST = 120, 20  # pictures a class
IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"
PATIENCE = 60_000  # ms; torch is imported several times on the way


@pytest.fixture
def small_zip(request, tmp_path):
    """CIFAR-10 with few pictures a class, where the machine has it; else pictures made up."""
    try:
        pictures = list(real_pictures(request.getfixturevalue("cifar_zip")))
    except pytest.skip.Exception:
        pictures = list(made_up_pictures())
    path = tmp_path / "ten-things.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in pictures:
            archive.writestr(name, data)
    return path


def real_pictures(path):
    with zipfile.ZipFile(path) as archive:
        taken = {}
        for name in archive.namelist():
            if name.endswith(".jpg"):
                folder = name.rsplit("/", 1)[0]
                taken[folder] = taken.get(folder, 0) + 1
                if taken[folder] <= (TEST if name.startswith("test") else TRAIN):
                    yield name, archive.read(name)


def made_up_pictures():
    draw = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("test", TEST)):
        for kind in range(10):
            for i in range(count):
                pixels = draw.integers(0, 120, (32, 32, 3), np.uint8)
                pixels[:, 3 * kind : 3 * kind + 4] += 100
                yield f"{split}/stripe-{kind}/{i}.png", as_png(pixels)


def as_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def go(page, app, path):
    """Open a page by its address and wait until it has been drawn."""
    page.goto(f"{app.url}/{path}")
    expect(page.locator("h1")).to_be_visible(timeout=PATIENCE)
    page.wait_for_selector(IDLE, timeout=PATIENCE)


def no_exception(page):
    expect(page.get_by_test_id("stException")).to_have_count(0)


def progress_texts(page, how_many, seconds=60):
    """The distinct texts that the progress bar shows until there are `how_many` of them."""
    seen, deadline = [], time.monotonic() + seconds
    label = page.get_by_test_id("stProgress").first
    while len(seen) < how_many and time.monotonic() < deadline:
        text = label.inner_text()
        if text not in seen:
            seen.append(text)
        time.sleep(0.1)
    assert len(seen) == how_many, f"the progress bar stood still: {seen}"
    return seen


def steps_done(run):
    return max((e.step for e in run.events() if hasattr(e, "step")), default=0)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_opens_cold_by_deep_link(app, page, path):
    app.restart()

    go(page, app, path)

    no_exception(page)
    expect(page.get_by_test_id("stTopNavLink")).to_have_count(len(PAGES))


def test_from_a_zip_of_pictures_to_an_answer(app, page, small_zip, tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLS_HOME", str(app.home))  # the test looks at the same disk

    # Import.
    go(page, app, "explore")
    page.locator(".st-key-import_upload input[type=file]").set_input_files(small_zip)
    importing = page.get_by_role("button", name="Import", exact=True)
    expect(importing).to_be_enabled()
    importing.click()
    expect(page.get_by_text("1,400 images in 10 classes")).to_be_visible(timeout=PATIENCE)

    # Train, and watch the curve grow in place.
    go(page, app, "train?dataset=ten-things")
    page.locator(".st-key-form_recipe_choice input").click()
    page.get_by_role("option", name=re.compile("tutorial-net")).click()
    expect(page.get_by_text("--recipe tutorial-net")).to_be_visible(timeout=PATIENCE)
    page.wait_for_selector(IDLE)
    page.locator(".st-key-set_epochs input").fill("500")  # it is stopped long before
    page.keyboard.press("Enter")
    expect(page.get_by_text("--epochs 500")).to_be_visible(timeout=PATIENCE)
    page.wait_for_selector(IDLE)
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"run="), timeout=PATIENCE)
    chart = page.locator("[data-testid=stVegaLiteChart] svg").first
    line = chart.locator(".mark-line path").first
    line.wait_for(state="attached", timeout=PATIENCE)
    chart.evaluate("node => { node.seenBefore = true }")
    before = line.get_attribute("d")
    progress_texts(page, 6)  # five ticks
    assert chart.evaluate("node => node.seenBefore === true"), "the curve lost its DOM node"
    assert line.get_attribute("d") != before, "the curve did not grow"
    expect(page.get_by_text(re.compile(r"Epoch ([3-9]|\d\d+) of 500"))).to_be_visible(
        timeout=PATIENCE
    )
    no_exception(page)

    # Reload in the middle: the address alone finds the run again.
    page.reload()
    stop = page.get_by_role("button", name="Stop")
    resume = page.get_by_role("button", name="Resume")
    expect(stop).to_be_enabled(timeout=PATIENCE)
    progress_texts(page, 3)

    # Stop, then resume where it stopped.
    run = runs.get(page.url.split("run=")[1])
    stop.click()
    expect(resume).to_be_visible(timeout=PATIENCE)
    stopped_at = steps_done(run)
    resume.click()
    expect(stop).to_be_enabled(timeout=PATIENCE)
    progress_texts(page, 4)
    stop.click()
    expect(resume).to_be_visible(timeout=PATIENCE)
    assert steps_done(run) > stopped_at
    no_exception(page)

    # Evaluate, and click a cell for its images.
    go(page, app, f"evaluate?run={run.id}")
    expect(page.get_by_text("Accuracy", exact=True)).to_be_visible(timeout=PATIENCE)
    stored = predictions.load(run, "test")
    counts = metrics.summary(stored).confusion
    true = predicted = int(np.diag(counts).argmax())
    click_cell(page, true, predicted, 10)
    name = stored.classes[true]
    cell = f"{name} → {name}: {counts[true, predicted]} of {TEST}, the most confident first"
    expect(page.get_by_text(cell)).to_be_visible()
    tiles = page.locator("button.tile")
    expect(tiles).to_have_count(int(counts[true, predicted]))
    no_exception(page)

    # By keyboard: the sheet is one tab stop, and a dialog gives the focus back.
    expect(page.locator("button.tile[tabindex='0']")).to_have_count(1)
    tiles.first.press("End")
    tiles.last.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible(timeout=PATIENCE)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(tiles.last).to_be_focused()

    # Predict: upload a picture, get the five likeliest classes.
    picture = tmp_path / "mine.png"
    picture.write_bytes(as_png(predictions.pictures(run, "test", np.array([0]))[0]))
    go(page, app, f"predict?run={run.id}")
    page.locator(".st-key-predict_upload input[type=file]").set_input_files(picture)
    expect(page.get_by_text("Most likely")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("table[aria-label*='likeliest classes'] tr")).to_have_count(5)
    no_exception(page)


def click_cell(page, true, predicted, classes):
    """Click the middle of a cell of the confusion matrix."""
    plot = page.locator(".st-key-confusion .js-plotly-plot")
    plot.scroll_into_view_if_needed()
    area = plot.locator(".nsewdrag").first
    area.wait_for(state="attached", timeout=PATIENCE)
    page.wait_for_selector(IDLE)
    box = area.bounding_box()
    x = box["x"] + (predicted + 0.5) / classes * box["width"]
    y = box["y"] + (true + 0.5) / classes * box["height"]
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y, steps=3)
    page.wait_for_timeout(300)  # plotly takes hovering in before it takes a click
    page.mouse.click(x, y)
