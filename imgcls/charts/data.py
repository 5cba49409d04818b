"""Figures of images and of one picture's answer."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from imgcls.charts.style import (
    PALETTE,
    class_colors,
    escape,
    figure,
    number,
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


def probability_bars(
    top: Sequence[tuple[str, float]],
    colors: Mapping[str, str] | None = None,
    height: int | None = None,
) -> go.Figure:
    """The likeliest classes of one picture, likeliest on top; `colors` as of `class_colors`."""
    names = [name for name, _ in top]
    shares = [number(share) for _, share in top]
    drawn = figure(height or 36 * len(top) + 24, showlegend=False)
    drawn.add_bar(
        y=list(range(len(top))), x=shares, orientation="h", width=0.7,
        marker_color=[(colors or {}).get(name, PALETTE[0]) for name in names],
        text=[f"{share:.1%}" for share in shares], textposition="outside", cliponaxis=False,
        hovertext=[escape(name) for name in names], hoverinfo="text+x",
    )  # fmt: skip
    drawn.update_xaxes(range=[0, 1.15], visible=False)
    drawn.update_yaxes(
        tickvals=list(range(len(top))), ticktext=[escape(name) for name in names],
        range=[len(top) - 0.5, -0.5], showgrid=False, tickfont={"size": 13},
    )  # fmt: skip
    drawn.update_layout(margin={"l": 8, "r": 8, "t": 4, "b": 4}, hovermode=False)
    return drawn
