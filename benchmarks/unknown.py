"""Pictures of no class that a model knows: what its verdict makes of digits, noise, photographs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from imgcls import deployed, preprocess
from imgcls.data.catalog import Images
from imgcls.evaluate import predictions
from imgcls.evaluate.calibrate import scaled
from imgcls.runs import Run
from imgcls.trust import Trust

# Samples of scikit-image that show none of CIFAR-10's classes.
PHOTOGRAPHS = (
    "astronaut", "coffee", "brick", "camera", "coins", "grass", "gravel", "hubble_deep_field",
    "immunohistochemistry", "moon", "page", "retina", "text", "clock", "colorwheel", "logo",
)  # fmt: skip
CROPS = 60  # of each photograph, squares of a quarter of its height to all of it
NOISE = 1000


def sets(size: int, fit: str) -> dict[str, Images]:
    """Pictures as the model would get them, uint8 (N, size, size, 3), the same at each call."""
    chance = np.random.default_rng(0)
    digits = [(one * 255 / 16).astype(np.uint8) for one in load_digits().images]
    return {
        "digits": np.stack([seen(Image.fromarray(one), size, fit) for one in digits]),
        "noise": chance.integers(0, 256, (NOISE, size, size, 3), dtype=np.uint8),
        "photographs": np.stack(list(crops(chance, size, fit))),
    }


def names() -> dict[str, NDArray[Any]]:
    """What each picture of two of the `sets` shows: a digit, or which photograph."""
    return {"digits": load_digits().target, "photographs": np.repeat(PHOTOGRAPHS, CROPS)}


def crops(chance: np.random.Generator, size: int, fit: str) -> Any:
    """Random squares of each photograph."""
    import skimage.data

    for name in PHOTOGRAPHS:
        image = Image.fromarray(_bytes(getattr(skimage.data, name)()))
        shorter = min(image.size)
        for _ in range(CROPS):
            side = int(chance.uniform(0.25, 1) * shorter)
            x, y = (int(chance.integers(0, length - side + 1)) for length in image.size)
            yield seen(image.crop((x, y, x + side, y + side)), size, fit)


def _bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    """0..255, as samples that hold truth values or floats 0..1 are not."""
    if image.dtype == np.uint8:
        return image
    scaled: NDArray[np.uint8] = (255 * image.astype(float) / image.max()).round().astype(np.uint8)
    return scaled


def seen(image: Image.Image, size: int, fit: str) -> NDArray[np.uint8]:
    """As a model of this size sees it."""
    return preprocess.to_pixels(image.convert("RGB"), size, fit)


def measure(run: Run, trust: Trust) -> list[dict[str, Any]]:
    """For each set: AUROC against the test images, of our verdict and of max-softmax; refused.

    The first row holds the test images themselves: `refused` is the share that is called unknown.
    """
    import torch

    model, about = deployed.load(run.model_path, trust)
    test = predictions.stored(run, "test")
    pictures = predictions.pictures(run, "test", np.arange(len(test.labels)))

    def scores(images: Images, logits: NDArray[np.float32]) -> tuple[Any, Any]:
        unlike = trust.unlikeness(images, scaled(logits, trust.temperature))
        return unlike, 1 - softmax(logits, axis=1).max(1)

    ours, plain = scores(pictures, test.logits)
    rows = [{"set": "test images", "n": len(ours), "refused": float((ours > trust.limit).mean())}]
    for name, images in sets(about.size, about.fit).items():
        with torch.inference_mode():
            blocks = torch.from_numpy(images).split(256)
            logits = torch.cat([model(block)[0] for block in blocks]).numpy()
        theirs, theirs_plain = scores(images, logits)
        truth = np.repeat([0, 1], [len(ours), len(theirs)])
        rows.append(
            {
                "set": name,
                "n": len(images),
                "refused": float((theirs > trust.limit).mean()),
                "auroc": float(roc_auc_score(truth, np.concatenate([ours, theirs]))),
                "auroc_max_softmax": float(
                    roc_auc_score(truth, np.concatenate([plain, theirs_plain]))
                ),
            }
        )
    return rows
