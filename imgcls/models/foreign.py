"""Weights from elsewhere: a plain state_dict `.pth`, read as a file that a stranger may have made.

torch reads a damaged or hostile archive without a word more often than one would like, so the
archive is checked before torch sees it, and what comes out is compared with the network it is for.
"""

import io
import re
import warnings
import zipfile
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from imgcls import card, models, runs
from imgcls.config import TrainConfig
from imgcls.data import catalog, tensors
from imgcls.errors import ModelError
from imgcls.events import Ended
from imgcls.models.resized import Resized
from imgcls.runs import Run

LIMITS = {
    "bytes": 512 * 2**20,  # the file; read whole, so that nobody changes it after the checks
    "records": 10_000,  # tensors and the few records beside them
    "pickle": 4 * 2**20,  # bytes that say how records become tensors
}
# What torch.save writes for a state_dict. TorchScript adds code/ and constants.pkl, an exported
# program (.pt2) models/ and data/weights/: whatever else is in the archive, it is no state_dict.
_RECORD = re.compile(
    r"[^/]+/(data\.pkl|data/\d+|version|byteorder"
    r"|\.data/serialization_id|\.format_version|\.storage_alignment)"
)
_REMEDY = "save it again with torch.save(model.state_dict(), file) and retry."


def import_run(file: Path, settings: TrainConfig, now: datetime) -> Run:
    """A finished run, recipe `imported`, around the weights of `file`.

    settings: model, stem, input_size, dataset and normalization must be those that the weights were
    trained with.
    Raises ModelError for unfit weights, DataError where the data set is not on disk; then there is
    no run.
    """
    dataset = catalog.load(settings.dataset)
    settings = settings.replace(recipe="imported", pretrained=False, weights="", freeze=False)
    model = import_state_dict(file, settings, len(dataset.classes), dataset.size)
    mean, std = tensors.statistics(settings)
    run = runs.create(settings, dataset.fingerprint, now)
    about = card.Card(
        architecture=card.architecture(settings),
        classes=dataset.classes,
        size=dataset.size,
        fit=dataset.fit,
        mean=mean,
        std=std,
        run=run.id,
        recipe=settings.recipe,
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        epoch=0,
        val_accuracy=None,
    )
    run.save_model(lambda path: models.save(path, model, about))
    reason = f"Imported from {file.name}; not trained here."
    run.append(Ended(time=time(), state="finished", step=0, reason=reason))
    return run


def import_state_dict(file: Path, settings: TrainConfig, classes: int, size: int) -> nn.Module:
    """The network of `settings` for size×size images, in evaluation mode, with the file's weights.

    Raises ModelError, naming the key, unless keys and shapes are exactly the network's and all
    values are finite. 16- and 64-bit floats become 32-bit.
    """
    model = models.build(
        settings.replace(pretrained=False, weights="", freeze=False), classes, size
    )
    network = f"{settings.model} for {classes} classes at {size} pixels"
    inner = model.network if isinstance(model, Resized) else model  # elsewhere nobody resizes
    fill(inner, read_state_dict(file), file.name, network)
    return model.eval()


def fill(model: nn.Module, state: dict[str, Tensor], name: str, network: str) -> None:
    """Load a file's weights; raises ModelError, naming the key, as `import_state_dict` does."""
    wanted = model.state_dict()
    for key in wanted:
        if key not in state:
            raise ModelError(f"{name} has no {key!r}, which {network} needs.{_hint(state, wanted)}")
    for key, value in state.items():
        if key not in wanted:
            raise ModelError(f"{name} holds {key!r}, which {network} has no place for.")
        if value.shape != wanted[key].shape:
            raise ModelError(
                f"{key!r} of {name} has shape {tuple(value.shape)}, "
                f"{network} needs {tuple(wanted[key].shape)}."
            )
        if value.is_floating_point() != wanted[key].is_floating_point():
            raise ModelError(f"{key!r} of {name} is {value.dtype}, not {wanted[key].dtype}.")
    fitting = {key: value.to(wanted[key].dtype) for key, value in state.items()}
    for key, value in fitting.items():
        if not torch.isfinite(value).all():
            raise ModelError(f"{key!r} of {name} holds NaN or infinity: no use as weights.")
        if key.endswith("running_var") and bool((value < 0).any()):
            raise ModelError(f"{key!r} of {name} is negative, which no variance can be.")
    model.load_state_dict(fitting)


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` by key, on the CPU, dense, of floats or of whole numbers.

    Runs no code from the file. Raises ModelError for a file that is too large, damaged (every
    record's checksum is verified) or anything but a plain state_dict.
    """
    content = read(file)
    _check_archive(file.name, content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of types that are refused below
            state: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise ModelError(f"{file.name} declares more than fits into memory.") from None
    except Exception as error:  # torch names ten classes of damage, none of them its own
        raise ModelError(_why(file.name, str(error))) from None
    if not isinstance(state, dict):
        raise ModelError(f"{file.name} holds a {type(state).__name__}, no state_dict: {_REMEDY}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            shown, kind = str(key)[:80], type(value).__name__
            raise ModelError(f"{shown!r} of {file.name} is a {kind}, no tensor: {_REMEDY}")
        kind = _unfit(value)
        if kind:
            raise ModelError(
                f"{key!r} of {file.name} is a {kind} tensor: only plain ones are read."
            )
    return dict(state)


def read(file: Path) -> bytes:
    """A file's content, up to the limit; raises ModelError where there is none or more."""
    try:
        if not file.is_file():
            raise ModelError(f"There is no file {file.name!r} to import.")
        with open(file, "rb") as handle:
            content = handle.read(LIMITS["bytes"] + 1)
    except OSError as error:
        raise ModelError(f"{file.name} cannot be read: {error.strerror}.") from None
    if len(content) > LIMITS["bytes"]:
        raise ModelError(f"{file.name} is larger than the limit of {LIMITS['bytes'] >> 20} MB.")
    return content


def _check_archive(name: str, content: bytes) -> None:
    """Refuse what torch.save did not write, or what changed since it did."""
    if not content.startswith(b"PK\3\4"):
        raise ModelError(
            f"{name} is no PyTorch file, or one in the format before version 1.6: {_REMEDY}"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            records = archive.infolist()
            _check_records(name, records, len(content))
            broken = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError):
        raise ModelError(f"{name} is damaged or cut short: get it again and retry.") from None
    if broken:
        raise ModelError(f"{name} is damaged: the checksum of {broken} is wrong. Get it again.")


def _check_records(name: str, records: list[zipfile.ZipInfo], size: int) -> None:
    names = [record.filename for record in records]
    if len(names) > LIMITS["records"]:
        raise ModelError(
            f"{name} has {len(names):,} records; at most {LIMITS['records']:,} are read."
        )
    foreign = next((n for n in names if not _RECORD.fullmatch(n)), None)
    if foreign is not None or len({n.split("/")[0] for n in names}) != 1:
        raise ModelError(
            f"{name} is no state_dict but TorchScript, an exported program or another archive "
            f"(it holds {str(foreign)[:80]!r}): {_REMEDY}"
        )
    if len(set(names)) != len(names) or not any(n.endswith("/data.pkl") for n in names):
        raise ModelError(f"{name} holds a record twice or no data.pkl: {_REMEDY}")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ModelError(f"{name} is compressed, which torch.save never does: {_REMEDY}")
    if sum(record.file_size for record in records) > size:
        raise ModelError(f"{name} declares more bytes than it has: {_REMEDY}")
    if any(r.filename.endswith(".pkl") and r.file_size > LIMITS["pickle"] for r in records):
        raise ModelError(f"{name} holds far more than the names and shapes of weights: {_REMEDY}")


def _why(name: str, error: str) -> str:
    """What torch's error means for the person who brought the file."""
    code = re.search(r"GLOBAL ([\w.]{1,80})", error)
    if code:
        return f"{name} holds code or a whole model ({code[1].strip('.')}), never run: {_REMEDY}"
    return f"{name} is damaged or no state_dict: {_REMEDY}"


def _unfit(value: Tensor) -> str:
    """In a word, why this is no dense tensor of floats or whole numbers in memory; or nothing."""
    if value.is_quantized:
        return "quantized"
    if value.layout != torch.strided:
        return "sparse"
    if value.device.type != "cpu":
        return str(value.device.type)
    if type(value) not in (Tensor, nn.Parameter):
        return type(value).__name__
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    # The count of batches in a batch norm is a whole number; everything else is floats.
    return "" if value.dtype in floats or value.dtype == torch.int64 else f"{value.dtype}"


def _hint(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    if all(key.startswith("module.") for key in state):
        return " It was saved from DataParallel: save model.module.state_dict() instead."
    extra = [key for key in state if key not in wanted]
    return f" It holds {extra[0][:80]!r} instead." if extra else ""
