"""The form of a training run: a recipe, and every setting of it open to change."""

from typing import Any

import streamlit as st

from imgcls import config, recipes
from imgcls.config import SETTINGS, TrainConfig
from imgcls.errors import ConfigError
from imgcls.ui import widgets

GROUPS = ("Training", "Model", "Optimizer", "Schedule", "Augmentation", "Data", "Machine")
_OPEN = ("Training", "Model", "Optimizer")


def fill(settings: TrainConfig) -> None:
    """Let the form show these settings; call it before the form is drawn."""
    known = settings.recipe in recipes.RECIPES
    _fill(settings.recipe if known else recipes.DEFAULT, settings.to_dict())


def choose_recipe(**options: Any) -> str:
    """A select box of the recipes; a new choice fills the form anew."""
    if "form_values" not in st.session_state:
        _fill(recipes.DEFAULT, recipes.RECIPES[recipes.DEFAULT].config.to_dict())
    st.session_state["form_recipe_choice"] = st.session_state["form_recipe"]

    def changed() -> None:
        name = st.session_state["form_recipe_choice"]
        _fill(name, recipes.RECIPES[name].config.to_dict())

    chosen: str = st.selectbox(
        "Recipe",
        list(recipes.RECIPES),
        format_func=lambda name: f"{name} · {recipes.RECIPES[name].title}",
        key="form_recipe_choice",
        on_change=changed,
        **options,
    )
    return chosen


def edit(recipe: str, dataset: str) -> TrainConfig:
    """Draw every setting, and return the config they make; raises ConfigError where they don't."""
    kept = st.session_state["form_values"]
    base = recipes.RECIPES[recipe].config.to_dict()
    values: dict[str, Any] = dict(kept)
    left, right = st.columns(2, gap="medium")
    for i, group in enumerate(GROUPS):
        used = any(base[n] != s.default for n, s in SETTINGS.items() if s.group == group)
        opened = group in _OPEN or (used and group in ("Schedule", "Augmentation"))
        with (
            (left if i < 3 else right).expander(group, expanded=opened, key=f"group_{group}"),
            st.container(horizontal=True, gap="small", vertical_alignment="bottom"),
        ):
            for name, setting in SETTINGS.items():
                if setting.group == group:
                    values[name] = widgets.setting_widget(
                        setting, kept[name], key=f"set_{name}", disabled=not matters(name, values)
                    )
    st.session_state["form_values"] = values
    return _config(recipe, dataset, values)


def _fill(recipe: str, values: dict[str, Any]) -> None:
    st.session_state["form_recipe"] = recipe
    st.session_state["form_values"] = {
        name: config.format_value(value) if SETTINGS[name].kind is tuple else value
        for name, value in values.items()
    }
    for name, value in st.session_state["form_values"].items():
        st.session_state[f"set_{name}"] = value


def matters(name: str, values: dict[str, Any]) -> bool:
    """Whether a setting has any effect beside those drawn before it."""
    needs: dict[str, bool] = {
        "stem": values["model"] in config.PUBLISHED,
        "pretrained": values["model"] in config.PUBLISHED and values["stem"] == "imagenet",
        "weights": values["pretrained"] is True,
        "freeze": values["pretrained"] is True,
        "peak_lr": values["schedule"] != "phases",
        "momentum": values["optimizer"] in ("sgd", "rmsprop", "muon"),
        "nesterov": values["optimizer"] == "sgd",
        "step_epochs": values["schedule"] == "step",
        "gamma": values["schedule"] in ("step", "plateau"),
        "patience": values["schedule"] == "plateau",
        "warmup_share": values["schedule"] == "one-cycle",
        "phases": values["schedule"] == "phases",
        "alternating_flip": values["flip"] is True,
        "mirror_pairs": values["flip"] is True and values["model"] in config.IN_PAIRS,
        "full_size_from": bool(values["start_size"]),
        "hard_from": values["hard_share"] != 1,
    }
    return needs.get(name, True)


def _config(recipe: str, dataset: str, values: dict[str, Any]) -> TrainConfig:
    base = recipes.RECIPES[recipe].config.to_dict()
    changes: dict[str, Any] = {}
    for name, value in values.items():
        setting = SETTINGS[name]
        if setting.group == "Run":
            continue
        used = matters(name, values)
        if setting.low is not None and setting.high is not None:
            if not used and not (value is not None and setting.low <= value <= setting.high):
                value = base[name]  # nobody can mend what is switched off
            if value is None:
                raise ConfigError(f"{name} is empty: enter {setting.low:g} to {setting.high:g}.")
        if setting.kind is tuple:
            value = config.parse(name, value)
        if setting.kind in (bool, str) and not setting.choices and not used:
            value = setting.default  # what cannot be seen to be on is off
        if value != base[name]:
            changes[name] = value
    return recipes.config_for(recipe, dataset, **changes)
