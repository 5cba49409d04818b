"""Figures of images and of one picture's answer."""

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from imgcls.charts.style import (
    PALETTE,
    class_colors,
    escape,
    figure,
)
from imgcls.data.catalog import Dataset

_SHAPES = {"train": "", "validation": "/", "test": "."}


def class_counts(dataset: Dataset, height: int = 260) -> go.Figure:
    """Images a class, one bar a split: the colour says the class, the pattern the split."""
    names = [escape(name) for name in dataset.classes]
    colors = list(class_colors(dataset.classes).values())
    drawn = figure(height, "images", barmode="group", showlegend=len(dataset.splits) > 1)
    for split in dataset.splits:
        shape = _SHAPES[split]
        drawn.add_bar(
            x=names, y=dataset.counts[split], name=split,
            marker={
                "color": colors,
                "pattern": {"shape": shape, "fillmode": "overlay", "fgcolor": "white", "size": 6},
            },
            hovertemplate="%{x}: %{y:,} " + split + " images<extra></extra>",
        )  # fmt: skip
    drawn.update_yaxes(tickformat=",d")
    drawn.update_xaxes(type="category", showgrid=False)
    return drawn


def histogram(pixels: NDArray[np.uint8], height: int = 200) -> go.Figure:
    """How often each value 0..255 occurs a channel in one image (H, W, 3) or many (N, H, W, 3)."""
    flat = pixels.reshape(-1, 3)
    return pixel_counts(np.stack([np.bincount(c, minlength=256) for c in flat.T]), height)


def pixel_counts(counts: NDArray[np.int64], height: int = 200) -> go.Figure:
    """Shares of (3, 256) counts, a channel and pixel value."""
    drawn = figure(height, "share", hovermode="x unified", showlegend=True)
    for channel, (name, color) in enumerate(
        (("red", PALETTE[5]), ("green", PALETTE[2]), ("blue", PALETTE[0]))
    ):
        drawn.add_scatter(
            x=np.arange(256), y=counts[channel] / max(counts[channel].sum(), 1), name=name,
            mode="lines", line={"color": color, "width": 1.5, "shape": "hvh"},
            hovertemplate="%{y:.2%}",
        )  # fmt: skip
    drawn.update_xaxes(title_text="pixel value", range=[0, 255])
    drawn.update_yaxes(tickformat=".1~%", rangemode="tozero")
    return drawn
