"""The model that ships, exported in every format and proved on real images."""

import json

import pytest

from benchmarks import unknown
from imgcls import runs
from imgcls.data import importer
from imgcls.evaluate import belief
from imgcls.export import certified, formats
from tests.test_export import NOW


@pytest.fixture(scope="module")
def shipped(cifar_zip, tmp_path_factory, asked_once):
    """Beside all of CIFAR-10, from which its proof takes test images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_HOME", str(tmp_path_factory.mktemp("home")))
        importer.import_source(cifar_zip, "cifar10-jpeg", size=32)
        yield runs.shipped()


def test_it_knows_what_it_does_not_know(shipped):
    test, *others = unknown.measure(shipped, belief.of_run(shipped))

    assert abs(1 - test["refused"] - 0.95) <= 0.015
    assert {one["set"] for one in others} == {"digits", "noise", "photographs"}
    for one in others:
        assert one["auroc"] >= 0.9
        assert one["auroc"] > one["auroc_max_softmax"]


@pytest.mark.parametrize("name", formats.FORMATS)
def test_the_model_that_ships_is_proved_in_every_format(shipped, tmp_path, name):
    path = tmp_path / f"shipped{formats.FORMATS[name].suffix}"

    certificate = certified.export(shipped, name, path, NOW)

    assert json.loads(certified.certificate_path(path).read_text("utf-8")) == certificate
    assert certificate["images"] == certified.IMAGES
    assert certificate["source"].startswith("2,000 test images of cifar10-jpeg")
    assert certificate["calibrated"]
    accuracy = certificate["accuracy"]
    assert accuracy["pytorch"]["low"] < 0.8945 < accuracy["pytorch"]["high"]
    if formats.FORMATS[name].floats:
        assert certificate["logit_difference"] <= certificate["logit_tolerance"]
        assert certificate["top1_agreement"] == 1
    else:
        assert accuracy["pytorch"]["value"] - accuracy["file"]["value"] <= certified.LOSS
        assert certificate["bytes"] < 3e6
