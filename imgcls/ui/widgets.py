"""What several pages show alike: states, choosers, the widget of a setting, sheets of images."""

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pandas as pd
import streamlit as st

from imgcls import charts, config, runs
from imgcls.config import Setting
from imgcls.data import catalog
from imgcls.data.catalog import Images
from imgcls.errors import ImgclsError
from imgcls.preprocess import printable
from imgcls.runs import Run, State
from imgcls.ui import history, pictures
from imgcls.ui.history import DAMAGED, Row

# One word, icon and colour a state, everywhere; docs/design-language.md shows the same table.
STATES: dict[str, tuple[str, str]] = {
    State.STARTING: (":material/hourglass_top:", "blue"),
    State.QUEUED: (":material/schedule:", "violet"),
    State.RUNNING: (":material/play_circle:", "blue"),
    State.STOPPING: (":material/pending:", "orange"),
    State.FINISHED: (":material/check_circle:", "green"),
    State.STOPPED: (":material/pause_circle:", "gray"),
    State.FAILED: (":material/error:", "red"),
    State.DIVERGED: (":material/trending_up:", "red"),
    State.INTERRUPTED: (":material/power_off:", "orange"),
    DAMAGED: (":material/heart_broken:", "red"),
}
SHORT = 20  # rows of a table that is plain HTML
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|<>~$:&.-])")


def escape(text: object) -> str:
    """A text as Markdown shows it unchanged, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def state_badge(state: str) -> None:
    """A run's state as a badge."""
    icon, color = STATES[state]
    st.badge(str(state), icon=icon, color=color)  # type: ignore[arg-type]


def duration(seconds: float) -> str:
    """Seconds as people say them: 48 s, 5 min 12 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(share: float, digits: int = 1) -> str:
    """A share as texts write it: 95.2 %, never parted at the end of a line."""
    return f"{100 * share:.{digits}f}\u00a0%"


def bars(top: Sequence[tuple[str, float]], classes: Sequence[str]) -> None:
    """Classes with their probabilities, 0..1, each with a bar in the class's colour.

    As HTML: a figure would take longer to draw than a small model to answer.
    """
    colors = charts.class_colors(classes)
    cell = "padding:3px 0;border:0;line-height:1.5;"
    rows = "".join(
        f'<tr><td style="{cell}padding-right:12px;max-width:12em;overflow:hidden;'
        f'text-overflow:ellipsis;white-space:nowrap">{html.escape(printable(name))}</td>'
        f'<td style="{cell}width:100%"><div style="height:18px;border-radius:2px;min-width:2px;'
        f'width:{100 * share:.2f}%;background:{colors[name]}"></div></td>'
        f'<td style="{cell}padding-left:12px;text-align:right;font-variant-numeric:tabular-nums">'
        f"{share:.1%}</td></tr>"
        for name, share in top
    )
    st.html(
        '<table style="width:100%;border-collapse:collapse" '
        f'aria-label="The likeliest classes with their probabilities">{rows}</table>'
    )


def small_table(columns: Mapping[str, Sequence[str]]) -> None:
    """Texts in columns: as plain HTML where that is short, since a grid takes a second to load."""
    if len(next(iter(columns.values()))) > SHORT:
        st.dataframe(columns, hide_index=True)
        return
    shown = {escape(name): [escape(text) for text in texts] for name, texts in columns.items()}
    st.table(pd.DataFrame(shown), border="horizontal", hide_index=True)


@contextmanager
def opened(label: str, icon: str) -> Iterator[bool]:
    """An expander, closed at first, and whether it is open: what nobody sees need not be made."""
    box = st.expander(label, icon=icon, key=label, on_change="rerun")
    with box:
        yield bool(box.open)


def short_label(run: Run) -> str:
    """A run in a legend: recipe, start, and the end of its id to tell it in the table."""
    return f"{history.row(run).recipe} · {_began(run, '%d %b %H:%M')} · {run.id[-4:]}"


def run_label(run: Run) -> str:
    """A run by recipe, data set and time; plain text, for the options of a chooser.

    With the end of its id, since a chooser takes equal labels for one option, and runs of a study
    begin in the same second. Not by its state: a box is drawn once, and the run goes on.
    """
    row = history.row(run)
    if row.state == DAMAGED:
        return f"{run.id} · damaged"
    if run.id == runs.SHIPPED:
        return f"the model that comes with imgcls · {row.recipe} · {row.dataset}"
    began = _began(run, "%d %b %Y %H:%M:%S")
    return f"{row.recipe} · {row.dataset} · {began} · {run.id[-4:]}"


def _began(run: Run, form: str) -> str:
    try:
        return datetime.strptime(run.id[:15], "%Y%m%d-%H%M%S").strftime(form)
    except ValueError:  # fourteen digits that are no time
        return run.id[:15]


def asked_run(take: Callable[[Run], bool] = lambda run: True) -> Run | None:
    """The run that the URL names; None with a notice where it names none that `take` takes."""
    asked = st.query_params.get("run")
    if asked is None:
        return None
    try:
        run = runs.get(asked)
    except ImgclsError:
        st.info(f"No run {escape(asked[:80])} is on disk; it may have been deleted.")
        return None
    if not take(run):
        st.info(f"Run {run.id} cannot be used on this page yet.")
        return None
    return run


def choose_run(
    take: Callable[[Run], bool] = lambda run: True,
    label: str = "Run",
    shipped: bool = False,
    **options: Any,
) -> Run | None:
    """A select box of the runs that `take` takes, in step with `?run=`; None where there are none.

    `shipped`: with the model that comes with imgcls, last. `options` go to st.selectbox. A visitor
    who comes back finds the run looked at last.
    """
    found = {run.id: run for run in runs.all_runs() if take(run)}
    if shipped:
        found[runs.SHIPPED] = runs.shipped()
    asked = asked_run(take)
    if not found:
        return None
    names = {name: run_label(run) for name, run in found.items()}
    chosen = _choose_in_step("run", names, asked.id if asked else None, label, options)
    return found[chosen]


def choose_dataset(label: str = "Data set", **options: Any) -> str | None:
    """A select box of the data sets on disk, in step with `?dataset=`; None where there are none.

    Another page's choice is the default here. `options` go to st.selectbox.
    """
    names = catalog.names()
    asked = st.query_params.get("dataset")
    if asked is not None and asked not in names:
        st.info(f"No data set {escape(asked[:80])} is on disk.")
    if not names:
        return None
    asked = asked if asked in names else None
    return _choose_in_step("dataset", {name: name for name in names}, asked, label, options)


def _choose_in_step(
    parameter: str, names: dict[str, str], asked: str | None, label: str, options: dict[str, Any]
) -> str:
    """A select box in step with a query parameter, and with the choice on other pages.

    Whichever moved since the last look decides: the URL by a link, or the box. No callback: the
    late tick of a page that is gone carries the box's old value, and would call it.
    """
    key, seen = f"chosen_{parameter}", f"seen_{parameter}"
    remembered = st.session_state.get(parameter)
    if asked is not None and asked != st.session_state.get(seen):
        st.session_state[key] = asked
    elif st.session_state.get(key) not in names:
        known = (name for name in (asked, remembered) if name in names)
        st.session_state[key] = next(known, next(iter(names)))
    chosen: str = st.selectbox(
        label, list(names), format_func=names.__getitem__, key=key, **options
    )
    if asked != chosen:
        st.query_params[parameter] = chosen
    st.session_state[parameter] = st.session_state[seen] = chosen
    return chosen


def setting_widget(setting: Setting, value: Any, *, key: str, disabled: bool = False) -> Any:
    """The widget of one setting, with its help; returns the value that it holds.

    `value` counts where the widget is new. Phases come back as text for `config.parse`, and what
    was cleared as None. The limits of a number are in its help alone: a browser that knew them
    would keep what lies beyond to itself, and the run would start with the value before.
    """
    if key not in st.session_state:
        st.session_state[key] = config.format_value(value) if setting.kind is tuple else value
    label = setting.name.replace("_", " ")
    common: dict[str, Any] = {"key": key, "help": escape(setting.help), "disabled": disabled}
    if setting.kind is bool:
        return st.checkbox(label, **common)
    if setting.choices:
        return st.selectbox(label, setting.choices, width=190, **common)
    if setting.kind in (int, float) and setting.low is not None and setting.high is not None:
        whole = setting.kind is int
        common["help"] += f" From {setting.low:g} to {setting.high:g}."
        return st.number_input(
            label,
            value=None,
            step=1 if whole else _step(setting),
            format="%d" if whole else "%g",
            width=150,
            **common,
        )
    return st.text_input(label, max_chars=500, width=310, **common)


def sheet(images: Images, alt: str, columns: int = 10, side: int = 64) -> None:
    """Images (N, H, W, 3) as one PNG, each enlarged to about `side` pixels by repeated pixels."""
    st.image(joined(images, columns, side), output_format="PNG", alt=alt)


def joined(images: Images, columns: int, side: int) -> Images:
    """What `sheet` shows; no wider than its images."""
    sprite = pictures.sprite(images, max(1, min(columns, len(images))))
    times = max(1, round(side / images.shape[1]))
    return sprite.repeat(times, 0).repeat(times, 1)


def next_step(text: str, page: str, label: str, **query: str) -> None:
    """An empty state: what is missing, and the page that helps."""
    with st.container(border=True):
        st.markdown(text)
        st.page_link(
            f"pages/{page}.py", label=label, icon=":material/arrow_forward:",
            query_params=query or None,
        )  # fmt: skip


def link(page: str, label: str, icon: str | None, **query: str) -> None:
    """A link to a page that keeps the run it is about."""
    st.page_link(f"pages/{page}.py", label=label, icon=icon, query_params=query or None)


def run_table(rows: list[Row]) -> pd.DataFrame:
    """Runs as `st.dataframe` shows them with `run_columns`."""
    return pd.DataFrame(
        {
            "state": [[row.state] for row in rows],
            "recipe": [row.recipe or "–" for row in rows],
            "dataset": [row.dataset or "–" for row in rows],
            "epochs": [f"{row.epochs} of {row.of_epochs}" if row.recipe else "–" for row in rows],
            "accuracy": [
                None if row.val_accuracy is None else round(100 * row.val_accuracy, 4)
                for row in rows
            ],
            "time": [duration(row.seconds) if row.seconds else "–" for row in rows],
            "run": [row.id for row in rows],
            "study": [f"train?study={quote(row.study)}" if row.study else None for row in rows],
        }
    )


def run_columns() -> dict[str, Any]:
    """How the columns of `run_table` look."""
    column = st.column_config
    return {
        "state": column.MultiselectColumn(
            "State", options=list(map(str, STATES)), color=[c for _, c in STATES.values()]
        ),
        "recipe": column.TextColumn("Recipe", width=150),
        "dataset": column.TextColumn("Data set"),
        "epochs": column.TextColumn("Epochs", width=80),
        "accuracy": column.NumberColumn(
            "Validation", format="%.1f %%", help="Best validation accuracy.", width=90
        ),
        "time": column.TextColumn("Time", width=100),
        "run": column.TextColumn("Run"),
        "study": column.LinkColumn("Study", display_text=r"study=(.*)$"),
    }


def _step(setting: Setting) -> float:
    assert setting.high is not None
    return 0.001 if setting.name == "peak_lr" else 0.01 if setting.high <= 1 else 1.0
