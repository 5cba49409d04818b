"""Figures as the pages show them: colours, gaps, and texts that users chose."""

import json
import math

import numpy as np
import pytest

from imgcls import charts
from imgcls.data.catalog import Dataset
from imgcls.events import Epoch

EVIL = ["<b>bold</b>", "a & b", "$x^2$", "cat"]


def epoch(number, val=0.5, best=False):
    return Epoch(
        epoch=number, step=number * 10, train_loss=1.0, train_accuracy=0.6, val_loss=val,
        val_accuracy=val, lr=0.1, best=best, seconds=1.0,
    )  # fmt: skip


def spec(figure):
    return json.loads(figure.to_json())


def dataset(classes=("cat", "dog")):
    return Dataset(
        name="pets", classes=tuple(classes), size=32, mean=(0.5,) * 3, std=(0.5,) * 3,
        counts={"train": [3] * len(classes), "test": [1] * len(classes)},
        fingerprint="f", resized="", fit="squash", source="",
    )  # fmt: skip


def luminance(color):
    values = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_palette_has_ten_colours_and_they_differ():
    assert len(set(charts.PALETTE)) == 10


@pytest.mark.parametrize("ground", ["#ffffff", "#12181b"])
def test_every_colour_stands_out_from_both_grounds(ground):
    assert min(contrast(color, ground) for color in charts.PALETTE) > 1.9
    assert contrast(charts.GREY, ground) > 3.0


def test_a_class_keeps_its_colour_on_every_figure():
    colors = charts.class_colors(("cat", "dog"))
    bars = spec(charts.class_counts(dataset()))["data"][0]

    assert bars["marker"]["color"] == [colors["cat"], colors["dog"]]


def test_texts_that_users_chose_are_no_markup():
    counts = spec(charts.class_counts(dataset(EVIL)))["data"][0]["x"]
    matrix = spec(charts.confusion(np.eye(4, dtype=int), EVIL))["layout"]["xaxis"]
    runs = spec(charts.compare_runs({"<i>run</i>": [epoch(1)]}))["data"][0]["name"]

    assert counts[0] == matrix["ticktext"][0] == "&lt;b&gt;bold&lt;/b&gt;"
    assert counts[1] == "a &amp; b"
    assert runs == "&lt;i&gt;run&lt;/i&gt;"


def test_epochs_without_validation_leave_gaps_and_the_best_is_marked():
    events = [epoch(1, None), epoch(2, 0.5, best=True), epoch(3, None)]

    train, validation, best = spec(charts.epoch_curves(events))["data"]

    assert train["y"] == [0.6] * 3
    assert validation["y"] == [None, 0.5, None]
    assert (best["x"], best["y"]) == ([2], [0.5])


def test_the_same_events_give_the_same_figure_so_that_nothing_is_redrawn():
    events = [epoch(1), epoch(2)]

    assert spec(charts.epoch_curves(events)) == spec(charts.epoch_curves(list(events)))


def test_a_confusion_matrix_carries_indices_and_counts_for_each_click():
    matrix = np.array([[5, 1], [2, 7]])

    figure = spec(charts.confusion(matrix, ["cat", "dog"], "true"))
    cells = figure["data"][-1]

    assert np.array(charts.confusion(matrix, ["a", "b"], "true").data[-1].customdata).tolist() == [
        [0, 0, 5],
        [0, 1, 1],
        [1, 0, 2],
        [1, 1, 7],
    ]
    assert cells["hovertext"][1] == "cat → dog: 1 of 6"
    assert cells["text"] == ["83.3", "16.7", "22.2", "77.8"]


def test_the_cell_that_is_meant_is_outlined_and_a_click_changes_no_colour():
    matrix = np.array([[5, 1], [2, 7]])

    plain, marked = (
        spec(charts.confusion(matrix, ["cat", "dog"], marked=cell)) for cell in (None, (1, 0))
    )

    assert "shapes" not in plain["layout"]
    (outline,) = marked["layout"]["shapes"]
    assert [outline[edge] for edge in ("x0", "x1", "y0", "y1")] == [-0.5, 0.5, 0.5, 1.5]
    cells = marked["data"][-1]
    assert cells["selected"] == cells["unselected"] == {"marker": {"opacity": 0}}


@pytest.mark.parametrize(("last", "step"), [(1, 1), (3, 1), (10, 1), (15, 2), (64, 10), (500, 50)])
def test_epochs_are_counted_in_whole_numbers(last, step):
    events = [epoch(number) for number in range(1, last + 1)]

    for figure in (charts.epoch_curves(events), charts.compare_runs({"run": events, "new": []})):
        axis = spec(figure)["layout"]["xaxis"]
        assert (axis["tick0"], axis["dtick"]) == (0, step)


@pytest.mark.parametrize("n", [1, 2, 10, 100])
def test_a_confusion_matrix_of_any_size_fits_a_page(n):
    figure = charts.confusion(np.zeros((n, n), int), [str(i) for i in range(n)])

    assert 100 < figure.layout.height < 1000


def test_a_histogram_adds_up_to_one_for_each_channel():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)

    lines = charts.histogram(pixels).data

    assert [line.name for line in lines] == ["red", "green", "blue"]
    assert all(math.isclose(sum(line.y), 1.0) for line in lines)


@pytest.mark.parametrize("value", [None, "1", float("nan"), float("inf"), [1]])
def test_what_is_no_number_becomes_a_gap(value):
    assert math.isnan(charts.number(value))


def test_an_arm_shows_each_run_its_mean_and_its_interval():
    rows = [("0.1 (unchanged)", [0.8, 0.9], (0.7, 1.0)), (EVIL[0], [0.6], None), ("none", [], None)]

    figure = spec(charts.arms(rows))
    dots, means = figure["data"]

    assert dots["x"] == [0.8, 0.9, 0.6]
    assert [int(y) for y in dots["y"]] == [0, 0, 1]  # in the row of their arm
    assert means["x"] == [pytest.approx(0.85), None, None]  # one run has no mean
    assert means["error_x"]["array"][0] == pytest.approx(0.15)
    assert means["error_x"]["arrayminus"][0] == pytest.approx(0.15)
    assert figure["layout"]["xaxis"]["range"] == pytest.approx([0.576, 1.01])
    assert figure["layout"]["shapes"][0]["x0"] == pytest.approx(0.85)  # what the others are held to
    assert figure["layout"]["yaxis"]["ticktext"][1] == "&lt;b&gt;bold&lt;/b&gt;"


def test_equal_accuracies_do_not_hide_each_other():
    dots = spec(charts.arms([("a", [0.9, 0.9, 0.9], None)]))["data"][0]

    assert len(set(zip(dots["x"], dots["y"], strict=True))) == 3


def test_differences_are_in_points_and_only_real_ones_stand_out():
    rows = [("b", "a", 0.01, 0.004, 0.016, True), (EVIL[0], "a", -0.002, -0.009, 0.005, False)]

    figure = spec(charts.differences(rows))

    real, noise = figure["data"]
    assert (real["x"], noise["x"]) == ([1.0], [-0.2])
    assert real["error_x"]["array"] == pytest.approx([0.6])
    assert noise["error_x"]["arrayminus"] == pytest.approx([0.7])
    assert real["marker"]["color"] != noise["marker"]["color"]
    assert figure["layout"]["yaxis"]["ticktext"][1] == "&lt;b&gt;bold&lt;/b&gt;<br>− a"


def test_a_bin_without_images_has_no_mark():
    confidence, counts = np.array([np.nan, 0.5, 0.9]), np.array([0, 4, 16])

    line, marks = charts.reliability({"x": (confidence, confidence, counts)}).data

    assert list(line.x) == [0, 1]
    assert list(marks.x) == [0.5, 0.9]
    assert list(marks.marker.size) == pytest.approx([15, 25])


def test_shares_of_predicted_add_up_down_a_column():
    matrix = np.array([[8, 1], [2, 9]])
    orange = spec(charts.confusion(matrix, ["cat", "dog"], "predicted"))["data"]

    said = [text for text in orange[-1]["text"] if text]
    assert said == ["80.0", "10.0", "20.0", "90.0"]


def test_a_matrix_of_mistakes_alone_leaves_the_right_ones_blank():
    figure = charts.confusion(np.array([[8, 1], [2, 9]]), ["cat", "dog"], diagonal=False)

    assert list(figure.data[-1].text) == ["", "1", "2", ""]
    assert np.isnan(np.array(figure.data[0].z, float)).all()


def test_a_matrix_in_another_order_still_tells_which_classes_a_cell_is_of():
    matrix = np.array([[7, 1, 2], [3, 8, 4], [5, 6, 9]])
    figure = charts.confusion(matrix, ["a", "b", "c"], "true", marked=(2, 0), order=[2, 0])

    cells = np.array(figure.data[-1].customdata).tolist()
    assert cells == [[2, 2, 9], [2, 0, 5], [0, 2, 2], [0, 0, 7]]
    assert list(figure.layout.xaxis.ticktext) == ["c", "a"]
    assert list(figure.data[-1].text) == ["45.0", "25.0", "20.0", "70.0"]  # of all, not drawn
    (outline,) = figure.layout.shapes
    assert (outline.x0, outline.y0) == (0.5, -0.5)


def test_error_rates_stand_with_their_intervals_at_equal_distances():
    middles, rates = np.array([0.1, 5.0]), np.array([0.2, 0.1])
    figure = charts.error_rates(
        middles, rates, rates - 0.05, rates + 0.1, np.array([10, 12]), 0.15, "brightness"
    )

    assert list(figure.data[0].x) == [0, 1]
    assert np.allclose(figure.data[0].error_y.array, 0.1)
    assert list(figure.layout.xaxis.ticktext) == ["0.1", "5"]


@pytest.mark.parametrize("counts", [1, 5000])
def test_a_matrix_leaves_room_for_its_names_whatever_it_counts(counts):
    figure = charts.confusion(np.full((10, 10), counts), ["a rather long name"] * 10)

    assert 7 * 18 < figure.layout.margin.l < 200
    assert 60 < figure.layout.margin.t < 140
    assert figure.layout.height - figure.layout.margin.t == 540 + 8
