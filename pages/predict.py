"""Put a model to work: pictures in, answers out."""

import streamlit as st

from imgcls import card
from imgcls.errors import ImgclsError
from imgcls.ui import frame, predicting, widgets

frame.page("pages/predict.py")
frame.header("Predict", "What a trained model says of your pictures.")


def ask() -> None:
    """Everything below the heading."""
    run = widgets.choose_run(lambda run: run.model_path.exists())
    if run is None:
        widgets.next_step(
            "No run has a model yet: one appears with the first validated epoch.",
            "train", "Train a classifier",
        )  # fmt: skip
        return
    model = card.read(run.model_path)
    files = predicting.chosen_pictures(run)
    if not files:
        st.caption(
            f"The model knows {len(model.classes)} classes and nothing else: of a picture of "
            "something else it names one of them all the same."
        )
        return
    found = predicting.answers(run, files)
    if len(found) == 1:
        predicting.one(found[0], model.classes)
    else:
        predicting.several(found)


try:
    ask()
except ImgclsError as error:
    st.error(widgets.escape(error), icon=":material/error:")
