"""Train: choose a recipe, change settings, start; then watch it learn."""

import streamlit as st

from imgcls import recipes
from imgcls.errors import ConfigError
from imgcls.ui import finding, frame, history, live, settings, studying, training, widgets

frame.page("pages/train.py")
frame.header(
    "Train", "Start from a recipe and watch it learn. A run goes on when you close this page."
)

if study := studying.current_study():
    studying.show(study)
    st.stop()

if run := training.current_run():
    run = widgets.choose_run(label_visibility="collapsed") or run
    training.controls(run)
    row = history.row(run)
    if row.state == history.DAMAGED:
        st.error(widgets.escape(row.reason))
    else:
        live.watch(run)
    st.stop()

alive = [row for row in history.rows() if row.alive]
if alive:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{len(alive)} in progress; a new run on the same device waits in line:")
        for row in alive[:3]:
            widgets.link(
                "train", f"{row.recipe} on {row.dataset}", ":material/monitoring:", run=row.id
            )

first, second, third = st.columns([5, 3, 2], vertical_alignment="bottom")
with first:
    recipe = settings.choose_recipe()
with second:
    dataset = widgets.choose_dataset()
if dataset is None:
    widgets.next_step(
        "No data set is on disk yet. Handwritten digits come with the app; CIFAR-10 and your own "
        "images are a click away.",
        "explore",
        "Get a data set",
    )
    st.stop()

about = recipes.RECIPES[recipe]
hoped = f"On CIFAR-10: {about.expected[0].lower()}{about.expected[1:]}"
st.caption(f"{widgets.escape(hoped)} {widgets.escape(about.source)}")
problem = st.empty()
config = order = None
try:
    config = settings.edit(recipe, dataset)
    order = studying.order(config)
except ConfigError as error:
    problem.error(widgets.escape(error))
with third:
    started = st.button(
        order.label if order else "Start training",
        type="primary",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=order is None,
    )
finding.panel(config)
if order:
    st.markdown("**The same as a command**")
    st.code(order.command, language=None, wrap_lines=True)
    if started:
        with problem:
            studying.start(order)
