import collections
import dataclasses
import time

import pytest
import torch
from torch import nn

from imgcls import budget, config, doctor, events, models, sitting, train
from imgcls.config import TrainConfig
from imgcls.doctor import Clock
from imgcls.events import Profile, Resumed, Started

CPU = torch.device("cpu")
STARTED = Started(
    time=0.0, device="CPU, 2 cores", precision="fp32", threads=2, parameters=1, steps_per_epoch=10,
    train_images=1000, validation_images=0, versions={}, flops=2e6, peak_flops=1e9,
    flops_by_side={"16": 5e5, "32": 2e6},
)  # fmt: skip


@pytest.fixture
def now(monkeypatch):
    """A clock that stands still until it is told to go on."""
    passed = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: passed[0])

    def pass_by(seconds: float) -> None:
        passed[0] += seconds

    return pass_by


def test_parts_add_up_to_the_time_from_the_first_step_to_the_last_mark(now):
    clock = Clock(CPU)
    now(50)  # before the first step: not of the run
    for _ in range(3):
        clock.begin()
        for part, seconds in (("data", 1), ("forward", 2), ("backward", 4), ("optimizer", 8)):
            now(seconds)
            clock.mark(part)
        now(16)  # until the next step
    clock.mark("idle")
    now(32)
    clock.mark("evaluation")

    told = clock.take()

    assert told == {
        "data": 3, "forward": 6, "backward": 12, "optimizer": 24, "evaluation": 32, "idle": 48
    }  # fmt: skip
    assert sum(told.values()) == 3 * 31 + 32


def test_what_was_taken_is_not_told_again_and_nothing_falls_between(now):
    clock = Clock(CPU)
    clock.begin()
    now(1)
    clock.mark("forward")
    first = clock.take()
    now(5)
    clock.begin()
    now(2)
    clock.mark("forward")

    assert first["forward"] == 1
    assert clock.take() == {**dict.fromkeys(doctor.PARTS, 0.0), "forward": 2, "idle": 5}
    assert not any(clock.take().values())


def test_micro_batches_add_up(now):
    clock = Clock(CPU)
    clock.begin()
    for _ in range(4):
        now(1)
        clock.mark("forward")
        now(2)
        clock.mark("backward")

    assert clock.take()["backward"] == 8


class Stamp:
    """Stands for a torch.cuda.Event: tells the time at which it was recorded."""

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = time.perf_counter()

    def elapsed_time(self, later):
        return 1000 * (later.at - self.at)


def step_on_cuda(clock, now, seconds=(1, 2, 4, 8)):
    clock.begin()
    for part, passed in zip(("data", "forward", "backward", "optimizer"), seconds, strict=True):
        now(passed)
        clock.mark(part)


def test_on_cuda_some_steps_stand_for_all_and_the_rest_is_idle(now, monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Stamp)
    clock = Clock(torch.device("cuda"))
    for _ in range(2 * doctor.EVERY):
        step_on_cuda(clock, now)
    now(5)
    clock.mark("idle")
    now(7)
    clock.mark("evaluation")
    stamps = len(clock._stamps)

    told = clock.take()

    assert stamps == 2 * 5
    assert told == pytest.approx(
        {"data": 14, "forward": 28, "backward": 56, "optimizer": 112, "evaluation": 7, "idle": 5}
    )
    step_on_cuda(clock, now)
    assert clock.take()["forward"] == 2


@pytest.mark.parametrize("several", [2, 4, 8, 16])
def test_on_cuda_what_is_prepared_in_every_few_steps_is_timed_as_often_as_it_happens(
    now, monkeypatch, several
):
    monkeypatch.setattr(torch.cuda, "Event", Stamp)
    clock = Clock(torch.device("cuda"))
    for step in range(doctor.EVERY * several * 4):
        step_on_cuda(clock, now, (0 if step % several else several, 2, 4, 8))

    told = clock.take()

    assert told["data"] / told["forward"] == pytest.approx(1 / 2)


def test_on_cuda_a_slow_first_step_stands_for_no_more_than_has_passed(now, monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Stamp)
    clock = Clock(torch.device("cuda"))
    step_on_cuda(clock, now, (100, 200, 400, 800))
    for _ in range(7):
        step_on_cuda(clock, now)

    assert sum(clock.take().values()) == pytest.approx(1500 + 7 * 15)


def test_a_device_without_such_events_tells_nothing():
    clock = Clock(torch.device("mps"))
    clock.begin()
    clock.mark("forward")

    assert clock.take() == {}


@pytest.mark.parametrize("eval_every", [1, 2])
def test_a_run_tells_of_nearly_all_its_time(tiny_dataset, eval_every):
    settings = TrainConfig(
        dataset=tiny_dataset, model="simple_cnn", epochs=2, batch_size=9, eval_every=eval_every
    )
    begun = sitting.begin(settings, format=("fp32", 1))
    begin = time.perf_counter()

    seen = list(train.fit(begun.state, begun.train, begun.validation))

    wall = time.perf_counter() - begin
    told = [e for e in seen if isinstance(e, Profile)]
    parts = {part: sum(e.seconds[part] for e in told) for part in doctor.PARTS}
    assert all(parts[part] > 0 for part in doctor.PARTS)
    assert 0.8 * wall < sum(parts.values()) <= wall
    assert sum(e.images for e in told) == 2 * len(begun.train)
    assert [e.step for e in told] == sorted(e.step for e in told)


def test_a_profile_comes_back_from_its_line():
    profile = Profile(step=7, images=56, seconds={"data": 0.25, "idle": 0.5})

    assert events.from_line(events.to_line(profile)) == profile


def test_what_a_resumed_run_repeats_is_counted_once():
    told = [Profile(step, 10, {"forward": 1.0}) for step in (5, 10, 15)]

    kept = events.effective([*told, Resumed(step=10, epochs=0, note=""), told[2]])

    assert [e.step for e in kept if isinstance(e, Profile)] == [5, 10, 15]


class Small(nn.Module):
    """One convolution and one linear layer, whose FLOPs a hand can count."""

    def __init__(self, frozen=False):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.linear = nn.Linear(5 * 64, 7)
        for layer in (self.convolution, self.second, self.norm):
            layer.requires_grad_(not frozen)

    def forward(self, images):
        return self.linear(self.norm(self.second(self.convolution(images)).relu()).flatten(1))


FIRST, SECOND, LINEAR = 2 * 64 * 27 * 4, 2 * 64 * 36 * 5, 2 * 320 * 7  # multiply and add


def test_flops_are_those_that_a_hand_counts():
    # Forward; a gradient for each weight; and one for each input but the image itself.
    assert doctor.flops(Small(), 8) == 2 * FIRST + 3 * SECOND + 3 * LINEAR


def test_what_is_frozen_has_no_backward_pass():
    assert doctor.flops(Small(frozen=True), 8) == FIRST + SECOND + 2 * LINEAR


def test_counting_leaves_the_network_as_it_is():
    model = models.build(TrainConfig(model="cnn"), 10, 32).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    doctor.flops(model, 32)

    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", config.MODELS)
def test_flops_of_every_model_are_counted(name):
    stem = "imagenet" if name in ("inception_v3", "vit_b_16") else "small"
    size = {"inception_v3": 299, "vit_b_16": 32}.get(name, 0)
    settings = TrainConfig(model=name, stem=stem, input_size=size)
    with torch.device("meta"):
        model = models.build(settings, 10, 32)
    weights = sum(p.numel() for n, p in model.named_parameters() if p.ndim > 1)

    # Each weight of a matrix or convolution is used once at least, forward and backward.
    assert doctor.flops(model, 32) >= 4 * 0.5 * weights


def test_the_rate_leaves_validation_out():
    profiles = [
        Profile(10, 100, {"forward": 1.0, "idle": 1.0}, {"32": 100}),
        Profile(10, 0, {"evaluation": 5.0}),
    ]

    assert doctor.flop_rate(profiles, STARTED) == 2e6 * 100 / 2


def test_the_rate_counts_each_image_at_its_size():
    profiles = [
        Profile(50, 500, {"forward": 1.0}, {"16": 500}),
        Profile(60, 100, {"forward": 1.0}, {"16": 40, "32": 60}),
    ]

    assert doctor.flop_rate(profiles[:1], STARTED) == 5e5 * 500
    assert doctor.flop_rate(profiles, STARTED) == (5e5 * 540 + 2e6 * 60) / 2


def test_without_sizes_no_rate_is_told():
    older = dataclasses.replace(STARTED, flops_by_side={})

    assert doctor.flop_rate([Profile(50, 500, {"forward": 1.0}, {"32": 500})], older) is None
    assert doctor.flop_rate([Profile(50, 500, {"forward": 1.0})], STARTED) is None


def test_growing_images_are_counted_by_side(tiny_dataset):
    settings = TrainConfig(
        dataset=tiny_dataset, model="speed_net", epochs=2, batch_size=3, start_size=24,
        full_size_from=0.7, optimizer="muon", peak_lr=0.1,
    )  # fmt: skip
    begun = sitting.begin(settings, format=("fp32", 1))

    told = [e for e in train.fit(begun.state, begun.train, None) if isinstance(e, Profile)]

    sides = collections.Counter()
    for profile in told:
        sides.update(profile.sides)
    wanted = budget.shares_of_sides(settings, begun.train.side)
    assert {int(side) for side in sides} == set(wanted)
    assert sides.total() == 2 * len(begun.train) == sum(e.images for e in told)


SPENT = {"data": 3, "forward": 36, "backward": 59, "optimizer": 2}
ADVICE = {
    "validation": (
        {**SPENT, "evaluation": 40}, {"epochs": 50}, 0.3, "Validation takes 29 %", {"eval_every": 4}
    ),
    "validation of a short run": (
        {**SPENT, "evaluation": 40}, {"epochs": 4}, 0.3, "too short to validate less", {}
    ),
    "validation that patience counts": (
        {**SPENT, "evaluation": 40}, {"epochs": 50, "early_stopping": 3}, 0.3, "patience", {}
    ),
    "idle": ({**SPENT, "idle": 25}, {}, 0.3, "20 % of the time passes between steps", {}),
    "batch of four": (
        {"data": 17, "forward": 37, "backward": 34, "optimizer": 10, "idle": 2},
        {"batch_size": 4, "rotation": 5.0}, 0.004, "0.4 % of the matrix product: try 32",
        {"batch_size": 32, "peak_lr": 0.8},
    ),
    "batch of four in a larger network": (
        SPENT, {"batch_size": 4}, 0.09, "9.0 % of the matrix product: try 32",
        {"batch_size": 32, "peak_lr": 0.8},
    ),
    "batch of sixty-four at work": (SPENT, {"batch_size": 64}, 0.09, "Forward and backward", {}),
    "batch of sixty-four at rest": (
        SPENT, {"batch_size": 64}, 0.04, "a learning rate of 0.2",
        {"batch_size": 128, "peak_lr": 0.2},
    ),
    "batch of sixty-four with Adam": (
        SPENT, {"batch_size": 64, "optimizer": "adam", "peak_lr": 0.001}, 0.04, "rate of 0.0014",
        {"batch_size": 128, "peak_lr": 0.0014},
    ),
    "rotation": (
        {**SPENT, "data": 30}, {"rotation": 15.0, "crop_pad": 4}, 0.1, "rotation costs most",
        {"rotation": 0.0},
    ),
    "shifts": (
        {**SPENT, "data": 30}, {"crop_pad": 4, "flip": True}, 0.1, "crop_pad costs most",
        {"crop_pad": 0},
    ),
    "data without augmentation": ({**SPENT, "data": 30}, {}, 0.1, "the network is so small", {}),
    "optimizer": (
        {**SPENT, "optimizer": 30}, {"optimizer": "muon", "batch_size": 256}, 0.1,
        "look for the learning rate anew", {"batch_size": 512},
    ),
    "threads": ({**SPENT}, {"threads": 2}, 0.01, "fixed at 2", {"threads": 0}),
    "number format": ({**SPENT}, {"precision": "fp32"}, 0.3, "auto", {"precision": "auto"}),
    "near the machine's limit": ({**SPENT}, {}, 0.6, "near what this machine can do", {}),
    "bound by memory": ({**SPENT}, {}, 0.1, "at 10 % of the matrix product", {}),
    "no rate": ({**SPENT}, {"batch_size": 4}, None, "nothing else stands out", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ADVICE)
def test_advice_follows_from_where_the_time_goes(name):
    seconds, changed, rate, text, change = ADVICE[name]
    settings = TrainConfig(**changed)

    advice = doctor.advise(seconds, settings, on_cpu=True, images=45000, rate=rate)

    assert text in advice.text.replace("\u00a0", " ")
    assert advice.change == change
    settings.replace(**advice.change)  # is a config that can be trained
    assert advice.text.count(". ") == 0
    assert advice.text.endswith(".")


def test_a_batch_that_pays_on_a_gpu_may_not_on_a_cpu():
    def told(on_cpu, images):
        return doctor.advise(SPENT, TrainConfig(), on_cpu=on_cpu, images=images, rate=0.01).change

    assert told(on_cpu=True, images=45000) == {}
    assert told(on_cpu=False, images=45000)["batch_size"] == 512
    assert told(on_cpu=False, images=54) == {}
