"""Explore through AppTest: getting data, looking at it, and what hostile uploads come to."""

import os

import pytest

from imgcls.data import catalog
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
