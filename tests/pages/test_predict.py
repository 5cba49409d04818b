"""Predict through AppTest: one picture, several, and pictures that are none."""

import io

import numpy as np
import pytest
from PIL import Image

from imgcls import feedback, predict, runs
from imgcls.ui import predicting, tasks
from tests.making import png, untrained_run
from tests.pages.opened import bars, open_page, said, tree

HTML = b"<!doctype html><html><script>alert(1)</script></html>"


@pytest.fixture
def run(tiny_dataset):
    return untrained_run()


def judged(*files):
    app = open_page("predict")
    way = next(one for one in app.segmented_control if one.key.startswith("predict_way"))
    if way.value != "Upload":
        way.set_value("Upload").run()
    uploader = app.file_uploader("predict_upload")
    uploader.set_value([(name, data, "image/png") for name, data in files])
    return app.run()


def label_key(*data):
    """Of the choice of a label for these pictures."""
    return f"predict_label {hash(data)}"


def jpeg_with_gps():
    image = Image.new("RGB", (48, 40), "teal")
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x010E] = "at home"
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    return file.getvalue()


def test_without_a_run_and_without_data_the_model_that_ships_answers(home):
    app = open_page("predict")

    assert not app.exception
    assert not app.error
    assert app.metric[0].value == "cat"  # of the first example, a cat
    app.segmented_control("example_sample").set_value("galaxies").run()
    assert not app.exception
    assert "unlike anything it knows" in said(app)


def test_one_picture_gets_its_likeliest_classes(run):
    app = judged(("mine.png", png()))

    assert not app.exception
    assert not app.error
    assert app.metric[0].value in ("red", "green", "blue")
    assert bars(app)[0][0] == app.metric[0].value
    assert "ms from file to answer" in said(app)


def test_an_example_is_one_click(run):
    app = open_page("predict")

    app.segmented_control(f"predict_way {run.id}").set_value("Examples").run()

    assert not app.exception
    assert app.metric[0].value in ("red", "green", "blue")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("page.png", HTML, "page.png: an HTML page"),
        ("cut.jpg", jpeg_with_gps()[:300], "cut.jpg: the file is truncated"),
        ("none.png", b"", "none.png: the file is empty"),
        ("[x](y).png", HTML, "[x](y).png: an HTML page"),
    ],
)
def test_a_hostile_picture_is_one_sentence_and_changes_nothing(run, home, name, data, reason):
    runs.shipped()  # the page lays it down where it is not there
    before = tree(home)

    app = judged((name, data))

    assert not app.exception
    assert len(app.error) == 1
    assert reason in said(app)
    assert tree(home) == before


def test_a_bad_picture_among_several_is_a_row_with_its_reason(run):
    app = judged(("a.png", png(1)), ("page.png", HTML), ("=b.png", png(2)))

    assert not app.exception
    table = app.dataframe[0].value
    assert table["file"].tolist() == ["a.png", "page.png", "=b.png"]
    assert "an HTML page" in table["error"][1]
    assert table["class"][2] in ("red", "green", "blue")
    assert "2 pictures judged" in said(app)
    assert "- page.png: an HTML page" in said(app)


def test_a_table_of_answers_names_the_other_likely_classes_too(run):
    app = judged(("a.png", png(1)), ("b.png", png(2)))

    table = app.dataframe[0].value
    stated = {table["class"][0], *(part.split()[0] for part in table["then"][0].split(", "))}
    assert stated == {"red", "green", "blue"}
    assert "error" not in table


def test_a_small_picture_is_shown_by_repeated_pixels(run):
    data = png(3, (30, 20))

    (answer,) = tasks.predict(run.id, [("small.png", data)], 5)

    shown = np.asarray(Image.open(io.BytesIO(answer["shown"])))
    original = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(shown, original.repeat(10, 0).repeat(10, 1))


def test_more_pictures_than_the_limit_are_cut_with_a_sentence(run, monkeypatch):
    monkeypatch.setattr(predicting, "MOST", 2)

    app = judged(*((f"{i}.png", png(i)) for i in range(3)))

    assert not app.exception
    assert "3 pictures are more than 2 at a time" in said(app)
    assert len(app.dataframe[0].value) == 2


def test_the_shown_copy_of_an_upload_carries_no_metadata(run):
    data = jpeg_with_gps()
    assert Image.open(io.BytesIO(data)).getexif()

    (answer,) = tasks.predict(run.id, [("home.jpg", data)], 5)

    shown = Image.open(io.BytesIO(answer["shown"]))
    assert (shown.size, shown.format) == ((288, 240), "PNG")
    assert not shown.getexif()
    assert b"at home" not in answer["shown"]


def test_a_damaged_model_is_one_sentence(run):
    run.model_path.write_bytes(b"no model")

    app = open_page("predict")

    assert not app.exception
    assert len(app.error) == 1
    assert "damaged" in said(app)


def test_a_wrong_answer_is_told_and_kept(run, home):
    app = judged(("mine.png", png()))
    app.session_state["Wrong? Tell it"] = True
    app.run()
    chooser = label_key(png())
    label = app.selectbox(chooser).options[0]
    app.selectbox(chooser).set_value(label).run()
    app.button("predict_keep").click().run()

    assert not app.exception
    assert f"Kept as {label}." in said(app)
    assert feedback.counts() == {label: 1}
    assert label != app.metric[0].value

    app.button("predict_keep undo").click().run()

    assert not app.exception
    assert f"Kept as {label}." not in said(app)
    assert feedback.counts() == {}


def test_taking_back_a_second_label_leaves_the_first(run):
    feedback.keep("mine.png", png(), "zebra")
    app = judged(("mine.png", png()))
    app.session_state["Wrong? Tell it"] = True
    app.run()
    label = app.selectbox(label_key(png())).options[0]
    app.selectbox(label_key(png())).set_value(label).run()
    app.button("predict_keep").click().run()
    assert feedback.counts() == {label: 1}

    app.button("predict_keep undo").click().run()

    assert not app.exception
    assert feedback.counts() == {"zebra": 1}
    assert "Kept so far: zebra 1." in said(app)


def test_each_telling_is_taken_back_in_turn_and_the_same_one_once(run):
    app = judged(("mine.png", png()))
    app.session_state["Wrong? Tell it"] = True
    app.run()
    first, second = app.selectbox(label_key(png())).options[:2]
    for label in (first, second, second):
        app.selectbox(label_key(png())).set_value(label).run()
        app.button("predict_keep").click().run()
    assert feedback.counts() == {second: 1}

    for left, told in (({first: 1}, f"Kept as {first}."), ({}, "")):
        app.button("predict_keep undo").click().run()

        assert not app.exception
        assert feedback.counts() == left
        assert told in said(app)
    assert not [one for one in app.button if one.label == "Take back"]


def test_it_shows_where_the_model_looks_and_what_others_say(run):
    other = untrained_run(model="cnn")
    app = judged(("mine.png", png()))
    for name in ("Where it looks", "What other models say"):
        app.session_state[name] = True
    app.run()
    assert not app.exception
    assert "believe what they agree on" in said(app)

    app.multiselect(f"predict_others {run.id}").set_value([other.id, "shipped"]).run()

    assert not app.exception
    table = app.table[0].value
    assert len(table) == 2
    assert "comes with imgcls" in table.iloc[1, 0]


def test_several_pictures_are_taught_as_a_new_class_and_recognised_at_once(home):
    files = [(f"{i}.png", png(i)) for i in range(5)]
    app = judged(*files)
    app.session_state["Teach it"] = True
    app.run()
    assert app.selectbox(label_key(*(data for _, data in files))).label == "All 5 are"
    for name, data in files:
        feedback.keep(name, data, "noise")  # a name that AppTest cannot type
    app.run()

    assert not app.exception
    assert "noise 5" in said(app)
    assert app.dataframe[0].value["taught"].tolist() == ["noise"] * 5


def test_several_pictures_are_kept_under_one_class(run):
    app = judged(("a.png", png(1)), ("page.png", HTML), ("b.png", png(2)))
    app.session_state["Teach it"] = True
    app.run()
    app.selectbox(label_key(png(1), png(2))).set_value("blue").run()

    app.button("predict_keep_all").click().run()

    assert not app.exception
    assert "Kept 2 as blue." in said(app)
    assert feedback.counts() == {"blue": 2}


def test_a_picture_is_held_against_new_classes_once_known_images_are_looked_at(tiny_dataset):
    run = untrained_run(model="cnn")
    feedback.keep("other.png", png(5), "zebra")
    app = judged(("mine.png", png()))

    assert "Pictures of new classes were kept" in said(app)
    (button,) = [one for one in app.button if one.label == "Look at the validation images"]
    button.click().run()

    assert not app.exception
    assert not app.error
    (expected,) = predict.predict(run.id, [("mine.png", png())])
    assert expected["calibrated"]
    assert app.metric[0].delta == f"{expected['top'][0]['probability']:.1%}"
    assert "zebra" in said(app)
    assert "of pictures of what it knows are as much like it" in said(app)


def test_a_network_without_features_to_compare_by_says_so(run):
    feedback.keep("other.png", png(5), "zebra")
    app = judged(("mine.png", png()))

    (button,) = [one for one in app.button if one.label == "Look at the validation images"]
    button.click().run()

    assert not app.exception
    assert "There are no features to compare by" in said(app)


def test_it_shows_the_training_images_that_are_like_the_picture(tiny_dataset):
    untrained_run(model="cnn")
    app = judged(("mine.png", png()))
    app.session_state["It looks like these"] = True
    app.run()

    (button,) = [one for one in app.button if one.label == "Look at the training images"]
    button.click().run()

    assert not app.exception
    assert not app.error
    assert "of 12 are labelled" in said(app)


def test_without_the_training_images_it_says_what_is_missing(home):
    app = judged(("mine.png", png()))
    app.session_state["It looks like these"] = True
    app.run()

    assert not app.exception
    assert not app.error
    assert "import them on Explore under the name cifar10" in said(app)


def test_a_mean_of_views_is_a_switch_that_says_its_cost(home):
    app = open_page("predict")
    before = app.metric[0].delta

    app.toggle("predict_views shipped").set_value(True).run()

    assert not app.exception
    assert app.toggle[0].label == "Mean of 6 views"
    assert "6 passes of the model instead of one" in app.toggle[0].help
    assert app.metric[0].value == "cat"
    assert app.metric[0].delta != before


def test_label_sets_hold_the_true_class_as_often_as_chosen(home):
    app = judged(("noise.png", png()))
    sizes = []
    for coverage in (0.8, 0.99):
        app.select_slider("predict_coverage shipped").set_value(coverage).run()
        assert not app.exception
        (answer,) = app.session_state["predict_answers"][1]
        sizes.append(len(answer["labels"]))

    assert sizes[0] < sizes[1]


def test_of_a_run_of_which_nothing_is_known_no_coverage_is_asked(run):
    app = judged(("mine.png", png()))

    assert not app.select_slider
