"""The command line as scripts see it: exit status, JSON on stdout, one sentence on stderr."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imgcls import budget, cli, models, recipes, runs, studies
from imgcls.config import TrainConfig
from imgcls.data import catalog
from imgcls.events import Ended, Epoch
from tests.making import NOW, png, save_model, untrained_run

LATER = NOW + timedelta(seconds=1)

ROOT = Path(__file__).resolve().parents[1]
FAST = ("--recipe", "tutorial-softmax", "--dataset", "tiny")


@pytest.fixture
def call(home, monkeypatch, capsys):
    """Run a command in this process: its exit status, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["imgcls", *map(str, words)])
        try:
            cli.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def answer(call):
    """Run a command with --json that works: what it prints."""

    def run(*words: object):
        status, out, err = call(*words, "--json")
        assert status == 0, err
        assert out.count("\n") == 1
        return json.loads(out, parse_constant=pytest.fail)

    return run


@pytest.fixture
def refusal(call):
    """Run a command that cannot work: its one sentence."""

    def run(*words: object) -> str:
        status, out, err = call(*words)
        assert (status, out) == (1, "")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        return err.strip()

    return run


def start(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "imgcls", *words],
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def picture_folder(path: Path, *, each: int = 6) -> Path:
    for number, name in enumerate(("cat", "dog")):
        (path / name).mkdir(parents=True)
        for i in range(each):
            colour = (200 * number, 10 * i, 50)
            Image.new("RGB", (40, 30), colour).save(path / name / f"{i}.png")
    return path


def ended_run(seed: int, accuracy: float | None, state: str = "finished", reason: str = "") -> str:
    """A run that looks as if it had been trained for one epoch."""
    run = untrained_run(now=NOW + timedelta(seconds=seed), seed=seed)
    run.append(Epoch(1, 10, 0.5, 0.8, 0.6, accuracy, 0.1, True, 2.5))
    run.append(Ended(0.0, state, 10, reason))
    return run.id


# --- help and wrong use ---


def test_help_answers_at_once_and_leaves_torch_alone():
    code = (
        "import sys; from imgcls import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'scipy', 'streamlit', 'rich'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "Commands:" in done.stdout
    assert time.monotonic() - began < 10  # a second on a quiet machine


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["train", "--epochs", "many"],
        ["train", "--seed", "1", "--seeds", "2"],
        ["ablate"],
        ["ablate", "--vary", "peak_lr"],
        ["ablate", "--vary", "peak_lr=1", "--epochs", "1", "--minutes", "1"],
        ["train", "--set", "epochs"],
        ["data", "import", "folder"],
        ["data", "import", "folder", "--name", "x", "--fit", "bend"],
        ["predict", "latest"],
        ["evaluate"],
        ["compare"],
        ["runs", "import", "file.pth"],
    ],
    ids=" ".join,
)
def test_wrong_use_ends_with_status_2(call, words):
    status, out, err = call(*words)

    assert (status, out) == (2, "")
    assert "Error: " in err


# --- data ---


def test_data_import_reports_what_was_taken_and_refused(answer, tmp_path):
    folder = picture_folder(tmp_path / "pets")
    (folder / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing of the kind")
    found = answer("data", "import", folder, "--name", "pets", "--size", 16)

    assert (found["name"], found["classes"]) == ("pets", ["cat", "dog"])
    assert found["train"] + found["validation"] + found["test"] == 12
    assert [set(entry) for entry in found["refused"]] == [{"file", "reason"}]
    assert "broken.png" in found["refused"][0]["file"]
    shown = answer("data", "show", "pets")
    assert {k: v for k, v in found.items() if k in shown} == shown


def test_data_import_of_nothing_is_one_sentence_and_leaves_nothing(refusal, tmp_path):
    assert "nothing.zip" in refusal("data", "import", tmp_path / "nothing.zip", "--name", "x")
    assert catalog.names() == []


def test_data_list_and_delete(answer, tiny_dataset):
    assert [one["name"] for one in answer("data", "list")] == ["tiny"]
    assert answer("data", "delete", "tiny") == {"deleted": "tiny"}
    assert answer("data", "list") == []


def test_data_of_a_run_in_progress_stays(refusal, tiny_dataset):
    run = untrained_run()
    handle = run.lock()

    assert "stop it before you delete" in refusal("data", "delete", "tiny", "--yes")
    assert catalog.names() == ["tiny"]
    os.close(handle)


@pytest.mark.parametrize("name", ["gone", "../../etc", "", "UPPER", "a" * 300])
def test_unknown_data_is_one_sentence(refusal, name):
    assert refusal("data", "show", name)


def test_digits_are_there_without_a_network(answer):
    found = answer("data", "get", "digits")

    assert (found["train"] + found["test"], len(found["classes"])) == (1797, 10)


# --- train ---


def test_recipes_say_what_they_reach(answer):
    found = answer("recipes")

    assert [one["name"] for one in found] == list(recipes.RECIPES)
    assert all(one["model"] and one["expected"] for one in found)


def test_from_training_to_a_prediction(answer, tiny_dataset, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    trained = answer("train", *FAST, "--epochs", 2, "--seed", 3, "--set", "batch_size=16")
    shown = answer("runs", "show", "latest")
    judged = answer("evaluate", trained["run"][:20])
    told = answer("predict", "latest", tmp_path / "a.png", "--top", 2)

    keys = ["run", "state", "recipe", "dataset", "epochs", "val_accuracy", "seconds"]
    assert {key: trained[key] for key in keys} == {key: shown[key] for key in keys}
    assert (trained["state"], trained["dataset"], trained["epochs"]) == ("finished", "tiny", 2)
    assert (shown["settings"]["seed"], shown["settings"]["batch_size"]) == (3, 16)
    assert (judged["run"], judged["n"]) == (trained["run"], 30)
    assert judged["accuracy_low"] <= judged["accuracy"] <= judged["accuracy_high"]
    assert sum(map(sum, judged["confusion"])) == 30
    assert told["model"] == trained["run"]
    assert len(told["predictions"][0]["top"]) == 2


def test_a_time_budget_becomes_a_number_of_epochs_that_is_kept(answer, tiny_dataset, monkeypatch):
    monkeypatch.setattr(budget, "MEASURE_SECONDS", 0.2)

    trained = answer("train", *FAST, "--minutes", 0.1, "--set", "batch_size=16")

    settings = answer("runs", "show", "latest")["settings"]
    assert trained["state"] == "finished"
    assert 1 <= settings["epochs"] == trained["epochs"]
    assert settings["precision"] != "auto"


def test_a_time_budget_and_epochs_contradict(call, tiny_dataset):
    assert call("train", *FAST, "--minutes", 1, "--epochs", 2)[0] == 2


@pytest.mark.parametrize(
    "words",
    [("--processes", 2), ("--set", "processes=2"), ("--set", "processes=2", "ablate")],
    ids=str,
)
def test_a_time_budget_of_several_processes_is_refused(call, tiny_dataset, words):
    if words[-1] == "ablate":
        words = ("ablate", *FAST, "--vary", "peak_lr=0.1", "--minutes", 1, *words[:-1])
    else:
        words = ("train", *FAST, "--minutes", 1, *words)

    status, _, err = call(*words)

    assert status == 1
    assert "measured with one process, got processes 2" in err.splitlines()[-1]
    assert runs.all_runs() == []


def test_ctrl_c_stops_cleanly_and_resume_finishes(answer, tiny_dataset):
    process = start("train", *FAST, "--epochs", "300", "--set", "batch_size=1", "--json")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        known = runs.all_runs()
        if known and any(isinstance(event, Epoch) for event in known[0].events()):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    stopped = json.loads(out)
    assert (process.returncode, stopped["state"]) == (0, "stopped")
    assert "Stopping after this step" in err
    assert "Traceback" not in err
    assert stopped["epochs"] < 300

    assert answer("runs", "resume", "latest", "--detach")["run"] == stopped["run"]
    assert answer("runs", "stop", "latest")["state"] == "stopped"


@pytest.mark.parametrize(
    ("state", "says"), [("failed", "failed: disk full"), ("diverged", "diverged: disk full")]
)
def test_a_run_that_fails_gives_status_1_and_its_reason(tiny_dataset, capsys, state, says):
    ended_run(0, 0.5, state, "disk full")

    with pytest.raises(SystemExit) as end:
        cli.train.report(runs.all_runs(), several=False, json=True)

    captured = capsys.readouterr()
    assert end.value.code == 1
    assert json.loads(captured.out)["state"] == state
    assert captured.err.endswith(f"{says}\n")


def test_several_seeds_are_told_as_mean_and_deviation(tiny_dataset, capsys):
    for seed, accuracy in enumerate((0.5, 0.6, 0.7)):
        ended_run(seed, accuracy)
    cli.train.report(runs.all_runs(), several=True, json=True)
    found = json.loads(capsys.readouterr().out)

    assert (found["val_accuracy"], found["val_accuracy_sd"]) == pytest.approx((0.6, 0.1))
    assert (found["n"], found["seconds"], len(found["runs"])) == (3, 7.5, 3)


def test_seeds_are_a_study_that_goes_on_where_it_was_cut_short(answer, tiny_dataset):
    found = answer("train", *FAST, "--epochs", 1, "--seeds", 2)
    study = runs.all_runs()[0].config.study

    assert (found["n"], len({one["run"] for one in found["runs"]})) == (2, 2)
    assert {run.config.study for run in runs.all_runs()} == {study}
    more = answer("train", *FAST, "--epochs", 1, "--seeds", 3, "--set", f"study={study}")
    assert (more["n"], len(runs.all_runs())) == (3, 3)
    assert [one["run"] for one in more["runs"]][:2] == [one["run"] for one in found["runs"]]


def test_an_ablation_prints_each_arm_and_studies_shows_it_again(answer, call, tiny_dataset):
    words = ("--epochs", 1, "--vary", "peak_lr=0.01,0.5", "--seeds", 2)
    found = answer("ablate", *FAST, *words)

    assert [arm["value"] for arm in found["arms"]] == ["0.01", "0.5"]
    assert [arm["n"] for arm in found["arms"]] == [2, 2]
    assert (found["varied"], found["runs"], found["finished"]) == ("peak_lr", 4, 4)
    assert found["arms"][0]["verdict"] == "unchanged"
    assert answer("studies", "latest") == answer("studies", found["study"][:-2]) == found
    (listed,) = answer("studies")
    assert {k: v for k, v in found.items() if k != "arms"} == listed
    status, out, _ = call("studies", found["study"])
    assert status == 0
    assert "95 % interval" in out


def test_ctrl_c_leaves_a_study_that_the_command_it_names_takes_up(tiny_dataset):
    words = ("ablate", *FAST, "--epochs", "300", "--set", "batch_size=1")
    process = start(*words, "--vary", "flip=true", "--seeds", "1", "--json")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        known = runs.all_runs()
        if known and any(isinstance(event, Epoch) for event in known[0].events()):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    found = json.loads(out)
    assert (process.returncode, found["runs"]) == (0, 1)
    assert found["arms"][0]["unfinished"] == {"stopped": 1}
    (run,) = runs.all_runs()
    again = next(line for line in err.splitlines() if line.startswith("Go on with: "))
    assert f"--set study={run.config.study}" in again
    assert "--vary flip=true --seeds 1" in again
    plan = studies.ablation(run.config, "flip", [True], 1, NOW)
    assert studies.remaining(plan) == [(plan[0], run), (plan[1], None)]


def test_a_run_that_diverges_does_not_end_an_ablation(call, tiny_dataset, monkeypatch):
    def follow(run, got):
        state = "diverged" if run.config.peak_lr == 10 else "finished"
        run.append(Epoch(1, 10, 0.5, 0.8, 0.6, 0.9, 0.1, True, 2.5))
        run.append(Ended(0.0, state, 10, "The loss is no number."))

    monkeypatch.setattr(cli.train.watch, "start_and_follow", follow)
    words = ("--epochs", 1, "--vary", "peak_lr=10,0.02", "--seeds", 1)
    status, out, err = call("ablate", *FAST, *words, "--json")
    found = json.loads(out)

    unfinished = {arm["value"]: arm["unfinished"] for arm in found["arms"]}
    assert unfinished == {"0.01": {}, "10.0": {"diverged": 1}, "0.02": {}}
    assert (status, found["finished"]) == (1, 2)
    assert "1 of 3 runs failed or diverged" in err


def test_tensorboard_is_a_setting_that_has_a_flag(answer, tiny_dataset):
    answer("train", *FAST, "--epochs", 1, "--tensorboard")

    assert runs.all_runs()[0].config.tensorboard is True


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--vary", "peak_lr=fast"], "peak_lr must be a number, got 'fast'."),
        (["--vary", "peak_lr=0.01"], "peak_lr is 0.01 already: name at least one other value."),
        (["--vary", "seed=1,2"], "seed cannot be what an ablation varies"),
        (["--vary", "speed=1"], "No setting named 'speed'."),
        (["--vary", "optimizer=adam", "--set", "nesterov=true", "--set", "momentum=0.9"],
         "With optimizer adam: nesterov needs optimizer sgd"),
    ],
    ids=str,
)  # fmt: skip
def test_an_ablation_of_a_wrong_value_is_told_and_makes_no_run(refusal, tiny_dataset, words, says):
    assert refusal("ablate", *FAST, *words).startswith(says)
    assert runs.all_runs() == []


@pytest.mark.parametrize("name", ["gone", "latest", ""])
def test_an_unknown_study_is_one_sentence(refusal, tiny_dataset, name):
    assert refusal("studies", name).startswith("No study")


def test_without_a_data_set_train_says_what_is_on_disk(refusal, tiny_dataset):
    assert refusal("train") == "Say which data set to learn from: --dataset tiny"


def test_without_any_data_set_train_says_how_to_get_one(refusal):
    assert "data get digits" in refusal("train")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--epochs", "0"], "epochs must be 1 to 500, got 0."),
        (["--set", "peak_lr=fast"], "peak_lr must be a number, got 'fast'."),
        (["--set", "speed=9"], "No setting named 'speed'."),
        (["--set", "recipe=quick"], "Give recipe with --recipe"),
        (["--recipe", "none"], "No recipe named 'none'."),
        (["--dataset", "gone"], "No data set named 'gone' is on disk."),
        (["--set", "start_size=8"], "speed_net needs images of at least 9×9 pixels"),
        (["--recipe", "tutorial-resnet18", "--set", "model=inception_v3"],
         "inception_v3 with stem imagenet needs images of at least 75×75 pixels, these have 32×32"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_setting_is_told_and_makes_no_run(refusal, tiny_dataset, words, says):
    assert refusal("train", "--dataset", "tiny", *words).startswith(says)
    assert runs.all_runs() == []


# --- runs ---


def test_a_run_is_found_by_the_beginning_of_its_id(answer, refusal, tiny_dataset):
    first, second = ended_run(0, 0.5), ended_run(1, None)

    assert answer("runs", "show", first[:-2])["run"] == first
    assert answer("runs", "show", "latest")["run"] == second
    assert answer("runs", "show", second)["val_accuracy"] is None
    assert refusal("runs", "show", "2026").startswith("2 runs begin with '2026': ")


@pytest.mark.parametrize("name", ["latest", "", "gone", "../..", "*"])
def test_an_unknown_run_is_one_sentence(refusal, name):
    assert refusal("runs", "show", name)


def test_runs_list_tells_a_damaged_run_among_sound_ones(answer, tiny_dataset):
    broken, sound = ended_run(0, 0.5), ended_run(1, 0.6)
    (runs.root() / broken / "config.json").write_text("{")
    found = answer("runs", "list")

    assert [one["run"] for one in found] == [sound, broken]
    assert "damaged" in found[1]["error"]


def test_runs_delete_removes_the_run(answer, tiny_dataset):
    gone = ended_run(0, 0.5)

    assert answer("runs", "delete", gone) == {"deleted": gone}
    assert runs.all_runs() == []


def test_stopping_or_resuming_what_has_finished_is_refused(refusal, tiny_dataset):
    ended_run(0, 0.5)

    assert "is not training" in refusal("runs", "stop", "latest")
    assert "has finished" in refusal("runs", "resume", "latest")


def test_imported_weights_can_be_judged(answer, tiny_dataset, tmp_path):
    file = tmp_path / "net.pth"
    torch.save(models.build(TrainConfig(model="net"), 3, 32).state_dict(), file)
    found = answer("runs", "import", file, "--model", "net", "--dataset", "tiny")

    assert (found["state"], found["recipe"]) == ("finished", "imported")
    assert answer("evaluate", found["run"])["caution"].startswith("Nobody recorded")


def test_unfit_weights_are_one_sentence(refusal, tiny_dataset, tmp_path):
    (tmp_path / "net.pth").write_bytes(b"nothing")
    words = ("runs", "import", tmp_path / "net.pth", "--model", "net", "--dataset", "tiny")

    assert "net.pth is no PyTorch file" in refusal(*words)


# --- evaluate and predict ---


def test_evaluate_prints_figures_that_agree(answer, tiny_dataset):
    run = untrained_run()
    found = answer("evaluate", run.id, "--split", "validation")
    confusion = np.array(found["confusion"])

    assert (found["split"], found["dataset"], found["n"]) == ("validation", "tiny", 6)
    assert found["accuracy"] == confusion.trace() / 6
    assert [one["support"] for one in found["per_class"]] == confusion.sum(1).tolist()
    assert [one["class"] for one in found["per_class"]] == found["classes"]
    assert set(found["per_class"][0]) == {"class", "precision", "recall", "f1", "support"}
    assert "chosen by these images" in found["caution"]


def test_what_is_unknown_is_null_in_json(answer, tiny_dataset):
    found = answer("evaluate", untrained_run().id)
    never = [one for one, calls in zip(found["per_class"], zip(*found["confusion"], strict=True),
             strict=True) if sum(calls) == 0]  # fmt: skip

    assert all(one["precision"] is None for one in never)


def test_evaluate_as_text_says_interval_and_matrix(call, tiny_dataset):
    status, out, _ = call("evaluate", untrained_run().id)

    assert status == 0
    assert "95 % interval" in out
    assert "rows true, columns predicted" in out


def test_evaluate_tells_of_traits_and_of_seeds(answer, tiny_dataset):
    runs_of = [untrained_run(now=NOW + timedelta(minutes=seed), seed=seed) for seed in (0, 1)]
    for run in runs_of:
        run.append(Ended(time=0.0, state="finished", step=1, reason=""))
        found = answer("evaluate", run.id)

    assert {"brightness", "contrast"} <= {one["trait"] for one in found["traits"]}
    assert sum(group["images"] for group in found["traits"][0]["groups"]) == found["n"]
    assert found["seeds"]["runs"] == [run.id for run in runs_of]
    accuracy = found["seeds"]["figures"][0]
    assert accuracy["figure"] == "accuracy"
    assert accuracy["values"][1] == found["accuracy"]
    assert accuracy["mean"] == pytest.approx(sum(accuracy["values"]) / 2)


def test_evaluate_judges_by_another_data_set(answer, refusal, tiny_dataset):
    run = untrained_run()
    images, labels = catalog.arrays("tiny", "test")
    with catalog.publishing("other") as draft:
        splits = {"train": (images, labels), "test": (images[:4], labels[:4])}
        catalog.write(
            draft, name="other", classes=catalog.load("tiny").classes, splits=splits, resized="",
            source="",
        )  # fmt: skip

    found = answer("evaluate", run.id, "--split", "other/test")

    assert (found["dataset"], found["n"]) == ("other", 4)
    assert "learned from tiny" in found["caution"]
    assert "No data set named 'none'" in refusal("evaluate", run.id, "--split", "none/test")


def test_evaluate_tells_calibration_before_and_after_a_temperature_from_validation(
    answer, tiny_dataset
):
    found = answer("evaluate", untrained_run().id)["calibration"]

    assert 0 <= found["ece"] <= found["mce"] <= 1
    assert found["temperature"] > 0
    assert set(found["scaled"]) == {"ece", "mce", "brier", "loss"}


@pytest.mark.parametrize(
    ("split", "train_on"), [("validation", "train"), ("test", "train+validation")]
)
def test_no_temperature_is_fitted_where_that_would_not_be_honest(
    answer, tiny_dataset, split, train_on
):
    run = untrained_run(train_on=train_on)
    found = answer("evaluate", run.id, "--split", split)["calibration"]

    assert (found["temperature"], found["scaled"]) == (None, None)


def test_compare_counts_what_only_one_run_calls_right(answer, tiny_dataset):
    a = untrained_run()
    b = untrained_run(now=LATER)
    save_model(b, seed=1)

    found = answer("compare", a.id, b.id, "--split", "train")

    (pair,) = found["pairs"]
    accuracies = {one["run"]: one["accuracy"] for one in found["runs"]}
    assert (pair["a"], pair["b"]) == (a.id, b.id)
    assert pair["difference"] == pytest.approx(accuracies[b.id] - accuracies[a.id])
    assert pair["only_b"] - pair["only_a"] == pytest.approx(pair["difference"] * found["n"])
    assert pair["low"] <= pair["difference"] <= pair["high"]
    assert pair["real"] == (pair["p_holm"] < 0.05)


def test_compare_as_text_gives_a_verdict(call, tiny_dataset):
    status, out, _ = call("compare", untrained_run().id, untrained_run(now=LATER).id)

    assert status == 0
    assert "within noise" in out


def test_comparing_a_run_with_itself_is_refused(refusal, tiny_dataset):
    run = untrained_run()

    assert "2 to 12 different runs" in refusal("compare", run.id, run.id)


def test_comparing_runs_that_split_differently_is_refused(refusal, tiny_dataset):
    a, b = untrained_run(), untrained_run(now=LATER, split_seed=7)

    assert "different validation images of tiny" in refusal("compare", a.id, b.id)


@pytest.mark.parametrize("split", ["nonsense", "train+validation"])
def test_an_unknown_split_is_one_sentence(refusal, tiny_dataset, split):
    assert refusal("evaluate", untrained_run().id, "--split", split).startswith("No split named")


def test_predict_takes_folders_and_tells_bad_files_apart(answer, tiny_dataset, tmp_path):
    run = untrained_run()
    folder = picture_folder(tmp_path / "in", each=1)
    (folder / "notes.txt").write_text("no picture at all, as one can see")
    (folder / ".hidden.png").write_bytes(png())
    found = answer("predict", run.id, folder, tmp_path / "gone.png")["predictions"]

    assert [Path(one["file"]).name for one in found] == ["notes.txt", "0.png", "0.png", "gone.png"]
    assert ["error" in one for one in found] == [True, False, False, True]
    assert "no such file" in found[3]["error"]
    assert all("seen" not in one for one in found)


def test_predict_keeps_the_order_over_many_blocks(answer, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(cli.use, "BLOCK", 2)
    files = [tmp_path / f"{i}.png" for i in range(5)]
    for i, file in enumerate(files):
        file.write_bytes(png(i) if i != 2 else b"")
    found = answer("predict", untrained_run().id, *files)["predictions"]

    assert [one["file"] for one in found] == [str(file) for file in files]


def test_where_no_file_could_be_used_the_status_is_1(call, tiny_dataset, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    status, out, err = call("predict", untrained_run().id, tmp_path / "a.png", "--json")

    assert status == 1
    assert json.loads(out)["predictions"][0]["error"] == err.strip()


def test_a_pipe_is_never_waited_for(answer, tiny_dataset, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "a.png").write_bytes(png())
    found = answer("predict", untrained_run().id, tmp_path)["predictions"]

    assert "no regular file" in found[1]["error"]


def test_predict_writes_a_table(answer, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("=a.png").write_bytes(png())
    answer("predict", untrained_run().id, "=a.png", "--csv", "out.csv", "--top", 1)
    with open("out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    assert rows[0]["file"] == "'=a.png"
    assert rows[0]["class"] in catalog.load("tiny").classes


def test_a_table_in_the_folder_of_its_pictures_does_not_list_itself(call, tiny_dataset, tmp_path):
    run, folder = untrained_run(), tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    table = folder / "out.csv"
    for _ in range(2):  # the second time the table is there
        assert call("predict", run.id, folder, "--csv", table)[0] == 0
        with open(table, newline="", encoding="utf-8") as file:
            assert [Path(row["file"]).name for row in csv.DictReader(file)] == ["a.png"]


def test_predict_says_where_a_picture_is_like_nothing_it_knows(call, home):
    folder = runs.ASSETS / "examples"
    _, out, _ = call("predict", "shipped", folder / "cat.jpg", folder / "galaxies.jpg")

    cat, galaxies = out.splitlines()
    assert "cat.jpg: cat " in cat
    assert "galaxies.jpg: unlike anything it knows; " in galaxies


@pytest.mark.parametrize("coverage", ["0.5", "nan"])
def test_a_coverage_that_there_is_none_of_is_wrong_use(call, home, coverage):
    status, _, err = call("predict", "shipped", "a.png", "--coverage", coverage)

    assert status == 2
    assert "coverage must be one of" in err


def test_a_folder_that_does_not_exist_for_the_table_is_told_first(refusal, tiny_dataset, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    table = tmp_path / "nowhere" / "out.csv"

    said = refusal("predict", untrained_run().id, tmp_path / "a.png", "--csv", table)

    assert "There is no folder" in said


def test_names_cannot_command_the_terminal(call, tiny_dataset, tmp_path):
    (tmp_path / "\x1b[31mred.png").write_bytes(png())
    _, out, err = call("predict", untrained_run().id, tmp_path)

    assert "\x1b" not in out + err
