"""What the time machine sends to a browser, read back."""

import base64
import json

import numpy as np

from imgcls.charts import replay


def decoded(text, kind, *shape):
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)


def moved():
    points = np.array([[[9.0, 9.0], [0.5, 0.5]], [[0.0, 0.0], [1.0, 2.0]]])
    labels = np.array([0, 1])
    predicted = np.array([[1, 1], [0, 1]])
    confusions = np.array([[[0, 1, 0], [0, 1, 0], [0, 0, 0]], [[1, 0, 0], [0, 1, 0], [0, 0, 0]]])
    recalls = np.array([[0.0, 1.0, np.nan], [1.0, 1.0, np.nan]])
    classes = ["cat", "</script>", "fox"]
    return replay.epochs([2, 4], points, labels, predicted, confusions, recalls, classes, [1, 0])


def test_points_are_framed_by_the_last_epoch_and_come_to_the_edge_beyond():
    points = decoded(moved()["points"], "<u2", 2, 2, 2) / replay.FULL

    room = 0.05 / 1.1  # a twentieth of the extent on either side
    assert np.allclose(points[1], [[room, room], [1 - room, 1 - room]], atol=1e-4)
    assert points[0, 0].tolist() == [1.0, 1.0]


def test_matrix_and_recalls_hold_the_classes_drawn_in_their_order():
    drawing = moved()

    assert drawing["order"] == [1, 0]
    matrices = decoded(drawing["matrix"]["counts"], "<i4", 2, 2, 2)
    assert matrices.tolist() == [[[1, 0], [1, 0]], [[1, 0], [0, 1]]]
    assert decoded(drawing["curves"], "<f4", 2, 2).tolist() == [[1, 0], [1, 1]]
    assert drawing["said"][0] == "2 validation images; 50.00% called right after epoch 2"


def test_many_classes_have_no_colours_of_their_own_on_the_map():
    names = [str(i) for i in range(30)]
    labels, nothing = np.arange(30), np.zeros((1, 30, 30), dtype=np.int64)
    drawing = replay.epochs(
        [1], np.zeros((1, 30, 2)), labels, labels[None], nothing, np.zeros((1, 30)), names, [0, 1]
    )

    assert set(drawing["marks"]) == {"right", "wrong"}
    assert "marks" not in moved()


def test_images_are_grouped_by_how_often_they_were_forgotten():
    forgotten = np.array([0, 9, 1])
    drawing = replay.cartography(
        np.array([0.0, 0.21, 0.3]), np.array([1.0, 0.5, 0.0]), forgotten, ["a", "b", "c"]
    )

    assert decoded(drawing["group"], "<u2", 3).tolist() == [0, replay.OFTEN, 1]
    assert drawing["order"] == [0, 1, replay.OFTEN]
    points = decoded(drawing["points"], "<u2", 3, 2) / replay.FULL
    assert np.allclose(points[:, 0], [0, 0.7, 1], atol=1e-4)  # the axis ends at 0.3
    assert drawing["axes"]["x"]["ticks"][-1] == [1.0, "0.3"]


def test_a_drawing_is_known_by_what_it_holds():
    assert moved()["id"] == moved()["id"]
    other = replay.cartography(np.zeros(1), np.ones(1), np.zeros(1, dtype=np.int64), ["a"])
    assert other["id"] != moved()["id"]


def test_no_class_name_ends_the_script_that_holds_it():
    html = replay.embedded(moved())

    assert html.count("</script>") == 1
    held = html.split('type="application/json">')[1].removesuffix("</script></div>")
    assert json.loads(held)["groups"][1]["name"] == "</script>"
