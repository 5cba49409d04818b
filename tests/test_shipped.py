"""The model that comes with imgcls: whole, honest about itself, and of use with nothing else."""

import errno
import json
import re

import numpy as np
import pytest

from imgcls import card, predict, runs
from imgcls.errors import DataError
from imgcls.evaluate import belief, calibrate, metrics, predictions
from tests.pages.opened import tree

FOLDER = runs.ASSETS / runs.SHIPPED
EXAMPLES = sorted((runs.ASSETS / "examples").glob("*.jpg"))


@pytest.fixture
def shipped(home):
    return runs.get(runs.SHIPPED)


def test_it_is_small_and_learned_from_training_images_alone(shipped):
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) <= 10e6
    assert shipped.config.train_on == "train+validation"
    assert shipped.config.recipe == "speed"
    assert len(card.read(shipped.model_path).classes) == 10


def test_it_answers_for_pictures_without_data_or_network(shipped):
    found = predict.predict(runs.SHIPPED, [(path.name, path.read_bytes()) for path in EXAMPLES])

    answers = {entry["file"]: entry for entry in found}
    assert answers["cat.jpg"]["top"][0]["class"] == "cat"
    assert answers["cat.jpg"]["known"]
    assert answers["cat.jpg"]["labels"] == ["cat"]
    assert not answers["galaxies.jpg"]["known"]
    assert all(entry["calibrated"] for entry in found)


def test_its_card_quotes_its_stored_answers(shipped):
    stored, told = predictions.load(shipped, "test"), (FOLDER / "CARD.md").read_text("utf-8")
    found = metrics.summary(stored)

    assert f"{found.accuracy:.2%} of 10,000 test images" in told
    assert shipped.facts["fingerprint"][:16] in told
    assert shipped.facts["commit"][:12] in told
    recipe = float(re.search(r"train split alone \| ([\d.]+)%", told)[1]) / 100
    assert found.accuracy >= recipe


def test_its_confidence_is_true_and_most_test_answers_are_in_their_label_sets(shipped):
    stored, known = predictions.load(shipped, "test"), belief.of_run(shipped)
    shares = calibrate.scaled(stored.logits, known.temperature)
    true = shares[np.arange(len(shares)), stored.labels]

    assert abs(shares.max(1).mean() - stored.correct.mean()) < 0.015
    for wanted, least in known.label_sets.items():
        assert (true >= least).mean() == pytest.approx(float(wanted), abs=0.015)


def test_what_it_was_fitted_on_was_not_learned_from(shipped):
    known = json.loads((FOLDER / "trust.json").read_text("utf-8"))

    assert known["n"] == 5000
    assert "validation images of cifar10-jpeg" in known["source"]


def test_nothing_is_ever_written_where_it_was_installed(shipped):
    before = tree(FOLDER)
    with pytest.raises(DataError, match="No data set named"):
        predictions.compute(runs.SHIPPED, "validation")
    predict.predict(runs.SHIPPED, [(EXAMPLES[0].name, EXAMPLES[0].read_bytes())])

    assert tree(FOLDER) == before
    assert shipped.path.parent != FOLDER.parent


def test_another_one_replaces_the_copy_under_the_home(shipped, monkeypatch, tmp_path):
    (shipped.path / "config.json").write_text("{}")  # as of an older imgcls

    assert runs.get(runs.SHIPPED).facts["created"]
    assert [path.name for path in shipped.path.parent.iterdir() if path.name[0] == "."] == []


def cut(data):
    return data[:1]


def flipped(data):
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("damaged", [cut, flipped])
@pytest.mark.parametrize("name", ["trust.json", "known.npz", "model.safetensors"])
def test_what_was_damaged_in_the_home_is_laid_down_again(shipped, name, damaged):
    (shipped.path / name).write_bytes(damaged((FOLDER / name).read_bytes()))

    again = runs.get(runs.SHIPPED)

    assert (again.path / name).read_bytes() == (FOLDER / name).read_bytes()


def test_what_was_made_of_it_stays_where_another_file_is_laid_down_again(shipped):
    made = shipped.path / "predictions" / "test.tta.npz"
    made.write_bytes(b"minutes of work")
    (shipped.path / "CARD.md").write_text("of an older imgcls")

    assert runs.get(runs.SHIPPED).path == shipped.path
    assert made.read_bytes() == b"minutes of work"
    assert (shipped.path / "CARD.md").read_bytes() == (FOLDER / "CARD.md").read_bytes()


def test_in_a_home_that_nobody_may_write_it_answers_where_it_stands(home, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(runs.files, "write_atomically", refuse)

    assert runs.shipped().path == FOLDER
    (entry,) = predict.predict(runs.SHIPPED, [("cat.jpg", EXAMPLES[1].read_bytes())])
    assert entry["calibrated"]
    assert not any(path.is_file() for path in home.rglob("*"))


def test_a_full_disk_is_not_taken_for_one(home, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runs.files, "write_atomically", refuse)

    with pytest.raises(OSError, match="No space left"):
        runs.shipped()
