"""A picture becomes the same tensor on every way: import, prediction, tables, serving, export."""

import asyncio
import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from imgcls import batch, files, predict, preprocess, runs
from imgcls.data import decoder
from imgcls.data.sources import Item
from imgcls.data.tensors import normalize
from imgcls.deployed import Deployed
from imgcls.serve.decoding import Decoders

SIZE = 32  # of the model that ships


def painted(mode):
    """A 40×24 picture of many colours and, where the mode has one, a veil."""
    chance = np.random.default_rng(0)
    colours = Image.fromarray(chance.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    if mode == "I;16":
        return Image.fromarray(chance.integers(0, 65_536, (24, 40)).astype(np.uint16))
    image = colours.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(chance.integers(0, 256, (24, 40), dtype=np.uint8)))
    return image


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(painted("RGB"), "PNG", exif=exif)


PICTURES = {
    **{f"{mode.replace(';', '')}.png": encoded(painted(mode), "PNG")
       for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "cmyk.jpg": encoded(painted("CMYK"), "JPEG"),
    "grey.jpg": encoded(painted("L"), "JPEG"),
    "webp.webp": encoded(painted("RGBA"), "WEBP", lossless=True),
    "turned.png": turned(),
}  # fmt: skip


@pytest.fixture
def folder(home, tmp_path):
    made = tmp_path / "pictures"
    made.mkdir()
    for name, data in PICTURES.items():
        (made / name).write_bytes(data)
    return made


@pytest.mark.parametrize("fit", preprocess.FITS)
def test_every_mode_comes_to_the_same_pixels_on_every_way(folder, tmp_path, monkeypatch, fit):
    names = list(PICTURES)
    ours = np.stack(
        [
            preprocess.to_pixels(preprocess.open_picture(PICTURES[name], name).image, SIZE, fit)
            for name in names
        ]
    )

    items = [Item(file=name, place=folder / name, label="x", split="train") for name in names]
    raw = tmp_path / "pixels"
    decoder.decode_all(items, None, raw, SIZE, fit, stop=True)
    imported = np.fromfile(raw, np.uint8).reshape(ours.shape)

    def of_fit(*key, load=predict._model):
        model, about = load(*key)
        return model, replace(about, fit=fit)

    monkeypatch.setattr(predict, "_model", of_fit)
    answers = predict.predict(runs.SHIPPED, [(name, PICTURES[name]) for name in names])
    predicted = np.stack([answer["seen"] for answer in answers])

    blocks = batch._decoded(iter([folder / name for name in names]), SIZE, fit)
    tabled = np.stack(
        [np.frombuffer(p, np.uint8).reshape(SIZE, SIZE, 3) for block in blocks for _, p in block]
    )

    async def serve():
        decoders = Decoders(SIZE, fit, 1)
        found = [await decoders.decode(name, PICTURES[name]) for name in names]
        decoders.close()
        return np.stack([seen.pixels for seen in found])

    for way in (imported, predicted, tabled, asyncio.run(serve())):
        assert np.array_equal(way, ours)


def test_pixels_come_to_the_same_floats_in_training_and_in_what_is_exported():
    pixels = torch.randint(0, 256, (4, SIZE, SIZE, 3), dtype=torch.uint8)
    mean, std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
    inside = []

    class Seen(torch.nn.Module):
        def forward(self, images):
            inside.append(images)
            return images.mean((2, 3))

    Deployed(Seen(), mean, std, 1.0)(pixels)

    assert torch.equal(inside[0], normalize(pixels, mean, std))


def test_a_kit_carries_this_very_preprocessing(monkeypatch, tmp_path):
    from imgcls.export import certified, kit

    monkeypatch.setattr(kit, "_golden", lambda run, certificate, model: {})
    monkeypatch.setenv("IMGCLS_HOME", str(tmp_path))
    model = tmp_path / "model.onnx"
    model.write_bytes(b"a model")
    certificate = {"format": "onnx", "sha256": files.sha256(model)}
    certified.certificate_path(model).write_text(json.dumps(certificate))

    kit.pack(runs.shipped(), model, tmp_path / "kit.zip")

    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        carried = archive.read("imgcls/preprocess.py")
    with open(preprocess.__file__, "rb") as file:
        assert carried == file.read()
