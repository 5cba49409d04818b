"""Evaluate through AppTest, on a run whose model nobody trained: what counts is what is shown."""

import json
import time
from concurrent.futures import Future
from datetime import timedelta

import numpy as np
import pytest

from imgcls import answers, runs
from imgcls.data import catalog
from imgcls.evaluate import (
    adversarial,
    calibrate,
    compare,
    metrics,
    predictions,
    report,
    robustness,
)
from imgcls.events import Ended
from imgcls.ui import compute
from imgcls.ui.compute import Job
from tests.making import NOW, save_model, untrained_run
from tests.pages.opened import bars, open_page, said, settled

SECTIONS = [
    "Confusion matrix",
    "Classes",
    "Confident mistakes",
    "Random sheet",
    "Shortcuts",
    "Confidence",
    "Comparison",
    "How it learned",
    "Robustness",
]
EXPANDERS = [
    "The pairs most confused",
    "How they learned",
    "Class by class",
    "Images that only one of two calls right",
]


def outlines(app):
    """What is drawn around cells of the matrix, as (x0, x1, y0, y1)."""
    shapes = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]["shapes"]
    return [(shape["x0"], shape["x1"], shape["y0"], shape["y1"]) for shape in shapes]


def tiles(app):
    """The lines below each image of the page's first gallery."""
    data = json.loads(app.get("bidi_component")[0].proto.json)
    return [tile["lines"] for tile in data["tiles"]]


def replayed(app):
    """What the time machine's component, or that of the map of easy and hard images, is to draw."""
    return json.loads(app.get("bidi_component")[0].proto.json)


def opened(app, section):
    app.segmented_control("evaluate_section").set_value(section).run()
    return settled(app, "evaluate_job")


@pytest.fixture
def run(tiny_dataset):
    return untrained_run()


@pytest.fixture
def app(run):
    """The page with the test images judged."""
    return settled(open_page("evaluate", run=run.id), "evaluate_job")


def test_without_a_run_and_without_data_it_opens_on_the_model_that_ships(home):
    app = open_page("evaluate")

    found = metrics.summary(predictions.load(runs.shipped(), "test"))
    assert not app.exception
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Accuracy"] == f"{found.accuracy:.2%}"
    assert "figures are stored, images are not" in said(app)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_of_what_ships_opens_without_data_or_says_why_not(home, section):
    app = open_page("evaluate")
    app.segmented_control("evaluate_section").set_value(section).run()

    assert not app.exception
    assert all("cifar10-jpeg" in error.value.replace("\\", "") for error in app.error)


def test_the_figures_are_those_of_the_stored_predictions(app, run):
    found = metrics.summary(predictions.load(run, "test"))

    assert not app.exception
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Accuracy"] == f"{found.accuracy:.2%}"
    assert shown["95 % interval"] == f"{found.accuracy_low:.1%} to {found.accuracy_high:.1%}"
    assert shown["Log loss"] == f"{found.loss:.4f}"
    assert "The test set is open" in said(app)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_opens_without_an_error(app, section):
    app.segmented_control("evaluate_section").set_value(section).run()

    assert not app.exception
    assert not app.error


def test_confidence_is_judged_before_and_after_a_temperature_from_validation(app, run):
    app = opened(app, "Confidence")

    stored, held = predictions.load(run, "test"), predictions.load(run, "validation")
    temperature = calibrate.temperature(held.logits, held.labels)
    after = calibrate.scaled(stored.logits, temperature)
    table = app.dataframe[0].value
    assert table["with temperature"][0] == f"{calibrate.reliability(after, stored.labels).ece:.4f}"
    assert f"Logits divided by {temperature:.3f}" in said(app)


def test_answering_only_when_sure_counts_answers_and_mistakes(app, run):
    app = opened(app, "Confidence")
    app.slider("confidence_threshold").set_value(0.0).run()

    wrong = 1 - predictions.load(run, "test").correct.mean()
    assert "Answers **100.0\u00a0%** of the images" in said(app)
    assert f"**{100 * wrong:.1f}\u00a0%** of these answers are wrong" in said(app)


def test_a_threshold_that_no_image_passes_is_said(app):
    app = opened(app, "Confidence")
    app.slider("confidence_threshold").set_value(1.0).run()

    assert not app.exception
    assert "no image is answered" in said(app)


def test_nothing_is_fitted_on_the_images_that_it_is_judged_by(app):
    app.segmented_control("evaluate_split tiny").set_value("validation").run()
    app = opened(settled(app, "evaluate_job"), "Confidence")

    assert not app.exception
    assert "No temperature is fitted here" in said(app)


def test_a_run_alone_has_nothing_to_be_compared_with(app):
    app = opened(app, "Comparison")

    assert "No other run on tiny has a model yet" in said(app)


def test_classes_come_with_intervals_and_both_averages(app, run):
    found = metrics.summary(predictions.load(run, "test"))
    app = opened(app, "Classes")

    table, overall = (frame.value for frame in app.dataframe)
    assert table["class"].tolist() == [*found.classes, "macro average", "weighted average"]
    assert table["recall"].iloc[-1] == pytest.approx(found.weighted.recall)
    assert table["F1"].iloc[-2] == pytest.approx(found.macro.f1)
    assert table["recall, 95 %"].iloc[0].count("–") == 1
    assert "Cohen's kappa" in overall["figure"].tolist()


def test_two_runs_are_compared_on_the_same_images(app, run):
    other = untrained_run(now=NOW - timedelta(seconds=1))
    save_model(other, seed=1)
    app = opened(app, "Comparison")

    app.multiselect(f"compare {run.id}").set_value([other.id]).run()
    app = settled(app, "evaluate_job")

    (pair,) = compare.pairs([predictions.load(run, "test"), predictions.load(other, "test")])
    assert not app.exception
    assert pair.difference != 0
    assert f"{100 * abs(pair.difference):.2f} points above" in said(app)
    assert pair.verdict in {badge.value for badge in app.get("badge")} or pair.verdict in said(app)


def test_runs_that_split_the_data_differently_are_not_compared(app, run):
    other = untrained_run(now=NOW - timedelta(seconds=1), split_seed=7)
    app.segmented_control("evaluate_split tiny").set_value("validation").run()
    app = opened(settled(app, "evaluate_job"), "Comparison")

    app.multiselect(f"compare {run.id}").set_value([other.id]).run()
    app = settled(app, "evaluate_job")

    assert "have different validation images of tiny" in app.error[0].value.replace("\\", "")


def test_two_select_boxes_open_a_cell_of_the_matrix(app, run):
    stored = predictions.load(run, "test")
    true, predicted = int(stored.labels[0]), int(stored.predicted[0])

    app.selectbox("cell_true/tiny").set_value(true).run()
    app.selectbox("cell_predicted/tiny").set_value(predicted).run()

    count = len(metrics.cell(stored, true, predicted))
    names = stored.classes
    assert f"{names[true]} → {names[predicted]}**: {count} of 10" in said(app)


def test_the_matrix_marks_the_cell_that_the_select_boxes_name(app):
    before = outlines(app)

    app.selectbox("cell_true/tiny").set_value(2).run()
    app.selectbox("cell_predicted/tiny").set_value(1).run()

    assert len(before) == 1
    assert outlines(app) == [(0.5, 1.5, 1.5, 2.5)]


def test_the_matrix_has_a_square_to_click_for_every_cell(app):
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)

    assert len(figure["data"][-1]["hovertext"]) == 9


def test_a_new_draw_shows_other_images(app):
    app.segmented_control("evaluate_section").set_value("Random sheet").run()

    first = tiles(app)
    next(b for b in app.button if b.label == "New draw").click().run()

    assert not app.exception
    assert len(first) == len(tiles(app)) == 30
    assert tiles(app) != first


def test_training_images_come_with_a_warning(app):
    app.segmented_control("evaluate_split tiny").set_value("train").run()
    app = settled(app, "evaluate_job")

    assert not app.exception
    assert "learned from these images" in said(app)


def kept(run, epochs=3):
    """Answers to the six validation images: after epoch n, n + 1 of them are right."""
    _, labels, held = catalog.select("tiny", "validation", 0.1, 0)
    right = np.eye(3, dtype=np.float16)[labels[held]]
    for epoch in range(1, epochs + 1):
        logits = right.copy()
        logits[epoch + 1 :] = np.roll(right[epoch + 1 :], 1, axis=1)
        answers.keep(run, epoch, logits)


def test_a_run_of_which_no_answers_were_kept_says_so(app):
    app = opened(app, "How it learned")

    assert "Nothing was kept of this run's answers" in said(app)


def test_the_time_machine_holds_every_epoch_that_was_kept(app, run):
    kept(run)
    app = opened(app, "How it learned")

    assert not app.exception
    drawing = replayed(app)
    assert drawing["epochs"] == [1, 2, 3]
    assert drawing["said"][0] == "6 validation images; 33.33% called right after epoch 1"
    assert drawing["said"][2] == "6 validation images; 66.67% called right after epoch 3"


def test_images_drawn_around_are_shown_as_called_after_that_epoch(app, run):
    kept(run)
    app = opened(app, "How it learned")
    app.session_state[f"epochs {run.id}"] = {"chosen": {"at": 0, "rows": [0, 5]}}
    app.run()

    assert not app.exception
    assert "2 images, as called after epoch 1" in said(app)


@pytest.mark.parametrize("rows", [[7], [-1], ["0"], "0", None, [[0]]])
def test_rows_that_are_not_there_choose_nothing(app, run, rows):
    kept(run)
    app = opened(app, "How it learned")
    app.session_state[f"epochs {run.id}"] = {"chosen": {"at": 9, "rows": rows}}
    app.run()

    assert not app.exception
    assert "as called after" not in said(app)


def test_the_hardest_images_are_shown_until_others_are_chosen(app, run):
    kept(run)
    app = opened(app, "How it learned")

    app.segmented_control("learning_part").set_value("Easy, ambiguous, hard").run()

    assert not app.exception
    assert "The hardest" in said(app)
    assert "6 images, as called after epoch 3" in said(app)


def test_one_kept_epoch_has_no_slider_and_no_dynamics(app, run):
    kept(run, epochs=1)
    app = opened(app, "How it learned")
    assert replayed(app)["epochs"] == [1]

    app.segmented_control("learning_part").set_value("Easy, ambiguous, hard").run()

    assert "One epoch tells nothing of change" in said(app)


def test_right_answers_are_ranked_by_doubt(app, run):
    app = opened(app, "Confident mistakes")

    app.segmented_control("mistakes_which").set_value("Right and in doubt").run()

    stored = predictions.load(run, "test")
    assert not app.exception
    assert "Right answers that could as well have been others" in said(app)
    expected = sorted(stored.confidence[stored.correct])
    assert [lines[-1] for lines in tiles(app)] == [f"{sure:.1%}" for sure in expected]
    assert all(lines[1].startswith("✓") for lines in tiles(app))


def test_the_pairs_most_confused_are_listed(app, run):
    pairs = metrics.confused_pairs(metrics.summary(predictions.load(run, "test")).confusion, 15)
    app.session_state["The pairs most confused"] = True
    app.run()

    table = app.table[0].value
    assert table["images"].tolist() == [str(count) for *_, count, _ in pairs]


def test_a_report_is_made_when_asked_and_offered(app, run):
    assert not app.get("download_button")

    app.button(f"report {run.id}").click().run(timeout=60)

    assert not app.exception
    assert not app.error
    assert len(app.get("download_button")) == 1
    assert predictions.load(run, "validation") is not None


def test_an_unknown_run_gets_a_notice_and_the_newest_instead(run):
    app = open_page("evaluate", run="../../etc/passwd")

    assert not app.exception
    assert "No run ../../etc/passwd is on disk" in said(app)


def test_a_data_set_that_is_gone_is_one_sentence(run):
    catalog.delete("tiny")

    app = open_page("evaluate")

    assert not app.exception
    assert len(app.error) == 1
    assert "No data set named 'tiny' is on disk" in said(app)


def test_a_model_of_nothing_but_nan_is_one_sentence(run):
    save_model(run, seed=0, fill=float("nan"))
    app = open_page("evaluate")
    while not app.error:
        app.run()

    assert not app.exception
    assert "answers NaN" in said(app)
    assert any(button.label == "Try again" for button in app.button)


def test_a_damaged_model_is_one_sentence(run):
    run.model_path.write_bytes(b"no model")
    app = open_page("evaluate")
    while not app.error:
        app.run()

    assert not app.exception
    assert "damaged" in said(app)


def matrix_of(app):
    return json.loads(app.get("plotly_chart")[0].proto.spec)["data"][-1]


def test_the_matrix_can_show_shares_and_mistakes_alone_in_another_order(app, run):
    found = metrics.summary(predictions.load(run, "test")).confusion

    app.segmented_control("confusion_kind").set_value("% of predicted").run()
    app.toggle("confusion_mistakes").set_value(True).run()
    app.toggle("confusion_similar").set_value(True).run()

    assert not app.exception
    cells = matrix_of(app)
    assert sorted(map(tuple, cells["customdata"])) == [
        (t, p, found[t, p]) for t in range(3) for p in range(3)
    ]
    for (true, called, count), text in zip(cells["customdata"], cells["text"], strict=True):
        share = f"{100 * count / found[:, called].sum():.1f}" if count else ""
        assert text == ("" if true == called else share)


def test_shortcuts_tell_of_each_trait_and_show_its_mistakes(app, run):
    app = opened(app, "Shortcuts")

    table = app.dataframe[0].value
    assert {"brightness", "contrast", "sharpness"} <= set(table["trait"])
    assert set(table["verdict"]) <= {"mistakes go with it", "within noise"}
    assert "Sizes of files are not known of this data set." in said(app)
    assert "No image has a plain margin." in said(app)

    app.segmented_control(f"trait {run.id} test").set_value("sharpness").run()

    assert not app.exception
    assert "where mistakes are most frequent" in said(app)


def finished(run):
    run.append(Ended(time=0.0, state="finished", step=1, reason=""))
    return run


def test_seeds_of_one_training_are_told_as_mean_and_spread(app, run):
    other = finished(untrained_run(now=NOW - timedelta(seconds=1), seed=1))
    save_model(other, seed=1)
    finished(run)
    app.session_state["2 seeds of this training"] = True
    app.run()

    next(b for b in app.button if b.label.startswith("Judge 1 more")).click().run(timeout=60)

    one, two = (predictions.load(r, "test").correct.mean() for r in (run, other))
    mean, sd = (one + two) / 2, abs(one - two) / 2**0.5
    assert not app.exception
    assert f"Over 2 seeds of this training: accuracy {100 * mean:.2f} ± {100 * sd:.2f} %" in said(
        app
    )
    assert app.dataframe[0].value["mean"].iloc[0] == f"{mean:.4f}"


def test_a_run_alone_has_no_word_on_seeds(app):
    assert not [box for box in app.expander if "seeds" in box.label]


def test_answers_of_another_model_are_void_and_the_page_says_so(app, run):
    save_model(run, seed=5)
    app.run()
    shown = said(app)
    while "evaluate_job" in app.session_state:
        time.sleep(0.1)
        shown += said(app.run())

    assert shown.count("or damaged: what is shown was asked anew") == 1
    found = metrics.summary(predictions.load(run, "test"))
    assert {m.label: m.value for m in app.metric}["Accuracy"] == f"{found.accuracy:.2%}"


def test_the_report_holds_the_comparison_that_was_chosen(app, run, monkeypatch):
    other = untrained_run(now=NOW - timedelta(seconds=1), epochs=9)
    save_model(other, seed=1)
    app = opened(app, "Comparison")
    app.multiselect(f"compare {run.id}").set_value([other.id]).run()
    app = settled(app, "evaluate_job")

    app.segmented_control("evaluate_section").set_value("Classes").run()
    assert "With the comparison to" in said(app)
    written = []
    monkeypatch.setattr(
        report, "page", lambda run, split, others, now: written.append(others) or "<html>"
    )
    monkeypatch.setattr(compute, "call", lambda function, *args, **_: function(*args))
    app.button(f"report {run.id}").click().run(timeout=60)

    assert not app.exception
    assert not app.error
    assert written == [[other]]


def hard_data(kind):
    """A data set on disk that figures could stumble over."""
    classes = 1000 if kind == "a thousand classes" else 3
    draw = np.random.default_rng(0)
    splits = {}
    for split, each in (("train", 2 if classes == 1000 else 10), ("test", 1)):
        labels = np.repeat(np.arange(classes), each)
        if kind == "a class without test image" and split == "test":
            labels = labels[labels != 1]
        images = draw.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
        splits[split] = images, labels
    with catalog.publishing("hard") as draft:
        catalog.write(
            draft, name="hard", classes=[f"class {i}" for i in range(classes)], splits=splits,
            resized="", source="made up by the tests",
        )  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["a thousand classes", "a class without test image", "one answer for all"]
)
def test_every_section_stands_data_that_figures_could_stumble_over(home, kind):
    hard_data(kind)
    run, other = (
        untrained_run("hard", now=NOW - timedelta(seconds=i), epochs=i + 1) for i in range(2)
    )
    for i, one in enumerate((run, other)):
        save_model(one, seed=i, fill=0.0 if kind == "one answer for all" else None)
    _, labels, held = catalog.select("hard", "validation", 0.1, 0)
    for epoch in (1, 2):
        answers.keep(run, epoch, np.eye(labels.max() + 1, dtype=np.float16)[labels[held]])
    app = settled(open_page("evaluate", run=run.id), "evaluate_job")
    for name in EXPANDERS:
        app.session_state[name] = True
    for section in SECTIONS:
        app = opened(app, section)
        assert not app.exception, section
        assert not app.error, section
        if section == "Comparison":
            app.multiselect(f"compare {run.id}").set_value([other.id]).run()
            app = settled(app, "evaluate_job")
            assert not app.exception
            if kind == "one answer for all":
                assert "level with" in said(app)
        if section == "Confusion matrix" and kind == "a thousand classes":
            assert "The 50 of 1,000 classes with most mistakes" in said(app)
            assert len(matrix_of(app)["customdata"]) == 2500
        assert "nan" not in said(app).lower()
        for table in app.dataframe:
            text = table.value.select_dtypes(exclude="number").astype(str)
            assert not text.isin(["nan", "nan%", "nan – nan"]).to_numpy().any(), section

    app.button(f"report {run.id}").click().run(timeout=120)
    assert not app.error


@pytest.fixture
def elsewhere(tiny_dataset):
    """Other images of the same classes, all of them of the second."""
    labels = np.ones(12, np.int64)
    images = np.random.default_rng(9).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    with catalog.publishing("other") as draft:
        catalog.write(
            draft, name="other", classes=catalog.load(tiny_dataset).classes, resized="", source="",
            splits={"train": (images, labels), "test": (images[:5], labels[:5])},
        )  # fmt: skip
    return "other"


def test_a_run_is_judged_by_another_data_set_of_the_same_classes(elsewhere, run):
    app = settled(open_page("evaluate", run=run.id), "evaluate_job")

    app.selectbox(f"evaluate_dataset {run.id}").set_value("other").run()
    app = settled(app, "evaluate_job")

    assert not app.exception
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Images"] == "5"
    assert "learned from tiny" in app.warning[0].value
    for section in SECTIONS:
        app = opened(app, section)
        assert not app.exception, section
        assert not app.error, section
    app = opened(app, "Confidence")
    assert "Logits divided by" in said(app)  # fitted on the run's own validation images


def measured(app, label, run):
    """Click on a measurement and wait for it, as the page's timer would."""
    next(b for b in app.button if b.label == label).click().run()
    compute.shared(f"{label} {run.id} test").future.result(timeout=120)
    return app.run()


def test_robustness_is_measured_when_asked_and_drawn(app, run):
    app = opened(app, "Robustness")
    app = measured(app, "Measure robustness", run)
    app = measured(app, "Attack the model", run)

    assert not app.exception
    worse, attacked = robustness.load(run, "test"), adversarial.load(run, "test")
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Mean corruption accuracy"] == f"{worse.mean:.2%}"
    assert "--" not in str([metric.delta for metric in app.metric])

    app.select_slider("epsilon").set_value(4.0).run()

    at = adversarial.EPSILONS.index(4.0)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Left under PGD"] == f"{100 * attacked.accuracy[1, at]:.1f}\u00a0%"


def test_a_measurement_under_way_is_shown_to_whoever_comes_and_can_be_cancelled(app, run):
    job = Job(Future())
    compute.share(f"Measure robustness {run.id} test", job)
    app = opened(app, "Robustness")
    assert not [b for b in app.button if b.label == "Measure robustness"]

    next(b for b in app.button if b.label == "Cancel").click().run()

    assert job.cancelled
    assert "Cancelled" in said(app) or [b for b in app.button if b.label == "Measure robustness"]


def test_a_run_that_learned_from_the_images_is_not_compared_with_one_that_did_not(app, run):
    other = untrained_run(now=NOW - timedelta(seconds=1), train_on="train+validation")
    app.segmented_control("evaluate_split tiny").set_value("validation").run()
    app = opened(settled(app, "evaluate_job"), "Comparison")

    app.multiselect(f"compare {run.id}").set_value([other.id]).run()
    app = settled(app, "evaluate_job")

    assert "a comparison would be unfair" in app.error[0].value
    assert not app.get("badge")


def test_the_page_says_which_weights_it_judges_and_that_the_run_did_not_end(app, run):
    assert "weights after epoch 1 of 10. The run is" in said(app)
    finished(run)
    assert "The run is" not in said(app.run())


def test_figures_follow_labels_that_changed_under_the_same_answers(elsewhere, run):
    app = settled(open_page("evaluate", run=run.id), "evaluate_job")
    app.selectbox(f"evaluate_dataset {run.id}").set_value("other").run()
    app = opened(settled(app, "evaluate_job"), "Classes")
    before = app.dataframe[0].value["support"].tolist()
    images, _ = catalog.arrays("other", "test")
    images, classes = np.array(images), catalog.load("other").classes
    catalog.delete("other")
    labels = np.zeros(5, np.int64)
    with catalog.publishing("other") as draft:
        splits = {"train": (images, labels), "test": (images, labels)}
        catalog.write(draft, name="other", classes=classes, splits=splits, resized="", source="")

    app = settled(app.run(), "evaluate_job")

    assert before[:3] == [0, 5, 0]
    assert app.dataframe[0].value["support"].tolist()[:3] == [5, 0, 0]


def test_one_image_gets_worse_by_a_slider(app, run):
    app = opened(app, "Robustness")

    def likeliest():
        return bars(app)[0][1]

    app.selectbox("corruption").set_value("noise").run()
    app.slider("severity").set_value(0).run()
    stored = predictions.load(run, "test")
    assert likeliest() == f"{stored.confidence[0]:.1%}"

    app.slider("severity").set_value(5).run()

    assert not app.exception
    assert likeliest() != f"{stored.confidence[0]:.1%}"


def test_an_imported_model_is_compared_with_a_caution(app, run):
    other = untrained_run(now=NOW - timedelta(seconds=1), recipe="imported")
    app = opened(app, "Comparison")

    app.multiselect(f"compare {run.id}").set_value([other.id]).run()
    app = settled(app, "evaluate_job")

    assert not app.error
    assert "Nobody recorded" in app.warning[0].value
    assert app.get("plotly_chart")


def test_what_is_closed_in_a_comparison_is_there_when_opened(app, run):
    other = untrained_run(now=NOW - timedelta(seconds=1), epochs=9)
    save_model(other, seed=1)
    for name in EXPANDERS:
        app.session_state[name] = True
    app = opened(app, "Comparison")
    app.multiselect(f"compare {run.id}").set_value([other.id]).run()
    app = settled(app, "evaluate_job")

    assert not app.exception
    shares = compare.recalls([predictions.load(r, "test") for r in (run, other)])
    table = app.table[0].value
    assert table.iloc[:, 2].tolist() == [f"{share:.3f}".replace(".", "\\.") for share in shares[0]]
    rows = compare.only_right(predictions.load(run, "test"), predictions.load(other, "test"))
    assert len(tiles(app)) == len(rows) > 0


def test_two_runs_of_the_same_second_stay_two(app, run):
    other = untrained_run()  # the same recipe, data set and time
    save_model(other, seed=1)
    predictions.compute(other.id, "test")
    for one in (run, other):
        shown = settled(open_page("evaluate", run=one.id), "evaluate_job")
        shown.segmented_control("evaluate_section").set_value("Classes").run()

        expected = metrics.summary(predictions.load(one, "test")).loss
        assert {m.label: m.value for m in shown.metric}["Log loss"] == f"{expected:.4f}"
