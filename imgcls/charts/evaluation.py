"""Figures of evaluation: where a model fails, how sure it is, how it got there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from imgcls.charts.style import (
    GREY,
    LETTER,
    NUMBERED,
    PALETTE,
    RIGHT,
    WRONG,
    epoch_axis,
    escape,
    figure,
    name_rows,
    shortened,
    still,
)

NORMALIZED = {"true": 1, "predicted": 0}  # axis of the sum that a cell is a share of


def confusion(
    matrix: NDArray[Any],
    classes: Sequence[str],
    normalize: str = "",
    dark: bool = False,
    marked: tuple[int, int] | None = None,
    diagonal: bool = True,
    order: Sequence[int] | NDArray[np.int64] | None = None,
) -> go.Figure:
    """True classes down, predicted across; right answers blue, mistakes orange on their own scale.

    Cells are counts, or percent as `normalize` says: of the images that are so (true), or of those
    that are called so (predicted). Without `diagonal` right answers are left blank. `order` says
    which classes are drawn, and in which order; all if None. An outline stands around the cell
    `marked`, (true, predicted).
    A heatmap gives no clicks, so an invisible square stands on each cell; its `customdata` is
    [true, predicted, count], classes as in `classes`.
    """
    counts = np.asarray(matrix)
    values = counts.astype(float)
    if normalize:
        values /= np.maximum(counts.sum(NORMALIZED[normalize], keepdims=True), 1)
    drawn_classes = list(range(len(classes))) if order is None else [int(i) for i in order]
    n = len(drawn_classes)
    rows = counts.sum(1)[drawn_classes]
    counts, values = (table[np.ix_(drawn_classes, drawn_classes)] for table in (counts, values))
    on_diagonal = np.eye(n, dtype=bool)
    shown = np.ones((n, n), dtype=bool) if diagonal else ~on_diagonal
    side = int(np.clip(540 / max(n, 1), 7, 60))  # pixels a cell
    ticks = [escape(shortened(classes[i])) for i in drawn_classes]
    longest = LETTER * max((len(shortened(classes[i])) for i in drawn_classes), default=0)
    # Names that do not fit side by side are turned, by 30 degrees where few, by 90 where many.
    left, above = longest + 34, 36 + (longest if n > NUMBERED else max(14, longest // 2))
    drawn = figure(
        side * n + above + 8, width=None, showlegend=False, clickmode="event+select", dragmode=False
    )
    scale_of = {}
    for mask, color in ((on_diagonal, RIGHT), (~on_diagonal, WRONG)):
        top = float(np.max(values[mask], initial=0.0)) or 1.0
        scale_of[color] = top
        r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        drawn.add_heatmap(
            z=np.where(mask & shown, values, np.nan), x=np.arange(n), y=np.arange(n),
            zmin=0, zmax=top,
            colorscale=[[0, f"rgba({r},{g},{b},0.03)"], [1, f"rgba({r},{g},{b},0.95)"]],
            showscale=False, hoverinfo="skip", hoverongaps=False, xgap=1, ygap=1,
        )  # fmt: skip
    true, predicted = (index.ravel() for index in np.indices((n, n)))
    names = [escape(classes[i]) for i in drawn_classes]
    shown_class = np.array(drawn_classes, dtype=np.int64)
    ink = "#e8eef0" if dark else "#1a1a1a"
    strength = np.where(on_diagonal, values / scale_of[RIGHT], values / scale_of[WRONG]).ravel()
    said = [f"{100 * v:.1f}" if normalize else f"{int(v):,}" for v in values.ravel()]
    written = (counts > 0) & shown
    mode = "markers" if n > NUMBERED else "markers+text"
    drawn.add_scatter(
        x=predicted, y=true, mode=mode,
        text=[text if write else "" for text, write in zip(said, written.ravel(), strict=True)],
        textfont={"size": 11, "color": ["#ffffff" if s > 0.6 else ink for s in strength]},
        customdata=np.stack(
            [shown_class[true], shown_class[predicted], counts.ravel()], axis=1
        ).tolist(),
        hovertext=[
            f"{names[t]} → {names[p]}: {c:,} of {int(rows[t]):,}"
            for t, p, c in zip(true, predicted, counts.ravel(), strict=True)
        ],
        hoverinfo="text",
        marker={"symbol": "square", "size": side - 2, "opacity": 0, "color": GREY},
        # A click must change nothing: `marked` tells which cell is meant.
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
    )  # fmt: skip
    if marked is not None and set(marked) <= set(drawn_classes):
        t, p = (drawn_classes.index(i) for i in marked)
        drawn.add_shape(
            type="rect", x0=p - 0.5, x1=p + 0.5, y0=t - 0.5, y1=t + 0.5,
            line={"color": ink, "width": 2.5},
        )  # fmt: skip
    axis = {
        "tickvals": list(range(n)), "ticktext": ticks, "showgrid": False, "fixedrange": True,
        "automargin": False,  # which would draw all of it again
    }  # fmt: skip
    drawn.update_xaxes(title_text="predicted", side="top", range=[-0.5, n - 0.5], **axis)
    drawn.update_yaxes(title_text="true", range=[n - 0.5, -0.5], **axis)
    drawn.update_layout(margin={"l": left, "r": 8, "t": above, "b": 8})
    return drawn


def reliability(
    shown: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]],
    height: int = 340,
) -> go.Figure:
    """Accuracy over confidence a bin, by name: mean confidence, accuracy and images a bin.

    A bin's mark is as large as it holds many images; on the dashed line confidence is true.
    """
    drawn = figure(height, "right", showlegend=len(shown) > 1)
    drawn.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="as it should be", showlegend=False,
        line={"color": GREY, "width": 1, "dash": "dash"}, hoverinfo="skip",
    )  # fmt: skip
    colors = (GREY, PALETTE[0]) if len(shown) > 1 else (PALETTE[0],)
    for color, (name, (confidence, accuracy, counts)) in zip(colors, shown.items(), strict=True):
        filled = counts > 0
        size = 5 + 20 * np.sqrt(counts[filled] / max(counts.max(), 1))
        drawn.add_scatter(
            x=confidence[filled], y=accuracy[filled], name=escape(name), mode="lines+markers",
            line={"color": color, "width": 1.5}, marker={"size": size, "color": color},
            customdata=counts[filled],
            hovertemplate="sure %{x:.1%}, right %{y:.1%}<br>%{customdata:,} images",
        )  # fmt: skip
    drawn.update_xaxes(title_text="confidence", range=[-0.02, 1.04], tickformat=".0%")
    drawn.update_yaxes(range=[-0.02, 1.04], tickformat=".0%")
    still(drawn)
    return drawn


def risk_coverage(
    coverage: NDArray[np.float64],
    risk: NDArray[np.float64],
    marked: tuple[float, float] | None,
    height: int = 260,
) -> go.Figure:
    """The share of answers that are wrong over the share of images answered; one point marked."""
    step = max(1, len(coverage) // 500)  # more points than pixels say nothing
    rows = np.unique(np.append(np.arange(0, len(coverage), step), len(coverage) - 1))
    drawn = figure(height, "wrong answers", showlegend=False)
    drawn.add_scatter(
        x=coverage[rows], y=risk[rows], mode="lines", line={"color": PALETTE[0], "width": 2},
        hovertemplate="answers %{x:.1%}, wrong %{y:.2%}<extra></extra>",
    )  # fmt: skip
    if marked is not None:
        drawn.add_scatter(
            x=[marked[0]], y=[marked[1]], mode="markers", hoverinfo="skip",
            marker={"size": 13, "color": WRONG},
        )  # fmt: skip
    drawn.update_xaxes(title_text="images answered", range=[0, 1.02], tickformat=".0%")
    drawn.update_yaxes(rangemode="tozero", tickformat=".1~%")
    still(drawn)
    return drawn


def error_rates(
    middles: NDArray[np.float64],
    rates: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    images: NDArray[np.int64],
    overall: float,
    x: str,
    height: int = 300,
) -> go.Figure:
    """Shares of wrong answers of groups of images, 0..1 with intervals, over what `x` names.

    Groups stand at equal distances, named by their middles. A dashed line goes through `overall`.
    """
    drawn = figure(height, "wrong answers", showlegend=False)
    drawn.add_scatter(
        x=list(range(len(rates))), y=rates, mode="lines+markers",
        line={"color": WRONG, "width": 1.5}, marker={"size": 10, "color": WRONG},
        error_y={
            "type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": WRONG,
            "array": high - rates, "arrayminus": rates - low,
        },
        customdata=np.stack([middles, images], axis=1),
        hovertemplate=x + " about %{customdata[0]:.3~g}: %{y:.1%} wrong of %{customdata[1]:,}"
        "<extra></extra>",
        selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
    )  # fmt: skip
    drawn.add_hline(y=overall, line={"color": GREY, "width": 1, "dash": "dash"}, layer="below")
    drawn.update_xaxes(
        title_text=f"{x}, median of a group", tickvals=list(range(len(rates))),
        ticktext=[f"{middle:.3g}" for middle in middles], showgrid=False,
    )  # fmt: skip
    drawn.update_yaxes(rangemode="tozero", tickformat=".1~%")
    drawn.update_layout(clickmode="event+select")
    return drawn


def differences(
    rows: Sequence[tuple[str, str, float, float, float, bool]], height: int | None = None
) -> go.Figure:
    """Differences from the top down: of what, from what, value, low and high in -1..1, if real.

    What may be chance is grey; a dashed line stands at none.
    """
    drawn = figure(height or 48 * len(rows) + 90, showlegend=False)
    names = [f"{escape(of)}<br>− {escape(base)}" for of, base, *_ in rows]  # else no room on phones
    for i, (_, _, value, low, high, real) in enumerate(rows):
        color = PALETTE[0] if real else GREY
        drawn.add_scatter(
            x=[100 * value], y=[i], mode="markers",
            marker={"size": 11, "color": color, "symbol": "diamond"},
            error_x={
                "type": "data", "symmetric": False, "thickness": 2, "width": 6, "color": color,
                "array": [100 * (high - value)], "arrayminus": [100 * (value - low)],
            },
            hovertemplate=f"{names[i]}: {100 * value:+.2f} points, {100 * low:+.2f} to "
            f"{100 * high:+.2f}<extra></extra>",
        )  # fmt: skip
    drawn.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dash"}, layer="below")
    drawn.update_xaxes(title_text="points of accuracy", tickformat="+.2~f")
    name_rows(drawn, names)
    return drawn


def class_curves(
    epochs: Sequence[int],
    shares: NDArray[np.float64],
    classes: Sequence[str],
    marked: int | None = None,
    height: int = 300,
    y: str = "recall",
    colors: Sequence[str] | None = None,
) -> go.Figure:
    """A line a class over epochs: shares (epochs, classes) in 0..1; one epoch is marked."""
    drawn = figure(height, y, hovermode="x unified", showlegend=len(classes) <= NUMBERED)
    colors = colors or [PALETTE[i % len(PALETTE)] for i in range(len(classes))]
    for i, name in enumerate(classes):
        drawn.add_scatter(
            x=list(epochs), y=shares[:, i], name=escape(name), mode="lines+markers",
            line={"color": colors[i], "width": 1.5}, marker={"size": 4},
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    if marked is not None:
        drawn.add_vline(x=marked, line={"color": GREY, "width": 1, "dash": "dash"}, layer="below")
    epoch_axis(drawn, max(epochs, default=1))
    drawn.update_yaxes(tickformat=".0%", range=[-0.02, 1.02])
    drawn.update_layout(legend={"x": 0, "xanchor": "left", "y": -0.24, "yanchor": "top"})
    still(drawn)
    return drawn


def strength_curves(
    strengths: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    chance: float,
    x: str,
    height: int = 420,
) -> go.Figure:
    """Accuracy 0..1 over how strongly images are changed, a line a change; `x` names the axis."""
    drawn = figure(height, "accuracy", showlegend=True)
    for i, (name, shares) in enumerate(curves.items()):
        drawn.add_scatter(
            x=list(strengths), y=list(shares), name=escape(name), mode="lines+markers",
            line={"color": PALETTE[i % len(PALETTE)], "width": 2}, marker={"size": 6},
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    drawn.add_hline(y=chance, line={"color": GREY, "width": 1, "dash": "dash"}, layer="below")
    drawn.update_xaxes(title_text=x, tickvals=list(strengths))
    drawn.update_yaxes(tickformat=".0%", range=[0, 1.02])
    drawn.update_layout(legend={"x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top"})
    still(drawn)
    return drawn
