"""Write a model in a format, and prove that the file answers as the model does, or leave no file.

The proof: a fresh process that loads the file by its own runtime alone answers real images, another
one does by eager PyTorch in fp32, and both are compared.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import imgcls
from imgcls import files
from imgcls.data import catalog
from imgcls.data.catalog import Images
from imgcls.errors import DataError, ImgclsError, ModelError
from imgcls.evaluate import predictions
from imgcls.evaluate.metrics import wilson_interval
from imgcls.export.formats import Format, known
from imgcls.runs import Run

IMAGES = 2000  # that a file is proved by, at most
ENOUGH = 1000  # of the test split; where it has fewer, validation and training images are added
CALIBRATION = 512  # images that int8's scales come from
TOLERANCE = 1e-4  # of max(1, the largest logit), for a logit's difference; for a probability's
LOSS = 0.005  # of accuracy, that int8 may cost
PATIENCE_SECONDS = 900.0  # for a fresh process
WHO = {"pytorch": "PyTorch", "file": "this file"}
RUNTIMES = Path(__file__).parent / "runtimes"

Certificate = dict[str, Any]
Tell = Callable[[str], object]


def export(
    run: Run, name: str, output: Path, now: datetime, tell: Tell = lambda text: None
) -> Certificate:
    """Write `output` and its certificate beside it, `OUTPUT.certificate.json`.

    Raises ConfigError for a format that is none, RunError or ModelError where the run has no usable
    model, DataError where its images are gone, and ModelError where the format cannot hold the
    network or the file does not agree; nothing is written then.
    """
    from imgcls import deployed
    from imgcls.card import read

    format = known(name)
    about = read(run.model_path)
    output = output.resolve()
    if not output.parent.is_dir():
        raise DataError(f"There is no folder {output.parent} for {output.name}: make it first.")
    pictures, labels, unseen, source = _pictures(run)
    model, facts = deployed.of_run_with_facts(run)
    trust = json.loads(facts)["trust"]
    with tempfile.TemporaryDirectory(prefix=".imgcls-export-", dir=output.parent) as folder:
        draft = Path(folder) / output.name
        tell(f"Writing {output.name}")
        _write(name, model, about, facts, draft, run)
        np.save(Path(folder) / "pictures.npy", pictures)
        tell("Asking PyTorch")
        reference = Path(folder) / "reference.safetensors"
        _write("safetensors", model, about, facts, reference, run)
        eager = _answers(known("safetensors"), reference, Path(folder))
        tell(f"Asking {format.runtime} in a fresh process")
        found = _answers(format, draft, Path(folder))
        certificate = {
            "file": output.name,
            "format": name,
            "bytes": draft.stat().st_size,
            "sha256": files.sha256(draft),
            "model": run.id,
            "classes": list(about.classes),
            "calibrated": trust is not None,
            "temperature": trust["temperature"] if trust else 1.0,
            "images": len(pictures),
            "source": source,
            "made": now.isoformat(timespec="seconds"),
            "versions": _versions(format),
            **compared(eager, found, labels, format, unseen),
        }
        if name == "pth":
            certificate["load"] = (Path(folder) / "load.py").read_text("utf-8")
        refusal = certificate.pop("refused")
        if refusal:
            raise ModelError(f"{name} export of {run.id} refused: {refusal} No file was written.")
        text = json.dumps(certificate, indent=1, ensure_ascii=False)

        def put(path: Path) -> None:
            path.write_text(text, encoding="utf-8")

        # First: what is left by a crash in between is a proof without its file.
        files.write_atomically(certificate_path(output), put)
        files.fsync(draft)
        os.replace(draft, output)
    return certificate


def certificate_path(output: Path) -> Path:
    """Where the certificate of an exported file stands."""
    return output.with_name(f"{output.name}.certificate.json")


def certificate_of(output: Path) -> Certificate:
    """The certificate of an exported file; raises DataError where it is missing or another's."""
    try:
        found: Certificate = json.loads(certificate_path(output).read_text("utf-8"))
        own = found["sha256"] == files.sha256(output)
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{output.name} has no certificate beside it: export it again.") from None
    if not own:
        raise DataError(f"The certificate beside {output.name} is another file's: export it again.")
    return found


def rows(certificate: Certificate) -> list[tuple[str, str]]:
    """What a certificate says, in words and figures."""
    accuracy, taken = certificate["accuracy"], certificate["milliseconds"]
    allowed = certificate["logit_tolerance"]
    apart = f"{certificate['logit_difference']:.2g}"
    told = [
        (
            "largest difference of a logit",
            f"{apart}, {allowed:.2g} allowed" if allowed else f"{apart}, whole numbers inside",
        ),
        ("same likeliest class", f"{certificate['top1_agreement']:.2%}"),
    ]
    if certificate["calibrated"]:
        told.append(("probabilities", f"calibrated, temperature {certificate['temperature']:.3g}"))
    else:
        told.append(("probabilities", "as trained"))
    told.append(("accuracy by", f"{certificate['accuracy_images']:,} of the images"))
    for who, one in accuracy.items():
        share = f"{one['value']:.2%} ({one['low']:.2%} to {one['high']:.2%})"
        told.append((f"accuracy, {WHO[who]}", share))
    for who, one in taken.items():
        milliseconds = f"{one['one']:.2f} ms; in a batch of 64 {one['each_of_64']:.2f} ms"
        told.append((f"one picture, {WHO[who]}", milliseconds))
    return told


def compared(
    eager: dict[str, NDArray[Any]],
    found: dict[str, NDArray[Any]],
    labels: NDArray[np.int64],
    format: Format,
    unseen: int,
) -> Certificate:
    """The figures of a certificate, and in `refused` what speaks against the file; empty if none.

    Accuracy is that of the first `unseen` images, which the model did not learn from, if there are
    any. Float formats: no logit may differ by more than TOLERANCE·max(1, largest |logit|), in a
    batch or alone. Others may lose LOSS of accuracy, over all images.
    """
    ours, theirs = eager["logits"].astype(np.float64), found["logits"].astype(np.float64)
    parts = (theirs, found["single"], found["probabilities"], eager["probabilities"])
    if theirs.shape != ours.shape or not all(np.isfinite(part).all() for part in parts):
        return {"refused": f"it answers {theirs.shape} logits, or not in numbers."}
    false = float(np.abs(found["probabilities"] - eager["probabilities"]).max())
    n, allowed = len(labels), TOLERANCE * max(1.0, float(np.abs(ours).max()))
    apart = float(np.abs(theirs - ours).max())
    alone = float(np.abs(found["single"] - theirs[: len(found["single"])]).max())
    right = {"pytorch": ours.argmax(1) == labels, "file": theirs.argmax(1) == labels}
    accuracy = {}
    for who, hits in right.items():
        hits = hits[: unseen or n]
        low, high = wilson_interval(int(hits.sum()), len(hits))
        accuracy[who] = {"value": float(hits.mean()), "low": low, "high": high}
    lost = (int(right["pytorch"].sum()) - int(right["file"].sum())) / n  # 5 of 1,000 are 0.005
    refused = ""
    if format.floats and max(apart, alone) > allowed:
        refused = (
            f"a logit differs by {max(apart, alone):.2g}, more than the {allowed:.2g} allowed."
        )
    elif format.floats and false > TOLERANCE:
        refused = f"a probability differs by {false:.2g}, more than the {TOLERANCE:g} allowed."
    if not format.floats and lost > LOSS:
        refused = f"it loses {100 * lost:.2f} points of accuracy, more than {100 * LOSS:g}."
    return {
        "logit_difference": apart,
        "logit_difference_alone": alone,
        "logit_tolerance": allowed if format.floats else None,
        "probability_difference": false,
        "top1_agreement": float((ours.argmax(1) == theirs.argmax(1)).mean()),
        "accuracy": accuracy,
        "accuracy_images": unseen or n,
        "milliseconds": {
            who: {"one": 1000 * float(s[0]), "each_of_64": 1000 * float(s[1])}
            for who, s in (("pytorch", eager["seconds"]), ("file", found["seconds"]))
        },
        "refused": refused,
    }


def _write(name: str, model: Any, about: Any, facts: str, path: Path, run: Run) -> None:
    from imgcls.export import writers

    try:
        if name == "onnx-int8":
            writers.onnx_int8(model, about, facts, path, _calibration(run))
        else:
            writers.WRITERS[name](model, about, facts, path)
    except ImgclsError:
        raise
    except Exception as error:  # compilers raise whatever they like
        why = str(error).strip().splitlines()
        raise ModelError(
            f"{name} cannot hold {about.architecture['model']} "
            f"({type(error).__name__}: {why[0][:200] if why else 'no reason given'}). "
            "Choose another format."
        ) from None
    if name == "pth":
        path.with_name("facts.json").write_text(facts, encoding="utf-8")
        lines = writers.lines_to_load(about, path.name)
        path.with_name("load.py").write_text(lines, encoding="utf-8")


def _answers(format: Format, model: Path, folder: Path) -> dict[str, NDArray[Any]]:
    """What a fresh process answers that loads nothing but the runtime and the file."""
    out = folder / f"answers-{format.runtime}.npz"
    ours = format.package == "imgcls"
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | ({"PYTHONPATH": root} if ours else {})
    command = [
        sys.executable, *([] if ours else ["-I"]), str(RUNTIMES / "answer.py"), format.runtime,
        str(model), str(folder / "pictures.npy"), str(out),
    ]  # fmt: skip
    try:
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True,
            errors="replace", timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{model.name} did not answer within {PATIENCE_SECONDS:.0f} s. No file was written."
        ) from None
    if ended.returncode:
        lines = ended.stderr.strip().splitlines()
        why = lines[-1][:300] if lines else f"exit status {ended.returncode}"
        raise ModelError(f"A fresh process cannot use {model.name}: {why} No file was written.")
    with np.load(out, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def proving(run: Run) -> str:
    """The data set whose images prove a run's files: its own, else one with the same classes."""
    here = catalog.names()
    for name in predictions.fitting(run):
        if name in here:
            return name
    raise DataError(
        f"A file of {run.id} is proved on real images, and there are none on disk: on Explore add "
        f"{run.config.dataset}, or any data set with its classes and size."
    )


def _pictures(run: Run) -> tuple[Images, NDArray[np.int64], int, str]:
    """Real images, labels, how many come first that the model never learned from, and a name."""
    dataset = catalog.load(proving(run))
    unseen = 0
    taken: list[tuple[str, Images, NDArray[np.int64]]] = []
    for split in ("test", "validation", "train"):
        missing = (IMAGES if split == "test" else ENOUGH) - sum(len(p) for _, p, _ in taken)
        if missing <= 0 or (split == "test" and split not in dataset.splits):
            continue
        try:
            where = f"{dataset.name}/{split}"
            images, labels, indices = predictions.judged_images(run, where)
        except DataError:
            if split != "test":
                raise
            continue
        rows = indices[_spread(len(indices), missing)]
        taken.append((f"{len(rows):,} {split}", images[rows], labels[rows]))
        unseen += 0 if predictions.learned(run, where) else len(rows)
    said = f"{', '.join(name for name, _, _ in taken)} images of {dataset.name}"
    return (
        np.concatenate([images for _, images, _ in taken]),
        np.concatenate([labels for _, _, labels in taken]).astype(np.int64),
        unseen,
        f"{said}, fingerprint {dataset.fingerprint}",
    )


def _calibration(run: Run) -> Images:
    images, _, indices = predictions.judged_images(run, f"{proving(run)}/validation")
    return images[indices[_spread(len(indices), CALIBRATION)]]


def _spread(n: int, most: int) -> NDArray[np.int64]:
    """At most so many of n places, evenly."""
    return np.linspace(0, n - 1, min(n, most)).round().astype(np.int64)


def _versions(format: Format) -> dict[str, str]:
    names = ["torch", "numpy", *(["onnx", "onnxruntime"] if format.runtime == "onnx" else [])]
    ours = {"python": sys.version.split()[0], "imgcls": imgcls.__version__}
    return ours | {name: metadata.version(name) for name in names}
