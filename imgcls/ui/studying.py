"""Studies on the Train page: ask for several runs, and watch what comes of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from imgcls import charts, config, runs, studies
from imgcls.config import SETTINGS, TrainConfig
from imgcls.errors import ConfigError, ImgclsError
from imgcls.runs import State
from imgcls.studies import Arm, Interval, Study
from imgcls.ui import live, settings, training, widgets

SECONDS = 2.0  # between two looks at a study that goes on
NOTHING = "nothing: seeds only"
_KEPT: dict[str, Any] = {"persist_state": "session"}  # also while a wrong setting hides the form


@dataclass(frozen=True)
class Order:
    """What the visitor asks for: one run, or a study."""

    plan: list[TrainConfig]
    command: str

    @property
    def label(self) -> str:
        """What the button says that starts it."""
        return "Start training" if len(self.plan) == 1 else f"Start {len(self.plan)} runs"


def order(chosen: TrainConfig) -> Order:
    """Draw the form for several runs; raises ConfigError where what it holds makes none."""
    with st.expander("Several runs", icon=":material/stacked_line_chart:", key="several"):
        st.caption(
            "Several seeds show how much chance matters. Change one setting, and the settings "
            "above are compared with themselves; the runs wait in line for their device."
        )
        try:
            return _order(chosen)
        except ConfigError as error:
            st.caption(widgets.escape(error))  # here, and beside the button that waits for it
            raise


def _order(chosen: TrainConfig) -> Order:
    left, middle, right = st.columns([2, 3, 5], vertical_alignment="bottom")
    count = left.number_input(
        "Seeds each", value=1, step=1, format="%d", key="several_seeds", **_KEPT,
        help=f"From the seed above upwards. At most {studies.MOST_WAITING} runs in all.",
    )  # fmt: skip
    values_of = chosen.to_dict()
    names = [
        name
        for name, setting in SETTINGS.items()
        if setting.group not in ("Run", "Machine")
        and name not in studies.NEVER_VARIED
        and settings.matters(name, values_of)
    ]
    changed = middle.selectbox(
        "Change one setting", [NOTHING, *names], key="several_setting", **_KEPT,
        format_func=lambda name: name.replace("_", " "),
    )  # fmt: skip
    setting = "" if changed == NOTHING else str(changed)
    with right:
        values = _values(setting, values_of) if setting else []
    if setting and not values:
        raise ConfigError(
            f"Name at least one other value of {setting.replace('_', ' ')} under Several runs, or "
            "change no setting there; the unchanged value is always among them."
        )
    now = datetime.now()
    if setting:
        plan = studies.ablation(chosen, setting, values, count, now)
    elif count != 1:
        plan = studies.seeds(chosen, count, now)
    else:
        plan = [chosen]
    studies.check_waiting(len(plan))
    if len(plan) > 1:
        arms = len(plan) // count
        told = f"{arms} values, the unchanged one among them, × " if arms > 1 else ""
        st.markdown(f"{told}{count} {'seed' if count == 1 else 'seeds'} = **{len(plan)} runs**")
    return Order(plan, studies.command(chosen, setting, values, count))


def _values(setting: str, values_of: dict[str, Any]) -> list[Any]:
    """What the setting is to be changed to: from a list where it has choices, else from text."""
    said, now = SETTINGS[setting], values_of[setting]
    if said.kind is bool:
        return [not now]
    label = f"Other values than {config.format_value(now) or 'empty'}"
    if said.choices:
        others = [choice for choice in said.choices if choice != now]
        return st.multiselect(label, others, key=f"several_{setting}", **_KEPT)
    text = st.text_input(
        label, key=f"several_{setting}", max_chars=500, help=widgets.escape(said.help), **_KEPT,
        placeholder="parted by semicolons" if said.kind is tuple else "parted by commas",
    )  # fmt: skip
    return studies.parse_values(setting, text or "")


def start(wanted: Order) -> None:
    """Start one run, or put those of a study in line, then show it; what prevents it is said."""
    if len(wanted.plan) == 1:
        training.start(wanted.plan[0])
        return
    study = wanted.plan[0].study
    try:
        with st.spinner(f"Starting {len(wanted.plan)} runs, a third of a second each…"):
            # No word to the browser in between: a tab that closes must not cut the list short.
            studies.queue(wanted.plan)
    except (ImgclsError, OSError) as error:
        if study not in studies.names():
            st.error(widgets.escape(error))
            return
        st.session_state["run_problem"] = str(error)
    st.session_state["new_run"] = False
    st.query_params.from_dict({"study": study})
    st.rerun()


def current_study() -> Study | None:
    """The study to show: the one in the URL, else that of the newest run alive, if it has one."""
    asked = st.query_params.get("study")
    if asked is None:
        if "run" in st.query_params or st.session_state.get("new_run"):
            return None
        alive = next((run for run in runs.all_runs() if run.alive()), None)
        asked = training.study_of(alive) if alive else ""
        if not asked:
            return None
        st.query_params.from_dict({"study": asked})
    try:
        return studies.find(asked)
    except ImgclsError:
        st.info(
            f"No study {widgets.escape(asked[:80])} is on disk; its runs may have been deleted."
        )
        return None


def show(study: Study) -> None:
    """What can be done with a study, and what has come of it; renewed while it goes on."""
    of = f"{_what(study)} varied" if study.varied else "several seeds"
    st.subheader(widgets.escape(f"{study.recipe} on {study.dataset}: {of}"), anchor=False)
    states = _offers(study)
    alive, stoppable, resumable = states
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if alive:
            st.button(
                "Stop all", icon=":material/stop_circle:", on_click=_stop, args=(study,),
                disabled=not stoppable,
                help="The run that trains finishes its step and saves; all can be resumed.",
            )  # fmt: skip
        if resumable:
            st.button(
                "Resume the rest", icon=":material/play_arrow:", on_click=training.resume,
                args=_cut_short(study), type="primary",
                help="Runs that were stopped, interrupted or failed go on, in line.",
            )  # fmt: skip
        st.button("New run", icon=":material/add:", on_click=training.set_up_new)
    training.show_problem()
    st.fragment(_watch, run_every=SECONDS if alive else None)(study.name, states)


def _watch(name: str, drawn: tuple[bool, bool, bool]) -> None:
    try:
        study = studies.find(name)
    except ImgclsError:
        st.rerun()  # the last of its runs was deleted
    if _offers(study) != drawn:
        st.rerun()  # the buttons above were drawn for other states
    _progress(study)
    if any(arm.accuracies for arm in study.arms):
        rows = [(_label(study, arm), arm.accuracies, arm.interval) for arm in study.arms]
        st.markdown("**Best validation accuracy of each finished run**")
        st.plotly_chart(
            charts.arms(rows), key="study_arms", config=live.QUIET,
            alt="Each run's accuracy by arm, with mean and 95 % interval",
        )  # fmt: skip
    else:
        st.caption("The chart begins when the first run has finished.")
    st.dataframe(
        _arm_table(study), hide_index=True, placeholder="–", alt="Arms of the study",
        key="study_table",
    )  # fmt: skip
    st.caption(
        "± is the standard deviation over seeds. Intervals of 95 %: Student's for a mean, Welch's "
        "for a difference. They tell of seeds, not of the choice of validation images. One of "
        "twenty settings that do nothing looks like a real difference."
    )
    st.markdown("**Runs**")
    st.dataframe(
        _run_table(study), column_config=_run_columns(), hide_index=True, placeholder="–",
        alt="Runs of the study", key="study_runs",
    )  # fmt: skip


def _progress(study: Study) -> None:
    found = study.results
    ended = [not r.state.alive and r.state not in studies.RESUMABLE for r in found]
    total = sum(r.of_epochs for r in found)
    done = sum(
        r.of_epochs if over else r.epochs for r, over in zip(found, ended, strict=True)
    )  # one that stopped early or diverged has no more to do
    states = [r.state for r in found]
    others = [s for s in State if s != State.FINISHED and s in states]
    text = f"{states.count(State.FINISHED)} of {len(found)} runs finished"
    st.progress(
        min(done / max(total, 1), 1.0),
        " · ".join([text, *(f"{states.count(state)} {state}" for state in others)]),
    )


def _arm_table(study: Study) -> pd.DataFrame:
    rows = []
    for arm in study.arms:
        difference, between, verdict = study.difference(arm)
        spread = "" if arm.sd is None else f" ± {100 * arm.sd:.2f}"
        rows.append(
            {
                _what(study): arm.label,
                "n": len(arm.accuracies),
                "mean ± sd, %": None if arm.mean is None else f"{100 * arm.mean:.2f}{spread}",
                "95 % interval, %": _range(arm.interval, ".2f"),
                "difference, points": None if difference is None else f"{100 * difference:+.2f}",
                "its 95 % interval": _range(between, "+.2f"),
                "verdict": verdict,
                "not finished": ", ".join(f"{n} {state}" for state, n in arm.unfinished.items()),
            }
        )
    return pd.DataFrame(rows)


def _run_table(study: Study) -> pd.DataFrame:
    label = {result.run: arm.label for arm in study.arms for result in arm.results}
    found = study.results
    return pd.DataFrame(
        {
            "state": [[r.state.value] for r in found],
            "arm": [label[r.run] for r in found],
            "seed": [r.seed for r in found],
            "epochs": [f"{r.epochs} of {r.of_epochs}" for r in found],
            "accuracy": [None if r.accuracy is None else 100 * r.accuracy for r in found],
            "run": [f"train?run={r.run.id}" for r in found],
        }
    )


def _run_columns() -> dict[str, Any]:
    known, column = widgets.run_columns(), st.column_config
    return {
        **{name: known[name] for name in ("state", "epochs", "accuracy")},
        "arm": column.TextColumn("Value"),
        "seed": column.NumberColumn("Seed", width=70),
        "run": column.LinkColumn("Run", display_text=r"run=(.+)", width=330),
    }


def _what(study: Study) -> str:
    """What tells arms apart, as a heading."""
    return study.varied[0].replace("_", " ") if len(study.varied) == 1 else "settings"


def _label(study: Study, arm: Arm) -> str:
    return f"{arm.label} (unchanged)" if study.varied and arm is study.arms[0] else arm.label


def _range(interval: Interval | None, form: str) -> str | None:
    return interval and " to ".join(format(100 * end, form) for end in interval)


def _offers(study: Study) -> tuple[bool, bool, bool]:
    """Whether something is alive, something can be stopped, and something can go on."""
    states = {result.state for result in study.results}
    alive = {state for state in states if state.alive}
    return bool(alive), bool(alive - {State.STOPPING}), bool(states & set(studies.RESUMABLE))


def _cut_short(study: Study) -> tuple[runs.Run, ...]:
    return tuple(r.run for r in study.results if r.state in studies.RESUMABLE)


def _stop(study: Study) -> None:
    """A callback: stop what waits, then what trains, so that none comes up in between."""
    for run in studies.find(study.name).alive:
        training.stop(run)
