"""Images a second that an import takes, from made-up JPEG files."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import Row, own_home

CLASSES = 10
IMAGES_PER_CLASS = 1000
SIDE = 32  # pixels, as CIFAR-10 has


def rows(repeats: int = 3) -> Iterator[Row]:
    """Import a folder, against one process that only decodes the same files with Pillow."""
    from imgcls.data import importer

    with own_home() as home:
        source = home / "source"
        make(source)
        decoded, imported = [], []
        for i in range(repeats):
            start = time.perf_counter()
            for file in source.rglob("*.jpg"):
                with Image.open(file) as image:
                    np.asarray(image.convert("RGB"))
            decoded.append(CLASSES * IMAGES_PER_CLASS / (time.perf_counter() - start))
            start = time.perf_counter()
            importer.import_source(source, f"made-up-{i}", size=SIDE)
            imported.append(CLASSES * IMAGES_PER_CLASS / (time.perf_counter() - start))
    alone = Row("decode alone, 1 process", tuple(decoded), "images/s")
    yield alone
    yield Row(
        f"import {CLASSES * IMAGES_PER_CLASS:,} JPEG files", tuple(imported), "images/s", alone
    )


def make(folder: Path) -> None:
    """Write noise as `<class>/<number>.jpg`, the same at each call."""
    draw = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
        for i in range(IMAGES_PER_CLASS):
            pixels = draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{i:04}.jpg", quality=75)
