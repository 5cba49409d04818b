import contextlib
import csv
import hashlib
import io
import os
import stat
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import psutil
import pytest
from PIL import Image

from imgcls.data import archive, catalog
from imgcls.data.importer import import_source
from imgcls.errors import DataError


def picture(seed, width=8, height=8, format="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def two_classes(each=3, prefix="", seed=0):
    return {
        f"{prefix}{name}/{i}.png": picture(seed + 100 * k + i)
        for k, name in enumerate(("cat", "dog"))
        for i in range(each)
    }


def make_folder(path, files):
    for name, data in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


def make_zip(path, files, compression=zipfile.ZIP_DEFLATED):
    """A ZIP of these files; keys may be ZipInfo, and a list of pairs may repeat names."""
    pairs = files.items() if isinstance(files, dict) else files
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, data in pairs:
            out.writestr(name, data)
    return path


def make_table(path, text, encoding="utf-8"):
    path.mkdir(exist_ok=True)
    for i in range(4):
        (path / f"{i}.png").write_bytes(picture(i))
    (path / "labels.csv").write_bytes(text.encode(encoding))
    return path


def tree_hash(path):
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        digest.update(str(file.relative_to(path)).encode())
        digest.update(file.read_bytes() if file.is_file() else b"/")
    return digest.hexdigest()


@pytest.fixture
def refuses(home, tiny_dataset):
    """Imports what must be refused; the sentence comes back, and the disk is as it was."""

    def attempt(source, **options):
        before = tree_hash(home)
        with pytest.raises(DataError) as refusal:
            import_source(source, "mine", **options)
        assert tree_hash(home) == before
        assert "\n" not in str(refusal.value)
        assert str(home.parent) not in str(refusal.value)
        return str(refusal.value)

    return attempt


# Layouts


def test_a_folder_of_classes_becomes_a_data_set(home, tmp_path):
    source = make_folder(tmp_path / "pets", two_classes(each=10))

    report = import_source(source, "pets", size=8)

    assert report.taken == 20
    assert report.dataset.classes == ("cat", "dog")
    assert report.dataset.counts == {"train": [8, 8], "test": [2, 2]}
    assert report.dataset == catalog.load("pets")
    assert "no test images: 20% of each class" in report.notes[0]


def test_pixels_labels_and_rows_belong_together(home, tmp_path):
    files = two_classes(each=10)
    import_source(make_zip(tmp_path / "pets.zip", files), "pets", size=8)

    with (catalog.path("pets") / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    assert tuple(rows[0]) == catalog.IMAGE_COLUMNS
    assert len(rows) == 20
    for row in rows:
        images, labels = catalog.arrays("pets", row["split"])
        original = Image.open(io.BytesIO(files[row["file"]]))
        assert images[int(row["index"])].tobytes() == original.tobytes()
        assert ("cat", "dog")[labels[int(row["index"])]] == row["class"] == row["file"][:3]
        assert row["sha256"] == hashlib.sha256(files[row["file"]]).hexdigest()
        assert (row["width"], row["height"], row["mode"]) == ("8", "8", "RGB")


@pytest.mark.parametrize("wrapper", ["", "everything/", "a/b/"])
@pytest.mark.parametrize("names", [("train", "test"), ("Training", "TESTING")])
def test_given_splits_are_kept(home, tmp_path, wrapper, names):
    files = two_classes(3, f"{wrapper}{names[0]}/") | two_classes(2, f"{wrapper}{names[1]}/", 50)

    report = import_source(make_zip(tmp_path / "x.zip", files), "x", size=8)

    assert report.dataset.counts == {"train": [3, 3], "test": [2, 2]}
    assert report.notes == ()


def test_a_given_validation_split_is_kept(home, tmp_path):
    files = two_classes(5, "train/") | two_classes(2, "valid/", 50)

    report = import_source(make_folder(tmp_path / "x", files), "x", size=8)

    assert report.dataset.counts == {"train": [4, 4], "validation": [2, 2], "test": [1, 1]}


def test_a_class_that_test_lacks_does_not_move_the_others(home, tmp_path):
    files = two_classes(3, "train/") | {"test/dog/9.png": picture(9)}

    report = import_source(make_folder(tmp_path / "x", files), "x", size=8)

    assert report.dataset.counts["test"] == [0, 1]


def test_a_folder_and_its_zip_have_the_same_fingerprint(home, tmp_path):
    files = two_classes()

    folder = import_source(make_folder(tmp_path / "x", files), "one").dataset
    zipped = import_source(make_zip(tmp_path / "x.zip", files), "two").dataset

    assert folder.fingerprint == zipped.fingerprint


def test_one_class_is_no_data_set(refuses, tmp_path):
    source = make_folder(tmp_path / "x", {"pets/cat/1.png": picture(1)})

    assert refuses(source) == (
        "x: holds 1 usable class (cat), a classifier needs at least 2; "
        "add images of another class and retry."
    )


def test_images_outside_of_class_folders_are_no_data_set(refuses, tmp_path):
    source = make_folder(tmp_path / "x", {"1.png": picture(1), "2.png": picture(2)})

    assert "holds no images in class folders; lay it out as <class>/<image>" in refuses(source)


def test_test_images_alone_are_no_data_set(refuses, tmp_path):
    assert "has no train/<class>/<image>, only test" in refuses(
        make_folder(tmp_path / "x", two_classes(2, "test/"))
    )


def test_a_class_with_too_few_images_is_left_out_and_noted(home, tmp_path):
    files = two_classes() | {"eel/1.png": picture(1), "eel/2.png": b"no picture at all, no no"}

    report = import_source(make_folder(tmp_path / "x", files), "x")

    assert report.dataset.classes == ("cat", "dog")
    assert "Class 'eel' was left out: one usable image, it needs 2." in report.notes
    assert sorted(file for file, _ in report.refused) == ["eel/1.png", "eel/2.png"]


def test_too_few_classes_are_refused_with_what_fell_away(refuses, tmp_path):
    files = {f"cat/{i}.png": picture(i) for i in range(3)} | {"eel/0.png": picture(9)}
    files |= {f"dog/{i}.png": b"no image" for i in range(5)}

    message = refuses(make_folder(tmp_path / "x", files))

    assert message.startswith("x: holds 1 usable class (cat), a classifier needs at least 2; ")
    assert "Class 'dog' was left out: no usable image, it needs 2. Class 'eel' was left" in message
    assert [i for i in range(5) if f"dog/{i}.png: " in message] == [0, 1, 2]


def test_too_many_classes_are_refused(refuses, tmp_path):
    source = make_folder(tmp_path / "x", {f"{i}/1.png": b"x" for i in range(5)})

    assert "holds 5 classes, the limit is 4" in refuses(source, limits={"classes": 4})


@pytest.mark.parametrize(
    ("name", "says"), [("x" * 65, "65 characters, the limit is 64"), ("a\nb", "cannot be shown")]
)
def test_a_class_name_that_cannot_be_shown_is_refused(refuses, tmp_path, name, says):
    source = make_folder(tmp_path / "x", two_classes() | {f"{name}/1.png": picture(1)})

    assert says in refuses(source)


def test_class_names_have_one_unicode_form(home, tmp_path):
    files = {f"caf\u00e9/{i}.png": picture(i) for i in range(2)}
    files |= {f"cafe\u0301/{i}.png": picture(9 + i) for i in range(2)}
    files |= {f"tea/{i}.png": picture(19 + i) for i in range(2)}

    report = import_source(make_folder(tmp_path / "x", files), "x")

    assert report.dataset.classes == ("caf\u00e9", "tea")


def test_a_name_that_is_taken_is_refused(refuses, tmp_path):
    with pytest.raises(DataError, match="A data set named 'tiny' exists"):
        import_source(make_folder(tmp_path / "x", two_classes()), "tiny")


@pytest.mark.parametrize("name", ["../x", "", "A", ".x", "x" * 65])
def test_a_name_that_is_no_name_is_refused(home, tmp_path, name):
    with pytest.raises(DataError, match="cannot name a data set"):
        import_source(make_folder(tmp_path / "x", two_classes()), name)


@pytest.mark.parametrize(
    "options", [{"size": 4}, {"size": 1024}, {"fit": "stretch"}, {"on_bad": "ask"}]
)
def test_an_option_out_of_its_limits_is_refused(refuses, tmp_path, options):
    assert f"{next(iter(options))} must be" in refuses(
        make_folder(tmp_path / "x", two_classes()), **options
    )


def test_what_is_not_there_is_refused(refuses, tmp_path):
    assert refuses(tmp_path / "x") == "x: no such file or folder; check the path and retry."


# Single files


def test_a_bad_image_among_many_is_listed_and_skipped(home, tmp_path):
    whole = picture(1, 40, 40)
    files = two_classes(200) | {
        "cat/bad.png": whole[:-40],
        "dog/page.png": b"<html>404</html> " * 3,
    }

    report = import_source(make_zip(tmp_path / "x.zip", files), "x")

    assert report.taken == 400
    assert dict(report.refused) == {
        "cat/bad.png": "the file is truncated; copy it again or get it anew and retry.",
        "dog/page.png": "an HTML page, not a PNG, JPEG or WebP image; convert it and retry.",
    }
    table = (catalog.path("x") / "refused.csv").read_text(encoding="utf-8").splitlines()
    assert table[0] == "file,reason"
    assert len(table) == 3


def test_a_bad_image_stops_the_import_where_that_is_asked(refuses, tmp_path):
    source = make_folder(tmp_path / "x", two_classes() | {"cat/bad.png": picture(1)[:-30]})

    assert refuses(source, on_bad="stop").startswith("cat/bad.png: the file is truncated")


def test_a_large_file_is_refused_before_it_is_read(home, tmp_path):
    files = two_classes() | {"cat/large.png": bytes(11 * 2**20)}

    report = import_source(make_zip(tmp_path / "x.zip", files, zipfile.ZIP_STORED), "x")

    assert report.refused == (
        ("cat/large.png", "11.0 MB exceeds the 10 MB limit; save it smaller and retry."),
    )


def test_a_file_that_kills_its_process_costs_only_itself(home, tmp_path, monkeypatch):
    files = two_classes(6)
    source = make_folder(tmp_path / "x", files)
    # A process that decodes imports this module anew, so the trap must be set in its code.
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "sitecustomize.py").write_text(
        "import os, PIL.PngImagePlugin as p\n"
        "load = p.PngImageFile.load\n"
        "def deadly(self):\n"
        "    if self.size == (13, 13): os._exit(9)\n"
        "    return load(self)\n"
        "p.PngImageFile.load = deadly\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(trap))
    (source / "cat/killer.png").write_bytes(picture(1, 13, 13))

    report = import_source(source, "x")

    assert report.taken == 12
    assert report.refused == (
        ("cat/killer.png", "ends the process that decodes it; save it again or remove it."),
    )


def test_what_the_system_leaves_behind_is_ignored_and_counted(home, tmp_path):
    junk = [
        "__MACOSX/cat/._1.png",
        ".hidden/1.png",
        "cat/Thumbs.db",
        "dog/desktop.ini",
        ".DS_Store",
    ]
    files = two_classes() | dict.fromkeys(junk, b"junk")

    for source in (make_folder(tmp_path / "x", files), make_zip(tmp_path / "x.zip", files)):
        report = import_source(source, f"x-{source.suffix.strip('.')}0")
        assert report.dataset.classes == ("cat", "dog")
        assert report.refused == ()
        assert report.ignored == 5


def test_progress_counts_up_to_all_images(home, tmp_path):
    seen = []

    import_source(
        make_folder(tmp_path / "x", two_classes()), "x", progress=lambda *pair: seen.append(pair)
    )

    assert seen[-1] == (6, 6)


def test_notes_of_pictures_are_counted(home, tmp_path):
    files = two_classes() | {f"cat/j{i}.png": picture(i, format="JPEG") for i in range(3)}

    report = import_source(make_folder(tmp_path / "x", files), "x")

    assert "3 images: a JPEG named .png." in report.notes


def test_a_killed_import_leaves_no_process_behind(home, tmp_path):
    source = make_folder(tmp_path / "x", two_classes(2_000))
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, psutil, os, signal, sys\n"
        "from imgcls.data.importer import import_source\n"
        "def die(done, total):\n"
        "    print(*(p.pid for p in psutil.Process().children()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    import_source(pathlib.Path(sys.argv[1]), 'x', progress=die)\n"
    )
    command = [sys.executable, script, source]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE).stdout.split()

    _, alive = psutil.wait_procs(
        [psutil.Process(int(pid)) for pid in output if psutil.pid_exists(int(pid))], timeout=10
    )

    assert output
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    assert catalog.names() == []


# Repeats


def test_the_same_image_in_train_and_test_is_counted(home, tmp_path):
    files = two_classes(4, "train/") | two_classes(2, "test/")

    report = import_source(make_folder(tmp_path / "x", files), "x")

    assert report.dataset.notes[0].startswith("4 test images are byte-identical to train images")


def test_the_same_image_under_two_labels_is_counted(home, tmp_path):
    files = two_classes() | {"dog/again.png": picture(0)}

    report = import_source(make_folder(tmp_path / "x", files), "x")

    assert "1 images occur under two or more labels." in report.notes


# Archives


@pytest.mark.parametrize("name", ["../e.png", "/e.png", "a\\..\\..\\e.png", "C:\\e.png", "C:e.png"])
def test_a_path_that_leaves_the_archive_refuses_all_of_it(refuses, tmp_path, name):
    source = make_zip(tmp_path / "x.zip", two_classes() | {name: picture(1)})

    assert "has an unsafe path" in refuses(source)
    assert not list(tmp_path.rglob("e.png"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
def test_a_link_or_device_refuses_the_archive(refuses, tmp_path, kind):
    info = zipfile.ZipInfo("cat/link.png")
    info.external_attr = (kind | 0o777) << 16
    source = make_zip(tmp_path / "x.zip", [*two_classes().items(), (info, b"/etc/passwd")])

    assert "is a link or device, not a file" in refuses(source)


def test_an_entry_that_unpacks_to_a_thousand_times_its_size_is_refused(refuses, tmp_path):
    source = make_zip(tmp_path / "x.zip", two_classes() | {"cat/big.png": bytes(100_000_000)})

    assert "unpacks to more than 100 times its size" in refuses(source)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_refused(refuses, tmp_path, method):
    assert "is neither stored nor deflated" in refuses(
        make_zip(tmp_path / "x.zip", two_classes(), method)
    )


def test_an_archive_that_unpacks_to_too_much_is_refused(refuses, tmp_path):
    source = make_zip(tmp_path / "x.zip", two_classes())

    assert "unpack to" in refuses(source, limits={"unpacked_bytes": 500})


def test_an_archive_that_is_too_large_is_refused(refuses, tmp_path):
    source = make_zip(tmp_path / "x.zip", two_classes())

    assert "GB limit" in refuses(source, limits={"archive_bytes": 100})


def test_too_many_entries_are_refused(refuses, tmp_path):
    files = two_classes()

    assert "6 entries exceed the limit of 5" in refuses(
        make_zip(tmp_path / "x.zip", files), limits={"entries": 5}
    )
    assert "more than 5 files" in refuses(make_folder(tmp_path / "x", files), limits={"entries": 5})


def test_overlapping_entries_are_refused(refuses, tmp_path):
    source = make_zip(tmp_path / "x.zip", two_classes())
    data = bytearray(source.read_bytes())
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 4)
    struct.pack_into("<L", data, second + 42, 0)  # both say that they start at byte 0
    source.write_bytes(data)

    assert "overlaps another one" in refuses(source)


def test_a_declared_size_is_all_that_is_ever_unpacked(home, tmp_path):
    source = make_zip(tmp_path / "x.zip", two_classes() | {"cat/z.png": bytes(10**6)})
    data = bytearray(source.read_bytes())
    at = data.rindex(b"PK\1\2")
    struct.pack_into("<L", data, at + 24, 5_000)
    source.write_bytes(data)

    report = import_source(source, "x")

    assert "damaged inside the archive" in dict(report.refused)["cat/z.png"]


def test_a_file_damaged_inside_the_archive_is_listed(home, tmp_path):
    source = make_zip(tmp_path / "x.zip", two_classes(), zipfile.ZIP_STORED)
    data = bytearray(source.read_bytes())
    data[60] ^= 1
    source.write_bytes(data)

    report = import_source(source, "x")

    assert "damaged inside the archive" in dict(report.refused)["cat/0.png"]


def test_an_encrypted_archive_is_refused(refuses, tmp_path):
    source = make_zip(tmp_path / "x.zip", two_classes())
    data = bytearray(source.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    source.write_bytes(data)

    assert "is encrypted; make the ZIP without a password" in refuses(source)


def test_an_archive_inside_an_archive_is_listed_as_no_image(home, tmp_path):
    inner = make_zip(tmp_path / "inner.zip", two_classes()).read_bytes()

    report = import_source(make_zip(tmp_path / "x.zip", two_classes() | {"cat/i.zip": inner}), "x")

    assert report.refused[0][0] == "cat/i.zip"
    assert "a ZIP archive, not a PNG" in report.refused[0][1]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.99])
def test_an_archive_cut_short_is_refused(refuses, tmp_path, share):
    source = make_zip(tmp_path / "x.zip", two_classes())
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * share)])

    assert "not a ZIP archive, or its directory is truncated or damaged" in refuses(source)


@pytest.mark.parametrize("count", [2**32, 2**63])
def test_an_absurd_number_of_entries_is_refused_without_reading_them(refuses, tmp_path, count):
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, 46, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 46, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    source = tmp_path / "x.zip"
    source.write_bytes(bytes(46) + record + locator + end)

    assert f"{count:,} entries exceed the limit of 200,000" in refuses(source)


def test_the_same_path_twice_is_refused(refuses, tmp_path):
    files = [*two_classes().items(), ("./cat//0.png", picture(77))]

    assert "'./cat//0.png' occurs twice" in refuses(make_zip(tmp_path / "x.zip", files))


def test_a_text_named_zip_is_refused(refuses, tmp_path):
    source = tmp_path / "x.zip"
    source.write_text("no archive")

    assert "not a ZIP archive" in refuses(source)


def test_names_of_archivers_that_forget_to_say_utf8_are_read(home, tmp_path):
    files = {f"été/{i}.png": picture(i) for i in range(2)} | two_classes()
    source = make_zip(tmp_path / "x.zip", files)
    data = bytearray(source.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + flags + 1] &= 0xF7
            at = data.find(signature, at + 4)
    source.write_bytes(data)

    assert import_source(source, "x").dataset.classes == ("cat", "dog", "été")


def test_mutated_archives_raise_data_errors_and_nothing_else(tmp_path):
    draw = np.random.default_rng(0)
    whole = make_zip(tmp_path / "x.zip", two_classes()).read_bytes()
    directory = whole.index(b"PK\1\2")
    source = tmp_path / "y.zip"
    outcomes = {True: 0, False: 0}
    for _ in range(1_500):
        data = bytearray(whole)
        for _ in range(draw.integers(1, 4)):
            data[draw.integers(directory, len(data))] = draw.integers(256)
        source.write_bytes(data)
        try:
            entries = archive.read_directory(source)
        except DataError:
            outcomes[False] += 1
            continue
        outcomes[True] += 1
        with source.open("rb") as file:
            for entry in entries:
                with contextlib.suppress(DataError):
                    archive.read(file, entry)
    assert min(outcomes.values()) > 100


# Local folders


def test_a_loop_of_links_ends(home, tmp_path):
    source = make_folder(tmp_path / "x", two_classes())
    (source / "cat/loop").symlink_to(source, target_is_directory=True)

    report = import_source(source, "x")

    assert report.taken == 6
    assert report.refused == (
        ("cat/loop", "a link that is not followed; put the file itself there."),
    )


def test_a_link_that_leaves_the_folder_is_not_followed(home, tmp_path):
    (tmp_path / "secret.png").write_bytes(picture(5))
    source = make_folder(tmp_path / "x", two_classes())
    (source / "cat/out.png").symlink_to(tmp_path / "secret.png")
    (source / "cat/in.png").symlink_to(source / "cat/0.png")
    (source / "cat/dead.png").symlink_to("nowhere")

    report = import_source(source, "x")

    assert report.taken == 7
    assert sorted(file for file, _ in report.refused) == ["cat/dead.png", "cat/out.png"]


def test_a_pipe_is_not_opened(home, tmp_path):
    source = make_folder(tmp_path / "x", two_classes())
    os.mkfifo(source / "cat/pipe.png")

    assert import_source(source, "x").refused == (
        ("cat/pipe.png", "not a regular file; remove it."),
    )


def test_a_file_name_of_no_encoding_is_taken(home, tmp_path):
    source = make_folder(tmp_path / "x", two_classes())
    try:
        (source / "cat" / os.fsdecode(b"\xff\xfe.png")).write_bytes(picture(50))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")

    assert import_source(source, "x").taken == 7


# Tables of labels

GOOD = "filename,label\n0.png,cat\n1.png,cat\n2.png,dog\n3.png,dog\n"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace("filename,label", '"Filename","Label"'),
        GOOD + "\n\n",
        GOOD.replace("0.png", "./0.png"),
    ],
    ids=["plain", "bom", "crlf", "semicolon", "tab", "quoted", "blank lines", "dot"],
)
def test_a_table_names_the_classes(home, tmp_path, text):
    report = import_source(make_table(tmp_path / "x", text), "x")

    assert report.dataset.classes == ("cat", "dog")
    assert report.dataset.counts == {"train": [1, 1], "test": [1, 1]}


def test_a_table_may_name_the_splits(home, tmp_path):
    text = "filename,label,split\n0.png,cat,train\n1.png,cat,Test\n2.png,dog,train\n3.png,dog,val\n"

    report = import_source(make_table(tmp_path / "x", text), "x")

    assert report.dataset.counts == {"train": [1, 1], "validation": [0, 1], "test": [1, 0]}


def test_a_table_may_lie_in_the_archive_or_be_the_source_or_elsewhere(home, tmp_path):
    folder = make_table(tmp_path / "x", GOOD)
    files = {f"x/{file.name}": file.read_bytes() for file in folder.iterdir()}
    apart = folder.rename(tmp_path / "y") / "labels.csv"

    first = import_source(make_zip(tmp_path / "x.zip", files), "one").dataset
    second = import_source(apart, "two").dataset
    third = import_source(tmp_path / "y", "three", csv=apart.rename(tmp_path / "t.csv")).dataset

    assert first.fingerprint == second.fingerprint == third.fingerprint


def test_an_extra_column_is_ignored_and_noted(home, tmp_path):
    text = "id,filename,label\n1,0.png,cat\n2,1.png,cat\n3,2.png,dog\n4,3.png,dog\n"

    report = import_source(make_table(tmp_path / "x", text), "x")

    assert "Columns of labels.csv that were ignored: id." in report.notes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "0.png,dog\n", "row 6: '0.png' is 'dog' in train here and 'cat' in train in row 2"),
        (GOOD + "7.png,dog\n", "row 6: no file '7.png' beside the table"),
        (GOOD + "../x/0.png,dog\n", "row 6: no file '../x/0.png'"),
        (GOOD + "/etc/passwd,dog\n", "row 6: no file '/etc/passwd'"),
        (GOOD.replace("1.png,cat", "1.png,NaN"), "row 3: '1.png' has no label"),
        (GOOD.replace("1.png,cat", "1.png,"), "row 3: '1.png' has no label"),
        (
            GOOD.replace("cat\n1.png,cat", "1\n1.png,1.0"),
            "row 3: label '1.0' is the same number as '1'",
        ),
        (GOOD.replace("1.png,cat", "1.png,cat,more"), "row 3: has 3 cells, the header has 2"),
        (GOOD.replace("1.png,cat", "1.png"), "row 3: has 1 cells, the header has 2"),
        ("filename,label,split\n0.png,cat,dev\n", "row 2: split 'dev' must be train, validation"),
        ("filename,label\n", "row 2: has a header but no images"),
        ("0.png,cat\n1.png,dog\n", "row 1: must be the header filename,label"),
        ("", "row 1: must be the header filename,label"),
        (GOOD + '"0.png,cat\n', "row 6: cannot be read"),
        (GOOD + "0.png,a\0b\n", "row 6: "),
    ],
)
def test_what_is_ambiguous_in_a_table_is_refused_by_its_row(refuses, tmp_path, text, says):
    message = refuses(make_table(tmp_path / "x", text))

    assert message.startswith("labels.csv, ")
    assert says in message


def test_a_table_in_latin_1_is_refused_by_its_row(refuses, tmp_path):
    text = GOOD.replace("2.png,dog", "2.png,chené")

    assert "labels.csv, row 4: is not UTF-8 text" in refuses(
        make_table(tmp_path / "x", text, "latin-1")
    )


# The real thing


def test_a_part_of_cifar10_is_imported_as_decoded(home, tmp_path, cifar_zip):
    with zipfile.ZipFile(cifar_zip) as whole:
        files = {name: whole.read(name) for name in whole.namelist()[::60]}

    report = import_source(make_zip(tmp_path / "part.zip", files, zipfile.ZIP_STORED), "part")

    assert report.taken == 1000
    assert report.refused == ()
    assert report.dataset.total("train") + report.dataset.total("test") == 1000
    images, _ = catalog.arrays("part", "test")
    first = sorted(name for name in files if name.startswith("test/"))[0]
    with Image.open(io.BytesIO(files[first])) as original:
        assert images[0].tobytes() == original.tobytes()


def test_the_whole_of_cifar10_is_listed(cifar_zip):
    entries = archive.read_directory(cifar_zip)

    assert len(entries) == 60_000
    with cifar_zip.open("rb") as file:
        assert all(zlib.crc32(archive.read(file, e)) == e.crc for e in entries[::1000])


def test_the_processes_that_decode_import_neither_torch_nor_pandas():
    program = (
        "import sys, imgcls.data.decoder; sys.exit(bool({'torch', 'pandas'} & {*sys.modules}))"
    )

    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_an_archive_without_files_says_that_it_is_empty(home, tmp_path):
    path = tmp_path / "none.zip"
    zipfile.ZipFile(path, "w").close()

    with pytest.raises(DataError, match=r"none\.zip: the archive is empty"):
        import_source(path, "none")


def test_an_end_record_faked_in_the_comment_is_not_believed(home, tmp_path):
    path = tmp_path / "fake.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"PK\5\6" + bytes(18)

    with pytest.raises(DataError, match=r"fake\.zip: "):
        import_source(path, "fake")


@pytest.mark.parametrize("header", ['"filename,label"', 'filename,label"', '"filename', ","])
def test_a_header_that_quotes_amiss_is_shown(home, tmp_path, header):
    (tmp_path / "labels.csv").write_text(f"{header}\na.png,x\n")

    with pytest.raises(DataError, match=r"labels\.csv, row 1: must be the header"):
        import_source(tmp_path / "labels.csv", "quoted")
