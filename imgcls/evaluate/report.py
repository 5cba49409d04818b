"""A report on a run to hand over: one HTML file that needs nothing else, also offline.

What is stored is shown; what was never measured says so, and how to measure it. Only `closely` asks
the model again.
"""

import base64
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from html import escape
from importlib import metadata
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image
from plotly.offline import get_plotlyjs

import imgcls
from imgcls import charts, files, studies
from imgcls.charts import replay
from imgcls.data import catalog
from imgcls.data.catalog import Images
from imgcls.errors import ImgclsError
from imgcls.evaluate import (
    adversarial,
    calibrate,
    closely,
    compare,
    dynamics,
    intervals,
    metrics,
    predictions,
    robustness,
    seeds,
    traits,
)
from imgcls.evaluate.predictions import Predictions
from imgcls.preprocess import printable
from imgcls.recipes import DEFAULT, RECIPES
from imgcls.runs import Run

SHOWN = 48  # images of a sheet
PAIRS = 12  # of classes, the most confused
CLASSES = 50  # of the matrix and of the curves, those with most mistakes
WIDTH = 860  # pixels of a figure
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b2226; max-width: 960px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { margin-top: 2.4rem; font-size: 1.25rem; }
p.muted, figcaption, td.muted { color: #5b656b; } p.caution { background: #fff4d6; padding: .6rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #e3e7e9; }
pre { background: #f2f5f6; padding: .8rem; overflow-x: auto; }
.sheet { display: flex; flex-wrap: wrap; gap: 8px; } .sheet figure { margin: 0; width: 92px; }
.sheet img { width: 64px; height: 64px; image-rendering: pixelated; display: block; }
.sheet figcaption { font-size: 11px; line-height: 1.25; overflow-wrap: anywhere; }
.figure { overflow-x: auto; max-width: 100%; }
"""


def write(run: Run, split: str, path: Path, others: Sequence[Run], now: datetime) -> None:
    """Write the report on a run, held against others, to an .html file, whole or not at all.

    All must have stored predictions on the split. Raises ImgclsError where they have none, or where
    the others answered for other images.
    """
    html = page(run, split, others, now)

    def put(draft: Path) -> None:
        draft.write_text(html, encoding="utf-8")

    files.write_atomically(path, put)


def page(run: Run, split: str, others: Sequence[Run], now: datetime) -> str:
    """The report as one HTML text."""
    answers = predictions.stored(run, split)
    judged = [answers, *(predictions.stored(other, split) for other in others)]
    parts = [
        _head(run, answers, now),
        _figures(answers),
        _seeds(run, split),
        _mistakes(run, answers),
        _shortcuts(run, answers),
        _confidence(run, answers),
        _comparison([run, *others], judged),
        _learning(run),
        _robustness(run, split),
        _origin(run, split, others),
    ]
    title = escape(f"{run.id} on {answers.dataset}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<script>{get_plotlyjs()}</script></head><body>{''.join(parts)}</body></html>"
    )


def _head(run: Run, answers: Predictions, now: datetime) -> str:
    found, caution = metrics.summary(answers), predictions.caution(run, answers.split)
    said = (
        f"{found.accuracy:.2%} of {found.n:,} {answers.split} images are called right "
        f"(95 % interval {found.accuracy_low:.2%} to {found.accuracy_high:.2%})."
    )
    return (
        f"<h1>{escape(run.config.recipe)} on {escape(answers.dataset)}</h1>"
        f'<p class="muted">Run {escape(run.id)}, judged by imgcls {imgcls.__version__}, '
        f"{now:%d %B %Y}</p><p><strong>{said}</strong></p>"
        + (f'<p class="caution">{escape(caution)}</p>' if caution else "")
    )


def _figures(answers: Predictions) -> str:
    overall, by_class = intervals.estimates(answers)
    left_out = metrics.left_out(metrics.summary(answers))
    rows = [
        (name, _known(value, ".4f"), _span(low, high, ".4f"))
        for name, value, low, high in overall.itertuples(index=False)
    ]
    columns = ("precision", "recall", "F1", "AUC")
    classes = [
        (
            printable(row["class"]),
            *(
                _known(row[c], ".3f") + f" ({_span(row[f'{c} low'], row[f'{c} high'], '.3f')})"
                for c in columns
            ),
            f"{row['support']:,}",
        )
        for _, row in by_class.iterrows()
    ]
    return (
        "<h2>How good, and how sure</h2>"
        + _table(("figure", "value", "95 % interval"), rows)
        + _table(("class", *(f"{c}, 95 %" for c in columns), "images"), classes)
        + (f"<p class='muted'>{left_out}</p>" if left_out else "")
    )


def _seeds(run: Run, split: str) -> str:
    """The seeds of this training that have stored answers; nothing where that is one."""
    known = [predictions.load(other, split) for other in seeds.siblings(run)]
    told = [seeds.figures(one) for one in known if one is not None]
    if len(told) < 2:
        return ""
    found = seeds.spreads(told)
    rows = [
        (one.name, f"{one.mean:.4f} ± {one.sd:.4f}", ", ".join(f"{v:.4f}" for v in one.values))
        for one in found
    ]
    columns = ("figure", "mean ± standard deviation", "each run")
    return (
        f"<h3>{len(told)} seeds of this training</h3>"
        + _plot(charts.arms([("accuracy", found[0].values, found[0].interval)], x="accuracy"))
        + _table(columns, rows)
    )


def _shortcuts(run: Run, answers: Predictions) -> str:
    rows, found = traits.of_run(run, answers)
    if not found:
        return ""
    overall = float((~answers.correct).mean())
    told = [
        (
            one.name,
            *(f"{name} {rate:.1%}" for name, rate in zip(
                traits.NAMES[one.name], (one.rates[0], one.rates[-1]), strict=True
            )),
            compare.p_text(one.p),
            "mistakes go with it" if one.real else "within noise",
        )
        for one in found
    ]  # fmt: skip
    note = f"{len(rows):,} images; p of a χ² test, corrected for the number of traits (Holm)."
    curves = (
        charts.error_rates(
            one.middle, one.rates, one.low, one.high, one.images, overall, one.name, height=220
        )
        for one in found
    )
    columns = ("trait", "wrong at its low end", "at its high end", "p, corrected", "verdict")
    return (
        f"<h3>Do mistakes go with simple traits</h3>{_table(columns, told)}"
        f"<p class='muted'>{note}</p>{''.join(map(_plot, curves))}"
    )


def _mistakes(run: Run, answers: Predictions) -> str:
    found = metrics.summary(answers)
    names = [printable(name) for name in found.classes]
    pairs = [
        (names[true], names[called], f"{count:,}", f"{share:.1%}")
        for true, called, count, share in metrics.confused_pairs(found.confusion, PAIRS)
    ]
    rows = metrics.confident_mistakes(answers, SHOWN)
    order = metrics.most_mistaken(found.confusion, CLASSES)
    return (
        "<h2>Where it fails</h2>"
        + _plot(charts.confusion(found.confusion, names, order=order))
        + _table(("true", "called", "images", "of that class"), pairs)
        + "<h3>Its most confident mistakes</h3>"
        + _sheet(run, answers, rows)
        + closely.section(run, answers, _uris)
        + "<h3>Right, and hardly sure</h3>"
        + _sheet(run, answers, metrics.doubtful_hits(answers, SHOWN // 2))
        + "<h3>At random</h3>"
        + _sheet(run, answers, metrics.sample(answers, SHOWN // 2, 0))
    )


def _confidence(run: Run, answers: Predictions) -> str:
    plain = calibrate.scaled(answers.logits, 1.0)
    before = calibrate.reliability(plain, answers.labels)
    shown = {"as trained": (before.confidence, before.accuracy, before.counts)}
    columns = {"as trained": calibrate.errors(answers.logits, answers.labels, 1.0)}
    held = predictions.load(run, "validation")
    sets = scaled = ""
    note = "No temperature: that needs stored validation answers that nothing was learned from."
    if held is not None and predictions.fits_on_validation(run, answers.split):
        temperature = calibrate.temperature(held.logits, held.labels)
        shares = calibrate.scaled(answers.logits, temperature)
        after = calibrate.reliability(shares, answers.labels)
        shown["with temperature"] = (after.confidence, after.accuracy, after.counts)
        columns["with temperature"] = calibrate.errors(answers.logits, answers.labels, temperature)
        note = f"Temperature {temperature:.3f}, fitted on validation."
        scaled = ", after the temperature"
        plain, sets = shares, _sets(answers, held, shares, temperature)
    fields = {
        "expected calibration error": "ece",
        "largest gap in a bin": "mce",
        "Brier score": "brier",
        "log loss, nats": "loss",
    }
    rows = [
        (name, *(f"{getattr(one, field):.4f}" for one in columns.values()))
        for name, field in fields.items()
    ]
    _, coverage, risk = calibrate.risk_coverage(plain, answers.labels)
    return (
        "<h2>Is its confidence true</h2>"
        + _plot(charts.reliability(shown))
        + _table(("figure", *columns), rows)
        + f'<p class="muted">{note} Below: wrong answers if it answers only when sure{scaled}.</p>'
        + _plot(charts.risk_coverage(coverage, risk, None))
        + sets
    )


def _sets(
    answers: Predictions, held: Predictions, shares: calibrate.Floats, temperature: float
) -> str:
    of_held = calibrate.scaled(held.logits, temperature)
    found = [
        calibrate.conformal(of_held, held.labels, shares, answers.labels, wanted)
        for wanted in calibrate.COVERAGES
    ]
    rows = [
        (
            f"{one.wanted:.0%}", f"{one.coverage:.1%}", f"{one.size:.2f}", f"{one.single:.1%}",
            f"{one.empty:.1%}", f"{one.threshold:.3f}",
        )
        for one in found
    ]  # fmt: skip
    columns = (
        "coverage asked for", "reached", "classes a set", "sets of one", "empty sets", "threshold",
    )  # fmt: skip
    return f"<h3>Several labels instead of one</h3>{_table(columns, rows)}"


def _comparison(compared: Sequence[Run], judged: Sequence[Predictions]) -> str:
    if len(judged) < 2:
        return ""
    compare.check_fair(compared, judged[0].split)
    pairs = compare.pairs(judged)
    shown = [(p.b, p.a, p.difference, p.low, p.high, p.real) for p in pairs]
    rows = [
        (
            pair.b,
            pair.a,
            f"{100 * pair.difference:+.2f} ({100 * pair.low:+.2f} to {100 * pair.high:+.2f})",
            compare.p_text(pair.p),
            compare.p_text(pair.p_holm),
            pair.verdict,
        )
        for pair in pairs
    ]
    columns = ("B", "A", "B − A in points, 95 %", "p", "p, corrected", "verdict")
    note = "Exact McNemar test; p corrected for the number of pairs (Holm)."
    return (
        "<h2>Against other runs</h2>"
        + _plot(charts.differences(shown))
        + _table(columns, rows)
        + f"<p class='muted'>{note}</p>"
        + _plot(charts.compare_runs({run.id: run.events() for run in compared}))
        + _by_class(judged)
        + "".join(
            _only(compared[0], judged[0], other) + _only(run, other, judged[0])
            for run, other in zip(compared[1:], judged[1:], strict=True)
        )
    )


def _by_class(judged: Sequence[Predictions]) -> str:
    names, shares = [printable(name) for name in judged[0].classes], compare.recalls(judged)
    rows = [
        (name, *(_known(share, ".3f") for share in column))
        for name, column in zip(names, shares.T, strict=True)
    ]
    return _table(("recall", *(one.run for one in judged)), rows)


def _only(run: Run, ours: Predictions, theirs: Predictions) -> str:
    """Images that theirs alone calls right of the two, as the run of ours calls them."""
    rows = compare.only_right(theirs, ours)
    title = f"{len(rows):,} images that {theirs.run} calls right and {ours.run} wrong"
    return f"<h3>{escape(title)}</h3>" + _sheet(run, ours, rows[: SHOWN // 2])


def _learning(run: Run) -> str:
    html = "<h2>How it learned</h2>" + _plot(charts.epoch_curves(run.events()))
    history = dynamics.load(run)
    if history is None or len(history.epochs) < 2:
        return html + "<p class='muted'>Fewer than two epochs' answers were kept of this run.</p>"
    names = [printable(name) for name in history.classes]
    confusions = dynamics.confusions(history)
    order = metrics.most_mistaken(confusions[-1], CLASSES)
    seen = dynamics.cartography(history)
    titles = [names[label] for label in history.labels]
    hardest = np.argsort(seen.confidence, kind="stable")[:SHOWN]
    return (
        html
        + replay.embedded(
            replay.epochs(
                history.epochs,
                dynamics.maps(history),
                history.labels,
                history.predicted,
                confusions,
                dynamics.recalls(confusions),
                names,
                order,
            )
        )
        + "<h3>Easy, ambiguous and hard validation images</h3>"
        + replay.embedded(
            replay.cartography(seen.variability, seen.confidence, seen.forgotten, titles)
        )
        + replay.script()
        + "<h3>The validation images that were hardest to believe</h3>"
        + _sheet(run, dynamics.answers(history, -1), hardest)
    )


def _robustness(run: Run, split: str) -> str:
    html = "<h2>How robust</h2>"
    chance = 1 / len(predictions.stored(run, split).classes)
    worse, attacked = robustness.load(run, split), adversarial.load(run, split)
    if worse is not None:
        kinds = zip(robustness.SEVERITIES, worse.accuracy.tolist(), strict=True)
        curves = {name: [worse.clean, *shares] for name, shares in kinds}
        levels = range(robustness.LEVELS + 1)
        html += f"<p>Mean corruption accuracy <strong>{worse.mean:.2%}</strong>.</p>"
        html += _plot(charts.strength_curves(levels, curves, chance, "severity"))
    if attacked is not None:
        kinds = zip(adversarial.ATTACKS, attacked.accuracy.tolist(), strict=True)
        curves = {name: [attacked.clean, *shares] for name, shares in kinds}
        sizes, x = [0.0, *adversarial.EPSILONS], "largest change of a channel, of 255"
        html += f"<p>Under attack, {attacked.n:,} images.</p>"
        html += _plot(charts.strength_curves(sizes, curves, chance, x))
    if worse is None or attacked is None:
        command = f"python -m imgcls evaluate {run.id} --split {split} --robustness"
        html += (
            f"<p class='muted'>Not all was measured. Measure it with: <code>{command}</code></p>"
        )
    return html


def _origin(run: Run, split: str, others: Sequence[Run]) -> str:
    facts = run.facts
    judged, _ = predictions.place(run, split)
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    judging = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "scikit-learn", "scipy")
    )
    told = [
        ("learned from", f"{run.config.dataset}{_source(run.config.dataset)}"),
        ("fingerprint of that data", facts["fingerprint"]),
        ("judged by", f"{split} images of {judged}{_source(judged)}"),
        ("fingerprint of that data", catalog.load(judged).fingerprint),
        ("trained", facts["created"]),
        ("versions that trained", versions),
        ("versions that judged", f"imgcls {imgcls.__version__}, {judging}"),
        ("code", facts.get("commit") or "not from a clone"),
    ]
    names = ["RUN", *(f"OTHER{i}" for i in range(1, len(others) + 1))]
    report = [f"python -m imgcls evaluate $RUN --split {split} --report report.html"]
    if any(one.load(run, split) is not None for one in (robustness, adversarial)):
        report.append("--robustness")
    report += [f"--against ${name}" for name in names[1:]]
    commands = [
        f"# {run.config.dataset}{_source(run.config.dataset)}:",
        f"# python -m imgcls data import SOURCE --name {run.config.dataset}, or data fetch NAME",
        *(_again(name, one) for name, one in zip(names, (run, *others), strict=True)),
        " ".join(report),
    ]
    settings = json.dumps(run.config.to_dict(), indent=1, ensure_ascii=False)
    left_out = (
        "<p class='muted'>Not in here, since it is looked at image by image on the page: any other "
        "image as closely, through training, or under a corruption.</p>"
    )
    return (
        f"{left_out}<h2>Where it comes from</h2>{_table(('what', ''), told)}<h3>Again</h3>"
        f'<pre tabindex="0">{escape(chr(10).join(commands))}</pre><h3>Settings</h3>'
        f'<pre tabindex="0">{escape(settings)}</pre>'
    )


def _again(name: str, run: Run) -> str:
    """What trains the run once more and keeps the new run's name in a variable of the shell."""
    if run.config.recipe == "imported":
        return f"{name}={run.id}  # its model was imported: no command of imgcls trains it"
    # The settings that differ from any recipe's tell it all.
    known = run.config.recipe in RECIPES
    command = studies.command(run.config if known else replace(run.config, recipe=DEFAULT))
    read = "python -c 'import json, sys; print(json.load(sys.stdin)[\"run\"])'"
    return f"{name}=$({command} --json | {read})"


def _source(name: str) -> str:
    """Where a data set came from, as far as that is known."""
    try:
        return f", {catalog.load(name).source}"
    except ImgclsError:
        return ", which is gone"


def _known(value: float, form: str) -> str:
    """A dash for what is undefined."""
    return "–" if np.isnan(value) else format(value, form)


def _span(low: float, high: float, form: str) -> str:
    return "–" if np.isnan(low) else f"{low:{form}} to {high:{form}}"


def _table(columns: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="figure" tabindex="0">{table}</div>'


def _plot(figure: go.Figure) -> str:
    figure.update_layout(width=min(figure.layout.width or WIDTH, WIDTH))
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config={"displaylogo": False},
    )
    return f'<div class="figure">{html}</div>'


def _sheet(run: Run, answers: Predictions, rows: NDArray[np.int64]) -> str:
    images = predictions.pictures(run, answers.split, rows)
    tiles = []
    for uri, row in zip(_uris(images), rows, strict=True):
        true = printable(answers.classes[answers.labels[row]])
        called = printable(answers.classes[answers.predicted[row]])
        mark = "✓" if answers.correct[row] else "✗"
        said = escape(f"{true} {mark} {called} {answers.confidence[row]:.0%}")
        tiles.append(
            f'<figure><img src="{uri}" alt="{said}"><figcaption>{said}</figcaption></figure>'
        )
    return f'<div class="sheet">{"".join(tiles)}</div>' if tiles else "<p>None.</p>"


def _uris(images: Images) -> Iterator[str]:
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        yield f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
