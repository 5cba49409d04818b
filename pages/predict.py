"""Put a model to work: pictures in, answers out."""

import streamlit as st

from imgcls import card
from imgcls.errors import ImgclsError
from imgcls.ui import frame, predicting, teaching, widgets

frame.page("pages/predict.py")
frame.header("Predict", "What a trained model says of your pictures.")


def ask() -> None:
    """Everything below the heading."""
    run = widgets.choose_run(lambda run: run.model_path.exists(), shipped=True)
    assert run is not None  # one comes with imgcls
    model = card.read(run.model_path)
    predicting.about(run, model)
    files = predicting.chosen_pictures(run)
    if not files:
        predicting.prepare(run)
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        coverage = predicting.chosen_coverage(run)
        tta = predicting.asked_with_views(run)
    found = predicting.answers(run, files, coverage, tta)
    teaching.ask(run, found)
    if len(found) == 1:
        predicting.one(found[0], model.classes)
        predicting.closer(run, files[0], found[0], model)
    else:
        predicting.several(run, files, found, model)


try:
    ask()
except ImgclsError as error:
    st.error(widgets.escape(error), icon=":material/error:")
