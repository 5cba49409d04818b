"""The deploy kit: everything to answer elsewhere, and to prove it there."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import datetime

import pytest

from imgcls import predict
from imgcls.errors import ConfigError, DataError
from imgcls.export import certified, kit
from tests.making import judged_run, png, publish_tiny

NOW = datetime(2026, 11, 26, 12)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_HOME", str(tmp_path_factory.mktemp("home")))
        publish_tiny()
        yield judged_run(model="cnn")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """An ONNX file beside its certificate and its kit."""
    model = tmp_path_factory.mktemp("exported") / "model.onnx"
    certified.export(run, "onnx", model, NOW)
    kit.pack(run, model, model.with_name("kit.zip"))
    return model


@pytest.fixture
def unpacked(exported, tmp_path):
    """The kit, unpacked where no imgcls is near."""
    with zipfile.ZipFile(exported.with_name("kit.zip")) as archive:
        archive.extractall(tmp_path / "kit")
    return tmp_path / "kit"


def python(folder, *arguments, executable=sys.executable):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.fixture
def clean(unpacked, tmp_path):
    """The Python of a new environment that has what the kit asks for, and nothing else."""
    assert python(tmp_path, "-m", "venv", "clean").returncode == 0
    executable = tmp_path / "clean" / "bin" / "python"
    install = ("-m", "pip", "install", "-q", "-r", "requirements.txt")
    installed = python(unpacked, *install, executable=executable)
    if installed.returncode:
        ask = ("-m", "pip", "download", "-q", "--retries", "0", "--no-deps", "pip")
        if python(tmp_path, *ask, executable=executable).returncode:
            pytest.skip("pip reaches no package registry from here: not even pip itself is there")
    assert installed.returncode == 0, installed.stderr
    return executable


def test_it_proves_itself_and_answers_without_imgcls(unpacked, run):
    (unpacked / "mine.png").write_bytes(png())
    (unpacked / "bad.png").write_bytes(b"<svg/>" * 9)

    proved = python(unpacked, "verify.py")
    answered = python(unpacked, "predict.py", "mine.png", "bad.png")
    where = python(unpacked, "-c", "import imgcls; print(imgcls.__file__)")

    assert proved.returncode == 0, proved.stderr
    assert proved.stdout.startswith("agrees: 17 pictures")
    first, second = answered.stdout.splitlines()
    assert first.startswith("mine.png: ")
    assert "%" in first
    assert "an SVG drawing" in second
    assert str(unpacked) in where.stdout


def test_its_program_says_what_imgcls_says_and_what_is_unlike_all(unpacked, run):
    (unpacked / "golden" / "noise.png").write_bytes(png())
    names = [f"golden/{name}.png" for name in ("noise", "photograph", "00", "05", "10", "15")]

    lines = python(unpacked, "predict.py", *names).stdout.splitlines()

    pictures = [(name, (unpacked / name).read_bytes()) for name in names]
    found = predict.predict(run.id, pictures)
    assert {one["known"] for one in found} == {True, False}
    for line, one in zip(lines, found, strict=True):
        shares = ", ".join(f"{best['class']} {best['probability']:.1%}" for best in one["top"])
        unlike = "" if one["known"] else "unlike anything it knows; "
        assert line == f"{one['file']}: {unlike}{shares}"


def test_it_proves_itself_where_nothing_but_its_requirements_is_installed(unpacked, clean):
    (unpacked / "mine.png").write_bytes(png())

    proved = python(unpacked, "verify.py", executable=clean)
    answered = python(unpacked, "predict.py", "mine.png", executable=clean)

    assert proved.returncode == 0, proved.stderr
    assert proved.stdout.startswith("agrees: 17 pictures")
    assert answered.stdout.startswith("mine.png: ")
    for name in ("torch", "scipy", "imgcls"):  # -I: the kit's own folder is not looked into
        absent = python(unpacked, "-I", "-c", f"import {name}", executable=clean)
        assert f"No module named '{name}'" in absent.stderr


def test_another_answer_is_found_out(unpacked):
    path = unpacked / "golden" / "answers.json"
    golden = json.loads(path.read_text("utf-8"))
    golden["logits"]["00.png"][0] += 0.01
    path.write_text(json.dumps(golden), "utf-8")

    proved = python(unpacked, "verify.py")

    assert proved.returncode == 1
    assert proved.stdout.startswith("DOES NOT AGREE")


def test_it_names_what_it_needs_and_what_it_is(unpacked, run):
    assert (unpacked / "requirements.txt").read_text().split("\n")[0].startswith("onnxruntime")
    assert "python verify.py" in (unpacked / "Dockerfile").read_text()
    card = (unpacked / "CARD.md").read_text("utf-8")
    assert run.facts["fingerprint"] in card
    assert len((unpacked / "predict.py").read_text().splitlines()) <= 30


def test_a_file_that_is_not_its_certificates_is_refused(run, exported, tmp_path):
    model = tmp_path / exported.name
    shutil.copy(certified.certificate_path(exported), certified.certificate_path(model))
    shutil.copy(exported, model)
    model.write_bytes(model.read_bytes() + b"x")

    with pytest.raises(DataError, match="is another file's"):
        kit.pack(run, model, tmp_path / "kit.zip")

    certified.certificate_path(model).unlink()
    with pytest.raises(DataError, match="has no certificate"):
        kit.pack(run, model, tmp_path / "kit.zip")
    assert not (tmp_path / "kit.zip").exists()


def test_a_format_that_needs_imgcls_has_no_kit(run, tmp_path):
    model = tmp_path / "model.safetensors"
    certified.export(run, "safetensors", model, NOW)

    with pytest.raises(ConfigError, match="take onnx, onnx-int8"):
        kit.pack(run, model, tmp_path / "kit.zip")


@pytest.mark.parametrize(("part", "value"), [("logits", "nan"), ("probabilities", "0.5")])
def test_nan_and_false_probabilities_do_not_agree(unpacked, part, value):
    runtime = next(unpacked.glob("run_*.py"))
    index = ("logits", "probabilities").index(part)
    runtime.write_text(
        runtime.read_text("utf-8")
        + f"""

honest = load

def load(path, threads=0):
    answer, told = honest(path, threads)
    def false(pictures):
        parts = list(answer(pictures))
        parts[{index}] = parts[{index}] * 0 + float("{value}")
        return parts
    return false, told
""",
        "utf-8",
    )

    proved = python(unpacked, "verify.py")

    assert proved.returncode == 1
    assert proved.stdout.startswith("DOES NOT AGREE")
