"""Explore through AppTest: getting data, looking at it, and what hostile uploads come to."""

import json
import os

import pytest

from imgcls.data import catalog, statistics
from imgcls.errors import DataError
from imgcls.ui import inbox
from tests.making import png
from tests.pages.opened import open_page, said, settled, tree, zipped

HTML = b"<!doctype html><html><script>alert(1)</script></html>"
PICTURES = {
    f"{split}/{kind}/{i}.png": png(seed)
    for seed, (split, kind, i) in enumerate(
        (split, kind, i) for split in ("train", "test") for kind in ("cat", "dog") for i in range(3)
    )
}

SHOWS = {  # section: what stands in it and nowhere else
    "Counts": lambda app: app.metric[0].value == "60",
    "Images": lambda app: "Images 1 to 60 of 60" in said(app),
    "Channels": lambda app: list(app.dataframe[0].value.index) == ["red", "green", "blue"],
    "Augmentation": lambda app: "the code that trains" in said(app),
    "Source": lambda app: "made up by the tests" in app.dataframe[0].value["tiny"].tolist(),
}


def sheet(app):
    """What the page's only sheet of images is told, as JSON."""
    return app.get("bidi_component")[0].proto.json


def upload(data, name="mine.zip"):
    app = open_page("explore")
    if catalog.names():
        app.segmented_control("explore_section").set_value("Add data").run()
    app.file_uploader("import_upload").upload(name, data, "application/zip").run()
    app.button("import_go").click().run()
    return settled(app, "adding_job")


def test_on_first_start_the_digits_are_one_click_away(home):
    app = open_page("explore")
    assert not app.exception
    assert "need no network" in said(app)

    app.button("get_digits").click().run()
    app = settled(app, "adding_job")

    assert not app.exception
    assert catalog.names() == ["digits"]
    assert "1,797 images in 10 classes" in said(app)


@pytest.mark.parametrize("section", SHOWS)
def test_every_section_shows_the_data_set_that_the_url_names(tiny_dataset, section):
    app = open_page("explore", dataset="tiny")

    app.segmented_control("explore_section").set_value(section).run()

    assert not app.exception
    assert not app.error
    assert SHOWS[section](app)


def section(name, **query):
    app = open_page("explore", dataset="tiny", **query)
    return app.segmented_control("explore_section").set_value(name).run()


def test_another_class_shows_an_image_of_that_class(tiny_dataset):
    app = section("Images")
    labels = catalog.arrays("tiny", "train")[1]

    app.selectbox("class").set_value(1 + 2).run()

    assert not app.exception
    assert labels[app.number_input("index/tiny/train").value] == 2


def test_an_image_asked_for_by_number_is_shown_whatever_its_class(tiny_dataset):
    app = section("Images")
    app.selectbox("class").set_value(1 + 2).run()

    app.number_input("index/tiny/train").set_value(3).run()

    assert not app.exception
    assert app.number_input("index/tiny/train").value == 3
    assert app.selectbox("class").value == 0


def test_the_image_opened_last_is_the_one_to_augment(tiny_dataset):
    app = section("Images")
    app.number_input("index/tiny/train").set_value(7).run()

    app.segmented_control("explore_section").set_value("Augmentation").run()
    assert app.number_input("augment_index/tiny").value == 7

    app.number_input("augment_index/tiny").set_value(9).run()
    app.segmented_control("explore_section").set_value("Images").run()
    assert app.number_input("index/tiny/train").value == 9


def test_as_many_draws_are_made_as_one_asks_for(tiny_dataset):
    app = section("Augmentation")

    app.slider("augment_draws").set_value(5).run()

    assert not app.exception
    assert "draw 5" in sheet(app)
    assert "draw 6" not in sheet(app)
    assert json.loads(sheet(app))["clickable"] is False


def test_the_facts_of_the_original_file_are_told_in_full(home):
    app = upload(zipped(PICTURES))

    assert not app.exception
    assert "Original file" in said(app)
    row = statistics.image_facts("mine", "train", app.number_input("index/mine/train").value)
    assert len(row["sha256"]) == 64
    assert row["sha256"] in app.code[0].value


def test_after_an_import_its_images_stand_below_a_report_that_can_be_dismissed(tiny_dataset):
    app = upload(zipped({"cat/cut.png": png(9)[:60], **PICTURES}))

    assert not app.exception
    assert app.selectbox("chosen_dataset").value == "mine"
    assert app.segmented_control("explore_section").value == "Images"
    assert len(app.warning) + len(app.success) + len(app.info) == 1

    app.button("dismiss_adding_report").click().run()

    assert not app.exception
    assert not app.warning
    assert "Images 1 to 6 of 6" in said(app)


def test_a_refused_import_says_why_classes_fell_away(tiny_dataset):
    cut = {f"dog/{i}.png": png(i)[:60] for i in range(5)}
    app = upload(zipped({**{f"cat/{i}.png": png(i) for i in range(3)}, **cut}))

    assert not app.exception
    assert "mine.zip: holds 1 usable class (cat)" in said(app)
    assert "Class 'dog' was left out: no usable image, it needs 2." in said(app)
    assert "dog/0.png: " in said(app)
    assert "dog/3.png" not in said(app)


def test_an_unknown_data_set_in_the_url_gets_a_notice_and_the_default(tiny_dataset):
    app = open_page("explore", dataset="../../etc")

    assert not app.exception
    assert "No data set ../../etc is on disk" in said(app)


def test_a_damaged_data_set_is_one_sentence(tiny_dataset, home):
    (home / "datasets" / "tiny" / "train.images.npy").write_bytes(b"no array")
    app = open_page("explore")

    app.segmented_control("explore_section").set_value("Images").run()

    assert not app.exception
    assert len(app.error) == 1
    assert "Data set 'tiny' is damaged: import or fetch it again." in said(app)


def test_an_uploaded_zip_becomes_a_data_set_and_leaves_no_upload_behind(home):
    app = upload(zipped({**PICTURES, "train/cat/page.png": HTML, "train/dog/cut.png": png(9)[:60]}))

    assert not app.exception
    assert "12 images in 2 classes, 2 files refused" in said(app)
    reasons = app.dataframe[0].value
    assert set(reasons["file"]) == {"train/cat/page.png", "train/dog/cut.png"}
    assert catalog.load("mine").classes == ("cat", "dog")
    assert not list((home / "cache").rglob("*.zip"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (zipped({**PICTURES, "../e.png": png()}), "../e.png"),
        (zipped({"train/cat/page.png": HTML}), "at least 2"),
        (HTML, "mine.zip"),
        (b"", "mine.zip"),
        (zipped(PICTURES)[:900], "mine.zip"),
    ],
    ids=["path-out", "html-only", "no-zip", "empty", "truncated"],
)
def test_a_hostile_zip_is_one_sentence_and_changes_nothing(tiny_dataset, home, data, reason):
    before = tree(home)

    app = upload(data)

    assert not app.exception
    assert len(app.error) == 1
    assert reason in said(app)
    assert tree(home) == before


def test_a_bad_name_is_one_sentence(home):
    app = open_page("explore")
    app.file_uploader("import_upload").upload("a.zip", zipped(PICTURES), "application/zip").run()
    app.text_input("import_name_a.zip").set_value("../evil").run()

    app.button("import_go").click().run()

    assert not app.exception
    assert "cannot name a data set" in said(app)
    assert tree(home) == {}


def test_a_zip_on_the_server_is_offered_by_its_place_below_the_root(home):
    (home / "import").mkdir()
    (home / "import" / "a.zip").write_bytes(b"")
    (home / "import" / ".hidden.zip").write_bytes(b"")

    assert inbox.offered() == ["import/a.zip"]
    assert inbox.resolve("import/a.zip") == (home / "import" / "a.zip").resolve()


@pytest.mark.parametrize("text", ["/etc", "import/../secret", "import/link", "..", "import/\0"])
def test_nothing_outside_the_allowed_folders_can_be_imported(home, text):
    (home / "import").mkdir()
    (home / "secret").mkdir()
    os.symlink(home / "secret", home / "import" / "link")

    with pytest.raises(DataError, match=r"outside the folders|is no path"):
        inbox.resolve(text)


def test_other_roots_are_named_in_the_environment(home, tmp_path, monkeypatch):
    (tmp_path / "pictures" / "cats").mkdir(parents=True)
    monkeypatch.setenv("IMGCLS_DATA_ROOTS", str(tmp_path / "pictures"))

    assert inbox.offered() == ["pictures/cats"]
    assert inbox.resolve("pictures/cats") == (tmp_path / "pictures" / "cats").resolve()
    with pytest.raises(DataError, match="no 'pictures/dogs'"):
        inbox.resolve("pictures/dogs")


def test_an_upload_keeps_nothing_of_a_hostile_file_name(home):
    path = inbox.receive("../../x y$.zip", b"abc")

    assert path.parent.parent == home / "cache" / "uploads"
    assert path.name == "x-y-.zip"
    inbox.discard(path)
    assert tree(home) == {}
