"""A safetensors export comes back as a run that answers the same, or is refused in a sentence."""

import json
from datetime import datetime

import numpy as np
import pytest
import safetensors.torch
from safetensors import safe_open

from imgcls import deployed, models, predict, runs
from imgcls.errors import ImgclsError, ModelError
from imgcls.evaluate import belief, predictions
from imgcls.export import returned, writers
from tests.making import judged_run, png

NOW = datetime(2026, 11, 27, 12)


@pytest.fixture
def run(tiny_dataset):
    return judged_run(model="cnn")


@pytest.fixture
def file(run, tmp_path):
    path = tmp_path / "model.safetensors"
    model, facts = deployed.of_run_with_facts(run)
    writers.safetensors_(model, models.load(run.model_path)[1], facts, path)
    return path


def answer(run):
    return [
        {name: entry[name] for name in ("top", "known", "labels", "calibrated")}
        for entry in predict.predict(run.id, [("a.png", png(1)), ("b.png", png(2))])
    ]


def test_what_was_exported_answers_the_same_as_a_run_of_its_own(run, file):
    back = returned.import_run(file, NOW)

    assert answer(back) == answer(run)
    assert back.state() == runs.State.FINISHED
    assert back.config.recipe == "imported"
    assert belief.of_run(back).to_dict() == belief.of_run(run).to_dict()
    predictions.compute(back.id, "test")
    assert len(predictions.load(back, "test").labels) == 30


def test_without_its_data_it_still_answers(run, file, home, monkeypatch, tmp_path):
    expected = answer(run)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("IMGCLS_HOME", str(tmp_path / "elsewhere"))

    assert answer(returned.import_run(file, NOW)) == expected


def changed(file, **text):
    """The same weights with other text; `card` and `trust` are changed by field."""
    with safe_open(file, framework="pt") as opened:
        told = opened.metadata()
    for name, values in text.items():
        told[name] = (
            values if isinstance(values, str) else json.dumps(json.loads(told[name]) | values)
        )
    safetensors.torch.save_file(safetensors.torch.load_file(file), file, metadata=told)


@pytest.mark.parametrize(
    "text",
    [
        {"format": "imgcls 0"},
        {"card": "{"},
        {"card": "[" * 100_000},
        {"card": {"classes": ["one"]}},
        {"card": {"classes": ["a", "a", "b"]}},
        {"card": {"classes": [1, 2, 3]}},
        {"card": {"classes": ["red", "green"]}},
        {"card": {"size": 10**6}},
        {"card": {"size": "32"}},
        {"card": {"fit": "stretch"}},
        {"card": {"std": [0, 1, 1]}},
        {"card": {"mean": [float("nan"), 0, 0]}},
        {"card": {"architecture": {"model": "none"}}},
        {"card": {"architecture": {"model": "net"}}},
        {"card": {"architecture": {"epochs": 0}}},
        {"card": {"architecture": None}},
        {"card": {"architecture": {"model": "cnn", "stem": "small", "pretrained": True}}},
        {"card": {"more": 1}},
        {"card": {"classes": ["\ud800", "b", "c"]}},
        {"card": {"classes": ["a\n", "b", "c"]}},
        {"card": {"run": "\ud800"}},
        {"card": {"size": 64}},
        {"card": {"size": 8}},
        {"card": {"val_accuracy": 10**400}},
        {"trust": {"temperature": 1e-320}},
        {"trust": {"limit": -5}},
        {"trust": {"center": [[0.0]]}},
        {"card": {"dataset": "../../etc"}},
        {"trust": "[]"},
        {"trust": {"temperature": 0}},
        {"trust": {"center": [0.0]}},
        {"trust": {"label_sets": {}}},
        {"trust": {"doubt": [float("inf"), 0.0]}},
        {"trust": {"strangeness": []}},
    ],
    ids=str,
)
def test_text_that_cannot_be_is_refused_and_leaves_no_run(run, file, text):
    changed(file, **text)
    before = {one.id for one in runs.all_runs()}

    with pytest.raises(ImgclsError) as refused:
        returned.import_run(file, NOW)

    assert "\n" not in str(refused.value)
    assert {one.id for one in runs.all_runs()} == before


@pytest.mark.parametrize("cut", [0, 7, 8, 100, -1])
def test_a_file_cut_short_is_refused(file, cut):
    file.write_bytes(file.read_bytes()[:cut])

    with pytest.raises(ModelError, match=r"model.safetensors"):
        returned.import_run(file, NOW)


def test_weights_of_nan_are_refused(file):
    with safe_open(file, framework="pt") as opened:
        told = opened.metadata()
    state = safetensors.torch.load_file(file)
    next(iter(state.values())).view(-1)[0] = np.nan
    safetensors.torch.save_file(state, file, metadata=told)

    with pytest.raises(ModelError, match="NaN or infinity"):
        returned.import_run(file, NOW)
