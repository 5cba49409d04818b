"""Train through AppTest: the form, a run that is started, and runs in every state."""

import os
import time
from datetime import datetime

import pytest
from streamlit.testing.v1 import AppTest

from imgcls import recipes, runs, studies
from imgcls.config import SETTINGS
from imgcls.events import Ended, Epoch, Queued
from tests.pages.opened import open_page, said
from tests.pages.recorded import alive, record, step


def command(app):
    return app.code[0].value


def button(app, label):
    return next((b for b in app.button if b.label == label), None)


def metrics(app):
    return {metric.label: metric.value for metric in app.metric}


def test_without_data_the_page_leads_to_explore(home):
    app = open_page("train")

    assert not app.exception
    assert "No data set is on disk yet" in said(app)
    assert button(app, "Start training") is None


def test_every_setting_stands_in_the_form_with_its_help(tiny_dataset):
    app = open_page("train")

    shown = [*app.number_input, *app.checkbox, *app.selectbox, *app.text_input]
    helped = {w.key.removeprefix("set_"): w.help for w in shown if w.key.startswith("set_")}

    assert set(helped) == {name for name, s in SETTINGS.items() if s.group != "Run"}
    assert all(helped.values())


def test_the_form_begins_with_the_default_recipe(tiny_dataset):
    app = open_page("train")

    assert command(app) == "python -m imgcls train --recipe speed --dataset tiny"
    assert app.number_input("set_epochs").value == recipes.RECIPES["speed"].config.epochs


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_choosing_a_recipe_fills_the_form_anew(tiny_dataset, name):
    app = open_page("train")
    app.number_input("set_epochs").set_value(3).run()

    app.selectbox("form_recipe_choice").set_value(name).run()

    assert not app.exception
    assert not app.error
    if name != recipes.DEFAULT:
        assert command(app) == f"python -m imgcls train --recipe {name} --dataset tiny"
        assert app.selectbox("set_model").value == recipes.RECIPES[name].config.model


def test_the_command_names_what_differs_from_the_recipe(tiny_dataset):
    app = open_page("train")

    app.number_input("set_epochs").set_value(3)
    app.number_input("set_peak_lr").set_value(0.05)
    app.checkbox("set_flip").set_value(False).run()

    assert command(app).endswith(
        "--epochs 3 --set peak_lr=0.05 --set flip=false --set alternating_flip=false "
        "--set mirror_pairs=false"
    )


def test_settings_that_contradict_are_named_before_the_start(tiny_dataset):
    app = open_page("train")

    app.selectbox("set_train_on").set_value("train+validation")
    app.number_input("set_early_stopping").set_value(3).run()

    assert "nothing to validate on" in app.error[0].value
    assert button(app, "Start training").disabled


@pytest.mark.parametrize("value", [100_000, 0, -5, None])
def test_a_number_beyond_its_limits_is_one_sentence_and_starts_nothing(tiny_dataset, value):
    app = open_page("train")

    app.number_input("set_epochs").set_value(value).run()

    said = "is empty: enter 1 to 500" if value is None else f"must be 1 to 500, got {value}"
    assert [f"epochs {said}."] == [error.value.replace("\\", "") for error in app.error]
    assert button(app, "Start training").disabled


def test_what_is_switched_off_cannot_be_wrong(tiny_dataset):
    app = open_page("train")
    app.number_input("set_momentum").set_value(None).run()
    assert app.error

    app.selectbox("set_optimizer").set_value("adam").run()

    assert app.number_input("set_momentum").disabled
    assert not app.error
    assert not button(app, "Start training").disabled


def test_what_a_recipe_reaches_is_said_of_the_data_set_it_was_reached_on(tiny_dataset):
    assert "On CIFAR-10: 89.4 %" in said(open_page("train"))


def test_phases_that_are_no_phases_are_named(tiny_dataset):
    app = open_page("train")
    app.selectbox("form_recipe_choice").set_value("tutorial-feedforward").run()

    app.text_input("set_phases").set_value("ten").run()

    assert "phases must look like" in app.error[0].value.replace("\\", "")


def test_the_form_survives_a_look_at_another_page(tiny_dataset):
    app = open_page("train")
    app.number_input("set_epochs").set_value(3).run()

    app.switch_page("pages/home.py").run()
    app.switch_page("pages/train.py").run()

    assert app.number_input("set_epochs").value == 3


def test_a_started_run_trains_and_is_shown_to_its_end(tiny_dataset):
    app = open_page("train")
    app.selectbox("form_recipe_choice").set_value("tutorial-softmax").run()
    app.number_input("set_epochs").set_value(2).run()
    button(app, "Start training").click().run()

    (run,) = runs.all_runs()
    assert app.query_params["run"] in (run.id, [run.id])
    deadline = time.monotonic() + 120
    while run.state().alive and time.monotonic() < deadline:
        time.sleep(0.3)
    app.run()
    assert not app.exception
    assert run.state() == "finished", run.log_path.read_text()
    assert "finished" in said(app)
    assert metrics(app)["Best validation"].endswith("%")
    assert len(app.get("plotly_chart")) == 2


def test_a_visitor_without_a_link_finds_the_newest_run_in_progress(tiny_dataset):
    record(hour=1)
    with alive(record("interrupted", hour=2)) as run:
        app = open_page("train")

        assert "running" in said(app)
        assert app.query_params["run"] in (run.id, [run.id])
        assert metrics(app)["Images/s"] == "1,234"
        assert metrics(app)["Memory"] == "321 MB"


def test_a_run_in_line_says_so(tiny_dataset):
    with alive(record("interrupted", epochs=0), queued=True) as run:
        app = open_page("train", run=run.id)

    assert "queued" in said(app)
    assert "Waits for the run on its device" in str(app.get("progress")[0].proto)


def look(times):
    """A page that shows the run as if it had been drawn before the first model was saved."""
    import streamlit as st

    from imgcls import runs
    from imgcls.ui import history, live

    st.session_state["looks"] = looks = st.session_state.get("looks", 0) + 1
    (run,) = runs.all_runs()
    live.show(run, history.row(run).state, has_model=looks > times)


def test_the_page_is_drawn_anew_once_a_first_model_is_there(tiny_dataset):
    run = record()
    run.model_path.write_bytes(b"weights")

    app = AppTest.from_function(look, args=(1,), default_timeout=60).run()

    assert not app.exception
    assert app.session_state["looks"] == 2


def test_the_chooser_says_nothing_that_gets_stale(tiny_dataset):
    with alive(record("interrupted")) as run:
        app = open_page("train", run=run.id)

    assert "running" in said(app)
    assert "running" not in app.selectbox("chosen_run").options[0]


def test_stop_asks_the_worker_and_the_page_says_so(tiny_dataset):
    with alive(record("interrupted")) as run:
        app = open_page("train", run=run.id)
        button(app, "Stop").click().run()

        assert run.stop_requested
        assert "stopping" in said(app)
        assert button(app, "Stop").disabled


def test_a_stopped_run_can_be_resumed_and_a_finished_one_cannot(tiny_dataset):
    stopped, finished = record("stopped", hour=1), record("finished", hour=2)

    assert button(open_page("train", run=stopped.id), "Resume") is not None
    assert button(open_page("train", run=finished.id), "Resume") is None


def test_what_a_failed_run_said_is_shown_as_it_was_said(tiny_dataset):
    run = record("failed", reason="The disk is *full*: free <b>some</b> space.")

    app = open_page("train", run=run.id)

    assert app.error[0].value.replace("\\", "") == "The disk is *full*: free <b>some</b> space."
    assert "\\*full\\*" in app.error[0].value


@pytest.mark.parametrize("asked", ["nope", "../../etc", "<script>", "20260101-000000-x-0000", ""])
def test_an_unknown_run_in_the_link_is_a_notice_and_the_form(tiny_dataset, asked):
    app = open_page("train", run=asked)

    assert not app.exception
    assert "is on disk; it may have been deleted" in app.info[0].value
    assert button(app, "Start training") is not None


def test_the_same_settings_again_fill_the_form(tiny_dataset):
    run = record(recipe="tutorial-cnn")
    app = open_page("train", run=run.id)

    button(app, "Same settings again").click().run()

    assert command(app) == "python -m imgcls train --recipe tutorial-cnn --dataset tiny"


def test_a_long_run_sends_at_most_three_hundred_points(tiny_dataset):
    run = record("interrupted")
    for number in range(1000):
        run.append(step(30 + number, 3, loss=float(number)))

    app = open_page("train", run=run.id)

    from imgcls.ui import history, live

    steps = [event for event in history.events(run) if hasattr(event, "images_per_second")]
    assert not app.exception
    assert len(steps) == 1002
    assert len(live.thin(steps)) <= live.POINTS


def test_the_box_of_runs_and_the_link_follow_each_other(tiny_dataset):
    first, second = record(hour=1), record("stopped", hour=2)
    app = open_page("train", run=first.id)
    assert "finished" in said(app)

    app.selectbox("chosen_run").set_value(second.id).run()
    assert "stopped" in said(app)
    assert app.query_params["run"] in (second.id, [second.id])

    app.query_params["run"] = first.id
    app.run()
    assert app.selectbox("chosen_run").value == first.id
    assert button(app, "Resume") is None


def test_a_run_whose_name_is_no_time_is_listed(tiny_dataset):
    run = record()
    run.path.rename(run.path.with_name("29999999-999999-x-0000"))

    app = open_page("train", run="29999999-999999-x-0000")

    assert not app.exception
    assert "29999999" in app.selectbox("chosen_run").options[0]


# --- studies ---


def ask_for(app, setting, values, seeds):
    """Fill the form for several runs."""
    app.number_input("several_seeds").set_value(seeds)
    app.selectbox("several_setting").set_value(setting).run()
    return app.text_input(f"several_{setting}").set_value(values).run()


def record_study(accuracies, last="finished"):
    """An ablation of peak_lr over 0.2 and 0.4, as its workers would have left it."""
    base = recipes.config_for("speed", "tiny")
    plan = studies.ablation(base, "peak_lr", [0.4], len(accuracies) // 2, datetime(2026, 1, 2))
    made = []
    for i, (settings, accuracy) in enumerate(zip(plan, accuracies, strict=True)):
        run = runs.create(settings, "f" * 64, datetime(2026, 1, 2, 3, 4, i))
        run.append(Epoch(1, 10, 0.5, 0.8, 0.6, accuracy, 0.1, True, 2.5))
        state = last if i == len(plan) - 1 else "finished"
        if state != "interrupted":
            run.append(Ended(1.0, state, 10, ""))
        made.append(run)
    return made


def tables(app):
    return [frame.value for frame in app.dataframe]


def test_several_runs_say_how_many_they_are_and_what_command_makes_them(tiny_dataset):
    app = ask_for(open_page("train"), "peak_lr", "0.1, 0.4, 0.1", 3)

    assert "= **9 runs**" in said(app)
    assert not button(app, "Start 9 runs").disabled
    words = "--recipe speed --dataset tiny --vary peak_lr=0.1,0.4,0.1 --seeds 3"
    assert command(app) == f"python -m imgcls ablate {words}"


def test_seeds_alone_are_a_study_too(tiny_dataset):
    app = open_page("train")

    app.number_input("several_seeds").set_value(5).run()

    assert "5 seeds = **5 runs**" in said(app)
    assert command(app) == "python -m imgcls train --recipe speed --dataset tiny --seeds 5"


@pytest.mark.parametrize(
    ("values", "seeds", "says"),
    [
        ("0.1, fast", 1, "peak_lr must be a number, got 'fast'."),
        ("0.18", 1, "peak_lr is 0.18 already: name at least one other value."),
        ("99", 1, "peak_lr must be 1e-07 to 10, got 99."),
        ("0.1", 0, "A study has 1 to 1000 runs, this one would have 0."),
        ("0.1", 50, "100 runs are too many to wait in line"),
    ],
)
def test_several_runs_that_cannot_be_are_one_sentence(tiny_dataset, values, seeds, says):
    app = ask_for(open_page("train"), "peak_lr", values, seeds)

    (error,) = [error.value.replace("\\", "") for error in app.error]
    assert error.startswith(says)
    assert button(app, "Start training").disabled
    assert not app.code


def test_a_choice_is_varied_by_choosing(tiny_dataset):
    app = open_page("train")
    app.selectbox("several_setting").set_value("schedule").run()
    assert "Name at least one other value" in said(app)

    app.multiselect("several_schedule").set_value(["cosine", "constant"]).run()
    assert command(app).endswith("--vary schedule=cosine,constant --seeds 1")

    app.selectbox("several_setting").set_value("flip").run()
    assert command(app).endswith("--vary flip=false --seeds 1")


def test_only_what_matters_to_the_recipe_can_be_varied(tiny_dataset):
    offered = set(open_page("train").selectbox("several_setting").options)

    assert {"peak lr", "batch size", "model", "flip"} <= offered
    # The study's own; which images; who computes; and what has no effect beside this recipe.
    never = {"study", "seed", "dataset", "split seed", "train on", "device", "phases", "gamma"}
    assert not never & offered


def test_a_wrong_setting_does_not_forget_the_several_runs(tiny_dataset):
    app = ask_for(open_page("train"), "peak_lr", "0.1", 2)
    app.number_input("set_epochs").set_value(0).run()
    assert app.error

    app.number_input("set_epochs").set_value(3).run()

    assert command(app).endswith("--vary peak_lr=0.1 --seeds 2 --epochs 3")


def test_an_ablation_is_started_waits_in_line_and_is_stopped(tiny_dataset):
    held = runs.hold_device("cpu")
    app = open_page("train")
    app.selectbox("form_recipe_choice").set_value("tutorial-softmax").run()
    ask_for(app, "peak_lr", "0.5", 1)
    button(app, "Start 2 runs").click().run()

    assert not app.exception
    (study,) = studies.names()
    assert app.query_params["study"] in (study, [study])
    assert "tutorial-softmax on tiny: peak lr varied" in app.subheader[0].value.replace("\\", "")
    assert "0 of 2 runs finished" in str(app.get("progress")[0].proto)
    made = runs.all_runs()
    button(app, "Stop all").click().run()
    deadline = time.monotonic() + 60
    while any(run.alive() for run in made) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.close(held)
    app.run()
    assert {run.state() for run in made} == {"stopped"}
    assert button(app, "Stop all") is None
    assert button(app, "Resume the rest") is not None


def test_a_study_shows_each_arm_with_interval_difference_and_verdict(tiny_dataset):
    made = record_study([0.80, 0.60, 0.82, 0.62, 0.81, 0.61])

    app = open_page("train", study=made[0].config.study)

    assert not app.exception
    assert len(app.get("plotly_chart")) == 1
    arms, listed = tables(app)
    assert list(arms["peak lr"]) == ["0.18", "0.4"]
    assert list(arms["mean ± sd, %"]) == ["81.00 ± 1.00", "61.00 ± 1.00"]
    assert list(arms["verdict"]) == ["unchanged", "real difference"]
    assert arms["difference, points"][1] == "-20.00"
    # t(0.975, 4) = 2.776445 times sqrt(2 / 3) points
    assert arms["its 95 % interval"][1] == "-22.27 to -17.73"
    assert list(listed["run"]) == [f"train?run={run.id}" for run in made]
    assert button(app, "Stop all") is None


def test_a_run_that_failed_is_counted_beside_its_arm(tiny_dataset):
    made = record_study([0.80, 0.60, 0.82, 0.99], last="diverged")

    arms, listed = tables(open_page("train", study=made[0].config.study))

    assert list(arms["n"]) == [2, 1]
    assert list(arms["not finished"]) == ["", "1 diverged"]
    assert list(arms["verdict"]) == ["unchanged", "needs 2 seeds or more"]
    assert [state for (state,) in listed["state"]].count("diverged") == 1


def test_without_a_link_the_study_of_the_newest_run_alive_is_shown(tiny_dataset):
    *_, last = record_study([0.80, 0.60, 0.82, 0.62], last="interrupted")
    handle = last.lock()
    last.append(Queued(time=0.0, device="cpu"))
    app = open_page("train")

    assert app.query_params["study"] in (last.config.study, [last.config.study])
    assert button(app, "Stop all") is not None
    button(app, "New run").click().run()
    assert button(app, "Start training") is not None
    os.close(handle)


def test_a_run_of_a_study_leads_to_it(tiny_dataset):
    alone, (member, *_) = record(hour=1), record_study([0.80, 0.60])

    assert "Its study" not in links(open_page("train", run=alone.id))
    assert "Its study" in links(open_page("train", run=member.id))


def links(app):
    return [link.proto.label for link in app.get("page_link")]


@pytest.mark.parametrize("asked", ["nope", "../../etc", "<script>", ""])
def test_an_unknown_study_in_the_link_is_a_notice_and_the_form(tiny_dataset, asked):
    app = open_page("train", study=asked)

    assert not app.exception
    assert "is on disk; its runs may have been deleted" in app.info[0].value
    assert button(app, "Start training") is not None
