"""Pictures that a model got wrong: kept once, under their right label, as a data set."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from imgcls import feedback
from imgcls.data import importer
from imgcls.errors import DataError
from imgcls.preprocess import open_picture
from tests.making import png


def test_what_is_kept_can_be_imported(home):
    for i in range(12):
        feedback.keep(f"{i}.png", png(i), ("cat", "new class")[i % 2])

    found = importer.import_source(feedback.root(), "mine", size=8)

    assert feedback.counts() == {"cat": 6, "new class": 6}
    assert set(found.dataset.classes) == {"cat", "new class"}
    assert not found.refused


def test_a_picture_is_kept_once_and_the_last_label_counts(home):
    feedback.keep("a.png", png(), "cat")
    feedback.keep("b.png", png(), "dog")
    feedback.keep("b.png", png(), "dog")

    assert feedback.counts() == {"dog": 1}


def test_taking_back_leaves_a_picture_as_it_was_before_it_was_told(home):
    told = [feedback.keep("a.png", png(), label) for label in ("cat", "dog", "dog")]

    for one, left in zip(reversed(told), ({"dog": 1}, {"cat": 1}, {}), strict=True):
        feedback.take_back([one])

        assert feedback.counts() == left


def test_taking_back_several_at_once_takes_the_last_first(home):
    feedback.keep("a.png", png(1), "cat")
    told = [feedback.keep(f"{i}.png", png(seed), "dog") for i, seed in enumerate((1, 2, 2))]

    feedback.take_back(told)

    assert feedback.counts() == {"cat": 1}


def test_what_is_gone_already_is_taken_back_in_silence(home):
    told = [feedback.keep("a.png", png(), label) for label in ("cat", "dog")]
    shutil.rmtree(feedback.root())

    feedback.take_back(told)

    assert feedback.counts() == {}


def test_what_is_kept_has_no_metadata(home):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "at home"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "JPEG", exif=exif)

    path = feedback.keep("a.jpg", file.getvalue(), "cat").path

    assert b"at home" not in path.read_bytes()


@pytest.mark.parametrize(
    "label", ["", " ", "..", ".hidden", "a/b", "a\\b", "a\nb", "x" * 65, "a:b"]
)
def test_a_label_that_is_no_folder_is_refused(home, label):
    with pytest.raises(DataError):
        feedback.keep("a.png", png(), label)

    assert feedback.counts() == {}


def test_a_picture_that_is_none_is_refused(home):
    with pytest.raises(DataError, match="an SVG drawing"):
        feedback.keep("a.png", b"<svg/>" * 9, "cat")

    assert not feedback.root().exists()


def test_it_does_not_fill_a_disk(home, monkeypatch):
    monkeypatch.setattr(feedback, "MOST", 1)
    feedback.keep("a.png", png(1), "cat")

    with pytest.raises(DataError, match="are kept already"):
        feedback.keep("b.png", png(2), "cat")
    feedback.keep("a.png", png(1), "dog")  # the same one may still be corrected


def test_a_large_photograph_is_kept_small_enough_to_be_read_again(home):
    noise = np.random.default_rng(0).integers(0, 256, (2400, 3200, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=50)

    path = feedback.keep("photo.jpg", buffer.getvalue(), "zebra").path

    kept = open_picture(path.read_bytes(), path.name).image
    assert max(kept.size) == feedback.SIDE
