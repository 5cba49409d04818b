"""Stored predictions: computed once, true of one model and one data set only."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from imgcls import models
from imgcls.data import catalog, tensors
from imgcls.errors import DataError, ImgclsError, ModelError, RunError
from imgcls.evaluate import predictions
from tests.making import save_model, untrained_run

pytestmark = pytest.mark.usefixtures("tiny_dataset")


@pytest.fixture
def run():
    return untrained_run()


def replace_dataset(name: str = "tiny") -> None:
    """Another data set of the same name and kind."""
    old, classes = catalog.arrays(name, "train"), catalog.load(name).classes
    images, labels = np.array(old[0]), np.array(old[1])
    catalog.delete(name)
    with catalog.publishing(name) as draft:
        splits = {"train": (255 - images, labels), "test": (images[:9], labels[:9])}
        catalog.write(
            draft, name=name, classes=classes, splits=splits, resized="not", source="a test"
        )


def test_nothing_is_stored_before_it_is_computed(run):
    assert predictions.load(run, "test") is None


def test_what_is_stored_is_what_the_model_answers(run):
    predictions.compute(run.id, "test")
    found = predictions.load(run, "test")
    images, labels = catalog.arrays("tiny", "test")
    model, card = models.load(run.model_path)
    with torch.inference_mode():
        batch = tensors.normalize(torch.from_numpy(np.array(images)), card.mean, card.std)
        expected = model(batch).numpy()

    assert found.logits == pytest.approx(expected, abs=1e-4)
    assert found.labels.tolist() == labels.tolist()
    assert (found.logits.dtype, found.labels.dtype) == (np.float32, np.int64)


def test_batch_size_does_not_change_answers(monkeypatch):
    run = untrained_run(model="simple_cnn")
    predictions.compute(run.id, "test")
    whole = predictions.load(run, "test").logits
    monkeypatch.setattr(predictions, "BATCH_PIXELS", 7 * 32 * 32)
    predictions.compute(run.id, "test")

    assert predictions.load(run, "test").logits == pytest.approx(whole, abs=1e-4)


def test_train_and_validation_are_the_split_that_training_makes(run):
    for split in ("train", "validation"):
        predictions.compute(run.id, split)
    kept, held = catalog.split_indices(catalog.arrays("tiny", "train")[1], 0.1, 0)

    assert predictions.load(run, "train").indices.tolist() == kept.tolist()
    assert predictions.load(run, "validation").indices.tolist() == held.tolist()


def test_pictures_are_those_behind_the_rows(run):
    predictions.compute(run.id, "validation")
    found = predictions.load(run, "validation")
    images, _ = catalog.arrays("tiny", "train")

    shown = predictions.pictures(run, "validation", np.array([2, 0]))

    assert np.array_equal(shown, images[found.indices[[2, 0]]])


def test_a_better_model_makes_predictions_stale(run):
    predictions.compute(run.id, "test")
    save_model(run, seed=1)

    assert predictions.load(run, "test") is None


def test_a_changed_data_set_makes_predictions_stale(run):
    predictions.compute(run.id, "test")
    replace_dataset()

    assert predictions.load(run, "test") is None


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_torn_file_counts_as_none(run, keep):
    predictions.compute(run.id, "test")
    path = run.predictions_path("test")
    path.write_bytes(path.read_bytes()[:keep])

    assert predictions.load(run, "test") is None


def test_progress_ends_at_all_images(run):
    seen = []
    predictions.compute(run.id, "test", lambda done, total, what: seen.append((done, total)))

    assert seen[-1] == (30, 30)


@pytest.mark.parametrize("split", ["tset", "../test", "", "train+validation"])
def test_an_unknown_split_is_named(run, split):
    for ask in (lambda: predictions.compute(run.id, split), lambda: predictions.load(run, split)):
        with pytest.raises(DataError, match=r"No split named|cannot name a data set"):
            ask()


def test_a_run_without_a_model_is_refused(run):
    run.model_path.unlink()

    with pytest.raises(ModelError, match="no epoch of it has been validated"):
        predictions.compute(run.id, "test")
    assert predictions.load(run, "test") is None


def test_an_unknown_run_is_refused():
    with pytest.raises(RunError, match="No run 'nothing' is on disk"):
        predictions.compute("nothing", "test")


def test_a_deleted_data_set_is_refused(run):
    predictions.compute(run.id, "test")
    catalog.delete("tiny")

    with pytest.raises(DataError, match="No data set named 'tiny' is on disk"):
        predictions.compute(run.id, "test")
    assert predictions.load(run, "test") is None


def test_a_changed_data_set_is_refused(run):
    replace_dataset()

    with pytest.raises(DataError, match="no longer the data set that"):
        predictions.compute(run.id, "test")


def test_a_model_of_other_classes_is_refused(run):
    images, labels = (np.array(a) for a in catalog.arrays("tiny", "train"))
    catalog.delete("tiny")
    with catalog.publishing("tiny") as draft:
        splits = {"train": (images, labels), "test": (images, labels)}
        catalog.write(
            draft, name="tiny", classes=("x", "y", "z"), splits=splits, resized="", source=""
        )

    with pytest.raises(ModelError, match="or they differ in name"):
        predictions.compute(run.id, "test")


def test_answers_that_are_not_numbers_are_refused_and_not_stored(run):
    save_model(run, seed=0, fill=float("nan"))

    with pytest.raises(ImgclsError, match="NaN or infinity for 30 of 30 test images"):
        predictions.compute(run.id, "test")
    assert not run.predictions_path("test").exists()


@pytest.mark.parametrize(
    ("settings", "split", "says"),
    [
        ({}, "test", ""),
        ({}, "validation", "chosen by these images"),
        ({}, "train", "has learned from these images"),
        ({"train_on": "train+validation"}, "validation", "has learned from these images"),
        ({"recipe": "imported"}, "test", "Nobody recorded"),
    ],
)
def test_figures_carry_the_caution_they_need(settings, split, says):
    found = predictions.caution(untrained_run(**settings), split)

    assert says in found
    assert bool(says) == bool(found)


def test_reading_predictions_needs_no_torch():
    code = (
        "import sys; from imgcls.evaluate import metrics, predictions;"
        "sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_features_are_what_the_last_layer_sees():
    run = untrained_run(model="cnn")
    predictions.compute(run.id, "test")

    seen, logits = predictions.features(run, "test"), predictions.load(run, "test").logits

    model, _ = models.load(run.model_path)
    last = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
    again = last(torch.from_numpy(np.array(seen, np.float32))).detach().numpy()
    assert seen.dtype == np.float16
    assert again == pytest.approx(logits, abs=5e-3)


def test_a_layer_as_wide_as_the_picture_gives_no_features():
    run = untrained_run(model="softmax")
    predictions.compute(run.id, "test")

    assert predictions.features(run, "test") is None


def test_features_of_another_model_are_void():
    run = untrained_run(model="cnn")
    predictions.compute(run.id, "test")
    assert predictions.features(run, "test") is not None

    save_model(run, seed=1)

    assert predictions.features(run, "test") is None


def test_the_nearest_are_those_of_scikit_learn():
    draw = np.random.default_rng(0)
    many, one = draw.normal(size=(50, 8)).astype(np.float16), draw.normal(size=8).astype(np.float16)

    rows, cosines = predictions.nearest(many, one, 5)

    expected = cosine_similarity(many.astype(np.float64), one[None].astype(np.float64))[:, 0]
    assert rows.tolist() == np.argsort(-expected)[:5].tolist()
    assert cosines == pytest.approx(expected[rows], abs=1e-5)


def test_what_has_no_direction_is_like_nothing():
    rows, cosines = predictions.nearest(np.eye(3, dtype=np.float16), np.zeros(3, np.float16), 2)

    assert rows.tolist() == [0, 1]
    assert cosines.tolist() == [0, 0]


def another_dataset(name="other", classes=("red", "green", "blue"), size=32):
    labels = np.array([0, 1, 2, 2])
    images = np.random.default_rng(5).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    with catalog.publishing(name) as draft:
        splits = {"train": (images, labels), "test": (images[2:], labels[2:])}
        catalog.write(draft, name=name, classes=classes, splits=splits, resized="", source="")


def test_images_of_another_data_set_with_the_same_classes_are_judged_and_stored_apart():
    run = untrained_run(model="simple_cnn")
    another_dataset()
    predictions.compute(run.id, "test")

    predictions.compute(run.id, "other/test")

    found = predictions.load(run, "other/test")
    assert (found.dataset, found.split) == ("other", "other/test")
    assert found.labels.tolist() == [2, 2]
    assert (
        predictions.pictures(run, "other/test", [1])[0] == catalog.arrays("other", "test")[0][1]
    ).all()
    assert len(predictions.load(run, "test").labels) == 30
    assert len(predictions.features(run, "other/test")) == 2
    assert predictions.fits_on_validation(run, "other/test")
    assert not predictions.learned(run, "other/train")
    assert predictions.learned(run, "tiny/train")
    assert "learned from tiny" in predictions.caution(run, "other/test")


def test_answers_to_another_data_set_are_void_when_it_changes(run):
    another_dataset()
    predictions.compute(run.id, "other/test")
    predictions.compute(run.id, "test")

    replace_dataset("other")

    assert predictions.load(run, "other/test") is None
    assert predictions.is_stale(run, "other/test")
    assert predictions.load(run, "test") is not None


def test_a_model_fits_data_of_its_classes_and_size_alone(run):
    another_dataset()
    another_dataset("small", size=16)
    another_dataset("names", classes=("red", "green", "yellow"))

    assert predictions.fitting(run) == ["tiny", "other"]
    for name in ("small", "names"):
        with pytest.raises(ModelError, match="train a new run"):
            predictions.compute(run.id, f"{name}/test")


@pytest.mark.parametrize("split", ["nothing/test", "../../etc/test", "tiny/", "a/b/test"])
def test_a_split_of_no_data_set_is_refused_and_stores_nothing(run, split):
    before = sorted(run.path.rglob("*"))

    with pytest.raises(DataError):
        predictions.compute(run.id, split)
    assert sorted(run.path.rglob("*")) == before
