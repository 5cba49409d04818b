"""The parts of the bench: what it writes down, and the opponents that it races against."""

import itertools
import json
import math
import os

import numpy as np
import pytest
import torch

import benchmarks.__main__ as bench
from benchmarks import Row, anchor, in_turn, own_home, plain, scale, time_to_accuracy
from benchmarks import machine as this_machine
from imgcls import recipes
from imgcls.data import catalog
from imgcls.errors import DataError, RunError

FACTS = {
    "date": "2026-01-02T03:04:05+00:00",
    "cpu": "a processor",
    "cores": 2,
    "hardware_threads": 4,
    "torch_threads": 2,
    "memory_gib": 8,
    "gpu": None,
    "system": "Linux",
    "python": "3.11",
    "versions": {"torch": "2.11"},
    "load": 0.5,
    "teraflops": {"fp32": 0.3, "bf16": 1.7},
}


def test_a_ratio_is_the_middle_of_the_pairs_and_not_of_the_medians():
    slow = Row("slow", (1.0, 10.0, 100.0), "images/s")

    row = Row("fast", (3.0, 20.0, 100.0), "images/s", slow)

    assert row.ratios == (3.0, 2.0, 1.0)
    assert row.ratio == 2.0


def test_values_without_a_partner_are_refused():
    with pytest.raises(ValueError, match="do not go in pairs"):
        Row("fast", (1.0, 2.0), "s", Row("slow", (1.0,), "s"))


def test_a_pair_of_which_neither_reached_its_goal_has_no_ratio():
    slow = Row("slow", (math.inf, math.inf, 30.0), "s")

    assert Row("fast", (math.inf, 20.0, 10.0), "s", slow).ratios == (0.0, 1 / 3)


def test_each_thing_is_first_in_one_round():
    assert list(in_turn(3, 2)) == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (1, 0)]


def test_a_home_of_its_own_holds_the_data_sets_named_and_goes_with_the_block(tiny_dataset, home):
    with own_home("tiny") as own:
        assert os.environ["IMGCLS_HOME"] == str(own) != str(home)
        assert catalog.names() == ["tiny"]

    assert os.environ["IMGCLS_HOME"] == str(home)
    assert not own.exists()
    assert catalog.names() == ["tiny"]


def test_a_home_of_its_own_needs_the_data_set(home):
    with pytest.raises(DataError, match="No data set named 'absent'"), own_home("absent"):
        pass


def test_what_was_measured_can_be_shown_again(tmp_path):
    file = tmp_path / "bench.jsonl"
    slow = Row("slow", (2.0, math.inf), "s", note="why")
    bench.keep(file, FACTS, slow)
    bench.keep(file, FACTS, Row("fast", (1.0, 3.0), "s", slow))
    with open(file, "a") as lines:
        lines.write('{"time": 1, "mach')  # interrupted

    facts, rows = bench.recorded(file)

    assert facts == FACTS
    assert rows == [slow, Row("fast", (1.0, 3.0), "s", slow)]
    for line in file.read_text().splitlines()[:2]:
        json.loads(line, parse_constant=pytest.fail)  # strict JSON: no Infinity


def test_races_of_several_calls_are_put_together(tmp_path):
    file = tmp_path / "bench.jsonl"
    for seed, seconds in ((1, 300.0), (0, 200.0)):
        bench.keep(file, FACTS, race("speed", seed, seconds))
        bench.keep(file, FACTS, race("anchor", seed, 600.0))

    _, rows = bench.recorded(file)

    to_85 = next(r for r in rows if r.what.startswith("speed against") and "85%" in r.what)
    assert to_85.values == (200.0, 300.0)
    assert to_85.ratios == (200 / 600, 300 / 600)
    whole = next(r for r in rows if r.what == "speed against port of the anchor: all its training")
    assert whole.ratios == (200 / 600, 300 / 600)


def test_a_goal_not_reached_says_how_far_it_came():
    rows = list(time_to_accuracy.summary([race("speed", 0, 200.0), race("anchor", 0, 600.0)]))

    to_90 = next(r for r in rows if r.what.startswith("speed against") and "90%" in r.what)
    assert to_90.values == (math.inf,)
    assert to_90.note == "seed 0 not reached; best 86.0% after 200 s"
    assert bench.cells(to_90)[1] == "not reached"


def test_a_goal_that_the_other_did_not_reach_has_no_ratio():
    other = Row("slow", (math.inf,), "s")

    cells = bench.cells(Row("fast", (157.0,), "s", other))

    assert cells[1] == "157 s"
    assert cells[5] == "–"


def test_a_contestant_has_a_process_of_its_own(tiny_dataset):
    one = time_to_accuracy.Apart("speed-fast", "tiny", 0)
    try:
        while not one.done:
            one.train(60)
    finally:
        one.close()

    assert one.seen == one.images > 0
    assert [e["images"] for e in one.epochs] == [one.images * i // 3 for i in (1, 2, 3)]
    assert one.epochs[-1]["accuracy"].keys() == set(anchor.VIEWS)
    assert one.process.returncode == 0


def test_a_contestant_that_fails_ends_the_race(home):
    with pytest.raises(RunError, match="Contestant speed ended with status 1"):
        list(
            time_to_accuracy.run(
                "anchor",
                "absent",
                0,
                seconds=0.0,
                start=lambda _, *rest: time_to_accuracy.Apart("speed", *rest),
            )
        )


def test_a_seed_that_one_of_a_pair_did_not_finish_counts_for_neither():
    assert not list(time_to_accuracy.summary([race("speed", 0, 200.0)]))


def race(name, seed, seconds):
    return {
        "kind": "race",
        "race": "anchor",
        "seed": seed,
        "name": name,
        "seconds": seconds,
        "epochs": [
            {"seconds": seconds / 2, "accuracy": {"one view": 0.5}},
            {"seconds": seconds, "accuracy": {"one view": 0.86}},
        ],
    }


def test_options_go_to_the_modules_that_take_them(tmp_path, monkeypatch, capsys):
    from benchmarks import startup

    monkeypatch.setattr(startup, "COMMANDS", {"nothing": ("-c", "pass")})
    monkeypatch.setattr(this_machine, "facts", lambda: FACTS)
    file = tmp_path / "bench.jsonl"

    status = bench.main(["startup", "--repeats", "2", "--seed", "9", "--json", str(file)])

    assert status == 0
    line = json.loads(file.read_text())
    assert len(line["row"]["values"]) == 2
    assert line["machine"] == FACTS
    assert "a processor, 2 cores" in " ".join(capsys.readouterr().out.split())


def test_a_module_that_cannot_measure_says_why(home, monkeypatch, capsys):
    monkeypatch.setattr(this_machine, "facts", lambda: FACTS)

    assert bench.main(["pipeline", "--dataset", "absent"]) == 1
    assert "No data set named 'absent'" in capsys.readouterr().err


def test_a_matrix_product_has_a_rate():
    assert this_machine.matrix_product("fp32", sides=(256,)) > 0


def test_a_machine_without_the_app_is_described_all_the_same(monkeypatch):
    monkeypatch.setattr(this_machine, "PACKAGES", ("numpy", "no-such-package"))
    monkeypatch.setattr(this_machine, "matrix_product", lambda format: 1.0)

    assert set(this_machine.facts()["versions"]) == {"imgcls", "numpy"}


def test_filters_whiten_the_patches_of_images():
    images = torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    layer = torch.nn.Conv2d(3, 24, 2, bias=False)

    anchor.whiten(layer, images, epsilon=0.0)

    seen = layer(images).detach().transpose(0, 1).flatten(1).double()
    moments = seen @ seen.T / seen.shape[1]
    torch.testing.assert_close(moments[:12, :12], torch.eye(12).double(), atol=1e-3, rtol=0)
    assert torch.equal(layer.weight[:12], -layer.weight[12:])


@pytest.mark.parametrize("shape", [(32, 90), (90, 32)])
def test_a_step_of_muon_has_singular_values_about_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    for dtype in (torch.bfloat16, torch.float32):
        values = torch.linalg.svdvals(anchor.orthogonalised(matrix, dtype=dtype).float())

        assert 0.4 < values.min() <= values.max() < 1.4


def test_the_port_computes_in_what_is_quicker(monkeypatch):
    ticks = iter(itertools.accumulate([0, 3, 0, 1] * 3))  # a pass in bf16 takes 3, in fp32 1
    monkeypatch.setattr(anchor.time, "perf_counter", lambda: float(next(ticks)))

    assert anchor.quickest(anchor.AnchorNet(3), torch.rand(2, 3, 32, 32)) == torch.float32


def test_shifted_images_are_cuts_of_the_padded_ones():
    padded = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)

    cut = anchor.shifted(padded, torch.Generator().manual_seed(0))

    for image, whole in zip(cut, padded, strict=True):
        cuts = [whole[:, y : y + 4, x : x + 4] for y in range(5) for x in range(5)]
        assert sum(torch.equal(image, c) for c in cuts) == 1


def test_six_views_weigh_the_unmoved_image_a_half():
    images = torch.zeros(1, 3, 4, 4)
    answers = iter([torch.tensor([[float(2**i)]]) for i in range(6)])

    one, mean = anchor.six_views(lambda _: next(answers), images)

    assert one.item() == 1
    assert mean.item() == (1 + 2) / 4 + (4 + 8 + 16 + 32) / 8


def test_the_port_of_the_anchor_learns(monkeypatch):
    monkeypatch.setattr(anchor, "BATCH", 20)
    monkeypatch.setattr(anchor, "WIDTHS", (16, 16, 16))
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    images = torch.randn(120, 3, 32, 32, generator=draw)
    images[torch.arange(120), labels] += 1.0  # a class a channel
    model = anchor.build(images, seed=0, classes=3)

    steps = list(anchor.train(model, images, labels, seed=0, epochs=3))

    assert steps == [(20, False)] * 5 + [(20, True)] + ([(20, False)] * 5 + [(20, True)]) * 2
    found = anchor.accuracies(lambda x: model.eval()(x), images, labels)
    assert found.keys() == set(anchor.VIEWS)
    assert min(found.values()) > 0.9


def test_the_port_is_the_same_whatever_else_draws_random_numbers(monkeypatch):
    monkeypatch.setattr(anchor, "BATCH", 10)
    monkeypatch.setattr(anchor, "WIDTHS", (8, 8, 8))
    images, labels = torch.randn(20, 3, 32, 32), torch.arange(20) % 2

    def trained(other):
        torch.manual_seed(other)
        model = anchor.build(images, seed=0, classes=2)
        for _ in anchor.train(model, images, labels, seed=0, epochs=1):
            torch.manual_seed(other)  # as our own loop does at each step
        return model.state_dict()

    torch.testing.assert_close(trained(1), trained(2), rtol=0, atol=0)


def test_the_plain_loop_transforms_as_our_data_path_does(tiny_dataset):
    from imgcls.data import tensors

    settings = recipes.config_for("tutorial-net", "tiny")
    images, _ = catalog.arrays("tiny", "train")
    ours = tensors.normalize(torch.from_numpy(images[:4]), *tensors.statistics(settings))
    to_tensor = plain.transform(settings, 32)

    theirs = torch.stack([to_tensor(picture) for picture in plain.pictures(images[:4])])

    torch.testing.assert_close(theirs, ours.contiguous())


def test_a_contestant_is_judged_at_each_epochs_end_while_its_clock_stands():
    one = time_to_accuracy.Contestant(
        "one",
        iter([(10, False), (10, True), (10, True)]),
        lambda: {"one view": 0.5},
        images=30,
        threads=torch.get_num_threads(),
        format="",
        set_up=0.0,
    )

    while not one.done:
        one.train(60)

    assert [e["images"] for e in one.epochs] == [20, 30]
    assert one.epochs[0]["seconds"] <= one.epochs[1]["seconds"] <= one.seconds < 1


def test_whoever_is_less_far_goes_next_and_both_are_recorded(monkeypatch):
    turns = []

    def start(name, dataset, seed):
        steps = {"speed": 2, "anchor": 4}[name]

        def train():
            for i in range(steps):
                turns.append(name)
                yield 1, i == steps - 1

        return time_to_accuracy.Contestant(
            name, train(), lambda: {"one view": 1.0}, steps, torch.get_num_threads(), "", 0.0
        )

    monkeypatch.setitem(time_to_accuracy.RACES, "anchor", ("speed", "anchor"))

    records = list(time_to_accuracy.run("anchor", "tiny", 0, seconds=0.0, start=start))

    assert turns == ["speed", "anchor", "anchor", "speed", "anchor", "anchor"]
    assert {r["name"] for r in records} == {"speed", "anchor"}
    assert json.loads(json.dumps(records)) == records


def test_a_larger_data_set_repeats_the_images(tiny_dataset):
    scale.tile("tiny", "larger", 150)

    images, labels = catalog.arrays("tiny", "train")
    more, more_labels = catalog.arrays("larger", "train")
    assert len(more) == len(more_labels) == 150
    np.testing.assert_array_equal(more[60:120], images)
    np.testing.assert_array_equal(more_labels[120:], labels[:30])
