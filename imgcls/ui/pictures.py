"""Our own uint8 arrays as PNG: one image, or many in one sprite. Decodes nothing."""

import base64
import io

import numpy as np
from PIL import Image

from imgcls.data.catalog import Images


def png(image: Images) -> bytes:
    """An image (H, W, 3) as PNG, pixel for pixel."""
    return png_of(Image.fromarray(np.ascontiguousarray(image)))


def png_of(image: Image.Image, level: int = 6) -> bytes:
    """A decoded image as PNG; zlib's level, 1 to 9."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def enlarged(image: Images, side: int = 512) -> Images:
    """Whole-number enlargement by repeated pixels, so that the longer side is about `side`."""
    times = max(1, side // max(image.shape[:2]))
    return image.repeat(times, 0).repeat(times, 1)


def sprite(images: Images, columns: int = 16) -> Images:
    """Images (N, H, W, 3) side by side in rows of `columns`; (0, 0) pixels where there are none."""
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:n] = images
    grid = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)


def base64_png(image: Images) -> str:
    """An image as PNG in base64."""
    return base64.b64encode(png(image)).decode()


def data_uri(image: Images) -> str:
    """An image as a PNG in a URI, as a column of a table takes it."""
    return "data:image/png;base64," + base64_png(image)
