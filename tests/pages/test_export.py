"""Export through AppTest: a file is offered with its proof, or a sentence says why not."""

import json
import time

import pytest

from tests.making import judged_run
from tests.pages.opened import open_page, said


@pytest.fixture
def run(tiny_dataset):
    return judged_run(model="cnn")


def exported(app, run_id, name="onnx"):
    """Press the button and wait for what comes of it."""
    app.button("export").click().run()
    job, deadline = f"export_job {run_id} {name}", time.monotonic() + 120
    while job in app.session_state:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        app.run()
    return app


def test_a_file_is_offered_with_its_certificate_and_its_kit(run):
    app = exported(open_page("export", run=run.id), run.id)

    assert not app.exception
    assert not app.error
    table = app.table[0].value
    assert table.iloc[:, 0].tolist()[1] == "same likeliest class"
    assert table.iloc[1, 1].replace("\\", "") == "100.00%"
    offered = [button.proto.label for button in app.get("download_button")]
    assert offered[0].startswith(f"{run.id}.onnx")
    assert offered[1] == "Certificate"

    app.button("export_kit").click().run()
    assert not app.exception
    offered = [button.proto.label for button in app.get("download_button")]
    assert any(f"{run.id}.onnx.zip" in label for label in offered)


def test_what_was_exported_is_there_when_one_comes_back_and_void_with_another_model(run):
    exported(open_page("export", run=run.id), run.id)
    again = open_page("export", run=run.id)
    assert len(again.table) == 1

    answers = run.predictions_path("validation")
    answers.rename(answers.with_suffix(".away"))  # nothing calibrates it now
    assert not open_page("export", run=run.id).table
    answers.with_suffix(".away").rename(answers)
    assert len(open_page("export", run=run.id).table) == 1

    run.model_path.touch()
    void = open_page("export", run=run.id)
    assert not void.table
    assert "its model has changed" in said(void)


def test_weights_alone_come_with_the_lines_that_load_them(run):
    app = open_page("export", run=run.id)
    app.selectbox("export_format").set_value("pth").run()
    app = exported(app, run.id, "pth")

    assert not app.error
    assert "load_state_dict" in app.code[0].value


def test_without_its_data_the_model_that_ships_cannot_be_proved(home):
    app = exported(open_page("export"), "shipped")

    assert not app.exception
    told = app.error[0].value.replace("\\", "")
    assert "add cifar10-jpeg, or any data set with its classes" in told
    assert not list(home.rglob("*.onnx"))


def test_the_server_of_the_run_is_named(run):
    app = open_page("export", run=run.id)

    assert f"imgcls serve {run.id}" in app.code[0].value
    assert "files=@" in app.code[1].value
    assert json.dumps("files") in app.code[2].value
