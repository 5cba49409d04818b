"""How long the Evaluate page takes to show a view, and to answer a click, in a real Chromium.

Two short trainings leave stored answers for every image; then each round opens the page in a fresh
profile, goes through its views and uses what can be used in them. Counted is the time from the
click to the last change of the page that it caused, so a view counts as painted only when nothing
moves any more; of the page itself, also the time until its first figures stand.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial

from playwright.sync_api import Page, sync_playwright

from benchmarks import Row, own_home
from benchmarks.watching import serving
from imgcls import jobs, recipes
from imgcls.config import TrainConfig
from imgcls.errors import RunError
from imgcls.runs import Run, State
from tests.browser.conftest import FLAGS, NO_BROWSER, executable

RECIPE, EPOCHS, SEEDS = (
    "tutorial-cnn",
    4,
    (0, 1),
)  # what is judged, however well
STILL_MS = 500.0  # without any change, after which the page is taken to be done
PATIENCE_MS = 60_000.0
# Notes when a person last acted, and when the page last changed.
WATCH = """() => {
  window.acted = window.changed = performance.now();
  for (const kind of ['pointerdown', 'keydown'])
    addEventListener(kind, () => { window.acted = performance.now(); }, true);
  // What a canvas holds is read by screen readers, and follows the picture later.
  // Expanders and dialogs show what they hold as they open; what moves on is Streamlit's animation.
  const seen = (change) => {
    const within = (what) => (change.target.closest ?? (() => null)).call(change.target, what);
    const opens = change.attributeName === "data-entering"
      || (change.type === "attributes" && within("[data-testid=stExpander]"));
    return !within("canvas") && !opens;
  };
  const figures = () => [...document.querySelectorAll("[data-testid=stMetricLabel]")];
  const watched = new WeakSet();
  const all = {subtree: true, childList: true, attributes: true, characterData: true};
  const observer = new MutationObserver((changes) => {
    if (changes.some(seen)) window.changed = performance.now();
    for (const {shadowRoot} of document.querySelectorAll("[data-testid=stBidiComponentIsolated]"))
      if (shadowRoot && !watched.has(shadowRoot)) {  // a component of ours: seen from inside only
        watched.add(shadowRoot);
        observer.observe(shadowRoot, all);
      }
    if (!window.stood && figures().some((label) => label.textContent.startsWith("95")))
      requestAnimationFrame(() => { window.stood = performance.now(); });
  });
  observer.observe(document.body, all);
}"""
DONE = f"""() => document.querySelector(
    '[data-testid=stApp][data-test-script-state=notRunning]') !== null
  && performance.now() - Math.max(window.changed, window.acted) > {STILL_MS}"""
SECTION = ".st-key-evaluate_section"

Actions = dict[str, Callable[[Page], None]]


def rows(dataset: str = "cifar10", repeats: int = 5) -> Iterator[Row]:
    """Milliseconds of each view and of each interaction, a value a round."""
    found = executable()
    if not found:
        raise RunError(NO_BROWSER)
    with own_home(dataset) as home:
        for seed in SEEDS:
            train(jobs.new(settings(dataset, seed), datetime.now()))
        told: dict[str, list[float]] = {}
        with serving(home) as (port, _), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
            for number in range(repeats + 1):
                context = browser.new_context(viewport={"width": 1440, "height": 900})
                page = context.new_page()
                page.set_default_timeout(PATIENCE_MS)
                for name, taken in visit(page, f"http://127.0.0.1:{port}/"):
                    if number == 0:  # nothing is cached, and child processes start
                        name = f"first on this server, {name}"
                    told.setdefault(name, []).append(taken)
                context.close()
            browser.close()
    yield from (Row(name, tuple(values), "ms") for name, values in told.items())
    for kind in ("view", "use"):
        medians = [statistics.median(v) for name, v in told.items() if name.startswith(kind)]
        yield Row(f"slowest {kind}, of medians", (max(medians, default=math.nan),), "ms")


def settings(dataset: str, seed: int) -> TrainConfig:
    """What is trained, so that there is something to look at."""
    return recipes.config_for(RECIPE, dataset, seed=seed, epochs=EPOCHS)


def train(run: Run) -> None:
    """Wait for a run's end; raises RunError where it did not finish."""
    while run.alive():
        time.sleep(0.5)
    if run.state() != State.FINISHED:
        raise RunError(f"{run.id} is {run.state()}: see its log.")


def visit(page: Page, url: str) -> Iterator[tuple[str, float]]:
    """One round through the page."""
    start = time.perf_counter()
    page.goto(url)
    page.get_by_role("heading", level=1).wait_for()
    yield "Home, opened by its address", 1000 * (time.perf_counter() - start)
    page.evaluate(WATCH)
    settle(page)
    evaluate = page.get_by_role("link", name="Evaluate").first
    taken = timed(page, evaluate.click)
    first = page.evaluate("() => window.stood - window.acted")
    yield "view: Evaluate from Home, until its first figures stand", first
    yield "Evaluate from Home, until nothing moves any more", taken
    for view, actions in VIEWS.items():
        if view:
            yield f"view: {view}", timed(page, partial(section, page, view))
        for name, act in actions.items():
            yield f"use: {name}", timed(page, partial(act, page))


def timed(page: Page, act: Callable[[], None]) -> float:
    """Milliseconds from an action to the last change of the page."""
    page.evaluate("() => { window.changed = 0; }")
    act()
    settle(page)
    taken: float = page.evaluate("() => window.changed - window.acted")
    if taken <= 0:
        raise RunError("An action changed nothing on the page: the measurement is void.")
    return taken


def settle(page: Page) -> None:
    """Wait until the page has not changed for a while."""
    page.wait_for_function(DONE, polling=50)


def section(page: Page, name: str) -> None:
    """Choose a section."""
    page.locator(SECTION).get_by_text(name, exact=True).click()


def click(text: str) -> Callable[[Page], None]:
    """Click on the first element with this text."""
    return lambda page: page.get_by_text(text, exact=True).first.click()


def press(selector: str, key: str) -> Callable[[Page], None]:
    """Press a key on a slider."""
    return lambda page: page.locator(selector).get_by_role("slider").first.press(key)


def click_cell(page: Page) -> None:
    """Click into the matrix, off its diagonal."""
    matrix = page.locator(".st-key-confusion .nsewdrag").first
    box = matrix.bounding_box()
    assert box is not None
    matrix.click(position={"x": 0.55 * box["width"], "y": 0.35 * box["height"]})


def in_dialog(page: Page, part: str) -> None:
    """Choose a part of the dialog on one image."""
    page.get_by_role("dialog").get_by_text(part, exact=True).click()


def click_group(page: Page) -> None:
    """Click on a group of the chart of a trait."""
    point = page.locator("[class*=st-key-trait_chart] .scatterlayer .point").first
    box = point.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def draw_around(page: Page) -> None:
    """Draw around a quarter of the map's middle."""
    dots = page.locator(".replay .dots canvas")
    dots.scroll_into_view_if_needed()
    box = dots.bounding_box()
    assert box is not None
    corners = [
        (box["x"] + across * box["width"], box["y"] + down * box["height"])
        for across, down in ((0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6))
    ]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner)
    page.evaluate("() => { window.acted = performance.now(); }")  # it acts as the button comes up
    page.mouse.up()


def choose_other(page: Page) -> None:
    """Hold the other run against this one."""
    page.get_by_label("Compare with").click()
    settle(page)  # the list is open: what counts begins with the choice
    page.get_by_role("option").first.click()


VIEWS: dict[str, Actions] = {
    "": {  # the page opens with the matrix
        "matrix, shares": click("% of true"),
        "matrix, mistakes only": click("Mistakes only"),
        "matrix, similar classes": click("Similar classes side by side"),
        "matrix, a cell": click_cell,
        "pairs most confused": click("The pairs most confused"),
        "other images": click("validation"),
        "back to test": click("test"),
    },
    "Classes": {},
    "Confident mistakes": {"right and in doubt": click("Right and in doubt")},
    "Random sheet": {
        "new draw": click("New draw"),
        "an image, large": lambda page: (
            page.get_by_role("toolbar").get_by_role("button").first.click()
        ),
        "where it looks (three methods)": lambda page: in_dialog(page, "Where it looks"),
        "it looks like these": lambda page: in_dialog(page, "It looks like these"),
        "closed": lambda page: page.keyboard.press("Escape"),
    },
    "Shortcuts": {
        "another trait": lambda page: page.locator("[class*=st-key-trait-2] button").last.click(),
        "a group": click_group,
    },
    "Confidence": {
        "threshold": press(".st-key-confidence_threshold", "ArrowLeft"),
        "coverage": press(".st-key-confidence_coverage", "ArrowRight"),
    },
    "Comparison": {
        "another run": choose_other,
        "class by class": click("Class by class"),
        "images that only one calls right": click("Images that only one of two calls right"),
    },
    "How it learned": {
        "an epoch back": lambda page: page.get_by_role("slider").first.press("ArrowLeft"),
        "drawn around": draw_around,
        "easy, ambiguous, hard": click("Easy, ambiguous, hard"),
    },
    "Robustness": {},
    "Confusion matrix": {},
}
