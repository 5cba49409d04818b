"""Events and tables in, Plotly figures out. Imports neither torch nor streamlit.

One template and one palette for every figure. Grounds are transparent and greys read on light and
dark alike; Streamlit puts its own text colour on top. Every text that a user chose goes through
`escape`.
"""

import pandas  # noqa: F401  # before plotly: it imports pandas late, and by halves from a thread

from imgcls.charts.data import (
    class_counts,
    histogram,
    pixel_counts,
)
from imgcls.charts.evaluation import (
    NORMALIZED,
    class_curves,
    confusion,
    differences,
    error_rates,
    reliability,
    risk_coverage,
    strength_curves,
)
from imgcls.charts.style import (
    GREY,
    PALETTE,
    RIGHT,
    WRONG,
    class_colors,
    escape,
    figure,
    number,
    template,
)
from imgcls.charts.training import (
    arms,
    compare_runs,
    epoch_curves,
    lr_curve,
)

__all__ = [
    "GREY",
    "NORMALIZED",
    "PALETTE",
    "RIGHT",
    "WRONG",
    "arms",
    "class_colors",
    "class_counts",
    "class_curves",
    "compare_runs",
    "confusion",
    "differences",
    "epoch_curves",
    "error_rates",
    "escape",
    "figure",
    "histogram",
    "lr_curve",
    "number",
    "pixel_counts",
    "reliability",
    "risk_coverage",
    "strength_curves",
    "template",
]
