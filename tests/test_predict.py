"""Pictures in, probabilities out."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from imgcls import predict, preprocess
from imgcls.data.spreadsheet import to_csv
from imgcls.errors import ModelError, RunError
from imgcls.evaluate import belief, calibrate, predictions, views
from tests.making import png, save_model, untrained_run

pytestmark = pytest.mark.usefixtures("tiny_dataset")


@pytest.fixture
def run():
    return untrained_run()


def test_probabilities_come_likeliest_first_and_add_up_to_one(run):
    (found,) = predict.predict(run.id, [("a.png", png())], top=3)
    shares = [one["probability"] for one in found["top"]]

    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert found["known"] is None
    assert found["seconds"] > 0


def test_top_limits_the_classes_named(run):
    (found,) = predict.predict(run.id, [("a.png", png())], top=2)

    assert len(found["top"]) == 2


def test_seen_is_the_picture_as_the_model_gets_it(run):
    data = png(size=(50, 20))
    (found,) = predict.predict(run.id, [("wide.png", data)])
    expected = preprocess.to_pixels(Image.open(io.BytesIO(data)), 32, "squash")

    assert np.array_equal(found["seen"], expected)


def test_a_bad_picture_is_an_entry_of_its_own_and_keeps_its_place(run):
    pictures = [
        ("a.png", png()),
        ("b.png", b"no picture at all, not in the least"),
        ("c.png", png(1)),
    ]
    found = predict.predict(run.id, pictures)

    assert [entry["file"] for entry in found] == ["a.png", "b.png", "c.png"]
    assert set(found[1]) == {"file", "error"}
    assert found[1]["error"].startswith("b.png: ")


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8\xff", png()[:200], b"<svg/>" * 20])
def test_what_is_no_picture_is_told_in_one_sentence(run, data):
    (found,) = predict.predict(run.id, [("x.png", data)])

    assert "\n" not in found["error"]
    assert "x.png" in found["error"]


def test_a_run_with_validation_answers_is_calibrated_and_knows_what_it_knows(run):
    (before,) = predict.predict(run.id, [("a.png", png())])
    assert (before["calibrated"], before["known"], before["labels"]) == (False, None, None)
    predictions.compute(run.id, "validation")
    (found,) = predict.predict(run.id, [("a.png", png())])

    known = belief.of_run(run)
    logits = np.log([best["probability"] for best in before["top"]])  # up to a constant
    expected = calibrate.scaled(logits[None].astype(np.float32), known.temperature)[0]
    assert np.allclose([best["probability"] for best in found["top"]], expected, atol=1e-5)
    assert found["calibrated"]
    assert found["known"] in (True, False)
    likely = [b["class"] for b in found["top"] if b["probability"] >= known.label_sets["0.95"]]
    assert found["labels"] == likely


def test_neighbours_do_not_change_an_answer(run):
    alone = predict.predict(run.id, [("a.png", png())])[0]["top"]
    among = predict.predict(run.id, [("b.png", png(1)), ("a.png", png()), ("c.png", png(2))])[1]

    assert among["top"] == alone


def test_a_new_model_is_used_at_once(run):
    before = predict.predict(run.id, [("a.png", png())])[0]["top"]
    save_model(run, seed=5)

    assert predict.predict(run.id, [("a.png", png())])[0]["top"] != before


def test_no_pictures_give_no_entries(run):
    assert predict.predict(run.id, []) == []


def test_an_unknown_run_is_refused():
    with pytest.raises(RunError, match="No run 'x' is on disk"):
        predict.predict("x", [("a.png", png())])


def test_a_run_without_a_model_is_refused(run):
    run.model_path.unlink()

    with pytest.raises(ModelError, match="no epoch of it has been validated"):
        predict.predict(run.id, [("a.png", png())])


def test_a_model_of_nan_is_refused_rather_than_believed(run):
    save_model(run, seed=0, fill=float("nan"))

    with pytest.raises(ModelError, match="answers NaN or infinity"):
        predict.predict(run.id, [("a.png", png())])


def test_csv_has_a_row_a_file_with_its_answer_or_its_error():
    entries = [
        {"file": "a.png", "top": [{"class": "cat", "probability": 0.75}], "known": False},
        {"file": "b.png", "error": "b.png: the file is empty."},
    ]
    rows = list(csv.reader(io.StringIO(predict.to_csv(entries))))

    assert rows == [
        ["file", "class", "probability", "known", "error"],
        ["a.png", "cat", "0.75", "no", ""],
        ["b.png", "", "", "", "b.png: the file is empty."],
    ]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-cat", "@cat", "\tcat", "\rcat", "＝1+1"])
def test_a_name_that_a_spreadsheet_would_run_gets_an_apostrophe(name):
    rows = list(csv.reader(io.StringIO(to_csv(["class"], [[name]]), newline="")))

    assert rows[1] == [f"'{name}"]


def test_negative_numbers_stay_numbers_and_unknown_ones_are_empty():
    assert to_csv(["a", "b"], [[-1.5, float("nan")]]) == "a,b\r\n-1.5,\r\n"


def test_views_are_those_of_the_recipe_and_their_mean_is_the_answer(tiny_dataset):
    plain = untrained_run(model="cnn", flip=False, crop_pad=0)
    mirrored = untrained_run(model="cnn", flip=True, crop_pad=0)
    shifted = untrained_run(model="cnn", flip=True, crop_pad=4)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)

    def shares(run, pixels, **options):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (entry,) = predict.predict(run.id, [("a.png", buffer.getvalue())], **options)
        return {one["class"]: one["probability"] for one in entry["top"]}

    assert [views.passes(run.config) for run in (plain, mirrored, shifted)] == [1, 2, 6]
    assert shares(plain, picture, tta=True) == shares(plain, picture)
    both = shares(mirrored, picture, tta=True)
    assert both == pytest.approx(shares(mirrored, picture[:, ::-1], tta=True), abs=1e-6)
    assert both != pytest.approx(shares(mirrored, picture), abs=1e-6)
    assert shares(shifted, picture, tta=True) != pytest.approx(both, abs=1e-6)
