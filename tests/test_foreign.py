"""Weights from elsewhere: loaded exactly, or refused in one sentence, with nothing run."""

import io
import os
import pickle
import random
import tarfile
import zipfile
from datetime import datetime

import pytest
import torch
import torch.nn as nn

from imgcls import card, models, runs
from imgcls.config import TrainConfig
from imgcls.data import catalog
from imgcls.errors import DataError, ModelError
from imgcls.evaluate import predictions
from imgcls.models import foreign

SETTINGS = TrainConfig(model="simple_cnn")


def network(seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(SETTINGS, 3, 8)


def load(file) -> nn.Module:
    return foreign.import_state_dict(file, SETTINGS, 3, 8)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.pth"


@pytest.fixture
def state():
    return network().state_dict()


def repack(source, target, change) -> None:
    """Copy a zip record by record; `change` gets (name, bytes) and returns name, bytes, method."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for record in old.infolist():
            name, data, method = change(record.filename, old.read(record))
            new.writestr(zipfile.ZipInfo(name), data, compress_type=method)


def test_weights_come_back_as_they_were_saved(file, state):
    torch.save(state, file)
    loaded = load(file)

    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    assert not loaded.training


def test_weights_go_into_the_network_that_resizes_its_images(file):
    torch.manual_seed(3)
    plain = models.build(SETTINGS, 3, 16).eval()
    torch.save(plain.state_dict(), file)

    loaded = foreign.import_state_dict(file, SETTINGS.replace(input_size=16), 3, 8)

    images = torch.randn(2, 3, 8, 8)
    larger = torch.nn.functional.interpolate(images, size=(16, 16), mode="bilinear")
    with torch.no_grad():
        assert torch.equal(loaded(images), plain(larger))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_32_bit(file, state, dtype):
    torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}, file)

    kinds = {v.dtype for v in load(file).state_dict().values()}

    assert kinds == {torch.float32, torch.int64}  # a batch norm counts batches in int64


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("form", ["raw", "zipped", "torch", "among weights", "tar"])
def test_code_in_a_file_is_refused_and_never_run(file, state, tmp_path, form):
    canary = tmp_path / "canary"
    data = pickle.dumps(Evil(canary))
    if form == "raw":
        file.write_bytes(data)
    elif form == "zipped":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("weights/data.pkl", data)
    elif form == "torch":
        torch.save(Evil(canary), file)
    elif form == "among weights":
        torch.save({**state, "0.weight": Evil(canary)}, file)
    else:
        with tarfile.open(file, "w") as archive:
            member = tarfile.TarInfo("data.pkl")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

    with pytest.raises(ModelError):
        load(file)
    assert not canary.exists()


def test_a_whole_model_is_refused_with_the_remedy(file):
    torch.save(network(), file)

    with pytest.raises(ModelError, match=r"whole model .* save it again with torch.save"):
        load(file)


def test_torchscript_is_refused_by_its_records(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights/data.pkl", b"\x80\x02}.")
        archive.writestr("weights/code/__torch__.py", b"")
        archive.writestr("weights/constants.pkl", b"\x80\x02).")

    with pytest.raises(ModelError, match="TorchScript"):
        load(file)


def test_an_exported_program_is_refused_by_its_records(tmp_path):
    file = tmp_path / "model.pt2"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/archive_format", b"pt2")
        archive.writestr("model/models/model.json", b"{}")
        archive.writestr("model/data/sample_inputs/model.pt", pickle.dumps(Evil("/nowhere")))

    with pytest.raises(ModelError, match="exported program"):
        load(file)


def test_a_flipped_byte_in_the_weights_is_found(file, state):
    torch.save(state, file)
    data = bytearray(file.read_bytes())
    at = data.find(state["12.weight"].numpy().tobytes()[:64])
    assert at > 0
    data[at + 5] ^= 0x10
    file.write_bytes(data)

    with pytest.raises(ModelError, match=r"checksum of weights/data/.* is wrong"):
        load(file)


def test_no_mutation_changes_weights_unseen(file, state):
    torch.save(state, file)
    sound, draw = file.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(150):
        data = bytearray(sound)
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.2:
            data = data[: draw.randrange(len(data))]
        file.write_bytes(data)
        try:
            loaded = load(file).state_dict()
        except ModelError:
            refused += 1
            continue
        assert all(torch.equal(value, state[key]) for key, value in loaded.items())

    assert refused > 75


def test_compressed_records_are_refused(file, state, tmp_path):
    torch.save(state, tmp_path / "sound.pth")
    repack(tmp_path / "sound.pth", file, lambda name, data: (name, data, zipfile.ZIP_DEFLATED))

    with pytest.raises(ModelError, match="is compressed"):
        load(file)


def test_a_record_twice_is_refused(file, state, tmp_path):
    torch.save(state, tmp_path / "sound.pth")
    stored = zipfile.ZIP_STORED
    with pytest.warns(UserWarning, match="Duplicate name"):
        repack(
            tmp_path / "sound.pth",
            file,
            lambda name, data: (name.replace("data/1", "data/0"), data, stored),
        )

    with pytest.raises(ModelError, match="a record twice"):
        load(file)


def test_the_format_before_1_6_is_refused_with_the_remedy(file, state):
    torch.save(state, file, _use_new_zipfile_serialization=False)

    with pytest.raises(ModelError, match=r"before version 1\.6"):
        load(file)


def test_a_file_over_the_limit_is_refused(file, state, monkeypatch):
    torch.save(state, file)
    monkeypatch.setitem(foreign.LIMITS, "bytes", 2**20 // 8)

    with pytest.raises(ModelError, match="larger than the limit"):
        load(file)


@pytest.mark.parametrize("cut", [0, 1, 4, 100, 5000, -1, -30])
def test_a_file_cut_short_is_refused(file, state, cut):
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[:cut])

    with pytest.raises(ModelError):
        load(file)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"There is no file 'gone\.pth'"):
        load(tmp_path / "gone.pth")


def bad_tensor(kind: str, like: torch.Tensor) -> object:
    nan, infinite = like.clone(), like.double()
    nan.view(-1)[7], infinite.view(-1)[7] = float("nan"), 1e300
    with_warnings = {
        "transposed": lambda: like.movedim(0, 1).contiguous(),
        "whole numbers": lambda: like.to(torch.int64),
        "complex": lambda: like.to(torch.complex64),
        "8 bits": lambda: like.to(torch.uint8),
        "meta": lambda: like.to("meta"),
        "sparse": lambda: like.to_sparse(),
        "not a number": lambda: nan,
        "too large": lambda: infinite,
        "a list": lambda: like.tolist(),
        "stretched": lambda: torch.zeros(1).expand(10**9),
    }
    return with_warnings[kind]()


@pytest.mark.parametrize(
    "kind",
    ["transposed", "whole numbers", "complex", "8 bits", "meta", "sparse", "not a number",
     "too large", "a list", "stretched"],
)  # fmt: skip
def test_an_unfit_tensor_is_refused_by_its_key(file, state, kind):
    state["4.weight"] = bad_tensor(kind, state["4.weight"])
    torch.save(state, file)

    with pytest.raises(ModelError, match=r"'4\.weight'"):
        load(file)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_quantized_tensor_is_refused(file, state):
    state["4.weight"] = torch.quantize_per_tensor(state["4.weight"], 0.1, 0, torch.qint8)
    torch.save(state, file)

    with pytest.raises(ModelError):
        load(file)


def test_a_negative_variance_is_refused(file, state):
    state["1.running_var"][0] = -1
    torch.save(state, file)

    with pytest.raises(ModelError, match=r"'1\.running_var' of weights\.pth is negative"):
        load(file)


def test_a_missing_key_is_named(file, state):
    del state["1.bias"]
    torch.save(state, file)

    with pytest.raises(ModelError, match=r"has no '1\.bias', which simple_cnn"):
        load(file)


def test_a_key_too_many_is_named(file, state):
    torch.save({**state, "extra": torch.zeros(1)}, file)

    with pytest.raises(ModelError, match="holds 'extra'"):
        load(file)


def test_weights_for_other_classes_are_refused_with_both_shapes(file):
    torch.save(models.build(SETTINGS, 10, 8).state_dict(), file)

    with pytest.raises(ModelError, match=r"shape \(10, 512\), .* needs \(3, 512\)"):
        load(file)


def test_weights_from_data_parallel_are_refused_with_the_remedy(file, state):
    torch.save({f"module.{key}": value for key, value in state.items()}, file)

    with pytest.raises(ModelError, match=r"save model\.module\.state_dict"):
        load(file)


def test_a_checkpoint_around_the_weights_is_refused(file, state):
    torch.save({"epoch": 3, "state_dict": state}, file)

    with pytest.raises(ModelError, match=r"'epoch' of weights\.pth is a int, no tensor"):
        load(file)


@pytest.mark.usefixtures("tiny_dataset")
def test_an_imported_run_is_finished_and_can_be_evaluated(file):
    settings = TrainConfig(model="net", dataset="tiny", normalization="dataset")
    torch.save(models.build(settings, 3, 32).state_dict(), file)
    run = foreign.import_run(file, settings, datetime(2026, 1, 2))
    predictions.compute(run.id, "test")

    assert run.state() == runs.State.FINISHED
    assert run.config.recipe == "imported"
    assert card.read(run.model_path).mean == catalog.load("tiny").mean
    assert len(predictions.load(run, "test").labels) == 30


@pytest.mark.usefixtures("tiny_dataset")
def test_a_refused_import_leaves_no_run(file):
    file.write_bytes(b"nothing")

    with pytest.raises(ModelError):
        foreign.import_run(file, TrainConfig(dataset="tiny"), datetime(2026, 1, 2))
    with pytest.raises(DataError):
        foreign.import_run(file, TrainConfig(dataset="gone"), datetime(2026, 1, 2))
    assert runs.all_runs() == []
