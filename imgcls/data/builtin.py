"""The data sets that everybody knows, fetched from where their authors published them.

digits comes with scikit-learn and needs no network; the others are downloaded and checked by
torchvision, which is imported only then. Archives stay in `<home>/downloads/`.
"""

import csv
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgcls import config
from imgcls.data import catalog
from imgcls.data.catalog import Images, Labels
from imgcls.errors import DataError
from imgcls.preprocess import to_pixels

SIZE = 32  # pixels a side, of every built-in data set
STALL = 60.0  # seconds without a byte after which a download is given up
POLL = 0.25  # seconds between two reports of progress


@dataclass(frozen=True)
class _Download:
    title: str
    dataset: str  # class in torchvision.datasets
    files: dict[str, int]  # in downloads/, with their bytes


_RAW = "MNIST/raw/"
_DOWNLOADS = {
    "cifar10": _Download("CIFAR-10", "CIFAR10", {"cifar-10-python.tar.gz": 170_498_071}),
    "cifar100": _Download("CIFAR-100", "CIFAR100", {"cifar-100-python.tar.gz": 169_001_437}),
    "mnist": _Download(
        "MNIST",
        "MNIST",
        {
            f"{_RAW}train-images-idx3-ubyte.gz": 9_912_422,
            f"{_RAW}train-labels-idx1-ubyte.gz": 28_881,
            f"{_RAW}t10k-images-idx3-ubyte.gz": 1_648_877,
            f"{_RAW}t10k-labels-idx1-ubyte.gz": 4_542,
        },
    ),
}


@dataclass(frozen=True)
class _Fetched:
    classes: Sequence[str]
    originals: dict[str, Images]  # split → (N, H, W) or (N, H, W, 3)
    labels: dict[str, Labels]
    resized: str
    source: str
    notes: tuple[str, ...] = ()


def fetch(name: str, progress: Callable[[float, str], None] | None = None) -> catalog.Dataset:
    """Publish a data set of `catalog.BUILT_IN` under its name, downloading it where needed.

    progress: called in this thread with (0..1, what is being done). Raises DataError where the
    name is no built-in data set or taken, or the network or the archive fails; the sentence says
    how to go on.
    """
    say = progress or (lambda share, text: None)
    if name not in catalog.BUILT_IN:
        raise DataError(
            f"No built-in data set named {name!r}. Choose one of: {', '.join(catalog.BUILT_IN)}."
        )
    if catalog.path(name).exists():
        raise DataError(f"Data set {name!r} is on disk already; delete it first to fetch it again.")
    fetched = _digits() if name == "digits" else _downloaded(name, say)
    say(0.95, "Writing")
    with catalog.publishing(name) as draft:
        _write_tables(draft, name, fetched)
        dataset = catalog.write(
            draft,
            name=name,
            classes=fetched.classes,
            splits={
                split: (_to_size(images), fetched.labels[split])
                for split, images in fetched.originals.items()
            },
            resized=fetched.resized,
            source=fetched.source,
            notes=fetched.notes,
        )
    say(1.0, "Done")
    return dataset


def download_progress(name: str) -> float:
    """How much of a built-in data set's archives is on disk, 0..1; any process may ask."""
    if name not in _DOWNLOADS:
        return 1.0
    files = _DOWNLOADS[name].files
    return min(1.0, _bytes_on_disk(name) / sum(files.values()))


def downloads() -> Path:
    """Where archives are kept, and looked for before they are downloaded."""
    return config.home() / "downloads"


def _bytes_on_disk(name: str) -> int:
    paths = (downloads() / file for file in _DOWNLOADS[name].files)
    return sum(path.stat().st_size for path in paths if path.is_file())


def _digits() -> _Fetched:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # 0..16 originally
    labels = bunch.target.astype(np.int64)
    kept, held = catalog.split_indices(labels, 0.2, 0)
    return _Fetched(
        classes=[str(digit) for digit in range(10)],
        originals={"train": images[kept], "test": images[held]},
        labels={"train": labels[kept], "test": labels[held]},
        resized=f"8×8 grey enlarged to {SIZE}×{SIZE} RGB, bicubic",
        source="the digits of scikit-learn (UCI Optical Recognition of Handwritten Digits)",
        notes=("The source has no test images: 20% of each class, drawn by seed 0, are test.",),
    )


def _downloaded(name: str, say: Callable[[float, str], None]) -> _Fetched:
    from torchvision import datasets

    download = _DOWNLOADS[name]
    loader = getattr(datasets, download.dataset)
    train = _watched(lambda: loader(downloads(), train=True, download=True), name, say)
    say(0.9, f"Reading {download.title}")
    test = loader(downloads(), train=False)
    classes = [str(digit) for digit in range(10)] if name == "mnist" else list(train.classes)
    return _Fetched(
        classes=classes,
        originals={"train": _array(train.data), "test": _array(test.data)},
        labels={
            "train": _array(train.targets).astype(np.int64),
            "test": _array(test.targets).astype(np.int64),
        },
        resized=(
            "28×28 grey, 2 px of black added on each side, to 32×32 RGB"
            if name == "mnist"
            else "kept as they are, 32×32 px"
        ),
        source=f"{download.title}, as torchvision downloads it",
    )


def _watched(load: Callable[[], Any], name: str, say: Callable[[float, str], None]) -> Any:
    """What `load` returns; it downloads in a thread so that its progress can be told here."""
    title = _DOWNLOADS[name].title
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["value"] = load()
        except Exception as error:
            box["error"] = error

    # A daemon, since nothing can end a socket that waits; a stalled one must not keep us alive.
    thread = threading.Thread(target=run, name=f"download {name}", daemon=True)
    thread.start()
    seen, since = -1, time.monotonic()
    while thread.is_alive():
        thread.join(POLL)
        now = _bytes_on_disk(name)
        if now != seen:
            seen, since = now, time.monotonic()
        share = download_progress(name)
        say(0.9 * share, f"Downloading {title}" if share < 1 else f"Unpacking {title}")
        if share < 1 and time.monotonic() - since > STALL:
            raise _no_way(name, f"no data for {STALL:.0f} seconds")
    if "error" in box:
        raise _explained(name, box["error"]) from None
    return box["value"]


def _explained(name: str, error: Exception) -> DataError:
    if isinstance(error, HTTPError):
        error.close()  # it holds the connection
    text = str(error)
    if isinstance(error, RuntimeError) and "corrupted" in text:
        return _no_way(name, "the archive is not the published one or is incomplete")
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "no connection"
    if isinstance(error, OSError) and getattr(error, "filename", None) and error.errno is not None:
        return DataError(
            f"{_DOWNLOADS[name].title} could not be kept in the downloads folder ({reason}); "
            "make room or check the rights, and retry."
        )
    return _no_way(name, str(getattr(reason, "strerror", None) or reason))


def _no_way(name: str, why: str) -> DataError:
    files = list(_DOWNLOADS[name].files)
    # As seen from beside the workspace: a page may be public, and its server's folders are not.
    target = (downloads() / files[0]).relative_to(config.home().parent)
    place = str(target)
    if len(files) > 1:
        place = f"{target.parent}/ ({', '.join(Path(file).name for file in files)})"
    return DataError(
        f"{_DOWNLOADS[name].title} could not be downloaded ({why}): retry when online, put the "
        f"published archive at {place}, or import a folder or ZIP of images."
    )


def _array(values: Any) -> NDArray[Any]:
    """Of a list, an array, or a tensor, which numpy converts with a warning only."""
    return np.asarray(values.numpy() if hasattr(values, "numpy") else values)


def _to_size(images: Images) -> Images:
    """uint8 (N, 32, 32, 3) of (N, H, W[, 3]): 28 px are padded with black, 8 px are enlarged."""
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    if images.shape[1] == 28:
        return np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    if images.shape[1] == SIZE:
        return images
    return np.stack([to_pixels(Image.fromarray(image), SIZE) for image in images])


def _write_tables(draft: Path, name: str, fetched: _Fetched) -> None:
    """images.csv of the originals' raw pixels, since they never were single files."""
    with (draft / "images.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(catalog.IMAGE_COLUMNS)
        for split, images in fetched.originals.items():
            table.writerows(_rows(name, split, images, fetched))
    (draft / "refused.csv").write_text("file,reason\n", encoding="utf-8")


def _rows(
    name: str, split: str, images: Images, fetched: _Fetched
) -> Iterator[tuple[str | int, ...]]:
    height, width = images.shape[1:3]
    mode = "RGB" if images.ndim == 4 else "L"
    for index, (image, label) in enumerate(zip(images, fetched.labels[split], strict=True)):
        raw = image.tobytes()
        digest = hashlib.sha256(raw).hexdigest()
        file = f"{name}/{split}/{index:05d}"
        label_name = fetched.classes[int(label)]
        yield split, index, file, label_name, len(raw), width, height, mode, "raw", digest
