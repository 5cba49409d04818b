import copy
import itertools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from imgcls import config, machine, models, optim, recipes, train
from imgcls.config import TrainConfig
from imgcls.data import tensors
from imgcls.data.tensors import Split
from imgcls.events import Epoch, Profile, Step

CPU = torch.device("cpu")
HALF = ((0.5,) * 3, (0.5,) * 3)
EVERYTHING = {
    "model": "simple_cnn",
    "flip": True,
    "crop_pad": 2,
    "rotation": 10.0,
    "color_jitter": 0.2,
    "noise": 0.02,
    "cutout": 8,
    "batch_size": 8,
    "precision": "fp32",
}


def start(settings, images, precision="fp32"):
    torch.manual_seed(settings.seed)
    model = models.build(settings, 3, 32).to(memory_format=torch.channels_last)
    return train.State(model, settings, precision, *HALF)


def weights(state):
    return torch.cat([value.flatten().double() for value in state.model.state_dict().values()])


@pytest.fixture
def data():
    """Three classes that differ in colour: 60 images to learn from, 30 to validate on."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    images = torch.randint(0, 120, (90, 32, 32, 3), dtype=torch.uint8, generator=draw)
    images[torch.arange(90), :, :, labels] += 100
    return Split(images[:60], labels[:60]), Split(images[60:], labels[60:])


@pytest.mark.parametrize("optimizer", config.OPTIMIZERS)
def test_every_optimizer_learns_to_tell_colours(data, optimizer):
    lr = {"sgd": 0.02, "adam": 0.002, "adamw": 0.002, "rmsprop": 0.001, "muon": 0.05}[optimizer]
    settings = TrainConfig(model="net", optimizer=optimizer, peak_lr=lr, epochs=6, batch_size=8)

    told = [e for e in train.fit(start(settings, data), *data) if isinstance(e, Epoch)]

    assert told[-1].val_accuracy == 1.0
    assert told[-1].train_loss < told[0].train_loss


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_an_equal_seed_gives_equal_weights(data, precision):
    settings = TrainConfig(**EVERYTHING, epochs=2, peak_lr=0.01)
    ends = []
    for _ in range(2):
        state = start(settings, data, precision)
        list(train.fit(state, *data))
        ends.append(weights(state))

    assert torch.equal(*ends)


def test_another_seed_gives_other_weights(data):
    ends = []
    for seed in (0, 1):
        state = start(TrainConfig(**EVERYTHING, epochs=1, seed=seed, peak_lr=0.01), data)
        list(train.fit(state, *data))
        ends.append(weights(state))

    assert not torch.equal(*ends)


@pytest.mark.parametrize("optimizer", config.OPTIMIZERS)
def test_a_state_saved_at_any_event_goes_on_exactly(data, optimizer, monkeypatch, tmp_path):
    monkeypatch.setattr(train, "REPORT_SECONDS", 0.0)  # an event each step
    settings = TrainConfig(
        **EVERYTHING, epochs=3, optimizer=optimizer, schedule="plateau", patience=0, peak_lr=0.003
    )
    state, told = start(settings, data), []
    for number, event in enumerate(train.fit(state, *data)):
        torch.save(state.state_dict(), tmp_path / f"{number}.pt")
        told.append(event)
    epochs = [(e.train_loss, e.val_loss, e.best) for e in told if isinstance(e, Epoch)]

    for number in range(0, len(told), 5):
        again = start(settings, data)
        again.load_state_dict(torch.load(tmp_path / f"{number}.pt", weights_only=True))
        later = list(train.fit(again, *data))
        assert torch.equal(weights(again), weights(state))
        repeated = [(e.train_loss, e.val_loss, e.best) for e in later if isinstance(e, Epoch)]
        assert repeated == epochs[len(epochs) - len(repeated) :]


def test_small_batches_prepared_at_once_are_those_of_one_by_one(data, monkeypatch):
    settings = TrainConfig(
        model="small_resnet", epochs=2, batch_size=4, peak_lr=0.01, start_size=24,
        full_size_from=0.3, flip=True, alternating_flip=True,
    )  # fmt: skip
    ends = []
    for pixels in (1, train.PREPARED_PIXELS):
        monkeypatch.setattr(train, "PREPARED_PIXELS", pixels)
        state = start(settings, data)
        told = [e for e in train.fit(state, *data) if isinstance(e, Epoch)]
        ends.append((weights(state).tolist(), [(e.train_loss, e.train_accuracy) for e in told]))

    assert ends[0] == ends[1]


def test_small_batches_are_prepared_at_once(data, monkeypatch):
    prepared = []
    real = train._inputs
    monkeypatch.setattr(train, "PREPARED_PIXELS", 16 * 32**2)

    def counted(state, split, rows, *more):
        prepared.append(len(rows))
        return real(state, split, rows, *more)

    monkeypatch.setattr(train, "_inputs", counted)
    list(train.fit(start(TrainConfig(model="softmax", epochs=1, batch_size=4), data), *data))

    assert prepared == [16, 16, 16, 12]


def test_a_state_of_an_older_version_goes_on(data):
    settings = TrainConfig(model="softmax", epochs=1, batch_size=20, peak_lr=0.01)
    state = start(settings, data)
    saved = copy.deepcopy(state.state_dict())
    saved["epoch_sums"] = torch.zeros(2)
    [expected] = [e for e in train.fit(state, *data) if isinstance(e, Epoch)]

    again = start(settings, data)
    again.load_state_dict(saved)
    [told] = [e for e in train.fit(again, *data) if isinstance(e, Epoch)]

    assert (told.train_loss, told.train_accuracy) == (expected.train_loss, expected.train_accuracy)


def test_weights_alone_do_not_go_on_exactly(data):
    settings = TrainConfig(**EVERYTHING, epochs=2, momentum=0.9, peak_lr=0.01)
    state = start(settings, data)
    loop = train.fit(state, *data)
    next(e for e in loop if isinstance(e, Epoch))
    saved = copy.deepcopy(state.state_dict())
    list(loop)

    again = start(settings, data)
    again.load_state_dict({**saved, "optimizer": again.optimizer.state_dict()})
    list(train.fit(again, *data))

    assert not torch.equal(weights(again), weights(state))


class ReadBacks(TorchDispatchMode):
    """Counts what hands a tensor's value to Python, at which a device would wait.

    On a CPU some of it never reaches the dispatcher, so methods of Tensor are counted as well.
    """

    operations = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero")
    methods = ("tolist", "numpy", "cpu", "item", "__bool__", "__float__", "__int__", "__array__")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ in self.operations
        return function(*args, **(kwargs or {}))

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for name in self.methods:
            self.patch.setattr(torch.Tensor, name, self.counting(getattr(torch.Tensor, name)))
        return super().__enter__()

    def __exit__(self, *error):
        self.patch.undo()
        return super().__exit__(*error)

    def counting(self, method):
        def count(*args, **kwargs):
            self.count += 1
            return method(*args, **kwargs)

        return count


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        (optimizer, precision)
        for optimizer in config.OPTIMIZERS
        for precision in ("fp32", "bf16", "fp16")
        # torch's GradScaler looks for infinities itself where an optimizer is not fused
        if not (precision == "fp16" and optimizer in ("rmsprop", "muon"))
    ],
)
def test_nothing_between_two_events_makes_the_device_wait(data, optimizer, precision):
    settings = TrainConfig(**EVERYTHING, epochs=1, optimizer=optimizer, peak_lr=0.001)
    state = start(settings, data, precision)
    generator = torch.Generator()

    with ReadBacks() as reads:
        for _ in range(5):
            train.take_step(state, data[0], torch.arange(8), 8, generator)

    assert reads.count == 0


@pytest.mark.parametrize(
    "read", [lambda t: t.sum().item(), lambda t: t.tolist(), lambda t: t.cpu(), bool, float]
)
def test_the_counter_of_read_backs_counts(read):
    with ReadBacks() as reads:
        read(torch.ones(1))

    assert reads.count >= 1


SPEED = recipes.config_for(
    "speed", "digits", batch_size=8, micro_batch=4, clip_norm=1.0, ema=0.9, hard_from=0.0
)


@pytest.mark.parametrize("settings", [TrainConfig(**EVERYTHING), SPEED])
def test_an_epoch_reads_back_once_an_event(data, monkeypatch, settings):
    monkeypatch.setattr(train, "REPORT_SECONDS", 1e9)
    state = start(settings.replace(epochs=1), data)

    with ReadBacks() as reads:
        told = list(train.fit(state, data[0], data[1]))

    assert [type(e) for e in told] == [Step, Profile, Profile, Epoch]
    assert reads.count <= 3 * len(told)


def test_events_come_at_least_once_a_second_where_steps_are_short(data, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(train.time, "perf_counter", lambda: 0.03 * next(ticks))  # six looks a step
    settings = TrainConfig(model="softmax", epochs=1, batch_size=1)

    told = [e.seconds for e in train.fit(start(settings, data), *data) if isinstance(e, Step)]

    assert len(told) > 10
    assert max(b - a for a, b in zip([0.0, *told], told, strict=False)) <= 1.0


@pytest.mark.parametrize("name", [n for n in config.SCHEDULES if n not in ("plateau", "phases")])
def test_a_schedule_stays_between_zero_and_its_peak(name):
    settings = TrainConfig(schedule=name, epochs=10, step_epochs=3, peak_lr=0.4)

    rates = [optim.learning_rate(settings, step, 5) for step in range(50)]

    assert min(rates) > 0
    assert max(rates) <= 0.4
    assert max(rates) > 0.35


def test_schedules_step_and_cosine_match_torch():
    for name, reference in (
        ("step", lambda o: torch.optim.lr_scheduler.StepLR(o, 3, gamma=0.1)),
        ("cosine", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10)),
    ):
        settings = TrainConfig(schedule=name, epochs=10, step_epochs=3, peak_lr=0.4)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
        scheduler = reference(optimizer)
        for epoch in range(10):
            # ours is read in the middle of a step: a thousandth of an epoch makes that negligible
            ours = optim.learning_rate(settings, epoch * 1000, 1000)
            assert math.isclose(ours, optimizer.param_groups[0]["lr"], abs_tol=1e-3)
            optimizer.step()
            scheduler.step()


def test_phases_give_each_epoch_its_own_rate():
    settings = TrainConfig(
        schedule="phases", phases=((2, 0.05), (1, 0.005)), epochs=3, peak_lr=0.05
    )

    rates = [optim.learning_rate(settings, step, 2) for step in range(6)]

    assert rates == pytest.approx([0.05] * 4 + [0.005] * 2)


def test_one_cycle_peaks_after_its_warm_up():
    settings = TrainConfig(schedule="one-cycle", epochs=4, warmup_share=0.25, peak_lr=1.0)

    rates = [optim.learning_rate(settings, step, 100) for step in range(400)]

    assert rates.index(max(rates)) in (99, 100)
    assert rates[-1] < 0.01


def test_plateau_cuts_the_rate_and_early_stopping_ends(data):
    scrambled = Split(data[1].pixels, data[1].labels.roll(1))  # nothing learned helps here
    settings = TrainConfig(
        model="net", epochs=30, batch_size=8, peak_lr=0.05,
        schedule="plateau", gamma=0.5, patience=1, early_stopping=6,
    )  # fmt: skip

    told = [e for e in train.fit(start(settings, data), data[0], scrambled) if isinstance(e, Epoch)]

    best = min(range(len(told)), key=lambda i: told[i].val_loss)
    assert len(told) == best + 1 + 6
    assert told[-1].lr == pytest.approx(0.05 * 0.5 ** ((6 - 1) // 2))


def test_a_run_stopped_early_stays_ended_when_it_is_loaded_again(data):
    settings = TrainConfig(model="net", epochs=30, batch_size=8, peak_lr=1e-7, early_stopping=1)
    state = start(settings, data)
    list(train.fit(state, *data))
    again = start(settings, data)
    again.load_state_dict(state.state_dict())

    assert list(train.fit(again, *data)) == []


def test_a_loss_that_is_no_number_ends_the_run_with_advice(data):
    settings = TrainConfig(model="net", epochs=5, batch_size=8, peak_lr=10.0, weight_decay=1.0)

    with pytest.raises(train.Diverged, match="lower the learning rate \\(10 now\\)"):
        list(train.fit(start(settings, data), *data))


def test_validation_is_measured_when_asked_and_at_the_end(data):
    settings = TrainConfig(model="softmax", epochs=5, batch_size=20, eval_every=2)

    told = [e for e in train.fit(start(settings, data), *data) if isinstance(e, Epoch)]

    assert [e.val_loss is not None for e in told] == [False, True, False, True, True]


def test_without_validation_the_last_weights_are_the_model(data):
    settings = TrainConfig(model="softmax", epochs=2, batch_size=20, train_on="train+validation")

    told = [e for e in train.fit(start(settings, data), data[0], None) if isinstance(e, Epoch)]

    assert [e.best for e in told] == [True, True]
    assert told[-1].val_accuracy is None


@pytest.mark.parametrize(
    ("images", "batch", "steps"), [(60, 20, 3), (61, 20, 3), (62, 20, 4), (5, 8, 1), (4, 1, 4)]
)
def test_a_last_batch_of_one_image_is_left_out(images, batch, steps):
    assert train.steps_per_epoch(images, batch) == steps


def test_a_frozen_backbone_keeps_weights_and_statistics(data, tmp_path):
    source = models.build(TrainConfig(model="resnet18", stem="imagenet"), 5, 32)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    settings = TrainConfig(
        model="resnet18", stem="imagenet", pretrained=True, freeze=True,
        weights=str(tmp_path / "w.pth"), epochs=1, batch_size=30,
    )  # fmt: skip
    state = start(settings, data)
    before = copy.deepcopy(state.model.state_dict())

    list(train.fit(state, *data))

    changed = [n for n, v in state.model.state_dict().items() if not torch.equal(v, before[n])]
    assert changed == ["fc.weight", "fc.bias"]


def test_an_imagenet_head_of_another_size_is_replaced(tmp_path):
    source = models.build(TrainConfig(model="resnet18", stem="imagenet"), 1000, 32)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    settings = TrainConfig(
        model="resnet18", stem="imagenet", pretrained=True, weights=str(tmp_path / "w.pth")
    )

    assert models.build(settings, 3, 32)(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(config.ConfigError, match="is not usable on this machine"):
        machine.device("mps" if torch.cuda.is_available() else "cuda")


def test_half_precision_on_a_cpu_is_refused():
    with pytest.raises(config.ConfigError, match="no use on a CPU"):
        machine.choose(TrainConfig(precision="fp16"), CPU, torch.nn.Identity(), 32)


def test_measuring_the_precision_changes_neither_weights_nor_chance():
    settings = TrainConfig(model="simple_cnn", batch_size=4)
    model = models.build(settings, 3, 32)
    before, chance = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    threads = torch.get_num_threads()

    precision, count = machine.choose(settings, CPU, model, 32)
    torch.set_num_threads(threads)

    assert (precision in ("fp32", "bf16"), 1 <= count <= threads) == (True, True)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), chance)


def test_a_split_is_read_as_the_catalog_says(tiny_dataset):
    settings = TrainConfig(dataset=tiny_dataset, validation_share=0.1)

    train_split, held = (tensors.load(settings, s, CPU) for s in ("train", "validation"))

    assert (len(train_split), len(held)) == (54, 6)
    assert held.labels.bincount().tolist() == [2, 2, 2]


def test_a_step_leaves_no_notes_for_devices_that_are_not_there(data, monkeypatch):
    noted = []
    monkeypatch.setattr(torch.cuda.random, "_lazy_call", lambda call, **_: noted.append(call))
    state = start(TrainConfig(**EVERYTHING), data[0])

    noted.clear()  # what the test itself seeded
    train.take_step(state, data[0], torch.arange(8), 7, torch.Generator())

    assert noted == []
    torch.manual_seed(0)
    assert noted  # or this test would see nothing
