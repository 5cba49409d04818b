"""Files for elsewhere: each answers as the model does, or is not there."""

import json
from datetime import datetime

import numpy as np
import pytest
import torch

from imgcls import card, deployed
from imgcls.data import catalog
from imgcls.data.tensors import normalize
from imgcls.errors import ConfigError, DataError, ImgclsError, ModelError
from imgcls.evaluate import predictions
from imgcls.export import certified, formats, writers
from tests.making import publish_tiny, untrained_run

NOW = datetime(2026, 11, 26, 12)


@pytest.fixture
def folder(tmp_path):
    """An empty one, beside the home of the test."""
    made = tmp_path / "out"
    made.mkdir()
    return made


@pytest.fixture
def run(tiny_dataset):
    """Untrained, with what is known of its confidence from validation."""
    run = untrained_run(model="cnn")
    predictions.compute(run.id, "validation")
    return run


def test_a_deployed_model_answers_as_the_network_behind_the_preprocessing(run):
    judge = predictions.judge(run)
    model, facts = deployed.of_run_with_facts(run)
    pictures = torch.from_numpy(np.array(catalog.arrays("tiny", "test")[0][:5]))

    with torch.inference_mode():
        logits, shares = model(pictures)
        expected = judge.model(normalize(pictures, judge.mean, judge.std))

    assert torch.allclose(logits, expected, atol=1e-6)
    temperature = json.loads(facts)["trust"]["temperature"]
    assert torch.allclose(shares, torch.softmax(expected / temperature, 1), atol=1e-6)


@pytest.mark.parametrize("name", ["onnx", "pth"])  # all of them: tests/test_certificates.py
def test_a_format_is_written_with_a_certificate(run, folder, name):
    path = folder / f"model{formats.FORMATS[name].suffix}"

    certificate = certified.export(run, name, path, NOW)

    assert certificate["bytes"] == path.stat().st_size
    beside = json.loads(certified.certificate_path(path).read_text("utf-8"))
    assert beside == certificate
    assert certificate["calibrated"]
    assert certificate["images"] == 90  # all that there are
    assert certificate["accuracy_images"] == 36  # test and validation
    assert certificate["logit_difference"] <= certificate["logit_tolerance"]
    assert certificate["top1_agreement"] == 1
    assert sorted(p.name for p in folder.iterdir()) == [
        path.name, f"{path.name}.certificate.json",
    ]  # fmt: skip


def test_where_its_data_set_is_gone_one_with_the_same_classes_proves_a_file(run, folder):
    (catalog.root() / "tiny").rename(folder / "away")

    with pytest.raises(DataError, match="none on disk: on Explore add tiny, or any data set with"):
        certified.export(run, "pth", folder / "model.pth", NOW)

    assert [path.name for path in folder.iterdir()] == ["away"]
    publish_tiny("other")
    certificate = certified.export(run, "pth", folder / "model.pth", NOW)
    assert "images of other, fingerprint" in certificate["source"]
    assert not certificate["calibrated"]


def test_a_file_that_answers_otherwise_is_refused_and_not_left(run, folder, monkeypatch):
    honest = writers.WRITERS["onnx"]

    def off(model, card, facts, path):
        with torch.no_grad():
            model.std.mul_(1.01)
        honest(model, card, facts, path)
        with torch.no_grad():
            model.std.div_(1.01)

    monkeypatch.setitem(writers.WRITERS, "onnx", off)

    with pytest.raises(ModelError, match=r"onnx export of .* refused: a logit differs by"):
        certified.export(run, "onnx", folder / "model.onnx", NOW)

    assert not list(folder.iterdir())


def test_a_file_that_a_fresh_process_cannot_load_is_refused(run, folder, monkeypatch):
    monkeypatch.setitem(
        writers.WRITERS, "onnx", lambda model, card, facts, path: path.write_bytes(b"nothing")
    )

    with pytest.raises(ModelError, match=r"A fresh process cannot use model.onnx"):
        certified.export(run, "onnx", folder / "model.onnx", NOW)

    assert not list(folder.iterdir())


def test_a_network_that_a_format_cannot_hold_is_named(run, folder, monkeypatch):
    def fails(model, card, facts, path):
        raise TypeError("no such operator\nand much more")

    monkeypatch.setitem(writers.WRITERS, "pt2", fails)

    with pytest.raises(ModelError, match=r"pt2 cannot hold cnn \(TypeError: no such operator\)"):
        certified.export(run, "pt2", folder / "model.pt2", NOW)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("torchscript-trace", {"model": "cnn", "input_size": 48}),
        ("torchscript", {"model": "googlenet", "stem": "imagenet"}),
    ],
)
def test_networks_that_resize_or_had_further_heads_become_torchscript(
    tiny_dataset, folder, name, settings
):
    run = untrained_run(**settings)
    model, facts = deployed.of_run_with_facts(run)
    path, pictures = folder / "model.pt", torch.from_numpy(catalog.arrays("tiny", "test")[0][:3])

    writers.WRITERS[name](model, card.read(run.model_path), facts, path)

    with writers._legacy(), torch.inference_mode():
        found, expected = torch.jit.load(path)(pictures), model(pictures)
    torch.testing.assert_close(found, expected)


def test_int8_may_lose_half_a_point_and_no_more():
    labels = np.zeros(1000, np.int64)
    labels[375:] = 1  # an accuracy whose difference is no whole float
    eager = np.tile([2.0, 1.0], (1000, 1))

    def answers(logits):
        return {
            "logits": logits, "probabilities": logits, "single": logits[:1],
            "seconds": np.array([0.001, 0.001]),
        }  # fmt: skip

    int8 = formats.FORMATS["onnx-int8"]
    for lost, refused in ((4, False), (5, False), (6, True)):
        found = eager.copy()
        found[:lost] = [1.0, 2.0]
        judged = certified.compared(answers(eager), answers(found), labels, int8, 0)
        assert bool(judged["refused"]) == refused
    assert "points of accuracy" in judged["refused"]


@pytest.mark.parametrize(
    ("name", "place", "error"),
    [("tflite", "model", ConfigError), ("onnx", "none/model", DataError)],
)
def test_what_cannot_be_asked_for_is_a_sentence(run, folder, name, place, error):
    with pytest.raises(error):
        certified.export(run, name, folder / place, NOW)


def test_without_the_data_there_is_no_proof_and_no_file(run, folder):
    catalog.delete("tiny")

    with pytest.raises(ImgclsError):
        certified.export(run, "onnx", folder / "model.onnx", NOW)

    assert not list(folder.iterdir())


@pytest.mark.parametrize("part", ["logits", "single", "probabilities"])
@pytest.mark.parametrize("name", ["onnx", "onnx-int8"])
def test_answers_of_nan_and_false_probabilities_are_refused(part, name):
    logits = np.tile([2.0, 1.0], (10, 1))

    def answers(**changed):
        return {
            "logits": logits, "probabilities": logits / 3, "single": logits[:1],
            "seconds": np.array([0.001, 0.001]), **changed,
        }  # fmt: skip

    def refused(**changed):
        labels = np.zeros(10, np.int64)
        return certified.compared(answers(), answers(**changed), labels, formats.FORMATS[name], 0)[
            "refused"
        ]

    assert not refused()
    assert refused(**{part: answers()[part] * np.nan})
    if name == "onnx":
        assert refused(**{part: answers()[part] + 0.01})
