"""The look that all figures share: palette, template, axes."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import plotly.graph_objects as go

# Okabe and Ito's colours without black and yellow, extended to ten.
PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9",
    "#d55e00", "#8c6bb1", "#b8a100", "#5d6d7e", "#7a4b2a",
)  # fmt: skip
TRAIN, VALIDATION = "#8a949b", PALETTE[0]  # what was trained on stays in the background
RIGHT, WRONG = PALETTE[0], PALETTE[5]
GREY = "#7d868c"  # text: 3.8:1 on white, 4.7:1 on the dark ground
GRID = "rgba(128, 140, 148, 0.22)"
LETTER = 7  # pixels about of a letter beside an axis
LETTERS = 24  # of a name there at most
TITLED = 50  # pixels below an axis for its ticks and its title
NUMBERED = 20  # classes up to which a matrix shows its numbers


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


@cache
def _look() -> tuple[go.layout.Template, dict[str, Any]]:
    look = template()
    return look, look.layout.to_plotly_json()


def escape(text: object) -> str:
    """A text as Plotly shows it unchanged: its own markup is a little HTML."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shortened(text: str) -> str:
    """A name that fits beside an axis."""
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def class_colors(classes: Sequence[str]) -> dict[str, str]:
    """A colour a class, the same on every figure; from the eleventh on they come round again."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(classes)}


def figure(height: int, y: str = "", **layout: Any) -> go.Figure:
    """An empty figure in the house style; `y` is named above its axis, where it can be read.

    Heights are fixed, so that nothing jumps.
    """
    look, values = _look()
    # Streamlit's own theme replaces a template's margins and grid, but not a figure's. All at once:
    # an update checks every value again, which takes longer than the rest of a figure.
    drawn = go.Figure(layout={"template": look, **values, "height": height, **layout})
    if y:
        drawn.add_annotation(
            text=y, x=0, y=1, xref="paper", yref="paper", xanchor="right", yanchor="bottom",
            xshift=len(y) * 6 - 30, yshift=6, showarrow=False, font={"size": 12},
        )  # fmt: skip
    return drawn


def number(value: object) -> float:
    """A number to draw; what is none becomes a gap."""
    sound = isinstance(value, (int, float, np.number)) and math.isfinite(value)
    return float(value) if sound else math.nan  # type: ignore[arg-type]


def still(drawn: go.Figure) -> None:
    """Margins that stay as they are: where labels are known to fit, measuring them is lost time.

    Plotly draws a figure with automatic margins several times.
    """
    drawn.update_xaxes(automargin=False)
    drawn.update_yaxes(automargin=False)
    if drawn.layout.xaxis.title.text and drawn.layout.margin.b < TITLED:
        drawn.update_layout(margin={"b": TITLED})


def name_rows(drawn: go.Figure, names: Sequence[str]) -> None:
    """A row for each name, from the top down, instead of a scale."""
    drawn.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.4, -0.5],
        showgrid=False, tickfont={"size": 13}, fixedrange=True,
    )  # fmt: skip


def epoch_axis(drawn: go.Figure, last: int) -> None:
    """An axis of whole epochs from 0 to about `last`; left alone, a short one would have halves."""
    magnitude = 10 ** max(0, len(str(last)) - 2)
    step = next(n * magnitude for n in (1, 2, 5, 10) if last <= 10 * n * magnitude)
    drawn.update_xaxes(title_text="epoch", tickformat="d", rangemode="tozero", tick0=0, dtick=step)


def tick_format(metric: str) -> str:
    """Of the axis of accuracy or loss."""
    return ".1~%" if metric.endswith("accuracy") else ".3~f"


def hover_format(metric: str) -> str:
    """Of one value of accuracy or loss."""
    return "%{y:.2%}" if metric.endswith("accuracy") else "%{y:.4f}"
