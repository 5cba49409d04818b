"""Figures of training: curves over epochs, studies, the learning-rate finder."""

import math
from collections.abc import Iterable, Mapping, Sequence

import plotly.graph_objects as go

from imgcls.charts.style import (
    GREY,
    PALETTE,
    TRAIN,
    VALIDATION,
    WRONG,
    epoch_axis,
    escape,
    figure,
    hover_format,
    name_rows,
    number,
    tick_format,
)
from imgcls.events import Epoch, Event


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
            connectgaps=True, hovertemplate=hover_format(metric),
        )  # fmt: skip
    if best := [e for e in epochs if e.best is True]:
        height_of_best = number(getattr(best[-1], f"val_{metric}"))
        drawn.add_scatter(
            x=[best[-1].epoch], y=[height_of_best], name="kept as model",
            mode="markers", hoverinfo="skip",
            marker={"size": 12, "symbol": "circle-open", "color": VALIDATION, "line": {"width": 2}},
        )  # fmt: skip
    epoch_axis(drawn, max(x, default=1))
    drawn.update_yaxes(tickformat=tick_format(metric))
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
            hovertemplate=hover_format(metric),
        )  # fmt: skip
    epoch_axis(drawn, max((max(line.x, default=1) for line in drawn.data), default=1))
    drawn.update_yaxes(tickformat=tick_format(metric))
    drawn.update_layout(legend={"x": 0, "xanchor": "left", "y": -0.22, "yanchor": "top"})
    return drawn


def arms(
    rows: Sequence[tuple[str, Sequence[float], tuple[float, float] | None]],
    height: int | None = None,
    x: str = "best validation accuracy",
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
    drawn.update_xaxes(title_text=x, tickformat=".1~%")
    name_rows(drawn, names)
    return drawn


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
