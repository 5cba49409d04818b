"""A picture to pixels, the only way there is: import, evaluation, prediction and serving use it.

Everything is checked before it is decoded, and nothing is guessed: a picture is read whole or
refused with one sentence. Decoding needs Pillow and numpy only, so the processes that open
strangers' files stay small. This module changes no global state of Pillow or of the process.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from imgcls.errors import DataError, TooLargeError, WrongTypeError

LIMITS = {
    "bytes": 10 * 2**20,  # a file
    "pixels": 25_000_000,  # a picture
    "side": 65_535,  # pixels; a resize of longer sides needs tables larger than the picture
    "scans": 200,  # of a progressive JPEG; thousands of empty ones would take hours
    "scanned": 500_000_000,  # pixels times scans, about a second; programs write some ten scans
}
FITS = ("squash", "crop", "pad")

# Pillow's own classes instead of Image.open: that one warns or raises by its own pixel limit.
_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".webp": "WEBP"}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OTHER_TYPES = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "an EPS or PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "an EPS document"),
    (b"8BPS", "a Photoshop document"),
    (b"SIMPLE  =", "a FITS image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"II+\0", "a TIFF image"),
    (b"MM\0+", "a TIFF image"),
    (b"\0\0\1\0", "an icon"),
    (b"\0\0\0\x0cjP", "a JPEG 2000 image"),
    (b"\0\0\0\x0cJXL", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"PK\3\4", "a ZIP archive"),
    (b"PK\5\6", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)


@dataclass(frozen=True)
class Picture:
    """A decoded picture, and what its file was."""

    image: Image.Image  # RGB, upright, without metadata
    width: int  # pixels as stored, before EXIF turned the picture
    height: int
    mode: str  # Pillow's name, as stored
    format: str  # PNG, JPEG or WEBP
    notes: tuple[str, ...] = ()  # what was done to it, such as "transparent parts on white"


def open_picture(data: bytes, name: str) -> Picture:
    """Decode the bytes of a PNG, JPEG or WebP file; `name` is what error sentences call it.

    Raises TooLargeError, WrongTypeError, or DataError for one that is truncated or damaged, and
    nothing else. Limits are in `LIMITS`; the size in pixels is checked before decoding.
    """
    shown = printable(name)
    format = _sniff(data, shown)
    try:
        _check_whole(data, format)
        image = _OPENERS[format](io.BytesIO(data))
        _check_size(*image.size)
        frames = getattr(image, "n_frames", 1)
        width, height, mode = *image.size, image.mode
        if format == "JPEG":
            _check_scans(data, width * height)
        image.load()
        if format == "JPEG" and _is_grey_filled(image, data):
            raise DataError(_TRUNCATED)
        turned = _upright(image)
        rgb, on_white = _rgb(turned)
    except DataError as error:  # the part of the sentence that follows the file's name
        raise type(error)(f"{shown}: {error}") from None
    except (
        Exception
    ):  # Pillow raises a dozen classes for damaged files, Warning and SyntaxError too
        raise DataError(
            f"{shown}: the {format} data is damaged and cannot be decoded; save it again and retry."
        ) from None
    rgb.info = {}  # no EXIF, and so no place where it was taken, in any copy
    notes = []
    suffix = PurePosixPath(name).suffix.lower()
    if _SUFFIXES.get(suffix, format) != format:
        notes.append(f"a {format} named {suffix}")
    if frames > 1:
        notes.append(f"first of {frames} frames")
    if turned is not image:
        notes.append("turned upright by its EXIF orientation")
    if format == "PNG" and data[24] == 16:
        notes.append("16 bits a channel rescaled")
    if mode == "CMYK":
        notes.append("CMYK turned into RGB")
    if on_white:
        notes.append("transparent parts on white")
    return Picture(rgb, width, height, mode, format, tuple(notes))


def to_pixels(image: Image.Image, size: int, fit: str = "squash") -> NDArray[np.uint8]:
    """The RGB picture as uint8 (size, size, 3), antialiased; same-sized pictures stay identical.

    fit: squash takes all of it and changes its proportions, crop takes the central square,
    pad keeps proportions and fills the rest with white. Raises ValueError for another word.
    """
    width, height = image.size
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, got {fit!r}.")
    if (width, height) != (size, size):
        bicubic = Image.Resampling.BICUBIC
        if fit == "squash" or width == height:
            image = image.resize((size, size), bicubic)
        elif fit == "crop":
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            image = image.resize((size, size), bicubic, (left, top, left + side, top + side))
        else:
            scale = size / max(width, height)
            inner = max(1, round(width * scale)), max(1, round(height * scale))
            small = image.resize(inner, bicubic)
            image = Image.new("RGB", (size, size), "white")
            image.paste(small, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return np.array(image, np.uint8)


def printable(name: str) -> str:
    """A file's name as one line that any screen, JSON or CSV can show, at most 120 characters."""
    clean = name
    if not name.isprintable():
        clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return clean if len(clean) <= 120 else f"{clean[:60]}…{clean[-59:]}"


_TRUNCATED = "the file is truncated; copy it again or get it anew and retry."


def _sniff(data: bytes, shown: str) -> str:
    """PNG, JPEG or WEBP by the first bytes; raises DataError that names the true type."""
    if not data:
        raise DataError(f"{shown}: the file is empty, not an image; save it again and retry.")
    if len(data) > LIMITS["bytes"]:
        raise TooLargeError(
            f"{shown}: {len(data) / 2**20:.1f} MB exceeds the {LIMITS['bytes'] // 2**20} MB limit; "
            "save it smaller and retry."
        )
    head = data[:16]
    if len(data) < 24:
        raise DataError(
            f"{shown}: not an image, or truncated after {len(data)} bytes; save it again and retry."
        )
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    raise WrongTypeError(
        f"{shown}: {_true_type(data)}, not a PNG, JPEG or WebP image; convert it and retry."
    )


def _true_type(data: bytes) -> str:
    for magic, kind in _OTHER_TYPES:
        if data.startswith(magic):
            return kind
    if data[4:8] == b"ftyp":
        return "a HEIC, AVIF or MP4 file"
    text = data[:2048].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in text:
        return "an SVG drawing"
    if text.startswith((b"<!doctype html", b"<html")) or b"<html" in text:
        return "an HTML page"
    if text.startswith(b"<?xml"):
        return "an XML document"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in text):
        return "a text file"
    return "a file of unknown type"


def _check_whole(data: bytes, format: str) -> None:
    """Refuse what is cut short, which decoders would fill with grey, or has wrong checksums."""
    if format == "PNG":
        cut = b"IEND\xaeB`\x82" not in data
    elif format == "JPEG":  # whether its scans are full only decoding tells: see _is_grey_filled
        cut = _end_of_jpeg(data) is None
    else:
        cut = len(data) < struct.unpack_from("<I", data, 4)[0] + 8
        if not cut:
            _check_size(*_webp_size(data))  # Pillow allocates the canvas while opening
    if cut:
        raise DataError(_TRUNCATED)
    if format == "PNG":  # loading skips the checksums of the pixel data
        PngImagePlugin.PngImageFile(io.BytesIO(data)).verify()


def _check_scans(data: bytes, pixels: int) -> None:
    most = min(LIMITS["scans"], LIMITS["scanned"] // pixels)
    if data.count(b"\xff\xda") > most:
        raise DataError(f"more than {most} scans in a JPEG of its size; save it again and retry.")


def _end_of_jpeg(data: bytes) -> int | None:
    """Where the end marker of a JPEG stands, segment by segment; None where it never comes."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # entropy-coded bytes, in which 0xFF is followed by 0 or a restart
            at = data.find(b"\xff", at)
            if at < 0:
                return None
        kind = data[at + 1] if at + 1 < len(data) else 0
        if kind == 0xD9:
            return at
        if kind == 0xFF:
            at += 1
        elif kind in (0x00, 0x01, *range(0xD0, 0xD8)):
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return len(data) - 2 if data.endswith(b"\xff\xd9") else None


def _is_grey_filled(image: Image.Image, data: bytes) -> bool:
    """Whether scans end before the picture does, which libjpeg hides by filling it with grey.

    The last pixel of such a picture is mid-grey. Where it is, the picture is decoded once more with
    bytes added to the end of its last scan: a complete picture has no use for them.
    """
    last = image.getpixel((image.width - 1, image.height - 1))
    if not set(last if isinstance(last, tuple) else (last,)) <= {127, 128}:  # 127: inverted CMYK
        return False
    more = b"".join(b"\x55\xaa" * 32 + bytes((0xFF, 0xD0 + n)) for n in range(8))
    probe = _OPENERS["JPEG"](io.BytesIO(data[: _end_of_jpeg(data)] + more * 4 + b"\xff\xd9"))
    probe.load()
    return probe.tobytes() != image.tobytes()


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            1 + int.from_bytes(data[24:27], "little"),
            1 + int.from_bytes(data[27:30], "little"),
        )
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _check_size(width: int, height: int) -> None:
    if width * height > LIMITS["pixels"]:
        megapixels = LIMITS["pixels"] // 1_000_000
        raise TooLargeError(
            f"{width}×{height} px exceeds the {megapixels} MP limit; resize it and retry."
        )
    if max(width, height) > LIMITS["side"]:
        raise TooLargeError(
            f"{width}×{height} px exceeds the limit of {LIMITS['side']:,} px a side; "
            "resize it and retry."
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        method = _UPRIGHT.get(image.getexif().get(0x0112, 1))
    except Exception:  # damaged or unhashable EXIF says nothing about the pixels
        method = None
    return image if method is None else image.transpose(method)


def _rgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """The picture as RGB, and whether any of it was transparent."""
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would saturate
        deep = np.asarray(image).astype(np.uint32)
        clear = deep == image.info.get("transparency", -1)
        deep[clear] = 65_535
        grey = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
        return grey.convert("RGB"), bool(clear.any())
    if not image.has_transparency_data:
        return image.convert("RGB"), False
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")  # 100 MB at 25 MP
    alpha = rgba.getchannel("A")
    canvas = Image.new("RGB", rgba.size, "white")
    canvas.paste(rgba, mask=alpha)
    lowest = alpha.getextrema()[0]
    return canvas, isinstance(lowest, (int, float)) and lowest < 255
