"""Studies: one recipe with several seeds, or an ablation, which changes one setting of it.

Runs belong to a study by its name in their settings, `study`, and by nothing else. What is varied,
the arms, the seeds and what is still to be done are read from the runs each time. The arm of the
oldest run is the unchanged one, because `seeds` and `ablation` put it first.

Statistics treat the seeds of an arm as a random sample: intervals tell of seeds, not of the choice
of validation images, which are the same for all arms. This module imports neither torch nor
streamlit.
"""

import re
import shlex
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from imgcls import config, jobs, runs
from imgcls.config import SETTINGS, TrainConfig
from imgcls.errors import ConfigError, RunError
from imgcls.events import Epoch
from imgcls.recipes import RECIPES
from imgcls.runs import Run, State

MOST_RUNS = 1000
TELLING = 0.05  # width of an interval around no difference beyond which it tells nothing
MOST_WAITING = 40  # workers in line at once: 18 MB each of their own, 35 MB resident
OWN_OPTIONS = ("epochs", "seed")  # of `train` and `ablate`; everything else goes through --set
RESUMABLE = (State.STOPPED, State.INTERRUPTED, State.FAILED)  # who diverged would do so again
_IMAGES = "it decides which images the runs are compared on"
NEVER_VARIED = {
    "seed": "several seeds make the spread that differences are judged by; ask for more seeds",
    "recipe": "a recipe is many settings at once; name one of them",
    "dataset": _IMAGES,
    "study": "it is the name that keeps the runs together",
    "validation_share": _IMAGES,
    "split_seed": _IMAGES,
    "train_on": _IMAGES,
}

Interval = tuple[float, float]


# --- planning ---


def seeds(settings: TrainConfig, count: int, now: datetime) -> list[TrainConfig]:
    """The same settings with `count` seeds, from the settings' own upwards, as one study.

    Settings that already name a study keep it. Raises ConfigError for a count out of 1..1000.
    """
    _check_count(count)
    study = settings.study or _name(settings, f"{count}-seeds", now)
    return [settings.replace(study=study, seed=settings.seed + i) for i in range(count)]


def ablation(
    settings: TrainConfig, setting: str, values: Sequence[Any], count: int, now: datetime
) -> list[TrainConfig]:
    """The settings unchanged and with each other value of one setting, `count` seeds each.

    All arms come with their first seed before any comes with its second, the unchanged one first.
    Values that occur twice are dropped. Raises ConfigError where a value does not fit, nothing
    would differ, or the setting is none that runs can be compared over.
    """
    if setting not in SETTINGS:
        raise ConfigError(f"No setting named {setting!r}. Choose one of: {', '.join(SETTINGS)}.")
    if setting in NEVER_VARIED:
        raise ConfigError(f"{setting} cannot be what an ablation varies: {NEVER_VARIED[setting]}.")
    if settings.train_on != "train":
        raise ConfigError(
            f"An ablation compares validation accuracies, and train_on {settings.train_on} leaves "
            "none: set train_on to train."
        )
    study = settings.study or _name(settings, setting, now)
    arms = [settings.replace(study=study)]
    for value in values:
        try:
            arm = arms[0].replace(**{setting: value})
        except ConfigError as error:  # it may name another setting alone
            told = str(error).startswith(setting)
            said = f"{setting} {config.format_value(value)}"
            raise error if told else ConfigError(f"With {said}: {error}") from None
        if arm not in arms:
            arms.append(arm)
    if len(arms) == 1:
        same = config.format_value(getattr(settings, setting))
        raise ConfigError(f"{setting} is {same} already: name at least one other value.")
    _check_count(count, len(arms))
    return [arm.replace(seed=arm.seed + i) for i in range(count) for arm in arms]


def parse_values(setting: str, text: str) -> list[Any]:
    """The values that a list such as `0.05, 0.1` means; phases are parted by semicolons.

    Raises ConfigError for a setting or value that is none.
    """
    separator = ";" if setting == "phases" else ","
    return [config.parse(setting, part.strip()) for part in text.split(separator) if part.strip()]


def command(
    settings: TrainConfig, setting: str = "", values: Sequence[Any] = (), count: int = 1
) -> str:
    """The command line for a run, for `count` seeds, or for an ablation over values of a setting.

    Repeated with the name of a study in the settings, it goes on with what that lacks.
    """
    base = RECIPES[settings.recipe].config.to_dict()
    words = ["python", "-m", "imgcls", "ablate" if setting else "train"]
    words += ["--recipe", settings.recipe, "--dataset", settings.dataset]
    if setting:
        separator = ";" if setting == "phases" else ","
        words += ["--vary", f"{setting}={separator.join(map(config.format_value, values))}"]
    if setting or count > 1:
        words += ["--seeds", str(count)]
    for name, value in settings.to_dict().items():
        if name in ("recipe", "dataset") or value == base[name]:
            continue
        text = config.format_value(value)
        words += [f"--{name}", text] if name in OWN_OPTIONS else ["--set", f"{name}={text}"]
    return shlex.join(words)


def queue(plan: Sequence[TrainConfig]) -> list[Run]:
    """Start every run of the plan that is still to be done; workers wait for their device in line.

    Raises ConfigError for more than 40, and whatever keeps the first from starting.
    """
    todo = remaining(plan)
    check_waiting(len(todo))
    for settings, _ in todo:
        jobs.check_possible(settings)
    started: list[Run] = []
    for settings, run in todo:
        if len(started) == 1:
            _next_second()  # ids of one second sort by chance, and the oldest run is unchanged
        if run is None:
            run = jobs.new(settings, datetime.now())
        else:
            jobs.start(run)
        started.append(run)
    return started


def check_waiting(count: int) -> None:
    """Raise ConfigError where so many runs are more than may wait at once."""
    if count > MOST_WAITING:
        raise ConfigError(
            f"{count} runs are too many to wait in line, each a process of its own: ask for at "
            f"most {MOST_WAITING}, or let the command line train them one after the other."
        )


def remaining(plan: Iterable[TrainConfig]) -> list[tuple[TrainConfig, Run | None]]:
    """What is still to be done, in order: settings, and the run to go on with if there is one."""
    plan = list(plan)
    known = begun(plan)
    todo = [(settings, known.get(settings)) for settings in plan]
    return [(s, run) for s, run in todo if run is None or run.state() in RESUMABLE]


def begun(plan: Iterable[TrainConfig]) -> dict[TrainConfig, Run]:
    """The newest run of each config of the plan that has one, in the plan's order."""
    known = {settings: run for run, settings in _members()}
    return {settings: known[settings] for settings in plan if settings in known}


# --- looking ---


@dataclass(frozen=True)
class Result:
    """One run of a study, as it is now."""

    run: Run
    seed: int
    state: State
    accuracy: float | None  # 0..1, the best on validation so far
    epochs: int  # ended
    of_epochs: int


@dataclass(frozen=True)
class Arm:
    """The runs of a study that differ in their seeds only."""

    label: str  # the varied settings' values
    results: tuple[Result, ...]  # by seed

    @property
    def accuracies(self) -> list[float]:
        """Best validation accuracy of each run that has finished, 0..1."""
        return [
            r.accuracy for r in self.results if r.state == State.FINISHED and r.accuracy is not None
        ]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds, n - 1 in the denominator; None below two runs."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def interval(self) -> Interval | None:
        """The mean's 95 % interval by Student's t within 0..1; None where no spread is known."""
        found = student(self.accuracies)
        return found and (max(found[0], 0.0), min(found[1], 1.0))

    @property
    def unfinished(self) -> dict[str, int]:
        """How many runs are in each state but finished."""
        return dict(Counter(r.state.value for r in self.results if r.state != State.FINISHED))


@dataclass(frozen=True)
class Study:
    """All runs of one name, by arm."""

    name: str
    recipe: str
    dataset: str
    varied: tuple[str, ...]  # names of the settings that differ; none for a study of seeds
    arms: tuple[Arm, ...]  # the unchanged one first

    @property
    def results(self) -> list[Result]:
        """Of all arms, oldest run first."""
        return sorted((r for arm in self.arms for r in arm.results), key=lambda r: r.run.id)

    @property
    def alive(self) -> list[Run]:
        """Runs that train or wait, newest first: the order in which to stop them."""
        return [r.run for r in reversed(self.results) if r.state.alive]

    def difference(self, arm: Arm) -> tuple[float | None, Interval | None, str]:
        """An arm's mean less that of the unchanged arm, its 95 % interval, and what that means."""
        first = self.arms[0]
        if arm is first:
            return None, None, "unchanged"
        if arm.mean is None or first.mean is None:
            return None, None, "no result yet"
        between = welch(arm.accuracies, first.accuracies)
        if between is None:
            few = min(len(arm.accuracies), len(first.accuracies)) < 2
            verdict = "needs 2 seeds or more" if few else "no spread: add seeds"
        else:
            between = max(between[0], -1.0), min(between[1], 1.0)
            wide = between[1] - between[0] > TELLING
            verdict = "real difference"
            if between[0] <= 0 <= between[1]:
                verdict = "too few seeds to tell" if wide else "within noise"
        return arm.mean - first.mean, between, verdict


def names() -> list[str]:
    """Every study on disk, that with the newest run first."""
    return list(dict.fromkeys(s.study for _, s in reversed(list(_members())) if s.study))


def find(name: str) -> Study:
    """The study of this name; raises RunError where no run has it."""
    found = [(run, settings) for run, settings in _members() if name and settings.study == name]
    if not found:
        raise RunError(f"No study {name[:80]!r} is on disk. See: python -m imgcls studies")
    varied = tuple(
        key
        for key in SETTINGS
        if key != "seed" and len({getattr(settings, key) for _, settings in found}) > 1
    )
    arms: dict[str, list[Result]] = {}
    for run, settings in found:
        values = [config.format_value(getattr(settings, key)) for key in varied]
        both = zip(varied, values, strict=True)
        label = values[0] if len(values) == 1 else ", ".join(f"{k} {v}" for k, v in both)
        arms.setdefault(label or "–", []).append(_result(run, settings))
    by_seed = {label: sorted(one, key=lambda r: (r.seed, r.run.id)) for label, one in arms.items()}
    first = found[0][1]
    return Study(
        name=name,
        recipe=first.recipe,
        dataset=first.dataset,
        varied=varied,
        arms=tuple(Arm(label, tuple(results)) for label, results in by_seed.items()),
    )


def student(values: Sequence[float]) -> Interval | None:
    """The 95 % interval of the mean by Student's t; None below two values, or if all are equal."""
    if len(values) < 2 or not (sd := statistics.stdev(values)):
        return None
    return _around(statistics.fmean(values), sd / len(values) ** 0.5, len(values) - 1)


def welch(values: Sequence[float], others: Sequence[float]) -> Interval | None:
    """The 95 % interval of mean(values) - mean(others), spreads unequal.

    None where either has less than two values, or neither has any spread. Source: B. L. Welch 1947,
    Biometrika 34, with the degrees of freedom of Satterthwaite.
    """
    if min(len(values), len(others)) < 2:
        return None
    a, b = (statistics.variance(one) / len(one) for one in (values, others))
    if a + b == 0:
        return None
    freedom = (a + b) ** 2 / (a**2 / (len(values) - 1) + b**2 / (len(others) - 1))
    return _around(statistics.fmean(values) - statistics.fmean(others), (a + b) ** 0.5, freedom)


def _around(center: float, error: float, freedom: float) -> Interval:
    from scipy import special  # late: --help answers at once

    half = float(special.stdtrit(freedom, 0.975)) * error
    return center - half, center + half


def _members() -> Iterator[tuple[Run, TrainConfig]]:
    """All runs that can be read with their settings, oldest first."""
    for run in reversed(runs.all_runs()):
        try:
            yield run, _settings(run)
        except (RunError, ConfigError):
            continue  # damaged: nobody knows what it belonged to; the Runs page shows it


@lru_cache(maxsize=4096)
def _settings(run: Run) -> TrainConfig:
    """A run's settings, read once: they never change."""
    return run.config


def _result(run: Run, settings: TrainConfig) -> Result:
    accuracy, epochs = _reached(run, repr(run.last_event()))
    return Result(run, settings.seed, run.state(), accuracy, epochs, settings.epochs)


@lru_cache(maxsize=4096)
def _reached(run: Run, last: str) -> tuple[float | None, int]:
    """Best validation accuracy and epochs ended, read anew when the last event is another."""
    ended = [event for event in run.events() if isinstance(event, Epoch)]
    measured = [e.val_accuracy for e in ended if e.val_accuracy is not None]
    return max(measured, default=None), ended[-1].epoch if ended else 0


def _name(settings: TrainConfig, what: str, now: datetime) -> str:
    words = f"{settings.recipe} {settings.dataset} {what}".lower()
    return f"{re.sub(r'[^a-z0-9_]+', '-', words).strip('-')}-{now:%Y%m%d-%H%M%S}"


def _check_count(count: int, arms: int = 1) -> None:
    if not 1 <= count * arms <= MOST_RUNS:
        raise ConfigError(f"A study has 1 to {MOST_RUNS} runs, this one would have {count * arms}.")


def _next_second() -> None:
    time.sleep(1 - time.time() % 1)
