"""The report: whole, honest about what was not measured, and in need of nothing else."""

import re
import sys
from datetime import datetime, timedelta
from html import unescape

import numpy as np
import pytest

from imgcls import answers as keeping
from imgcls import cli
from imgcls.data import catalog
from imgcls.errors import ImgclsError
from imgcls.evaluate import adversarial, metrics, predictions, report, robustness
from tests.making import NOW, judged_run, save_model, untrained_run

pytestmark = pytest.mark.usefixtures("tiny_dataset")
TODAY = datetime(2026, 2, 3)


@pytest.fixture
def run():
    return judged_run()


def text(html):
    """What a reader sees, scripts and style left out."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", bare)))


def test_a_report_holds_the_figures_and_needs_nothing_else(run, tmp_path):
    path = tmp_path / "report.html"

    report.write(run, "test", path, [], TODAY)

    html = path.read_text(encoding="utf-8")
    found = metrics.summary(predictions.load(run, "test"))
    assert f"{found.accuracy:.2%} of 30 test images are called right" in text(html)
    assert run.facts["fingerprint"] in html
    assert "nan" not in text(html).lower().split()
    assert "Plotly.animate(" not in html.split("</head>")[1]
    assert "03 February 2026" in html
    loaded = re.findall(r'<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)="([^"]{0,40})', html)
    assert loaded
    assert all(source.startswith("data:") for source in loaded)


def test_a_report_says_what_was_not_measured_and_how_to(run):
    said = text(report.page(run, "test", [], TODAY))

    assert f"python -m imgcls evaluate {run.id} --split test --robustness" in said
    assert "Fewer than two epochs' answers were kept" in said


def test_a_report_shows_what_was_measured(run, monkeypatch):
    monkeypatch.setattr(adversarial, "IMAGES", 10)
    robustness.compute(run.id, "test")
    adversarial.compute(run.id, "test")
    _, labels, held = catalog.select("tiny", "validation", 0.1, 0)
    for epoch in (1, 2):
        keeping.keep(run, epoch, np.eye(3, dtype=np.float16)[labels[held]])

    said = text(report.page(run, "test", [], TODAY))

    assert f"Mean corruption accuracy {robustness.load(run, 'test').mean:.2%}" in said
    assert "Under attack, 10 images" in said
    assert "hardest to believe" in said


def test_the_most_confident_mistakes_are_looked_at_closely(tiny_dataset):
    run = untrained_run(model="cnn")
    for split in ("test", "train"):
        predictions.compute(run.id, split)

    html = report.page(run, "test", [], TODAY)

    said = text(html)
    assert "Its most confident mistakes, closely" in said
    stored = predictions.load(run, "test")
    row = metrics.confident_mistakes(stored, 1)[0]
    assert f"Truly {stored.classes[stored.labels[row]]}" in " ".join(said.split())
    assert html.count("<figcaption>Occlusion</figcaption>") == min(6, int((~stored.correct).sum()))
    learned = predictions.load(run, "train")
    nearest, cosines = predictions.nearest(
        predictions.features(run, "train"), predictions.features(run, "test")[row], 1
    )
    label = learned.classes[learned.labels[nearest[0]]]
    assert f"{label}, {cosines[0]:.2f}" in said


def test_a_report_holds_a_run_against_others(run):
    other = untrained_run(now=NOW - timedelta(seconds=1))
    save_model(other, seed=1)
    predictions.compute(other.id, "test")

    said = text(report.page(run, "test", [other], TODAY))

    assert "Against other runs" in said
    assert other.id in said


def test_without_stored_answers_nothing_is_written(tmp_path):
    run, path = untrained_run(), tmp_path / "report.html"

    with pytest.raises(ImgclsError, match="Nothing is stored"):
        report.write(run, "test", path, [], TODAY)

    assert not list(tmp_path.glob("report*"))


def test_names_that_are_markup_stay_text(run, monkeypatch):
    dataset = catalog.load("tiny")
    hostile = ("<script>alert(1)</script>", *dataset.classes[1:])
    kept = predictions.load(run, "test")
    renamed = predictions.Predictions(
        kept.run, kept.dataset, kept.split, hostile, kept.logits, kept.labels, kept.indices
    )
    monkeypatch.setattr(predictions, "stored", lambda run, split: renamed)

    html = report.page(run, "test", [], TODAY)

    assert "<script>alert(1)</script>" not in html
    assert "<script>alert(1)</script>" in text(html)


def test_the_most_confused_pairs_come_first():
    confusion = np.array([[5, 3, 0], [1, 7, 0], [0, 4, 4]])

    pairs = metrics.confused_pairs(confusion, 2)

    assert pairs == [(2, 1, 4, 0.5), (0, 1, 3, 0.375)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--against", "latest"], "give --report FILE.html too"),
        (["--report", "{tmp}/no/r.html"], "There is no folder"),
    ],
)
def test_a_report_that_cannot_be_written_is_one_sentence(
    run, tmp_path, monkeypatch, capsys, words, said
):
    words = [word.format(tmp=tmp_path) for word in words]
    monkeypatch.setattr(sys, "argv", ["imgcls", "evaluate", run.id, *words])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code not in (0, None)
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "no").exists()
