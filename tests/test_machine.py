import json
import math
import time

import pytest
import torch

from imgcls import machine, models
from imgcls.config import TrainConfig

CPU = torch.device("cpu")
SETTINGS = TrainConfig(model="softmax", batch_size=4)


@pytest.fixture
def model():
    return models.build(SETTINGS, 3, 32)


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def timed(monkeypatch):
    """The formats that were tried at each choice, of which the last is said to be fastest."""
    tried = []

    def fastest(formats, counts, *_):
        tried.append(formats)
        return formats[-1], counts[0]

    monkeypatch.setattr(machine, "_fastest_on_cpu", fastest)
    return tried


def cache(home):
    return home / "cache" / "machine.json"


def test_the_number_format_is_measured_once_and_then_remembered(home, model, timed):
    chosen = [machine.choose(SETTINGS, CPU, model, 32)[0] for _ in range(3)]

    assert chosen == ["bf16"] * 3
    assert timed == [("fp32", "bf16"), ("bf16",), ("bf16",)]
    assert machine.remembered(SETTINGS, CPU, 32) == "bf16"


def test_what_is_remembered_was_really_measured(home, model):
    precision, threads = machine.choose(SETTINGS, CPU, model, 32)

    assert machine.remembered(SETTINGS, CPU, 32) == precision
    assert machine.choose(SETTINGS, CPU, model, 32)[0] == precision
    assert 1 <= threads <= torch.get_num_threads()


def test_a_format_that_was_asked_for_is_neither_measured_nor_remembered(home, model, timed):
    asked = SETTINGS.replace(precision="fp32")

    assert machine.choose(asked, CPU, model, 32)[0] == "fp32"
    assert timed == [("fp32",)]
    assert machine.remembered(SETTINGS, CPU, 32) is None


@pytest.mark.parametrize(
    "change", [{"model": "cnn"}, {"batch_size": 8}, {"threads": 1}, {"micro_batch": 2}], ids=str
)
def test_another_kind_of_run_is_measured_anew(home, model, timed, change):
    machine.choose(SETTINGS, CPU, model, 32)

    assert machine.remembered(SETTINGS.replace(**change), CPU, 32) is None
    assert machine.remembered(SETTINGS.replace(seed=5, epochs=3), CPU, 32) == "bf16"


def test_another_size_torch_or_processor_is_measured_anew(home, model, timed, monkeypatch):
    machine.choose(SETTINGS, CPU, model, 32)

    assert machine.remembered(SETTINGS, CPU, 64) is None
    with monkeypatch.context() as changed:
        changed.setattr(torch, "__version__", "0.0")
        assert machine.remembered(SETTINGS, CPU, 32) is None
    monkeypatch.setattr(machine, "_cpu_name", lambda: "another")
    assert machine.remembered(SETTINGS, CPU, 32) is None


@pytest.mark.parametrize(
    "contents", [b"", b"{", b"[]", b"null", b'{"format": 3}', b'{"format": null}', b"\xff\xfe"]
)
def test_a_damaged_cache_is_measured_again_and_mended(home, model, timed, contents):
    cache(home).parent.mkdir()
    cache(home).write_bytes(contents)

    machine.choose(SETTINGS, CPU, model, 32)
    machine.choose(SETTINGS, CPU, model, 32)

    assert timed == [("fp32", "bf16"), ("bf16",)]


@pytest.mark.parametrize("value", ["fp8", 3, None, [], {}], ids=str)
def test_a_format_that_is_none_is_measured_again(home, model, timed, value):
    machine.choose(SETTINGS, CPU, model, 32)
    known = json.loads(cache(home).read_text())
    known["format"] = dict.fromkeys(known["format"], value)
    cache(home).write_text(json.dumps(known))

    machine.choose(SETTINGS, CPU, model, 32)

    assert timed[-1] == ("fp32", "bf16")


def test_where_nothing_can_be_written_training_goes_on(home, model, timed):
    cache(home).parent.write_text("a file where the folder should be")

    assert machine.choose(SETTINGS, CPU, model, 32)[0] == "bf16"
    assert machine.matrix_product(CPU, "fp32") > 0
    assert machine.remembered(SETTINGS, CPU, 32) is None


def test_no_home_is_made_for_what_is_remembered(home, model, timed):
    home.rmdir()

    machine.choose(SETTINGS, CPU, model, 32)

    assert not home.exists()


def test_the_best_matrix_product_is_remembered(home, monkeypatch):
    torch.set_num_threads(1)
    rates = iter((2e9, 1e9, 3e9))
    monkeypatch.setattr(machine, "_matrix_product", lambda *_: next(rates))

    assert [machine.matrix_product(CPU, "fp32") for _ in range(3)] == [2e9, 2e9, 3e9]


def test_each_number_format_and_count_of_threads_has_its_own(home, monkeypatch):
    monkeypatch.setattr(machine, "_matrix_product", lambda *_: 2e9)
    machine.matrix_product(CPU, "fp32")
    monkeypatch.setattr(machine, "_matrix_product", lambda *_: 1e9)

    assert machine.matrix_product(CPU, "bf16") == 1e9
    torch.set_num_threads(torch.get_num_threads() + 1)
    assert machine.matrix_product(CPU, "fp32") == 1e9


def test_several_threads_can_do_what_one_can(home, monkeypatch):
    torch.set_num_threads(3)
    monkeypatch.setattr(
        machine, "_matrix_product", lambda *_: 2e9 if torch.get_num_threads() == 1 else 1e9
    )

    assert machine.matrix_product(CPU, "fp32") == 2e9
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("value", ['"fast"', "-1", "NaN", "Infinity", "null"])
def test_a_rate_that_is_none_is_measured_again(home, monkeypatch, value):
    monkeypatch.setattr(machine, "_matrix_product", lambda *_: 2e9)
    machine.matrix_product(CPU, "fp32")
    cache(home).write_text(cache(home).read_text().replace("2000000000.0", value))

    assert machine.matrix_product(CPU, "fp32") == 2e9


def test_the_rate_is_of_products_that_were_computed(home, monkeypatch):
    monkeypatch.setattr(machine, "PRODUCT_SIDES", {"cpu": (64, 256)})
    before, begin = torch.get_rng_state(), time.perf_counter()

    rate = machine.matrix_product(CPU, "fp32")

    seconds = time.perf_counter() - begin
    assert 2 * 64**3 / seconds < rate < math.inf  # the best of several that took so long together
    assert seconds > machine.PRODUCT_SECONDS
    assert torch.equal(torch.get_rng_state(), before)


def test_a_format_that_is_hopeless_is_not_timed_at_length(monkeypatch):
    monkeypatch.setattr(machine, "TRIALS", 2)
    seen = {True: 0, False: 0}

    class SlowInBf16(torch.nn.Linear):
        def forward(self, images):
            reduced = torch.is_autocast_enabled("cpu")
            seen[reduced] += len(images)
            time.sleep(0.01 * len(images) if reduced else 0)
            return super().forward(images.flatten(1))

    chosen = machine._fastest_on_cpu(("fp32", "bf16"), (1,), SlowInBf16(48, 2), 64, 4)

    assert chosen == ("fp32", 1)
    assert seen[True] == 2 * machine.TRIAL_FEW
    assert seen[False] > 64


def test_short_steps_are_timed_often_enough_to_tell_them_apart(monkeypatch):
    """Of two formats of which one is a third slower but for a few lucky steps."""
    monkeypatch.setattr(machine, "TRIAL_LEAST", 0.2)
    count = {True: 0, False: 0}

    class NowAndThenLucky(torch.nn.Linear):
        def forward(self, images):
            reduced = torch.is_autocast_enabled("cpu")
            count[reduced] += len(images) == 4
            lucky = reduced and count[reduced] % 3 == 0
            time.sleep(0.0005 if lucky else 0.003 if reduced else 0.002)
            return super().forward(images.flatten(1))

    chosen = machine._fastest_on_cpu(("fp32", "bf16"), (1,), NowAndThenLucky(48, 2), 4, 4)

    assert chosen == ("fp32", 1)
    assert count[False] > 2 * machine.TRIALS


def test_what_is_remembered_is_found_again_by_a_process_with_the_same_threads(home, monkeypatch):
    settings, cpu = TrainConfig(model="softmax"), torch.device("cpu")
    before = torch.get_num_threads()

    def fastest(formats, counts, *_):
        torch.set_num_threads(1)  # as the last trial may have left it
        return formats[-1], 1

    monkeypatch.setattr(machine, "_fastest_on_cpu", fastest)
    torch.set_num_threads(3)
    try:
        machine.choose(settings, cpu, models.build(settings, 10, 32), 32)
        torch.set_num_threads(3)
        assert machine.remembered(settings, cpu, 32) == "bf16"
    finally:
        torch.set_num_threads(before)
