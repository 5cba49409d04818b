"""evaluate, compare and predict."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgcls.cli import show
from imgcls.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from imgcls.evaluate.metrics import Metrics
    from imgcls.evaluate.predictions import Predictions
    from imgcls.runs import Run

BLOCK = 64  # pictures read into memory at a time
CURVE_POINTS = 101  # of a curve in JSON, evenly drawn
MATRIX_CLASSES = 20  # a confusion matrix of more is no use as text
Split = Annotated[
    str, typer.Option(help="train, validation or test; NAME/test for that of another data set.")
]
Tta = Annotated[
    bool, typer.Option("--tta", help="Average over mirrored and shifted views, as trained on.")
]


def evaluate(
    run: show.RunName,
    split: Split = "test",
    tta: Tta = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also under corruptions and attack: minutes.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a report to hand over.")
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(metavar="RUN", help="Another run, for the report.")
    ] = None,
    json: show.Json = False,
) -> None:
    """Judge a run on a split: accuracy with its 95 % interval, figures a class, confusion."""
    from imgcls.evaluate import intervals, metrics, predictions

    if against and not report:
        raise ConfigError("--against names runs for a report: give --report FILE.html too.")
    if tta and report:
        raise ConfigError("A report is on plain answers: leave out --tta or --report.")
    found, others = show.find_run(run), [show.find_run(name) for name in against or []]
    if report and not report.parent.is_dir():
        raise DataError(f"There is no folder {report.parent}: make it, or name another.")
    stored = _answers(found, split, tta)
    if robustness:
        _measure_robustness(found, split)
    if report:
        _report(found, split, report, others)
    judged, caution = metrics.summary(stored), predictions.caution(found, split)
    if not json:
        _print(judged, caution)
        return
    overall, by_class = intervals.estimates(stored)
    show.as_json(
        {
            "run": judged.run,
            "dataset": judged.dataset,
            "split": judged.split,
            "tta": tta,
            "n": judged.n,
            "accuracy": judged.accuracy,
            "accuracy_low": judged.accuracy_low,
            "accuracy_high": judged.accuracy_high,
            "loss": judged.loss,
            "classes": judged.classes,
            "per_class": [_row(one) for one in judged.per_class],
            "macro": _row(judged.macro),
            "weighted": _row(judged.weighted),
            "confusion": judged.confusion.tolist(),
            "averages_leave_out": metrics.left_out(judged),
            "overall": overall.to_dict("records"),
            "class_intervals": by_class.to_dict("records"),
            "calibration": _calibration(found, stored, tta),
            **_confidence(found, stored, tta),
            "learning": _learning(found),
            "traits": _traits(found, stored),
            "seeds": _seeds(found, split, tta),
            **_robustness(found, split),
            "caution": caution,
        }
    )


def _confidence(run: "Run", judged: "Predictions", tta: bool) -> dict[str, Any]:
    """Reliability by bin, what answering only when sure costs, and label sets where honest."""
    import numpy as np

    from imgcls.evaluate import calibrate, predictions

    shares, held, temperature = calibrate.scaled(judged.logits, 1.0), None, 1.0
    if predictions.fits_on_validation(run, judged.split):
        held = _answers(run, "validation", tta)
        temperature = calibrate.temperature(held.logits, held.labels)
        shares = calibrate.scaled(judged.logits, temperature)
        of_held = calibrate.scaled(held.logits, temperature)
    bins = calibrate.reliability(shares, judged.labels)
    thresholds, coverage, risk = calibrate.risk_coverage(shares, judged.labels)
    rows = np.unique(np.linspace(0, len(coverage) - 1, CURVE_POINTS).round().astype(int))
    return {
        "reliability": {
            "temperature": temperature,  # that it and what follows were taken after
            "edges": bins.edges.tolist(),
            "images": bins.counts.tolist(),
            "confidence": bins.confidence.tolist(),
            "accuracy": bins.accuracy.tolist(),
        },
        "risk_coverage": [
            {"threshold": thresholds[i], "coverage": coverage[i], "risk": risk[i]} for i in rows
        ],
        "conformal": [
            asdict(calibrate.conformal(of_held, held.labels, shares, judged.labels, wanted))
            for wanted in calibrate.COVERAGES
        ]
        if held is not None
        else [],
    }


def _learning(run: "Run") -> dict[str, Any] | None:
    """Accuracy and recalls on validation after each epoch whose answers were kept."""
    from imgcls.evaluate import dynamics

    history = dynamics.load(run)
    if history is None:
        return None
    right = (history.predicted == history.labels).mean(1)
    return {
        "epochs": history.epochs,
        "accuracy": right.tolist(),
        "recalls": dynamics.recalls(dynamics.confusions(history)).tolist(),
    }


def _traits(run: "Run", judged: "Predictions") -> list[dict[str, Any]]:
    """Mistakes by traits of the images, those first that mistakes depend on most."""
    from imgcls.evaluate import traits

    _, found = traits.of_run(run, judged)
    return [
        {
            "trait": one.name,
            "p": one.p,
            "real": one.real,
            "groups": [
                {"middle": middle, "images": images, "wrong": wrong}
                for middle, images, wrong in zip(
                    one.middle.tolist(), one.images.tolist(), one.wrong.tolist(), strict=True
                )
            ],
        }
        for one in found
    ]


def _seeds(run: "Run", split: str, tta: bool) -> dict[str, Any]:
    """Mean and spread over runs that differ in their seed alone and have stored answers."""
    from imgcls.evaluate import predictions, seeds

    judged = [predictions.load(other, split, tta) for other in seeds.siblings(run)]
    known = [one for one in judged if one is not None]
    found = seeds.spreads([seeds.figures(one) for one in known]) if len(known) > 1 else []
    return {
        "runs": [one.run for one in known],
        "figures": [
            {"figure": o.name, "mean": o.mean, "sd": o.sd, "values": o.values} for o in found
        ],
    }


def _measure_robustness(run: "Run", split: str) -> None:
    from imgcls.evaluate import adversarial, robustness

    if robustness.load(run, split) is None:
        with show.counting("under corruptions") as tell:
            robustness.compute(run.id, split, tell)
    if adversarial.load(run, split) is None:
        with show.counting("under attack") as tell:
            adversarial.compute(run.id, split, tell)


def _robustness(run: "Run", split: str) -> dict[str, Any]:
    """What is stored of it; nothing where it was not measured."""
    from imgcls.evaluate import adversarial, robustness

    told: dict[str, Any] = {}
    if (worse := robustness.load(run, split)) is not None:
        kinds = zip(robustness.SEVERITIES, worse.accuracy.tolist(), strict=True)
        told["robustness"] = {"n": worse.n, "clean": worse.clean, "mean": worse.mean} | dict(kinds)
    if (attacked := adversarial.load(run, split)) is not None:
        attacks = zip(adversarial.ATTACKS, attacked.accuracy.tolist(), strict=True)
        sizes = list(adversarial.EPSILONS)
        told["adversarial"] = {"n": attacked.n, "clean": attacked.clean, "epsilons": sizes}
        told["adversarial"] |= dict(attacks)
    return told


def _report(run: "Run", split: str, path: Path, others: "list[Run]") -> None:
    from imgcls.evaluate import predictions, report

    for other in others:
        _answers(other, split, tta=False)
    _answers(run, split, tta=False)
    if predictions.fits_on_validation(run, split):
        _answers(run, "validation", tta=False)
    report.write(run, split, path, others, datetime.now())
    show.note(f"Report written to {path}")


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN…", help="Names or their starts.")],
    split: Split = "validation",
    tta: Tta = False,
    json: show.Json = False,
) -> None:
    """Say which of two and more runs is better on the same images, and whether that is chance.

    Each pair by an exact McNemar test, corrected for the number of pairs (Holm).
    """
    from imgcls.evaluate import compare, metrics

    found = list({run.id: run for run in map(show.find_run, runs)}.values())
    compare.check_number(len(found))
    compare.check_fair(found, split)
    stored = [_answers(run, split, tta) for run in found]
    pairs = compare.pairs(stored)
    judged = [metrics.summary(one) for one in stored]
    if json:
        names = ("run", "accuracy", "accuracy_low", "accuracy_high", "loss")
        show.as_json(
            {
                "dataset": stored[0].dataset,
                "split": split,
                "tta": tta,
                "n": judged[0].n,
                "runs": [{name: getattr(one, name) for name in names} for one in judged],
                "pairs": [asdict(pair) | {"real": pair.real} for pair in pairs],
            }
        )
        return
    print(f"{judged[0].n:,} {split} images of {stored[0].dataset}\n")
    show.table(
        ["run", "accuracy", "95 % interval"],
        [
            [
                one.run,
                show.percent(one.accuracy),
                f"{show.percent(one.accuracy_low)} to {show.percent(one.accuracy_high)}",
            ]
            for one in judged
        ],
    )
    print()
    show.table(
        ["B", "minus A", "points", "95 % interval", "only A right", "only B right", "p", "verdict"],
        [
            [
                pair.b,
                pair.a,
                f"{100 * pair.difference:+.2f}",
                f"{100 * pair.low:+.2f} to {100 * pair.high:+.2f}",
                pair.only_a,
                pair.only_b,
                compare.p_text(pair.p_holm),
                pair.verdict,
            ]
            for pair in pairs
        ],
    )


def predict(
    run: show.RunName,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|FOLDER…")],
    top: Annotated[int, typer.Option(help="Classes to name a picture.", min=1)] = 5,
    csv: Annotated[Path | None, typer.Option(help="Also write a table to this file.")] = None,
    coverage: Annotated[
        float, typer.Option(help="Of the label sets in --json: 0.8, 0.85, 0.9, 0.95, 0.98 or 0.99.")
    ] = 0.95,
    tta: Tta = False,
    json: show.Json = False,
) -> None:
    """Say what is on pictures. A folder stands for every file in it and below."""
    from imgcls import batch
    from imgcls import predict as predictor
    from imgcls.evaluate.calibrate import COVERAGES

    if coverage not in COVERAGES:
        raise typer.BadParameter(f"coverage must be one of {COVERAGES}, got {coverage:g}.")
    found = show.find_run(run)
    if csv and not csv.parent.is_dir():
        raise DataError(f"There is no folder {csv.parent} for {csv.name}: make it first.")
    if csv and not json:
        if tta:
            raise DataError("A table takes plain answers: leave out --tta, or add --json.")
        _to_table(found, images, csv, top)
        return
    files = [file for path in images for file in _files(path)]
    if not files:
        raise DataError(f"There is no file in {', '.join(str(p) for p in images[:3])}.")
    entries: list[dict[str, Any]] = []
    with show.counting("predicting") as progress:
        for start in range(0, len(files), BLOCK):
            pictures: list[tuple[str, bytes]] = []
            block: list[dict[str, Any] | None] = []
            for file in files[start : start + BLOCK]:
                name = batch.name_of(file)
                try:
                    pictures.append((name, batch.read(file)))
                    block.append(None)
                except DataError as error:
                    block.append({"file": name, "error": str(error)})
            judged = iter(
                predictor.predict(found.id, pictures, top=top, coverage=coverage, tta=tta)
            )
            entries += [one if one is not None else next(judged) for one in block]
            progress(len(entries), len(files), "pictures judged")
    if csv:
        csv.write_bytes(predictor.to_csv(entries).encode())
    plain = [{k: v for k, v in entry.items() if k != "seen"} for entry in entries]
    if json:
        show.as_json({"model": found.id, "predictions": plain})
    else:
        for entry in plain:
            print(f"{entry['file']}: {_sentence(entry)}" if "top" in entry else entry["error"])
    if all("error" in entry for entry in entries):
        raise DataError(entries[0]["error"] if len(entries) == 1 else "No file could be used.")


def _to_table(run: "Run", images: list[Path], table: Path, top: int) -> None:
    """Any number of files, without keeping them or their answers."""
    from imgcls import batch

    def named() -> Iterator[Path]:
        found = (file for path in images for file in _files(path))
        return (file for file in found if not batch.is_own(file, table))

    total = sum(1 for _ in named())
    if not total:
        raise DataError(f"There is no file in {', '.join(str(p) for p in images[:3])}.")
    with show.counting("predicting") as progress:
        told = batch.to_table(
            run, named(), table, top,
            lambda done, bad: progress(done, total, f"pictures judged, {bad:,} refused"),
        )  # fmt: skip
    again = f", {told.resumed:,} of them by an earlier call" if told.resumed else ""
    print(f"{table}: {told.files:,} files, {told.refused:,} refused{again}")
    if told.refused == told.files:
        raise DataError(f"No file could be used: the column error of {table} says why.")


def _answers(run: "Run", split: str, tta: bool) -> "Predictions":
    """Stored predictions, made first where there are none."""
    from imgcls.evaluate import predictions

    stored = predictions.load(run, split, tta)
    if stored is None:
        with show.counting("judging") as progress:
            predictions.compute(run.id, split, progress, tta)
        stored = predictions.load(run, split, tta)
    if stored is None:
        raise RunError(f"Run {run.id} got a better model meanwhile: evaluate it once more.")
    return stored


def _calibration(run: "Run", judged: "Predictions", tta: bool) -> dict[str, Any]:
    """Errors of calibration, and after a temperature from validation where that is honest."""
    from imgcls.evaluate import calibrate, predictions

    plain = asdict(calibrate.errors(judged.logits, judged.labels, 1.0))
    if not predictions.fits_on_validation(run, judged.split):
        return {**plain, "temperature": None, "scaled": None}
    held = _answers(run, "validation", tta)
    temperature = calibrate.temperature(held.logits, held.labels)
    after = calibrate.errors(judged.logits, judged.labels, temperature)
    return {**plain, "temperature": temperature, "scaled": asdict(after)}


def _row(one: Any) -> dict[str, Any]:
    values = asdict(one)
    return {"class": values.pop("name"), **values}


def _print(judged: "Metrics", caution: str) -> None:
    from imgcls.evaluate import metrics

    interval = f"{show.percent(judged.accuracy_low)} to {show.percent(judged.accuracy_high)}"
    print(f"{judged.run} on {judged.n:,} {judged.split} images of {judged.dataset}")
    print(f"accuracy {show.percent(judged.accuracy)} (95 % interval {interval})")
    print(f"loss {judged.loss:.4f}\n")
    table = metrics.report_table(judged)
    show.table(list(table.columns), table.values.tolist())
    if len(judged.classes) <= MATRIX_CLASSES:
        print("\nconfusion: rows true, columns predicted")
        rows = zip(judged.classes, judged.confusion.tolist(), strict=True)
        show.table(["", *judged.classes], [[name, *counts] for name, counts in rows])
    if caution:
        show.note(caution)


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or every file below a folder that is not hidden, links to folders apart."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _sentence(entry: dict[str, Any]) -> str:
    told = ", ".join(f"{one['class']} {show.percent(one['probability'])}" for one in entry["top"])
    return f"unlike anything it knows; {told}" if entry["known"] is False else told
