"""The Train page's account of where a run's time goes."""

import dataclasses
import json

import pytest

from imgcls import doctor, recipes
from imgcls.events import Profile
from imgcls.runs import Run
from imgcls.ui import history, live
from tests.pages.opened import open_page, said
from tests.pages.recorded import STARTED, alive, record, step
from tests.pages.test_train import button

KNOWN = dataclasses.replace(STARTED, flops=2e6, flops_by_side={"32": 2e6}, peak_flops=1e11)
SECONDS = {
    "data": 1.7, "forward": 3.7, "backward": 3.4, "optimizer": 1.0, "evaluation": 0.0, "idle": 0.2
}  # fmt: skip


def shares(app):
    """What the chart says to those who do not see it; None where there is no chart."""
    told = (chart.proto.alt.replace("\u00a0", " ") for chart in app.get("vega_lite_chart"))
    return next((text for text in told if "Shares" in text), None)


def a_run(*told, recipe="quick"):
    run = record("interrupted", recipe=recipe)
    for event in told:
        run.append(event)
    return run


def test_an_older_run_shows_nothing_of_it(tiny_dataset):
    app = open_page("train", run=record().id)

    assert not app.exception
    assert shares(app) is None
    assert "Where the time goes" not in said(app)


def test_shares_rate_and_advice_are_shown_while_a_run_trains(tiny_dataset):
    run = a_run(KNOWN, *(Profile(step, 5000, SECONDS, {"32": 5000}) for step in (20, 25)))
    with alive(run):
        app = open_page("train", run=run.id)

    assert not app.exception
    assert shares(app) == (
        "Shares of the time: data 17 %, forward 37 %, backward 34 %, optimizer 10 %, "
        "evaluation 0 %, idle 2 %"
    )
    # 10,000 images at 2 MFLOP in 20 s, of 100 GFLOP/s.
    text = said(app).replace("\u00a0", " ")
    assert "2 MFLOP an image, forward and backward · 1 GFLOP/s, 1.0 % of the 100 GFLOP/s" in text
    assert "try 128" not in text  # the batch is 256 already
    assert "at 1 % of the matrix product" in text


def test_the_button_opens_the_form_with_the_settings_and_the_change(tiny_dataset):
    run = a_run(KNOWN, Profile(25, 5000, {**SECONDS, "evaluation": 10.0}), recipe="tutorial-cnn")
    base = recipes.RECIPES["tutorial-cnn"].config
    advice = doctor.advise({**SECONDS, "evaluation": 10.0}, base, on_cpu=True, images=54, rate=None)
    assert set(advice.change) == {"eval_every"}
    app = open_page("train", run=run.id)

    button(app, f"Try eval every {advice.change['eval_every']}").click().run()

    assert not app.exception
    assert app.number_input("set_eval_every").value == advice.change["eval_every"]
    assert app.number_input("set_epochs").value == base.epochs
    assert button(app, "Start training") is not None
    assert "run" not in app.query_params


def test_only_the_last_sitting_counts(tiny_dataset):
    earlier = Profile(20, 5000, {**SECONDS, "idle": 500.0})
    run = a_run(KNOWN, earlier, KNOWN, Profile(25, 5000, SECONDS))

    assert "idle 2 %" in shares(open_page("train", run=run.id))


def test_without_flops_the_shares_stand_alone(tiny_dataset):
    app = open_page("train", run=a_run(Profile(25, 5000, SECONDS)).id)

    assert not app.exception
    assert "forward 37 %" in shares(app)
    assert "FLOP" not in said(app)


def test_on_a_gpu_it_is_said_to_be_a_sample(tiny_dataset):
    on_gpu = dataclasses.replace(KNOWN, device="NVIDIA H100")
    told = {}
    for name, started in (("cpu", KNOWN), ("gpu", on_gpu)):
        app = open_page("train", run=a_run(started, Profile(25, 5000, SECONDS)).id)
        told[name] = next(m.help for m in app.markdown if "Where the time goes" in m.value)

    assert "one step in eight" in told["gpu"]
    assert "one step in eight" not in told["cpu"]


@pytest.mark.parametrize(
    "seconds",
    [[], 3, None, "idle", {"idle": "long"}, {"idle": None}, {"idle": -1}, {"sleep": 1.0}, {}],
    ids=str,
)
def test_a_damaged_profile_is_passed_over(tiny_dataset, seconds):
    run = a_run(KNOWN)
    with open(run.path / "events.jsonl", "a") as file:
        line = {"event": "profile", "step": 25, "images": 5, "seconds": seconds}
        file.write(json.dumps(line) + "\n")

    app = open_page("train", run=run.id)

    assert not app.exception
    assert shares(app) is None


def test_while_a_run_trains_each_look_reads_only_what_is_new(tiny_dataset, monkeypatch):
    offsets = []
    read = Run.read
    monkeypatch.setattr(
        Run, "read", lambda self, offset=0: offsets.append(offset) or read(self, offset)
    )
    with alive(record("interrupted")) as run:
        first = history.row(run)
        run.append(step(26, 3, loss=0.1))
        second = history.row(run)

    assert (first.seconds, second.seconds) == (25 * 0.3, 26 * 0.3)
    assert first.epochs == second.epochs == 2
    assert offsets[0] == 0 < offsets[1]
    assert len(offsets) == 2


def test_the_live_curve_is_the_mean_of_equal_groups_and_has_gaps():
    losses = [1.0, 3.0, None, None, 5.0, None, 7.0]
    steps = [step(i, 1, loss=value) for i, value in enumerate(losses, 1)]

    curve = live.thin(steps, points=4).to_pydict()

    assert curve["step"] == [2, 4, 6, 7]
    assert curve["loss"] == [2.0, pytest.approx(float("nan"), nan_ok=True), 5.0, 7.0]
    assert live.thin(steps[:1]).to_pydict() == {"step": [1], "loss": [1.0]}
