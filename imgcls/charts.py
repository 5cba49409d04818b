"""Events and tables in, Plotly figures out. Imports neither torch nor streamlit.

One template and one palette for every figure. Grounds are transparent and greys read on light and
dark alike; Streamlit puts its own text colour on top. Every text that a user chose goes through
`escape`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas  # noqa: F401  # before plotly: it imports pandas late, and by halves from a thread
import plotly.graph_objects as go
from numpy.typing import NDArray

from imgcls.data.catalog import Dataset
from imgcls.events import Epoch, Event

# Okabe and Ito's colours without black and yellow, extended to ten.
PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9",
    "#d55e00", "#8c6bb1", "#b8a100", "#5d6d7e", "#7a4b2a",
)  # fmt: skip
TRAIN, VALIDATION = "#8a949b", PALETTE[0]  # what was trained on stays in the background
RIGHT, WRONG = PALETTE[0], PALETTE[5]
GREY = "#7d868c"  # text: 3.8:1 on white, 4.7:1 on the dark ground
GRID = "rgba(128, 140, 148, 0.22)"
NUMBERED = 20  # classes up to which a matrix shows its numbers
_SHAPES = {"train": "", "validation": "/", "test": "."}


def template() -> go.layout.Template:
    """The look of every figure, for light and dark."""
    axis = {
        "gridcolor": GRID,
        "gridwidth": 1,
        "zeroline": False,
        "linecolor": GRID,
        "ticks": "",
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 12}},
        "tickfont": {"size": 11},
    }
    return go.layout.Template(
        layout={
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": PALETTE,
            "font": {"color": GREY, "size": 12},
            "margin": {"l": 40, "r": 8, "t": 30, "b": 40},
            "legend": {
                "orientation": "h",
                "x": 1,
                "xanchor": "right",
                "y": 1.02,
                "yanchor": "bottom",
                "title": {"text": ""},
            },
            "xaxis": axis,
            "yaxis": axis,
            "hovermode": "closest",
            "bargap": 0.25,
        }
    )


def escape(text: object) -> str:
    """A text as Plotly shows it unchanged: its own markup is a little HTML."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def class_colors(classes: Sequence[str]) -> dict[str, str]:
    """A colour a class, the same on every figure; from the eleventh on they come round again."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(classes)}


def figure(height: int, y: str = "", **layout: Any) -> go.Figure:
    """An empty figure in the house style; `y` is named above its axis, where it can be read.

    Heights are fixed, so that nothing jumps.
    """
    drawn = go.Figure(layout={"template": template(), "height": height})
    # Streamlit's own theme replaces a template's margins and grid, but not a figure's.
    drawn.update_layout(template().layout.to_plotly_json())
    drawn.update_layout(layout)
    if y:
        drawn.add_annotation(
            text=y, x=0, y=1, xref="paper", yref="paper", xanchor="right", yanchor="bottom",
            xshift=len(y) * 6 - 30, yshift=6, showarrow=False, font={"size": 12},
        )  # fmt: skip
    return drawn


def epoch_curves(events: Iterable[Event], metric: str = "accuracy", height: int = 260) -> go.Figure:
    """Accuracy or loss of training and validation an epoch; the best epoch is marked."""
    epochs = [e for e in events if isinstance(e, Epoch)]
    x = [e.epoch for e in epochs]
    drawn = figure(height, hovermode="x unified")
    for kind, name, color in (("train", "train", TRAIN), ("val", "validation", VALIDATION)):
        y = [number(getattr(e, f"{kind}_{metric}")) for e in epochs]
        line = {"color": color, "width": 1.5 if kind == "train" else 2.5}
        drawn.add_scatter(
            x=x, y=y, name=name, mode="lines+markers", line=line, marker={"size": 4},
            connectgaps=True, hovertemplate=_value(metric),
        )  # fmt: skip
    if best := [e for e in epochs if e.best is True]:
        height_of_best = number(getattr(best[-1], f"val_{metric}"))
        drawn.add_scatter(
            x=[best[-1].epoch], y=[height_of_best], name="kept as model",
            mode="markers", hoverinfo="skip",
            marker={"size": 12, "symbol": "circle-open", "color": VALIDATION, "line": {"width": 2}},
        )  # fmt: skip
    _epoch_axis(drawn, max(x, default=1))
    drawn.update_yaxes(tickformat=_axis(metric))
    if metric == "accuracy" and len(x) == 1:  # around a single point Plotly would go beyond 100 %
        drawn.update_yaxes(range=[0, 1])
    return drawn


def compare_runs(
    runs: Mapping[str, Iterable[Event]], metric: str = "val_accuracy", height: int = 340
) -> go.Figure:
    """One line a run: an `Epoch`'s val_accuracy, val_loss, train_accuracy or train_loss."""
    names = {"val": "validation", "train": "training"}
    words = " ".join(names.get(word, word) for word in metric.split("_"))
    drawn = figure(height, words, hovermode="x unified", showlegend=True)
    for i, (name, events) in enumerate(runs.items()):
        epochs = [e for e in events if isinstance(e, Epoch)]
        drawn.add_scatter(
            x=[e.epoch for e in epochs], y=[number(getattr(e, metric)) for e in epochs],
            name=escape(name), mode="lines+markers", connectgaps=True, marker={"size": 4},
            line={
                "color": PALETTE[i % len(PALETTE)], "width": 2,
                "dash": ("solid", "dash", "dot")[i // len(PALETTE) % 3],
            },
            hovertemplate=_value(metric),
        )  # fmt: skip
    _epoch_axis(drawn, max((max(line.x, default=1) for line in drawn.data), default=1))
    drawn.update_yaxes(tickformat=_axis(metric))
    drawn.update_layout(legend={"x": 0, "xanchor": "left", "y": -0.22, "yanchor": "top"})
    return drawn


def arms(
    rows: Sequence[tuple[str, Sequence[float], tuple[float, float] | None]],
    height: int | None = None,
) -> go.Figure:
    """The arms of a study from the top down: each run's accuracy a dot, mean and 95 % interval.

    A row is its label, the accuracies (0..1) of its runs, and the interval of their mean where one
    is known. A dashed line goes through the mean of the first row, which the others are held to.
    """
    drawn = figure(height or 44 * len(rows) + 110, showlegend=True)
    names = [escape(label) for label, _, _ in rows]
    spots = [
        # Equal accuracies would hide each other: the runs of an arm stand in steps below its mean.
        (number(value), i + 0.16 + 0.2 * j / max(len(values) - 1, 1), names[i])
        for i, (_, values, _) in enumerate(rows)
        for j, value in enumerate(values)
    ]
    drawn.add_scatter(
        x=[x for x, _, _ in spots], y=[y for _, y, _ in spots], name="one run", mode="markers",
        marker={"size": 7, "color": GREY, "opacity": 0.75},
        text=[name for _, _, name in spots], hovertemplate="%{text}: %{x:.2%}<extra></extra>",
    )  # fmt: skip
    # A mean of one run would stand for what nobody knows.
    means = [sum(values) / len(values) if len(values) > 1 else math.nan for _, values, _ in rows]
    ends = [interval or (mean, mean) for mean, (_, _, interval) in zip(means, rows, strict=True)]
    both = list(zip(means, ends, strict=True))
    drawn.add_scatter(
        x=[number(mean) for mean in means], y=list(range(len(rows))), mode="markers",
        name="mean, 95 % interval", marker={"size": 11, "color": PALETTE[0], "symbol": "diamond"},
        error_x={
            "type": "data", "symmetric": False, "thickness": 2, "width": 6, "color": PALETTE[0],
            "array": [number(high - mean) for mean, (_, high) in both],
            "arrayminus": [number(mean - low) for mean, (low, _) in both],
        },
        text=[
            f"{name}: mean {mean:.2%}" + (f", {low:.2%} to {high:.2%}" if low < high else "")
            for name, (mean, (low, high)) in zip(names, both, strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    if means and math.isfinite(means[0]):
        line = {"color": GREY, "width": 1, "dash": "dash"}
        drawn.add_vline(x=means[0], line=line, layer="below")
    known = [x for _, values, interval in rows for x in (*values, *(interval or ()))]
    if known:
        spare = max(0.06 * (max(known) - min(known)), 0.01)
        drawn.update_xaxes(range=[max(min(known) - spare, -0.01), min(max(known) + spare, 1.01)])
    drawn.update_xaxes(title_text="best validation accuracy", tickformat=".1~%")
    _name_rows(drawn, names)
    return drawn


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


def confusion(
    matrix: NDArray[Any],
    classes: Sequence[str],
    shares: bool,
    dark: bool = False,
    marked: tuple[int, int] | None = None,
) -> go.Figure:
    """True classes down, predicted across; right answers blue, mistakes orange on their own scale.

    An outline stands around the cell `marked`, (true, predicted).
    A heatmap gives no clicks, so an invisible square stands on each cell: its `y` is the index of
    the true class, its `x` that of the predicted one; `customdata` is [true, predicted, count].
    """
    counts = np.asarray(matrix)
    rows = counts.sum(1, keepdims=True)
    values = counts / np.maximum(rows, 1) if shares else counts.astype(float)
    n = len(classes)
    diagonal = np.eye(n, dtype=bool)
    side = int(np.clip(540 / max(n, 1), 7, 60))  # pixels a cell
    drawn = figure(
        side * n + 110, width=None, showlegend=False, clickmode="event+select", dragmode=False
    )
    scale_of = {}
    for mask, color in ((diagonal, RIGHT), (~diagonal, WRONG)):
        top = float(np.max(values[mask], initial=0.0)) or 1.0
        scale_of[color] = top
        r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        drawn.add_heatmap(
            z=np.where(mask, values, np.nan), x=np.arange(n), y=np.arange(n), zmin=0, zmax=top,
            colorscale=[[0, f"rgba({r},{g},{b},0.03)"], [1, f"rgba({r},{g},{b},0.95)"]],
            showscale=False, hoverinfo="skip", hoverongaps=False, xgap=1, ygap=1,
        )  # fmt: skip
    true, predicted = (index.ravel() for index in np.indices((n, n)))
    names = [escape(name) for name in classes]
    ink = "#e8eef0" if dark else "#1a1a1a"
    strength = np.where(diagonal, values / scale_of[RIGHT], values / scale_of[WRONG]).ravel()
    said = [f"{v:.1%}" if shares else f"{int(v):,}" for v in values.ravel()]
    drawn.add_scatter(
        x=predicted, y=true, mode="markers+text" if n <= NUMBERED else "markers",
        text=[text if count else "" for text, count in zip(said, counts.ravel(), strict=True)],
        textfont={"size": 11, "color": ["#ffffff" if s > 0.6 else ink for s in strength]},
        customdata=np.stack([true, predicted, counts.ravel()], axis=1).tolist(),
        hovertext=[
            f"{names[t]} → {names[p]}: {c:,} of {int(rows[t, 0]):,}"
            for t, p, c in zip(true, predicted, counts.ravel(), strict=True)
        ],
        hoverinfo="text",
        marker={"symbol": "square", "size": side - 2, "opacity": 0, "color": GREY},
        # A click must change nothing: `marked` tells which cell is meant.
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
    )  # fmt: skip
    if marked is not None:
        t, p = marked
        drawn.add_shape(
            type="rect", x0=p - 0.5, x1=p + 0.5, y0=t - 0.5, y1=t + 0.5,
            line={"color": ink, "width": 2.5},
        )  # fmt: skip
    ticks = {"tickvals": list(range(n)), "ticktext": names, "showgrid": False, "fixedrange": True}
    drawn.update_xaxes(title_text="predicted", side="top", range=[-0.5, n - 0.5], **ticks)
    drawn.update_yaxes(title_text="true", range=[n - 0.5, -0.5], **ticks)
    drawn.update_layout(margin={"l": 60, "r": 8, "t": 60, "b": 8})
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
    _name_rows(drawn, names)
    return drawn


def class_curves(
    epochs: Sequence[int],
    shares: NDArray[np.float64],
    classes: Sequence[str],
    marked: int | None = None,
    height: int = 300,
    y: str = "recall",
) -> go.Figure:
    """A line a class over epochs: shares (epochs, classes) in 0..1; one epoch is marked."""
    drawn = figure(height, y, hovermode="x unified", showlegend=len(classes) <= NUMBERED)
    colors = class_colors(classes)
    for i, name in enumerate(classes):
        drawn.add_scatter(
            x=list(epochs), y=shares[:, i], name=escape(name), mode="lines+markers",
            line={"color": colors[name], "width": 1.5}, marker={"size": 4},
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    if marked is not None:
        drawn.add_vline(x=marked, line={"color": GREY, "width": 1, "dash": "dash"}, layer="below")
    _epoch_axis(drawn, max(epochs, default=1))
    drawn.update_yaxes(tickformat=".0%", range=[-0.02, 1.02])
    drawn.update_layout(legend={"x": 0, "xanchor": "left", "y": -0.24, "yanchor": "top"})
    return drawn


def image_map(
    points: NDArray[np.float64],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: Sequence[str],
    frame: tuple[float, float, float, float],
    height: int = 560,
) -> go.Figure:
    """Images (N, 2) by true class, mistakes as crosses, in the frame left, right, bottom, top.

    `customdata` is the row of each.
    """
    drawn = figure(height, showlegend=len(classes) <= NUMBERED, dragmode="lasso")
    colors, names = class_colors(classes), [escape(name) for name in classes]
    for i, name in enumerate(classes):
        for well, symbol, size in ((True, "circle", 4), (False, "x-thin-open", 6)):
            rows = np.flatnonzero((labels == i) & ((predicted == i) == well))
            drawn.add_scattergl(
                x=points[rows, 0], y=points[rows, 1], mode="markers", customdata=rows,
                name=names[i], legendgroup=name, showlegend=well,
                marker={
                    "color": colors[name], "size": size, "opacity": 0.7, "symbol": symbol,
                    "line": {"width": 1 - well},  # around a dot it would be white on dark
                },
                hovertext=[f"{names[i]} → {names[p]}" for p in predicted[rows]],
                hoverinfo="text",
            )  # fmt: skip
    left, right, bottom, top = frame
    drawn.update_xaxes(range=[left, right], showticklabels=False, showgrid=False)
    drawn.update_yaxes(range=[bottom, top], showticklabels=False, showgrid=False)
    drawn.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={
            "x": 0, "xanchor": "left", "y": -0.02, "yanchor": "top", "itemsizing": "constant",
        },
    )  # fmt: skip
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
    return drawn


def cartography(
    variability: NDArray[np.float64],
    confidence: NDArray[np.float64],
    forgotten: NDArray[np.int64],
    titles: Sequence[str],
    height: int = 520,
) -> go.Figure:
    """Images by how a run saw them through its epochs; the redder, the more often forgotten."""
    drawn = figure(height, "mean confidence in the true class", dragmode="lasso")
    most = max(1, int(forgotten.max(initial=0)))
    rows = np.argsort(forgotten, kind="stable")  # the forgotten lie on top
    drawn.add_scattergl(
        x=variability[rows], y=confidence[rows], mode="markers", customdata=rows,
        marker={
            "line": {"width": 0}, "size": 5, "opacity": 0.75, "color": forgotten[rows], "cmin": 0,
            "cmax": most,
            "colorscale": [[0, RIGHT], [0.5, PALETTE[1]], [1, WRONG]],
            "colorbar": {
                "title": {"text": "forgotten", "side": "right"}, "thickness": 10,
                "dtick": -(-most // 6), "outlinewidth": 0,
            },
        },
        hovertext=[escape(titles[row]) for row in rows], hoverinfo="text",
    )  # fmt: skip
    drawn.update_xaxes(title_text="variability", rangemode="tozero")
    drawn.update_yaxes(range=[-0.02, 1.02], tickformat=".0%")
    return drawn


def number(value: object) -> float:
    """A number to draw; what is none becomes a gap."""
    sound = isinstance(value, (int, float, np.number)) and math.isfinite(value)
    return float(value) if sound else math.nan  # type: ignore[arg-type]


def _name_rows(drawn: go.Figure, names: Sequence[str]) -> None:
    """A row for each name, from the top down, instead of a scale."""
    drawn.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.4, -0.5],
        showgrid=False, tickfont={"size": 13}, fixedrange=True,
    )  # fmt: skip


def _epoch_axis(drawn: go.Figure, last: int) -> None:
    """An axis of whole epochs from 0 to about `last`; left alone, a short one would have halves."""
    magnitude = 10 ** max(0, len(str(last)) - 2)
    step = next(n * magnitude for n in (1, 2, 5, 10) if last <= 10 * n * magnitude)
    drawn.update_xaxes(title_text="epoch", tickformat="d", rangemode="tozero", tick0=0, dtick=step)


def _axis(metric: str) -> str:
    return ".1~%" if metric.endswith("accuracy") else ".3~f"


def _value(metric: str) -> str:
    return "%{y:.2%}" if metric.endswith("accuracy") else "%{y:.4f}"


def lr_curve(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float,
    height: int = 280,
) -> go.Figure:
    """The training loss at each learning rate, single and smoothed; the suggested rate is marked.

    All of one length. The axis ends a little above the first loss: what lies beyond is divergence.
    """
    drawn = figure(height, "training loss", showlegend=False)
    drawn.add_scatter(
        x=list(rates), y=[number(loss) for loss in losses], mode="markers", hoverinfo="skip",
        marker={"size": 4, "color": TRAIN, "opacity": 0.6},
    )  # fmt: skip
    drawn.add_scatter(
        x=list(rates), y=[number(loss) for loss in smoothed], mode="lines",
        line={"color": VALIDATION, "width": 2.5},
        hovertemplate="%{x:.2~e}: %{y:.3f}<extra></extra>",
    )  # fmt: skip
    drawn.add_vline(
        x=suggestion, line={"color": WRONG, "width": 2, "dash": "dash"},
        annotation={
            "text": f"{suggestion:g}", "font": {"color": WRONG, "size": 13},
            "x": math.log10(suggestion), "yanchor": "bottom", "y": 1, "yref": "paper",
            "xanchor": "center",
        },
    )  # fmt: skip
    low = min(smoothed, default=0.0)
    fall = max(smoothed[0] - low, 0.1) if smoothed else 1.0
    drawn.update_xaxes(
        title_text="learning rate",
        type="log",
        exponentformat="power",
        dtick=1,
    )
    drawn.update_yaxes(range=[low - 0.3 * fall, low + 1.8 * fall])
    return drawn
