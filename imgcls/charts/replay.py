"""Images as dots that move through epochs, with the matrix and the recalls of each, in a browser.

Plotly draws five thousand dots, a matrix and ten curves in half a second; here a slider has to move
them together. What is drawn is sent once, as `Drawing`; `replay.js` draws it, on a page of
Streamlit's and in a file of its own alike.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgcls.charts.style import GREY, NUMBERED, PALETTE, RIGHT, WRONG

Drawing = dict[str, Any]  # JSON; arrays in it are base64 of little-endian numbers, C order

HTML = '<div class="replay"></div>'
CSS = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
JS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
FULL = 65535  # of a coordinate
OFTEN = 4  # times forgotten, from which on it is one colour


def epochs(
    counted: Sequence[int],
    points: NDArray[np.float64],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    confusions: NDArray[np.int64],
    recalls: NDArray[np.float64],
    classes: Sequence[str],
    order: Sequence[int] | NDArray[np.int64],
) -> Drawing:
    """A map (epochs, N, 2), a confusion matrix and recalls (epochs, classes), moved together.

    The map is framed by its last epoch; `predicted` is (epochs, N). Matrix, recalls and legend have
    the classes of `order` only. More than NUMBERED classes have no colours of their own on the map.
    """
    order = np.asarray(order)
    right = (predicted == labels).mean(1)
    low, high = points[-1].min(0), points[-1].max(0)
    room = 0.05 * np.maximum(high - low, 1e-6)
    return _named(
        {
            "epochs": list(counted),
            "said": [
                f"{len(labels):,} validation images; {share:.2%} called right after epoch {epoch}"
                for epoch, share in zip(counted, right, strict=True)
            ],
            "label": "Map of the validation images, by the two main directions of their logits",
            "points": _base64(_within(points, low - room, high + room), "<u2"),
            "group": _base64(labels, "<u2"),
            "called": _base64(predicted, "<u2"),
            "groups": [
                {"name": name, "color": PALETTE[i % len(PALETTE)]} for i, name in enumerate(classes)
            ],
            "order": order.tolist(),
            "matrix": {"counts": _base64(confusions[:, order][:, :, order], "<i4")},
            "curves": _base64(recalls[:, order], "<f4"),
            **({"marks": {"right": RIGHT, "wrong": WRONG}} if len(classes) > NUMBERED else {}),
        }
    )


def cartography(
    variability: NDArray[np.float64],
    confidence: NDArray[np.float64],
    forgotten: NDArray[np.int64],
    titles: Sequence[str],
) -> Drawing:
    """Images (N,) by how a run saw them through its epochs; colours say what it forgot."""
    widest = max(0.1, float(np.ceil(10 * variability.max(initial=0.0)) / 10))
    points = np.stack([variability, confidence], axis=1)[None]
    names = ("never forgotten", "once", "twice", "3×", f"{OFTEN}× or more")
    colors = (GREY, PALETTE[4], PALETTE[1], WRONG, "#a01a58")
    group = np.minimum(forgotten, OFTEN)
    return _named(
        {
            "epochs": [0],
            "label": "Images by confidence in their true class and its variability",
            "points": _base64(
                _within(points, np.array([0.0, 0.0]), np.array([widest, 1.0])), "<u2"
            ),
            "group": _base64(group, "<u2"),
            "groups": [{"name": n, "color": c} for n, c in zip(names, colors, strict=True)],
            "order": np.unique(group).tolist(),
            "titles": list(titles),
            "axes": {
                "x": {
                    "title": "variability",
                    "ticks": [
                        [share, f"{share * widest:.2g}"] for share in np.linspace(0, 1, 6).tolist()
                    ],
                },
                "y": {
                    "title": "mean confidence in the true class",
                    "ticks": [[share, f"{share:.0%}"] for share in (0, 0.2, 0.4, 0.6, 0.8, 1)],
                },
            },
        }
    )


def embedded(drawing: Drawing) -> str:
    """A drawing as a piece of HTML, for a page that has `script` once, behind it."""
    held = json.dumps(drawing).replace("<", "\\u003c")  # no class name ends the script
    return f'<div>{HTML}<script type="application/json">{held}</script></div>'


def script() -> str:
    """What draws each `embedded` drawing before it, with its style."""
    return (
        f'<style>{CSS}</style><script type="module">{JS}\n'
        'for (const held of document.querySelectorAll(".replay + script")) '
        "replay({ parentElement: held.parentElement, data: JSON.parse(held.textContent) });"
        "</script>"
    )


def _within(
    points: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points (..., 2) in a frame's own units; what lies outside comes to its edge."""
    shares: NDArray[np.float64] = np.clip((points - low) / (high - low), 0, 1)
    return np.rint(FULL * shares)


def _base64(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()


def _named(drawing: Drawing) -> Drawing:
    """With a name of its own, by which a browser knows that it has drawn it already."""
    text = json.dumps(drawing, sort_keys=True)
    return {"id": hashlib.blake2b(text.encode(), digest_size=12).hexdigest(), **drawing}
