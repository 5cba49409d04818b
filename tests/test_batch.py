"""Many files to one table: whole, in order, and on from where it was cut off."""

import csv

import numpy as np
import pytest
from PIL import Image

from imgcls import batch, predict
from imgcls.errors import DataError, ModelError
from imgcls.evaluate import predictions
from tests.making import png, save_model, untrained_run


@pytest.fixture
def run(tiny_dataset):
    run = untrained_run()
    predictions.compute(run.id, "validation")
    return run


@pytest.fixture
def files(tmp_path):
    """Ten files: eight pictures, a page, and a name that a spreadsheet would run."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(8):
        (folder / f"{i}.png").write_bytes(png(i))
    (folder / "page.png").write_bytes(b"<!doctype html>" * 5)
    (folder / "=z.png").write_bytes(png(9))
    return sorted(folder.iterdir())


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_file_is_a_row_with_the_answer_of_predict(run, files, tmp_path):
    told = batch.to_table(run, files, tmp_path / "out.csv", 2)

    expected = predict.predict(run.id, [(str(f), f.read_bytes()) for f in files], top=2)
    table = rows(tmp_path / "out.csv")
    assert (told.files, told.refused, told.resumed) == (10, 1, 0)
    assert len(table) == 10
    for row, entry in zip(table, expected, strict=True):
        assert row["file"].lstrip("'") == entry["file"]
        if "error" in entry:
            assert "an HTML page" in row["error"]
            continue
        assert row["class"] == entry["top"][0]["class"]
        assert float(row["probability"]) == pytest.approx(entry["top"][0]["probability"], abs=1e-5)
        assert row["known"] == ("yes" if entry["known"] else "no")
    assert sorted(p.name for p in tmp_path.glob("out.csv*")) == ["out.csv"]


def interrupted(run, files, table, monkeypatch, after):
    """A call that ends after so many blocks, as by a pulled plug, with half a row behind it."""
    monkeypatch.setattr(batch, "CHUNK", 2)

    def tell(done, refused):
        if done >= 2 * after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.to_table(run, files, table, 2, tell)
    part = table.with_name(f"{table.name}.part")
    with open(part, "ab") as file:
        file.write(b"half a ro")
    return part


def test_an_interrupted_call_goes_on_and_ends_with_the_same_table(
    run, files, tmp_path, monkeypatch
):
    batch.to_table(run, files, tmp_path / "whole.csv", 2)
    table = tmp_path / "out.csv"
    interrupted(run, files, table, monkeypatch, after=2)
    assert not table.exists()

    told = batch.to_table(run, files, table, 2)

    assert told.resumed == 4
    assert (told.files, told.refused) == (10, 1)
    assert table.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_of_another_model_it_begins_anew(run, files, tmp_path, monkeypatch):
    table = tmp_path / "out.csv"
    interrupted(run, files, table, monkeypatch, after=2)
    save_model(run, seed=5)

    assert batch.to_table(run, files, table, 2).resumed == 0
    assert len(rows(table)) == 10


def test_of_another_calibration_it_begins_anew(run, files, tmp_path, monkeypatch):
    table = tmp_path / "out.csv"
    interrupted(run, files, table, monkeypatch, after=2)
    run.predictions_path("validation").unlink()

    assert batch.to_table(run, files, table, 2).resumed == 0
    assert {row["known"] for row in rows(table)} == {""}


def test_names_are_told_whole_and_found_again(run, tmp_path, monkeypatch):
    folder = tmp_path / ("deep " * 30)
    folder.mkdir()
    names = ['"quoted"', "at 9.41\u202fAM", "=1+1", "b" * 90, "line\nend"]
    found = []
    for i, name in enumerate(names):
        found.append(folder / f"{name}{i}.png")
        found[-1].write_bytes(png(i))
        found.append(folder / f'{name}{i}"')
        found[-1].write_bytes(png(i))
    table = tmp_path / "out.csv"
    interrupted(run, found, table, monkeypatch, after=2)

    assert batch.to_table(run, found, table, 2).resumed == 4
    told = [row["file"] for row in rows(table)]
    assert told[:8] == [str(path) for path in found[:8]]
    assert told[8] == str(found[8]).replace("\n", "\N{REPLACEMENT CHARACTER}")


def test_with_other_files_it_says_so_and_keeps_what_is_there(run, files, tmp_path, monkeypatch):
    part = interrupted(run, files, tmp_path / "out.csv", monkeypatch, after=2)

    with pytest.raises(DataError, match="is of other files than these"):
        batch.to_table(run, files[1:], tmp_path / "out.csv", 2)

    assert part.exists()


def test_a_file_that_ends_its_process_is_a_row(run, files, tmp_path, monkeypatch):
    kill = tmp_path / "pictures" / "3.png"
    real = batch._decode
    monkeypatch.setattr(batch, "_pool", lambda workers: Dying(kill))
    monkeypatch.setattr(batch, "CHUNK", 4)

    batch.to_table(run, files, tmp_path / "out.csv", 1)

    table = {row["file"].split("/")[-1]: row["error"] for row in rows(tmp_path / "out.csv")}
    assert "ends the process that decodes it" in table["3.png"]
    assert sum(bool(error) for error in table.values()) == 2
    assert batch._decode is real


class Dying:
    """A pool whose process dies of one file."""

    def __init__(self, of):
        self.of, self.broken = of, False

    def submit(self, function, chunk, *rest):
        from concurrent.futures import Future
        from concurrent.futures.process import BrokenProcessPool

        future = Future()
        self.broken = self.broken or self.of in chunk
        if self.broken:
            future.set_exception(BrokenProcessPool("dead"))
        else:
            future.set_result(function(chunk, *rest))
        return future

    def shutdown(self, **options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def test_a_model_of_nan_leaves_no_table(run, files, tmp_path):
    save_model(run, seed=0, fill=float("nan"))

    with pytest.raises(ModelError):
        batch.to_table(run, files, tmp_path / "out.csv", 2)

    assert not (tmp_path / "out.csv").exists()


def test_large_pictures_are_made_small_before_they_wait(run, tmp_path):
    Image.fromarray(np.zeros((600, 800, 3), np.uint8)).save(tmp_path / "large.png")

    blocks = list(batch._decoded(iter([tmp_path / "large.png"] * 3), 8, "squash"))

    assert [len(pixels) for block in blocks for _, pixels in block] == [8 * 8 * 3] * 3


def test_two_calls_do_not_write_one_table(run, files, tmp_path):
    table, told = tmp_path / "out.csv", []

    def second(done, bad):
        with pytest.raises(DataError, match="is being written by another call"):
            batch.to_table(run, files, table, 2)
        told.append(done)

    batch.to_table(run, files, table, 2, second)

    assert told
    assert len(rows(table)) == len(files)
