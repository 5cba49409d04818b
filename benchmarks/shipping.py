"""Make what ships with imgcls from runs: the model, its answers to the test images, its card.

    python -m benchmarks.shipping RUN HELD [SEED…]

RUN learned from train and validation images. HELD, of the same recipe, learned from the train split
alone: temperature, label sets and the threshold of the unknown come from its answers to its
validation images, since RUN has seen those. Each further SEED is one more run like HELD, for the
recipe's mean.
"""

import json
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import unknown
from imgcls import card, runs, taught
from imgcls.errors import RunError
from imgcls.evaluate import belief, calibrate, metrics, predictions
from imgcls.runs import ASSETS, SHIPPED, Run
from imgcls.trust import Trust

FREE = ("train_on", "seed", "eval_every", "precision", "threads")  # that change no recipe
KNOWN = 1000  # images by which the model can be taught
PROBE, SHOTS, DRAWS = "digits", 5, 20  # what that is tried with
COPIED = ("config.json", "events.jsonl", "model.safetensors", "predictions/test.npz")


def main(names: list[str]) -> None:
    """See above."""
    run, held, *seeds = map(runs.get, names)
    for one in (held, *seeds):
        check(run, one)
    for one in (run, held, *seeds):
        predictions.compute(one.id, "test")
    predictions.compute(held.id, "validation")
    believed = belief.of_run(held)
    assert believed is not None
    folder = ASSETS / SHIPPED
    shutil.rmtree(folder, ignore_errors=True)
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.path / name, folder / name)
    (folder / "trust.json").write_text(json.dumps(believed.to_dict()) + "\n", encoding="utf-8")
    know(run, held, folder / "known.npz")
    text = model_card(run, held, [held, *seeds], believed)
    (folder / "CARD.md").write_text(text, encoding="utf-8")
    print(text)


def know(run: Run, held: Run, path: Path) -> None:
    """Store what the model sees of some training images, so that it can be taught new classes."""
    known = learned_from(run)
    shares = others_shares(held)
    np.savez_compressed(path, features=known.features, labels=known.labels, shares=shares)


def learned_from(run: Run) -> taught.Known:
    """KNOWN of a run's training images, evenly spread."""
    _, labels, indices = predictions.judged_images(run, "train")
    rows = np.linspace(0, len(indices) - 1, KNOWN).round().astype(np.int64)
    features = predictions.see(run.id, predictions.pictures(run, "train", rows))
    assert features is not None
    return taught.Known(features, labels[indices[rows]])


def others_shares(held: Run) -> NDArray[np.float64]:
    """(KNOWN + 1,) for `taught.Known`: what HELD's validation images are to its training images.

    For each count 0 to KNOWN of training images as much like a new class as a picture is: the
    share of validation images of which that count is no larger, the picture taken as one more of
    them. The mean over new classes of SHOTS pictures each: every digit, and every photograph.
    """
    known, others = learned_from(held), predictions.features(held, "validation")
    assert others is not None
    about, told = card.read(held.model_path), []
    for kind, names in unknown.names().items():
        pictures = unknown.sets(about.size, about.fit)[kind]
        features = predictions.see(held.id, pictures)
        assert features is not None
        for name in np.unique(names):
            few = np.random.default_rng(0).permutation(np.flatnonzero(names == name))[:SHOTS]
            new = taught.fit(known, {str(name): features[few]})
            margins = new.margin(others.astype(np.float32)).max(1)
            above = new.above(margins)
            told.append(np.bincount(above, minlength=KNOWN + 1).cumsum() + 1)
    shares: NDArray[np.float64] = np.mean(told, axis=0) / (len(others) + 1)
    return shares


def check(run: Run, held: Run) -> None:
    """Raises RunError unless both are of one recipe and data set, and only HELD left some out."""
    if run.config.train_on != "train+validation" or held.config.train_on != "train":
        raise RunError("RUN has to learn from train+validation, HELD from train.")
    if run.facts["fingerprint"] != held.facts["fingerprint"]:
        raise RunError("RUN and HELD learned from data sets that differ.")
    other = held.config.to_dict()
    differ = [n for n, v in run.config.to_dict().items() if other[n] != v and n not in FREE]
    if differ:
        raise RunError(f"RUN and HELD differ in {', '.join(differ)}.")


def model_card(run: Run, held: Run, seeds: list[Run], believed: Trust) -> str:
    """The card, in Markdown: after Mitchell et al. 2019, arXiv:1810.03993."""
    answers = predictions.stored(run, "test")
    found = metrics.summary(answers)
    others = [metrics.summary(predictions.stored(one, "test")).accuracy for one in seeds]
    before, after = (
        calibrate.errors(answers.logits, answers.labels, t) for t in (1.0, believed.temperature)
    )
    shares = calibrate.scaled(answers.logits, believed.temperature)
    true = shares[np.arange(len(shares)), answers.labels]
    covered = (true >= believed.label_sets["0.95"]).mean()
    labels = (shares >= believed.label_sets["0.95"]).sum(1).mean()
    about = card.read(run.model_path)
    facts, told = run.facts, unknown.measure(run, believed)
    told_new, found_new = taught_shares(run)
    return f"""# The model that ships with imgcls

Its weights are of {day(run)}, what is believed of its answers of {day(held)}; made by `python -m benchmarks.shipping`: figures are measured, none is typed in.

| | |
|---|---|
| task | one of ten classes of a 32×32 picture: {", ".join(about.classes)} |
| network | `{about.architecture["model"]}`, {megabytes(run.model_path)} MB of float32 weights |
| recipe | `{run.config.recipe}`, {run.config.epochs} epochs, seed {run.config.seed}, on the 50,000 training images (`train_on = {run.config.train_on}`), never on a test image |
| data | {run.config.dataset}: CIFAR-10 (Krizhevsky 2009) saved as JPEG of quality about 75; fingerprint `{facts["fingerprint"][:16]}…` |
| code | commit `{facts["commit"][:12]}`, torch {facts["versions"]["torch"]}; on the train split alone `{held.facts["commit"][:12]}` |
| accuracy | {found.accuracy:.2%} of {found.n:,} test images (95 % interval {found.accuracy_low:.2%} to {found.accuracy_high:.2%}), without test-time augmentation |
| its recipe on the train split alone | {np.mean(others):.2%} ± {np.std(others, ddof=1) if len(others) > 1 else 0:.2%}, {len(others)} seeds (± standard deviation) |

## How far to believe it

Temperature, label sets and the threshold of the unknown were not fitted on images that the model learned from. They come from the same recipe trained on the train split alone (seed {held.config.seed}), by its answers to {believed.n:,} validation images.

| on the test images | as trained | with temperature {believed.temperature:.3f} |
|---|---|---|
| expected calibration error | {before.ece:.4f} | {after.ece:.4f} |
| Brier score | {before.brier:.4f} | {after.brier:.4f} |
| log loss, nats | {before.loss:.4f} | {after.loss:.4f} |

Label sets asked to hold the true class in 95 % of cases hold it in {covered:.1%}, with {labels:.2f} classes on average.

| pictures | n | called unknown | AUROC against test images | of max-softmax |
|---|---|---|---|---|
{chr(10).join(row(one) for one in told)}

Photographs: {unknown.CROPS} random squares of each of {len(unknown.PHOTOGRAPHS)} samples of scikit-image that show none of the classes.

Classes taught from a few pictures are held against {KNOWN:,} training images that come with the model. Images that it did not learn from lie nearer to a new class than those; how much nearer was
measured on the same recipe trained on the train split alone, by its training and validation images, with digits and the photographs above as new classes. With {SHOTS} pictures of {PROBE} taught,
{told_new:.1%} of the test images are called so ({1 - belief.PASSING:.0%} are meant to be), and {found_new:.1%} of other {PROBE}.

## Limits

It knows ten classes and 32×32 pixels. The verdict "unlike anything I know" finds pictures that look otherwise or leave the model in
doubt; a clear photograph of something else passes about as often as not (docs/benchmarks.md names them). It was not examined for any use in which a mistake harms somebody.
"""


def taught_shares(run: Run) -> tuple[float, float]:
    """Of test images and of other pictures of PROBE, called so after SHOTS of them; mean of DRAWS.

    RUN's own folder in ASSETS holds the known images.
    """
    about = card.read(run.model_path)
    known = taught.known_images(Run(ASSETS / SHIPPED))
    probes = predictions.see(run.id, unknown.sets(about.size, about.fit)[PROBE])
    test = predictions.features(run, "test")
    assert known is not None
    assert probes is not None
    assert test is not None
    shares = []
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(probes))
        new = taught.fit(known, {PROBE: probes[order[:SHOTS]]})
        shares.append(
            [
                np.mean([one.is_new for one in new.say(seen.astype(np.float32))])
                for seen in (test, probes[order[SHOTS:]])
            ]
        )
    return tuple(np.mean(shares, axis=0))


def day(run: Run) -> str:
    """On which a run began."""
    return f"{datetime.fromisoformat(run.facts['created']):%d %B %Y}"


def row(one: dict[str, Any]) -> str:
    """A line of the table of unknown pictures."""
    auroc = f"{one['auroc']:.3f} | {one['auroc_max_softmax']:.3f}" if "auroc" in one else " | "
    return f"| {one['set']} | {one['n']:,} | {one['refused']:.1%} | {auroc} |"


def megabytes(path: Path) -> str:
    """A file's size."""
    return f"{path.stat().st_size / 1e6:.1f}"


if __name__ == "__main__":
    main(sys.argv[1:])
