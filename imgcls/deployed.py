"""A model as it leaves the house: pictures of its size in, logits and calibrated shares out."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import imgcls
from imgcls import models
from imgcls.card import Card
from imgcls.evaluate import belief
from imgcls.models import quicker
from imgcls.runs import Run
from imgcls.trust import Trust


class Deployed(nn.Module):
    """(N, S, S, 3) uint8 RGB pictures to (N, classes) float32 logits and probabilities.

    S is the card's `size`. Normalisation and temperature are inside, so nothing is left to whoever
    calls it; what makes a file S×S pixels is `preprocess`.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], temperature: float
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float32))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """As the class says."""
        logits = self.network(self.inputs(pictures)).float()
        return logits, torch.softmax(logits / self.temperature, dim=1)

    def inputs(self, pictures: Tensor) -> Tensor:
        """What the network gets: (N, 3, S, S) float32, normalised."""
        # Floats first: TensorRT does nothing else with uint8.
        images = pictures.float().permute(0, 3, 1, 2).div(255)
        return (images - self.mean) / self.std


def load(path: Path, trust: Trust | None) -> tuple[Deployed, Card]:
    """A model file with what is known of its confidence, in evaluation mode on the CPU.

    Without `trust` shares are plain softmax. Raises ModelError for a file that is missing, damaged
    or does not fit its card.
    """
    network, about = models.load(path)
    temperature = trust.temperature if trust else 1.0
    quicker.undo(network)  # what is of use in training alone
    return Deployed(network, about.mean, about.std, temperature).eval(), about


def facts(about: Card, trust: Trust | None) -> dict[str, Any]:
    """What travels in an exported file's metadata: JSON."""
    return {
        "format": "imgcls deployed 1",
        "imgcls": imgcls.__version__,
        "card": asdict(about),
        "trust": trust.to_dict() if trust else None,
    }


def of_run_with_facts(run: Run) -> tuple[Deployed, str]:
    """A run's model, and its facts as one JSON text."""
    trust = belief.of_run(run)
    model, about = load(run.model_path, trust)
    return model, json.dumps(facts(about, trust))
