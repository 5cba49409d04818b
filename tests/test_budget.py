import time

import pytest

from imgcls import budget
from imgcls.config import TrainConfig
from imgcls.errors import ConfigError


@pytest.fixture
def settings(tiny_dataset, monkeypatch):
    monkeypatch.setattr(budget, "MEASURE_SECONDS", 0.5)
    return TrainConfig(dataset=tiny_dataset, model="net", batch_size=8, precision="fp32", threads=1)


def test_twice_the_time_holds_about_twice_the_epochs(settings):
    short, long = (budget.within(settings, minutes)["epochs"] for minutes in (0.05, 0.1))

    assert 1 <= short < long
    assert long < 6 * short  # a busy machine changes its speed between the two


def test_the_measured_number_of_epochs_is_possible_in_the_time(settings):
    start = time.perf_counter()

    fixed = budget.within(settings, 0.05)

    assert fixed.keys() == {"epochs", "precision", "threads"}
    assert (fixed["precision"], fixed["threads"]) == ("fp32", 1)
    assert time.perf_counter() - start < 60


def test_a_time_too_short_for_one_epoch_says_how_long_one_takes(settings):
    with pytest.raises(ConfigError, match=r"One epoch takes about 0\.0 minutes here: ask for more"):
        budget.within(settings, 1e-7)
