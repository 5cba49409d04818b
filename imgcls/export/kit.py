"""A zip that puts an exported model to work where imgcls is not: code, model, proof, answers."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import imgcls
from imgcls import files, runs
from imgcls.data import catalog
from imgcls.errors import ConfigError
from imgcls.evaluate import predictions
from imgcls.export import certified
from imgcls.export.formats import FORMATS, known
from imgcls.preprocess import open_picture, printable, to_pixels
from imgcls.runs import Run

GOLDEN = 16  # images of the data set, besides a photograph that has to be made smaller
WHOLE = 0.1  # of max(1, the largest logit): what another processor may change in int8
PIXELS = 2  # that other versions of Pillow may change a pixel by, of 255
FILES = Path(__file__).parent / "kit_files"
DOCKERFILE = """FROM python:3.12-slim
WORKDIR /kit
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
RUN python verify.py
ENTRYPOINT ["python", "predict.py"]
"""


def pack(run: Run, model: Path, kit: Path) -> None:
    """Write the deploy kit of an exported file that stands beside its certificate.

    Raises ConfigError for a format that only imgcls reads, DataError where the certificate is
    missing or another file's.
    """
    certificate = certified.certificate_of(model)
    format = known(certificate["format"])
    if format.package == "imgcls":
        others = [name for name, one in FORMATS.items() if one.package != "imgcls"]
        raise ConfigError(
            f"A kit is for where imgcls is not, and {certificate['format']} needs it: take "
            f"{', '.join(others)}."
        )
    runtime = f"run_{format.runtime}"
    golden = _golden(run, certificate, model)
    held: dict[str, bytes] = {
        model.name: model.read_bytes(),
        "certificate.json": certified.certificate_path(model).read_bytes(),
        "CARD.md": card_of(run, certificate).encode(),
        "kit.json": json.dumps({"model": model.name, "runtime": runtime}).encode(),
        "requirements.txt": f"{format.package}\nnumpy>=2.1\npillow>=13\n".encode(),
        "Dockerfile": DOCKERFILE.encode(),
        f"{runtime}.py": (certified.RUNTIMES / f"{runtime}.py").read_bytes(),
        # The very code that makes pictures into pixels here.
        "imgcls/__init__.py": f'__version__ = "{imgcls.__version__}"\n'.encode(),
        **{
            f"imgcls/{name}": (Path(imgcls.__file__).parent / name).read_bytes()
            for name in ("errors.py", "preprocess.py", "trust.py")
        },
        **{name: (FILES / name).read_bytes() for name in ("predict.py", "verify.py")},
        **golden,
    }

    def write(draft: Path) -> None:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in held.items():
                archive.writestr(name, data)

    files.write_atomically(kit, write)


def card_of(run: Run, certificate: dict[str, Any]) -> str:
    """A model card in Markdown; that of the model that ships is its own."""
    if run.id == runs.SHIPPED:
        return (run.path / "CARD.md").read_text("utf-8")
    accuracy = certificate["accuracy"]["pytorch"]
    classes = ", ".join(printable(name) for name in certificate["classes"])
    trusted = (
        "with a temperature from validation images" if certificate["calibrated"] else "as trained"
    )
    return f"""# {run.id}

| | |
|---|---|
| classes | {classes} |
| recipe | {run.config.recipe}, seed {run.config.seed}, {run.config.epochs} epochs |
| data | {run.config.dataset}, fingerprint {run.facts["fingerprint"]} |
| code | {run.facts.get("commit") or "not from a clone"} |
| accuracy | {accuracy["value"]:.2%} (95 % interval {accuracy["low"]:.2%} to {accuracy["high"]:.2%}) on {certificate["accuracy_images"]:,} images of {certificate["source"].split(" images of ")[-1].split(", fingerprint")[0]} |
| probabilities | {trusted} |

It knows these classes and nothing else: of a picture of something else it names one of them all the same.
"""


def _golden(run: Run, certificate: dict[str, Any], model: Path) -> dict[str, bytes]:
    """Pictures as PNG files, and what the exported file answers to them here."""
    import importlib
    import sys

    folder = str(certified.RUNTIMES)
    if folder not in sys.path:
        sys.path.append(folder)
    format = known(certificate["format"])
    answer, facts = importlib.import_module(f"run_{format.runtime}").load(str(model))
    size, fit = facts["card"]["size"], facts["card"]["fit"]
    dataset = catalog.load(certified.proving(run))
    opened = "test" in dataset.splits and predictions.load(run, "test") is not None
    split = "test" if opened else "validation"
    images, _, indices = predictions.judged_images(run, f"{dataset.name}/{split}")
    rows = indices[np.linspace(0, len(indices) - 1, min(GOLDEN, len(indices))).astype(int)]
    held = {f"{i:02d}.png": _png(Image.fromarray(images[row])) for i, row in enumerate(rows)}
    photograph = open_picture((runs.ASSETS / "examples" / "cat.jpg").read_bytes(), "cat.jpg")
    held["photograph.png"] = _png(photograph.image)
    logits, probabilities, pixels = {}, {}, {}
    for name, data in held.items():
        seen = to_pixels(open_picture(data, name).image, size, fit)
        logits[name], probabilities[name] = (part[0].tolist() for part in answer(seen[None]))
        if name == "photograph.png":
            pixels[name] = seen.tolist()
    largest = max(1.0, *(abs(value) for row in logits.values() for value in row))
    told = {
        "logits": logits,
        "probabilities": probabilities,
        "pixels": pixels,
        "tolerance": (certified.TOLERANCE if format.floats else WHOLE) * largest,
        "probability_tolerance": certified.TOLERANCE if format.floats else WHOLE,
        "pixel_tolerance": PIXELS,
    }
    return {f"golden/{n}": d for n, d in held.items()} | {
        "golden/answers.json": json.dumps(told).encode()
    }


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
