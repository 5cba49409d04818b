import io
import os
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from imgcls.errors import DataError
from imgcls.preprocess import FITS, LIMITS, open_picture, printable, to_pixels


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(width=60, height=40, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, data, depth=8, color=0):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def zero_png(width, height):
    packer = zlib.compressobj(9)
    row = bytes(width + 1)
    return png(
        width, height, b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    )


def test_a_png_comes_out_as_it_went_in():
    image = noise()

    picture = open_picture(encoded(image, "PNG"), "a.png")

    assert picture.image.tobytes() == image.tobytes()
    assert (picture.width, picture.height, picture.mode, picture.format) == (60, 40, "RGB", "PNG")
    assert picture.notes == ()


@pytest.mark.parametrize("size", [(100_000, 100_000), (9_400, 9_500), (65_535, 400)])
def test_too_many_pixels_are_refused_by_the_header_alone(size):
    with pytest.raises(DataError) as refusal:
        open_picture(png(*size, bytes(1024)), "photo.png")

    assert str(refusal.value) == (
        f"photo.png: {size[0]}×{size[1]} px exceeds the 25 MP limit; resize it and retry."
    )


def test_a_long_side_is_refused():
    with pytest.raises(DataError, match="100000×2 px exceeds the limit of 65,535 px a side"):
        open_picture(png(100_000, 2, bytes(1024)), "photo.png")


@pytest.mark.parametrize("kind", [b"VP8X", b"VP8L", b"VP8 "])
def test_a_huge_webp_is_refused_before_its_canvas_is_made(kind):
    body = {
        b"VP8X": struct.pack("<I", 10) + bytes(4) + b"\xff\x3e\x00" * 2,
        b"VP8L": struct.pack("<IBI", 5, 0x2F, 0x3EFF | 0x3EFF << 14),
        b"VP8 ": struct.pack("<I", 10)
        + b"\x10\x00\x00\x9d\x01\x2a"
        + struct.pack("<HH", 16128, 16128),
    }[kind]
    data = b"WEBP" + kind + body + bytes(8)

    with pytest.raises(DataError, match="16128×16128 px exceeds the 25 MP limit"):
        open_picture(b"RIFF" + struct.pack("<I", len(data)) + data, "a.webp")


def test_a_zero_filled_png_of_169_megapixels_takes_no_memory():
    program = (
        "import resource, sys; from imgcls.preprocess import open_picture\n"
        "from imgcls.errors import DataError\n"
        "data = sys.stdin.buffer.read()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: open_picture(data, 'photo.png')\n"
        "except DataError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )

    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        input=zero_png(13_000, 13_000), capture_output=True, check=True,
    ).stdout.decode().splitlines()  # fmt: skip

    assert answer[0] == ("photo.png: 13000×13000 px exceeds the 25 MP limit; resize it and retry.")
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(answer[1]) * unit < 50e6


def test_a_file_above_ten_megabytes_is_refused():
    with pytest.raises(DataError, match=r"a\.png: 10\.0 MB exceeds the 10 MB limit"):
        open_picture(bytes(LIMITS["bytes"] + 1), "a.png")


@pytest.mark.parametrize("percent", range(5, 100, 5))
@pytest.mark.parametrize(
    "options",
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {})],
    ids=["jpeg", "progressive", "png", "webp"],
)
def test_a_file_cut_short_is_refused_and_never_filled_with_grey(options, percent):
    data = encoded(noise(), options[0], **options[1])

    with pytest.raises(DataError, match="truncated"):
        open_picture(data[: len(data) * percent // 100], "a.jpg")


def test_a_jpeg_that_lacks_only_its_end_is_refused():
    with pytest.raises(DataError, match="truncated"):
        open_picture(encoded(noise(), "JPEG")[:-2], "a.jpg")


def test_every_flipped_checksum_of_a_png_is_refused():
    data = encoded(noise(), "PNG")
    for kind in (b"IHDR", b"IDAT", b"IEND"):
        at = data.index(kind)
        end = at + 4 + struct.unpack(">I", data[at - 4 : at])[0]
        broken = data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]
        with pytest.raises(
            DataError, match=r"^a\.png: the (PNG data is damaged|file is truncated)"
        ):
            open_picture(broken, "a.png")


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"", "empty"), (b"x", "not an image"), (b"\xff\xd8\xff", "not an image")],
)
def test_next_to_nothing_is_not_an_image(data, says):
    with pytest.raises(DataError, match=says):
        open_picture(data, "a.png")


@pytest.mark.parametrize(
    ("data", "true_type"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "an SVG drawing"),
        (b'<?xml version="1.0"?>\n<svg width="3"></svg>', "an SVG drawing"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
        (b"%PDF-1.7 and so on, and so on", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "an EPS or PostScript document"),
        (b"8BPS\0\1" + bytes(40), "a Photoshop document"),
        (b"SIMPLE  =                    T", "a FITS image"),
        (encoded(noise(), "TIFF"), "a TIFF image"),
        (encoded(noise(), "GIF"), "a GIF image"),
        (encoded(noise(), "BMP"), "a BMP image"),
        (b"PK\3\4" + bytes(40), "a ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"only some words in a file.", "a text file"),
        (bytes(range(40)), "a file of unknown type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_is_refused_by_its_true_type(data, true_type):
    with pytest.raises(DataError) as refusal:
        open_picture(data, "photo.png")

    assert str(refusal.value) == (
        f"photo.png: {true_type}, not a PNG, JPEG or WebP image; convert it and retry."
    )


def test_a_jpeg_named_png_is_taken_and_noted():
    assert open_picture(encoded(noise(), "JPEG"), "a.png").notes == ("a JPEG named .png",)


def test_cmyk_red_is_red():
    picture = open_picture(encoded(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG"), "a.jpg")

    assert np.abs(np.array(picture.image.getpixel((4, 4))) - (255, 0, 0)).max() <= 8
    assert picture.notes == ("CMYK turned into RGB",)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_what_transparency_hides_stays_hidden(format):
    data = encoded(Image.new("RGBA", (9, 9), (255, 0, 0, 0)), format, lossless=True, exact=True)

    picture = open_picture(data, "a")

    assert picture.image.getpixel((4, 4)) == (255, 255, 255)
    assert picture.notes == ("transparent parts on white",)


def test_half_transparent_red_is_pink():
    data = encoded(Image.new("RGBA", (9, 9), (255, 0, 0, 128)), "PNG")

    assert np.allclose(open_picture(data, "a").image.getpixel((4, 4)), (255, 127, 127), atol=1)


def test_a_transparent_colour_of_a_palette_becomes_white():
    image = Image.new("P", (9, 9), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])

    data = encoded(image, "PNG", transparency=1)

    assert open_picture(data, "a").image.getpixel((4, 4)) == (255, 255, 255)


def test_opaque_alpha_is_no_news():
    assert open_picture(encoded(Image.new("RGBA", (9, 9), "red"), "PNG"), "a").notes == ()


def test_sixteen_bit_grey_is_rescaled_and_not_saturated():
    deep = np.arange(0, 65_536, dtype=np.uint16).reshape(256, 256)

    picture = open_picture(encoded(Image.fromarray(deep), "PNG"), "a.png")

    expected = np.rint(deep / 257).astype(np.uint8)
    assert (np.asarray(picture.image) == expected[..., None]).all()
    assert picture.notes == ("16 bits a channel rescaled",)


def test_sixteen_bit_grey_may_have_a_transparent_value():
    deep = Image.fromarray(np.array([[500, 60_000]], np.uint16))

    picture = open_picture(encoded(deep, "PNG", transparency=500), "a.png")

    assert [picture.image.getpixel((x, 0))[0] for x in (0, 1)] == [255, 233]


def test_sixteen_bit_colour_is_noted():
    row = b"\0" + struct.pack(">3H", 65_535, 32_896, 0)

    picture = open_picture(png(1, 1, zlib.compress(row), depth=16, color=2), "a.png")

    assert picture.image.getpixel((0, 0)) == (255, 128, 0)
    assert picture.notes == ("16 bits a channel rescaled",)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_becomes_rgb(mode):
    assert open_picture(encoded(Image.new(mode, (5, 4)), "PNG"), "a").image.mode == "RGB"


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format, orientation):
    upright = np.asarray(noise(30, 20))
    undo = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation

    data = encoded(Image.fromarray(undo[orientation].copy()), format, exif=exif, lossless=True)

    assert (np.asarray(open_picture(data, "a").image) == upright).all()


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_an_orientation_that_does_not_exist_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = noise()

    picture = open_picture(encoded(image, "PNG", exif=exif), "a")

    assert picture.image.tobytes() == image.tobytes()


def test_broken_exif_is_no_reason_to_refuse():
    assert open_picture(encoded(noise(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"), "a")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_no_copy_says_where_the_picture_was_taken(format):
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x010F] = "SECRET-CAMERA"
    image = open_picture(encoded(noise(), "JPEG", exif=exif), "a.jpg").image

    copy = encoded(image, format)

    assert b"SECRET-CAMERA" not in copy
    assert not Image.open(io.BytesIO(copy)).getexif()


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_taken(format):
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "lime", "blue")]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)

    picture = open_picture(data, "a")

    assert picture.image.getpixel((4, 4)) == (255, 0, 0)
    assert picture.notes == ("first of 3 frames",)


def test_a_jpeg_of_thousands_of_scans_is_refused():
    data = encoded(noise(), "JPEG")
    at = data.index(b"\xff\xda")

    with pytest.raises(DataError, match="more than 200 scans in a JPEG"):
        open_picture(data[:at] + b"\xff\xda\0\2" * 300 + data[at:], "a.jpg")


def test_a_large_jpeg_may_have_fewer_scans_than_a_small_one():
    data = encoded(Image.new("L", (5000, 5000), 128), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")

    assert open_picture(data, "a.jpg").width == 5000
    with pytest.raises(DataError, match="more than 20 scans in a JPEG of its size"):
        open_picture(data[:-2] + data[last:-2] * 30 + b"\xff\xd9", "a.jpg")


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1, 1), (1, 65_500), (65_500, 1), (31, 33)])
def test_every_shape_fits(size, fit):
    image = open_picture(encoded(Image.new("RGB", size, "red"), "PNG"), "a").image

    pixels = to_pixels(image, 32, fit)

    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert (pixels[15, 15] == (255, 0, 0)).all()


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_stays_identical(fit):
    image = noise(32, 32)

    assert to_pixels(image, 32, fit).tobytes() == image.tobytes()


def test_crop_takes_the_middle_and_pad_adds_white():
    wide = Image.new("RGB", (96, 32), "red")
    wide.paste((0, 0, 255), (32, 0, 64, 32))

    assert (to_pixels(wide, 32, "crop") == (0, 0, 255)).all()
    assert (to_pixels(wide, 32, "pad")[[0, -1]] == 255).all()


def test_shrinking_averages_and_does_not_skip():
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255

    pixels = to_pixels(Image.fromarray(stripes).convert("RGB"), 32)

    assert np.abs(pixels[4:-4, 4:-4].astype(int) - 127).max() <= 3


def test_an_unknown_fit_is_refused():
    with pytest.raises(ValueError, match="fit must be one of squash, crop, pad"):
        to_pixels(noise(32, 32), 32, "stretch")


def test_names_are_shown_on_one_line():
    assert printable("a\nb\x1b[31m\udcff.png") == "a�b�[31m�.png"
    assert len(printable("x" * 500)) == 120


def test_mutated_pictures_raise_data_errors_and_nothing_else():
    draw = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    seeds = [
        encoded(noise(), "JPEG", exif=exif),
        encoded(noise(), "JPEG", progressive=True),
        encoded(Image.new("CMYK", (40, 40)), "JPEG"),
        encoded(noise(), "PNG", exif=exif),
        encoded(noise(channels=4), "PNG"),
        encoded(noise().quantize(16), "PNG", transparency=3),
        encoded(Image.fromarray(np.zeros((40, 40), np.uint16)), "PNG"),
        encoded(noise(), "WEBP", exif=exif),
        encoded(noise(channels=4), "WEBP", lossless=True),
        encoded(noise(9, 9), "PNG", save_all=True, append_images=[noise(9, 9)] * 2),
    ]
    opened = 0
    end = time.monotonic() + 8
    for turn in range(4_000):
        data = bytearray(seeds[turn % len(seeds)])
        for _ in range(draw.integers(1, 6)):
            data[draw.integers(len(data))] = draw.integers(256)
        if turn % 3 == 0:
            at = draw.integers(len(data))
            del data[at : at + draw.integers(1, 50)]
        if data[:8] == b"\x89PNG\r\n\x1a\n" and turn % 2:
            data = _with_right_checksums(bytes(data))  # or no mutation would reach the decoder
        try:
            to_pixels(open_picture(bytes(data), "a.png").image, 32)
            opened += 1
        except DataError:
            pass
        if time.monotonic() > end:
            break
    assert turn > 1_000
    assert opened > 50
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def _with_right_checksums(data):
    out, at = data[:8], 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        if at + 12 + length > len(data):
            break
        out += chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length])
        at += 12 + length
    return out + chunk(b"IEND", b"")


def test_the_module_needs_no_torch():
    program = "import sys, imgcls.preprocess; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], env=os.environ).returncode == 0


def shaded_jpeg(**how):
    y, x = np.mgrid[:256, :256]
    file = io.BytesIO()
    pixels = np.stack([x, y, (x + y) // 2], -1).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", **how)
    return file.getvalue()


@pytest.mark.parametrize("share", range(10, 100, 10))
@pytest.mark.parametrize("how", [{}, {"subsampling": 0}, {"restart_marker_blocks": 3}])
def test_a_jpeg_cut_short_and_closed_again_is_never_filled_with_grey(how, share):
    data = shaded_jpeg(**how)

    with pytest.raises(DataError, match=r"truncated|damaged"):
        open_picture(data[: len(data) * share // 100] + b"\xff\xd9", "cut.jpg")


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
def test_a_whole_jpeg_is_taken_whatever_follows_it_and_however_grey_it_is(how):
    grey = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(grey, "JPEG", **how)

    assert open_picture(grey.getvalue(), "grey.jpg").width == 64
    followed = shaded_jpeg(**how) + b"TRAILER\xff\xda\0"
    assert open_picture(followed, "more.jpg").width == 256
