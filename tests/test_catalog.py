import json

import numpy as np
import pytest

from imgcls.data import catalog
from imgcls.errors import DataError


def publish(name, images, labels, **splits):
    with catalog.publishing(name) as draft:
        return catalog.write(
            draft,
            name=name,
            classes=("a", "b"),
            splits={"train": (images, labels), **splits},
            resized="not",
            source="here",
        )


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def labels():
    return np.array([0, 1] * 5)


def test_what_was_written_is_loaded(home, images, labels):
    written = publish("x", images, labels, test=(images[:3], labels[:3]))

    assert catalog.load("x") == written
    assert catalog.names() == ["x"]
    assert written.counts == {"train": [5, 5], "test": [2, 1]}
    assert written.splits == ("train", "test")


def test_arrays_are_mapped_and_what_is_written_to_them_never_reaches_the_file(home, images, labels):
    publish("x", images, labels)

    stored, _ = catalog.arrays("x", "train")

    assert isinstance(stored, np.memmap)
    assert (stored == images).all()
    stored[0] = 255 - stored[0]  # torch takes no read-only memory
    assert (catalog.arrays("x", "train")[0] == images).all()


def test_mean_and_deviation_are_those_of_the_train_images(home, images, labels):
    dataset = publish("x", images, labels)

    assert np.allclose(dataset.mean, (images / 255).mean((0, 1, 2)), atol=1e-12)
    assert np.allclose(dataset.std, (images / 255).std((0, 1, 2)), atol=1e-9)


@pytest.mark.parametrize("change", ["pixel", "label", "split"])
def test_the_fingerprint_follows_images_and_labels(home, images, labels, change):
    before = publish("x", images, labels).fingerprint
    splits = {}
    if change == "pixel":
        images[3, 2, 1, 0] ^= 1
    elif change == "label":
        labels[0] = 1
    else:
        splits["test"] = images, labels

    assert publish("y", images, labels, **splits).fingerprint != before


def test_equal_data_have_equal_fingerprints(home, images, labels):
    assert publish("x", images, labels).fingerprint == publish("y", images, labels).fingerprint


def test_a_failed_publication_leaves_nothing(home):
    def publish_half():
        with catalog.publishing("x") as draft:
            (draft / "half").write_bytes(b"1")
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        publish_half()

    assert list(catalog.root().iterdir()) == []


def test_a_taken_name_is_refused(home, tiny_dataset):
    with (
        pytest.raises(DataError, match="'tiny' exists: choose another"),
        catalog.publishing("tiny"),
    ):
        pass


def test_the_first_of_two_publications_wins(home, images, labels):
    def publish_late():
        with catalog.publishing("x") as draft:
            (draft / "late").write_bytes(b"1")
            publish("x", images, labels)

    with pytest.raises(DataError, match="appeared meanwhile"):
        publish_late()

    assert catalog.load("x").total("train") == 10
    assert [p.name for p in catalog.root().iterdir()] == ["x"]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "A", "-x", "x" * 65, "é", "a\n"])
def test_an_unfit_name_is_refused(home, name):
    with pytest.raises(DataError, match="cannot name a data set"):
        catalog.path(name)


def test_an_unknown_data_set_is_refused_with_those_there_are(home, tiny_dataset):
    with pytest.raises(DataError, match=r"No data set named 'x' is on disk\. On disk: tiny"):
        catalog.load("x")


def test_a_missing_split_is_refused_with_those_there_are(home, tiny_dataset):
    with pytest.raises(DataError, match="tiny has no validation images; it has train, test"):
        catalog.arrays("tiny", "validation")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"\xff", b'{"classes": 3}'])
def test_a_damaged_description_is_refused(home, tiny_dataset, damage):
    (catalog.path("tiny") / "dataset.json").write_bytes(damage)

    with pytest.raises(DataError, match="'tiny' is damaged"):
        catalog.load("tiny")


def test_damaged_arrays_are_refused(home, tiny_dataset):
    file = catalog.path("tiny") / "train.images.npy"
    file.write_bytes(file.read_bytes()[:1000])

    with pytest.raises(DataError, match="'tiny' is damaged"):
        catalog.arrays("tiny", "train")


def test_deleting_leaves_nothing(home, tiny_dataset):
    catalog.delete("tiny")

    assert list(catalog.root().iterdir()) == []
    with pytest.raises(DataError, match="No data set named 'tiny'"):
        catalog.delete("tiny")


def test_held_out_images_are_stratified_and_repeatable():
    labels = np.repeat([0, 1, 2], [100, 50, 2])

    kept, held = catalog.split_indices(labels, 0.1, seed=3)

    assert np.bincount(labels[held]).tolist() == [10, 5, 1]
    assert sorted([*kept, *held]) == list(range(152))
    assert (catalog.split_indices(labels, 0.1, seed=3)[1] == held).all()
    assert (catalog.split_indices(labels, 0.1, seed=4)[1] != held).any()


def test_a_class_of_one_image_keeps_it():
    kept, held = catalog.split_indices(np.array([0, 1, 1]), 0.5, seed=0)

    assert 0 in kept
    assert len(held) == 1


def test_train_and_validation_share_nothing_and_leave_nothing(home, tiny_dataset):
    _, labels, train = catalog.select("tiny", "train", 0.2, 0)
    _, _, validation = catalog.select("tiny", "validation", 0.2, 0)
    _, _, both = catalog.select("tiny", "train+validation", 0.2, 0)

    assert sorted([*train, *validation]) == list(both)
    assert np.bincount(labels[validation]).tolist() == [4, 4, 4]


def test_own_validation_images_are_used_where_there_are_some(home, images, labels):
    publish("x", images, labels, validation=(images[:4], labels[:4]))

    assert len(catalog.select("x", "train", 0.2, 0)[2]) == 10
    assert len(catalog.select("x", "validation", 0.2, 0)[2]) == 4
    assert len(catalog.select("x", "train+validation", 0.2, 0)[0]) == 14


def test_the_description_is_plain_json(home, tiny_dataset):
    text = (catalog.path("tiny") / "dataset.json").read_text(encoding="utf-8")

    assert json.loads(text)["classes"] == ["red", "green", "blue"]
