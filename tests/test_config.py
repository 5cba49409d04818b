import math

import pytest

from imgcls import config, recipes
from imgcls.config import SETTINGS, TrainConfig
from imgcls.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "epochs must be 1 to 500, got 0."),
        ("epochs", 10**9, "epochs must be 1 to 500, got 1e+09."),
        ("epochs", 10**400, "epochs must be 1 to 500, got 100000000000…."),
        ("peak_lr", 10**400, "peak_lr must be a number, got 1000000"),
        ("epochs", 2.5, "epochs must be a whole number, got 2.5."),
        ("epochs", True, "epochs must be a whole number, got True."),
        ("batch_size", "abc", "batch_size must be a whole number, got 'abc'."),
        ("peak_lr", -1.0, "peak_lr must be 1e-07 to 10, got -1."),
        ("peak_lr", math.nan, "peak_lr must be 1e-07 to 10, got nan."),
        ("momentum", None, "momentum must be a number, got None."),
        ("flip", 1, "flip must be true or false, got 1."),
        ("model", "resnet81", "model must be one of softmax,"),
        ("phases", "10x", "phases must be pairs of epochs and learning rate, got '10x'."),
        ("phases", ((0, 0.1),), "Each phase must be 1 to 500 epochs at 1e-07 to 10, got 0 at 0.1."),
    ],
)
def test_a_setting_out_of_its_limits_is_refused_with_its_value(name, value, message):
    with pytest.raises(ConfigError) as refusal:
        TrainConfig(**{name: value})

    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "phases", "phases": ((3, 0.1),), "epochs": 4}, "add up"),
        (
            {"schedule": "phases", "phases": ((3, 0.2),), "epochs": 3},
            "set peak_lr to their highest",
        ),
        ({"model": "resnet18", "pretrained": True}, "needs stem imagenet"),
        ({"model": "net", "start_size": 20}, "takes images of one size only"),
        ({"freeze": True}, "needs pretrained"),
        ({"weights": "a.pth"}, "set pretrained"),
        ({"optimizer": "adam", "nesterov": True}, "nesterov needs optimizer sgd"),
        ({"train_on": "train+validation", "early_stopping": 3}, "nothing to validate on"),
    ],
)
def test_settings_that_contradict_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**values)


def test_a_run_that_was_refused_for_its_size_can_still_be_told_of():
    stored = TrainConfig(model="vgg11", start_size=24)

    assert TrainConfig.from_dict(stored.to_dict()) == stored
    with pytest.raises(ConfigError, match="set start_size to 32 or more, not 24"):
        config.check_size(stored, 32)


def test_a_config_survives_json():
    before = TrainConfig(schedule="phases", phases=((2, 0.1), (1, 0.01)), epochs=3, peak_lr=0.1)

    assert TrainConfig.from_dict(before.to_dict()) == before


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_help_and_its_default_survives_the_command_line(name):
    setting = SETTINGS[name]

    assert setting.help.endswith(".")
    assert config.parse(name, config.format_value(setting.default)) == setting.default


@pytest.mark.parametrize("text", ["", "x", "1x0.1,2", "ax0.1"])
def test_phases_that_cannot_be_read_say_how_to_write_them(text):
    if text:
        with pytest.raises(ConfigError, match=r"10x0\.05,8x0\.005"):
            config.parse_phases(text)
    else:
        assert config.parse_phases(text) == ()


def test_json_never_holds_nan():
    assert config.dumps({"a": [math.nan, math.inf, 1.5]}) == '{"a": [null, null, 1.5]}'


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_recipe_knows_its_name_and_changes_its_length(name):
    settings = recipes.config_for(name, "digits", epochs=5)

    assert (settings.recipe, settings.dataset, settings.epochs) == (name, "digits", 5)


def test_a_changed_length_keeps_the_proportions_of_phases():
    settings = recipes.config_for("tutorial-feedforward", "digits", epochs=32)

    assert sum(length for length, _ in settings.phases) == 32
    assert [lr for _, lr in settings.phases][:3] == [0.05, 0.005, 0.01]


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(ConfigError, match="Choose one of: speed-fast, speed, speed-max, quick"):
        recipes.config_for("slow", "digits")


@pytest.mark.parametrize(("steps", "total"), [(0, 30), (7, 7)])
def test_a_run_has_the_steps_of_its_epochs_unless_a_budget_fixed_them(steps, total):
    assert TrainConfig(epochs=3, steps=steps).total_steps(10) == total
