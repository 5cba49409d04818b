"""ZIP archives from strangers: what is inside, and one file of it, without unpacking to disk.

An archive that lies about itself or could hurt is refused whole. Python's zipfile reads the
directory only after its size was checked; files are read here, so a process that decodes needs
an `Entry` and not the directory.
"""

import contextlib
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from imgcls.errors import DataError
from imgcls.preprocess import printable

LIMITS: dict[str, int] = {
    "archive_bytes": 10**9,
    "entries": 200_000,  # files and folders, in a local folder too
    "unpacked_bytes": 4 * 10**9,
    "ratio": 100,  # unpacked to packed, of a file above 1 MB
    "classes": 1_000,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one file lies in an archive."""

    name: str  # relative path with slashes, NFC
    start: int  # of its local header, bytes
    end: int  # where the next header starts
    packed: int  # bytes
    size: int  # bytes unpacked
    deflated: bool
    crc: int


def read_directory(path: Path, limits: Mapping[str, int] = LIMITS) -> list[Entry]:
    """The regular files of an archive; raises DataError for one that must not be opened."""
    shown = printable(path.name)
    size = path.stat().st_size
    if size > limits["archive_bytes"]:
        raise DataError(
            f"{shown}: {size / 1e9:.2f} GB exceeds the {limits['archive_bytes'] / 1e9:g} GB limit; "
            "split it or import a folder on this machine."
        )
    with path.open("rb") as file:
        declared, start = _check_directory(file, size, shown, limits)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except Exception:  # BadZipFile, NotImplementedError, struct.error, UnicodeDecodeError, …
        raise _damaged(shown) from None
    if len(infos) != declared:
        raise _damaged(shown)
    if not infos:
        raise DataError(f"{shown}: the archive is empty; make it again with the images inside.")
    total = sum(info.file_size for info in infos)
    if total > limits["unpacked_bytes"]:
        raise DataError(
            f"{shown}: its files unpack to {total / 1e9:.2f} GB, the limit is "
            f"{limits['unpacked_bytes'] / 1e9:g} GB; import it in parts."
        )
    return _checked(infos, start, shown, limits)


def read(file: BinaryIO, entry: Entry) -> bytes:
    """The bytes of one file of an open archive, never more than its directory declares.

    Raises DataError where the archive's data do not match its directory.
    """
    wrong = DataError("damaged inside the archive (size or checksum differs); make the ZIP again.")
    try:
        file.seek(entry.start)
        header = struct.unpack("<4s22xHH", file.read(30))
        begin = entry.start + 30 + header[1] + header[2]
        if header[0] != b"PK\3\4" or begin + entry.packed > entry.end:
            raise wrong
        file.seek(begin)
        data = file.read(entry.packed)
        if entry.deflated:
            data = zlib.decompressobj(-15).decompress(data, entry.size + 1)
    except (struct.error, zlib.error, OSError, ValueError):
        raise wrong from None
    if len(data) != entry.size or zlib.crc32(data) != entry.crc:
        raise wrong
    return data


def _damaged(shown: str) -> DataError:
    return DataError(
        f"{shown}: not a ZIP archive, or its directory is truncated or damaged; make it again."
    )


def _check_directory(
    file: BinaryIO, size: int, shown: str, limits: Mapping[str, int]
) -> tuple[int, int]:
    """(entries declared, where the directory starts), read without trusting either."""
    tail_start = max(0, size - 22 - 65_535)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    # The end record is the last thing but its own comment, in which another could be faked.
    while at >= 0 and tail[at + 20 : at + 22] != (len(tail) - at - 22).to_bytes(2, "little"):
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0 or len(tail) - at < 22:
        raise _damaged(shown)
    disk, first_disk, here, entries, length, start = struct.unpack_from("<4H2L", tail, at + 4)
    end = tail_start + at
    if (disk, first_disk) not in ((0, 0), (0xFFFF, 0xFFFF)):
        raise DataError(f"{shown}: one part of a split ZIP; join the parts and retry.")
    if 0xFFFF in (here, entries) or 0xFFFFFFFF in (length, start):
        end -= 20 + 56
        file.seek(max(end, 0))
        record = file.read(76)
        if end < 0 or record[:4] != b"PK\6\6" or record[56:60] != b"PK\6\7":
            if entries == 0xFFFF or length == 0xFFFFFFFF:
                raise _damaged(shown)
            end += 76
        else:
            entries, length = struct.unpack_from("<2Q", record, 32)
    if entries > limits["entries"]:
        raise DataError(
            f"{shown}: {entries:,} entries exceed the limit of {limits['entries']:,}; "
            "import it in parts."
        )
    if length > end or length > 500 * limits["entries"]:
        raise _damaged(shown)
    file.seek(end - length)
    if file.read(length).count(b"PK\1\2") < entries:
        raise _damaged(shown)
    return entries, end - length


def _checked(
    infos: list[zipfile.ZipInfo], directory: int, shown: str, limits: Mapping[str, int]
) -> list[Entry]:
    files: list[Entry] = []
    seen: set[str] = set()
    infos = sorted(infos, key=lambda info: info.header_offset)
    ends = [info.header_offset for info in infos[1:]] + [directory]
    for info, end in zip(infos, ends, strict=True):
        name = _name(info)
        says = f"{shown}: entry {printable(name)!r}"
        _check_path(name, says)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{says} is a link or device, not a file; make the ZIP without it.")
        if info.flag_bits & 0x2041:
            raise DataError(f"{says} is encrypted; make the ZIP without a password.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{says} is neither stored nor deflated; make an ordinary ZIP.")
        if info.header_offset + 30 + info.compress_size > end or info.header_offset < 0:
            raise DataError(f"{says} overlaps another one; make the ZIP again.")
        if info.file_size > max(10**6, limits["ratio"] * info.compress_size):
            raise DataError(
                f"{says} unpacks to more than {limits['ratio']} times its size; "
                "make the ZIP of ordinary pictures."
            )
        key = "/".join(part for part in name.split("/") if part not in ("", "."))
        if key in seen:
            raise DataError(f"{says} occurs twice; make the ZIP again with one of them.")
        seen.add(key)
        if not (name.endswith("/") or kind == stat.S_IFDIR or not key):
            files.append(
                Entry(
                    name=key,
                    start=info.header_offset,
                    end=end,
                    packed=info.compress_size,
                    size=info.file_size,
                    deflated=info.compress_type == zipfile.ZIP_DEFLATED,
                    crc=info.CRC,
                )
            )
    return files


def _name(info: zipfile.ZipInfo) -> str:
    name = info.orig_filename  # `filename` was cut at NUL and had its separators replaced
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):  # some archivers write UTF-8 without saying so
            name = name.encode("cp437").decode("utf-8")
    return unicodedata.normalize("NFC", name)


def _check_path(name: str, says: str) -> None:
    if (
        name.startswith("/")
        or "\\" in name
        or re.match(r"[A-Za-z]:", name)
        or ".." in name.split("/")
        or re.search(r"[\x00-\x1f\x7f-\x9f]", name)
        or not name.strip("/ ")
    ):
        raise DataError(f"{says} has an unsafe path; make the ZIP with plain relative paths.")
