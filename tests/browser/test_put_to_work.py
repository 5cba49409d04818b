"""A model put to work: answers to pictures of every origin, a wrong told, a file taken along."""

import base64
import contextlib
import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from playwright.sync_api import expect

from imgcls import feedback, runs
from imgcls.data import builtin
from imgcls.export import certified
from tests.browser.conftest import ROOT, barriers
from tests.browser.test_journey import IDLE, PATIENCE, go, no_exception

SHIPPED = f"run={runs.SHIPPED}"  # it answers in an empty home: no data, no training
EXAMPLES = runs.ASSETS / "examples"
CAT = EXAMPLES / "cat.jpg"
BARS = "table[aria-label*='likeliest classes'] tr"


def upload(page, app, *pictures):
    go(page, app, f"predict?{SHIPPED}")
    way(page, "Upload")
    page.locator(".st-key-predict_upload input[type=file]").set_input_files(pictures)


def way(page, name):
    page.locator("[class*=st-key-predict_way]").get_by_text(name, exact=True).click()
    page.wait_for_selector(IDLE, timeout=PATIENCE)


def answered(page, said):
    likeliest = page.get_by_test_id("stMetricValue")
    expect(likeliest).to_have_text(said, timeout=PATIENCE)
    expect(page.locator(BARS)).to_have_count(5)


def passable(page):
    """The page is whole, and nothing on it keeps anybody out, in light or dark."""
    page.wait_for_selector(IDLE, timeout=PATIENCE)
    no_exception(page)
    page.mouse.move(0, 0)  # a button under the mouse has other colours
    page.set_viewport_size({"width": 1440, "height": 2400})  # axe judges colours that are in view
    for scheme, ground in (("dark", "rgb(18, 24, 27)"), ("light", "rgb(255, 255, 255)")):
        page.emulate_media(color_scheme=scheme)
        expect(page.get_by_test_id("stApp")).to_have_css("background-color", ground)
        page.keyboard.press("r")  # the page runs again: some colours come from the server
        page.wait_for_timeout(500)
        page.wait_for_selector(IDLE, timeout=PATIENCE)
        assert barriers(page) == [], scheme


def downloaded(page, button, folder):
    with page.expect_download() as coming:
        page.get_by_role("button", name=button).click()
    path = folder / coming.value.suggested_filename
    coming.value.save_as(path)
    return path


def test_one_picture_is_answered_and_can_be_asked_about(app, page):
    upload(page, app, CAT)

    answered(page, "cat")
    expect(page.get_by_text("Label set: cat")).to_be_visible()
    expect(page.get_by_text("unlike anything it knows")).to_have_count(0)

    page.get_by_text("Where it looks", exact=True).click()
    expect(page.get_by_text("Three methods that share no assumption")).to_be_visible(
        timeout=PATIENCE
    )
    page.get_by_text("What other models say", exact=True).click()
    expect(page.get_by_label("Models")).to_be_visible(timeout=PATIENCE)
    page.get_by_text("Its card", exact=True).click()
    expect(page.get_by_text("How far to believe it")).to_be_visible()
    passable(page)


def test_an_example_is_dragged_into_the_uploader_or_clicked(app, page):
    go(page, app, f"predict?{SHIPPED}")
    way(page, "Upload")
    box, example = (
        page.get_by_test_id("stFileUploaderDropzone"),
        page.get_by_title("Example cat.jpg"),
    )
    expect(example).to_be_visible(timeout=PATIENCE)

    example.drag_to(box)

    answered(page, "cat")
    expect(page.get_by_text("cat.jpg").first).to_be_visible()
    go(page, app, f"predict?{SHIPPED}")
    way(page, "Upload")
    page.get_by_title("Example galaxies.jpg").click()
    expect(page.get_by_text("unlike anything it knows")).to_be_visible(timeout=PATIENCE)
    passable(page)


def test_several_pictures_are_a_table_with_a_reason_for_each_that_is_none(app, page, tmp_path):
    broken, text = tmp_path / "broken.jpg", tmp_path / "notes.jpg"
    broken.write_bytes(CAT.read_bytes()[:5000])
    text.write_text("no picture at all")
    upload(page, app, CAT, broken, text, EXAMPLES / "galaxies.jpg")

    expect(page.get_by_text("2 pictures judged")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("2 refused: the reasons stand below the table")).to_be_visible()
    refused = page.get_by_test_id("stMain").get_by_role("listitem")
    expect(refused.filter(has_text="broken.jpg: the file is truncated")).to_have_count(1)
    expect(refused.filter(has_text="notes.jpg: not an image")).to_have_count(1)
    cells = page.get_by_test_id("stDataFrame").locator("td")  # what a screen reader is told
    for name in ("cat.jpg", "broken.jpg", "notes.jpg", "galaxies.jpg"):
        expect(cells.filter(has_text=name)).to_have_count(1)
    passable(page)

    table = downloaded(page, "Table as CSV", tmp_path)
    lines = table.read_text("utf-8-sig").splitlines()
    rows = {row["file"]: row for row in csv.DictReader(lines)}
    assert list(rows) == ["cat.jpg", "broken.jpg", "notes.jpg", "galaxies.jpg"]
    assert (rows["cat.jpg"]["class"], rows["cat.jpg"]["known"]) == ("cat", "yes")
    assert rows["galaxies.jpg"]["known"] == "no"
    assert "truncated" in rows["broken.jpg"]["error"]
    assert "not an image" in rows["notes.jpg"]["error"]


def test_a_picture_can_be_dropped(app, page):
    go(page, app, f"predict?{SHIPPED}")
    way(page, "Upload")
    carried = page.evaluate_handle(
        """data => {
            const carried = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            carried.items.add(new File([bytes], "dropped.jpg", {type: "image/jpeg"}));
            return carried;
        }""",
        base64.b64encode(CAT.read_bytes()).decode(),
    )

    page.get_by_test_id("stFileUploaderDropzone").dispatch_event("drop", {"dataTransfer": carried})

    answered(page, "cat")
    expect(page.get_by_role("img", name="The picture dropped.jpg")).to_be_visible()
    no_exception(page)


def test_an_example_like_nothing_it_knows_is_called_so(app, page):
    go(page, app, f"predict?{SHIPPED}")

    page.get_by_text("galaxies", exact=True).click()

    expect(page.get_by_text("unlike anything it knows")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("Label set:")).to_have_count(0)  # of such a picture nothing is promised
    passable(page)


def test_a_photo_of_the_camera_is_answered(app, page):
    go(page, app, f"predict?{SHIPPED}")
    way(page, "Camera")
    page.wait_for_function("() => document.querySelector('video')?.readyState >= 2")

    page.get_by_role("button", name="Take Photo").click()

    expect(page.get_by_text("from file to answer")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(BARS)).to_have_count(5)
    passable(page)


def test_wrong_answers_become_a_data_set(app, page, monkeypatch, tmp_path):
    upload(page, app, EXAMPLES / "coffee.jpg")
    told(page, "a cup")
    page.reload()  # the uploader is empty
    upload(page, app, EXAMPLES / "rocket.jpg")
    told(page, "airplane")
    expect(page.get_by_text("Kept so far: a cup 1, airplane 1")).to_be_visible()
    passable(page)

    kept = app.home / "feedback"
    monkeypatch.setenv("IMGCLS_HOME", str(app.home))  # the test works on the same disk
    assert sorted(path.parent.name for path in kept.rglob("*.png")) == ["a cup", "airplane"]
    for label, other in (("a cup", "cat"), ("airplane", "galaxies")):  # a class needs two
        feedback.keep(other, (EXAMPLES / f"{other}.jpg").read_bytes(), label)
    subprocess.run(
        [sys.executable, "-m", "imgcls", "data", "import", str(kept), "--name", "mine"],
        cwd=ROOT, env={**os.environ, "IMGCLS_HOME": str(tmp_path)}, check=True,
    )  # fmt: skip
    assert (tmp_path / "datasets" / "mine").is_dir()


def told(page, label):
    page.get_by_text("Wrong? Tell it", exact=True).click(timeout=PATIENCE)
    page.get_by_label("It is").wait_for()
    page.wait_for_selector(IDLE, timeout=PATIENCE)
    page.get_by_label("It is").click()
    page.keyboard.type(label)
    page.keyboard.press("Enter")
    keep = page.get_by_role("button", name="Keep it")
    expect(keep).to_be_enabled(timeout=PATIENCE)
    keep.click()
    expect(page.get_by_text(f"Kept as {label}.")).to_be_visible(timeout=PATIENCE)


def test_a_model_that_cannot_be_proved_is_not_exported(app, page):
    go(page, app, f"export?{SHIPPED}")

    page.get_by_role("button", name="Export and prove").click()

    refusal = page.get_by_test_id("stAlert")
    expect(refusal).to_contain_text("cifar10-jpeg", timeout=PATIENCE)
    assert refusal.inner_text().count(". ") == 0  # one sentence
    passable(page)
    assert not list(app.home.rglob("*.onnx"))


def test_an_export_comes_with_its_certificate_and_a_kit_that_agrees(
    app, page, monkeypatch, tmp_path
):
    monkeypatch.setenv("IMGCLS_HOME", str(app.home))  # the test works on the same disk
    builtin.fetch("digits")
    subprocess.run(
        [
            sys.executable, "-m", "imgcls", "train", "--recipe", "tutorial-net",
            "--dataset", "digits", "--epochs", "3", "--set", "threads=1",
        ],
        cwd=ROOT, check=True,
    )  # fmt: skip
    (run,) = runs.all_runs()
    go(page, app, f"export?run={run.id}")

    page.get_by_role("button", name="Export and prove").click()

    table = page.get_by_test_id("stTable")
    expect(table).to_be_visible(timeout=PATIENCE)
    model = downloaded(page, re.compile(rf"{run.id}\.onnx, "), tmp_path)
    certificate = json.loads(downloaded(page, "Certificate", tmp_path).read_text("utf-8"))
    assert certificate["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert certificate["images"] >= 1000
    for name, figures in certified.rows(certificate):
        expect(table.get_by_role("row", name=f"{name} {figures}", exact=True)).to_have_count(1)

    page.get_by_role("button", name="Make the deploy kit").click()
    expect(page.get_by_role("button", name=re.compile(r"onnx\.zip, "))).to_be_visible(
        timeout=PATIENCE
    )
    passable(page)
    kit = tmp_path / "kit"
    with zipfile.ZipFile(downloaded(page, re.compile(r"onnx\.zip, "), tmp_path)) as archive:
        archive.extractall(kit)
    proof = subprocess.run(
        [sys.executable, "verify.py"], cwd=kit, capture_output=True, text=True, check=True
    )
    assert proof.stdout.startswith("agrees: 17 pictures")


def test_what_the_page_says_to_paste_works(app, page, tmp_path):
    shutil.copy(CAT, tmp_path / "picture.jpg")
    go(page, app, f"export?{SHIPPED}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shown = page.get_by_test_id("stCode").locator("code")
    expect(shown).to_have_count(3, timeout=PATIENCE)
    serve, curl, python = (text.replace("8000", port) for text in shown.all_inner_texts())

    with serving(serve, app.home, port):
        if shutil.which("curl"):
            answer = subprocess.run(
                shlex.split(curl), cwd=tmp_path, capture_output=True, check=True
            )
            (one,) = json.loads(answer.stdout)["predictions"]
            assert one["top"][0]["class"] == "cat"
        answer = subprocess.run(
            [sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert answer.stdout.startswith("picture.jpg {'class': 'cat', 'probability': 0.99")


@contextlib.contextmanager
def serving(command, home, port):
    """A server, started as the page says; ended with the block."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # which python it is
    server = subprocess.Popen(
        shlex.split(command), cwd=ROOT, stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": path, "IMGCLS_HOME": str(home)},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE / 1000
        while not ready(port):
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)
        yield
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
