"""From a picture chosen on the Predict page to its bars on the screen, in a real Chromium.

The model that ships answers. Counted is the time from the moment when the browser hands the file to
the page until the frame in which the picture's own answer stands, by the browser's clock; a page
opened anew holds no answer before, and a new server has loaded no model yet.
"""

import io
import statistics
from collections.abc import Iterator

from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

from benchmarks import Row, own_home
from benchmarks.watching import serving
from imgcls import runs
from imgcls.errors import RunError
from tests.browser.conftest import FLAGS, NO_BROWSER, executable

PATIENCE_MS = 60_000.0
IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"
UPLOADER = ".st-key-predict_upload input[type=file]"
BARS = "table[aria-label*='likeliest classes']"
SIZES = {"32×32 PNG": (32, 32), "320×213 JPEG": (320, 213), "12-megapixel JPEG": (4000, 3000)}
# Notes when a file was chosen, and when the first frame with an answer was shown.
WATCH = f"""() => {{
  addEventListener("change", () => {{ window.chosen = performance.now(); }}, true);
  const look = () => {{
    if (window.chosen && document.querySelector("{BARS}")) window.painted = performance.now();
    else requestAnimationFrame(look);
  }};
  requestAnimationFrame(look);
}}"""


def rows(repeats: int = 7) -> Iterator[Row]:
    """Milliseconds from a picture to its bars, a value a page opened anew."""
    found = executable()
    if not found:
        raise RunError(NO_BROWSER)
    pictures = {name: picture(name) for name in SIZES}
    told: dict[str, list[float]] = {name: [] for name in pictures}
    with own_home() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        with serving(home) as (port, _):
            first = upload(browser, port, *next(iter(pictures.items())))
            for _ in range(repeats):
                for name, data in pictures.items():
                    told[name].append(upload(browser, port, name, data))
        browser.close()
    yield Row("upload to bars, the first on a new server", (first,), "ms")
    for name, values in told.items():
        note = f"best {min(values):.0f} ms"
        yield Row(f"upload to bars, {name}", tuple(values), "ms", note=note)
    medians = [statistics.median(values) for values in told.values()]
    yield Row("slowest upload to bars, of medians", (max(medians),), "ms")


def picture(name: str) -> bytes:
    """The cat that comes along, in one of SIZES."""
    kind = name.split()[-1]
    cat = Image.open(runs.ASSETS / "examples" / "cat.jpg").resize(SIZES[name])
    file = io.BytesIO()
    cat.save(file, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return file.getvalue()


def upload(browser: Browser, port: int, name: str, data: bytes) -> float:
    """Milliseconds for one picture, in a fresh profile."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"http://127.0.0.1:{port}/predict")
    choose_upload(page)
    page.evaluate(WATCH)
    kind = name.split()[-1].lower()
    file = FilePayload(name=f"mine.{kind}", mimeType=f"image/{kind}", buffer=data)
    page.locator(UPLOADER).set_input_files(file)
    page.wait_for_function("() => window.painted")
    taken: float = page.evaluate("() => window.painted - window.chosen")
    context.close()
    return taken


def choose_upload(page: Page) -> None:
    """Go to the uploader, and wait until the answer to the example has gone."""
    ways = page.locator("[class*=st-key-predict_way]")
    ways.get_by_text("Upload", exact=True).click()
    page.locator(UPLOADER).wait_for(state="attached")
    page.wait_for_selector(IDLE)
    page.locator(BARS).wait_for(state="detached")
