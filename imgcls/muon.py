"""Muon: steps whose singular values are brought towards one, for a network's hidden weights."""

from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

# Of the quintic iteration, chosen by its author for a steep slope at zero: singular values need not
# end at exactly one.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 3
BETAS = (0.9, 0.95)  # of Adam, for what is not a hidden weight
SMALLEST = 1e-7  # norm by which weights are divided
ADAM_SHARE = 1 / 24  # of the learning rate


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for hidden weights; Adam for biases, norms and the head.

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/. As in his cifar10-airbench,
    the n filters of a layer are scaled to the norm √n before each step, so that they only turn;
    weight decay is then left to Adam's part, decoupled. Hidden are the weights of convolutions and
    linear layers, of four and two dimensions, but the last one in the order of
    `model.parameters()`; tokens, positions and layers' scales have one or three. dtype: what steps
    are orthogonalised in; the rest is as exact as the parameters.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        lr: float,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        matrices = [p for p in parameters if p.ndim in (2, 4)]
        hidden = {id(p) for p in matrices[:-1]}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if (id(p) in hidden) == wanted], "hidden": wanted}
            for wanted in (True, False)
        ]
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "step": 0}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            group["step"] += 1
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["hidden"]:
                self._turn(parameters, group)
            elif parameters:
                self._adam(parameters, group)

    def _turn(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        shapes: dict[tuple[int, int], list[Tensor]] = {}
        for p in parameters:
            shapes.setdefault((len(p), p[0].numel()), []).append(p)
        for (rows, _), alike in shapes.items():  # layers of one shape go as a batch
            gradients = [p.grad for p in alike if p.grad is not None]
            momenta = self._kept(alike, "momentum")
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, gradients)
            ahead = torch._foreach_add(gradients, momenta, alpha=group["momentum"])
            # Channels last, as they lie in memory. The order of columns is nothing to U·Vᵀ.
            stack = torch.stack([a.movedim(1, -1).flatten(1).to(self.dtype) for a in ahead])
            turns = orthogonal(stack)
            lengths = torch._foreach_norm(alike)
            torch._foreach_clamp_min_(lengths, SMALLEST)  # weights may begin at zero
            torch._foreach_reciprocal_(lengths)
            torch._foreach_mul_(lengths, rows**0.5)
            torch._foreach_mul_(alike, lengths)
            for parameter, turn in zip(alike, turns, strict=True):
                turn = turn.view_as(parameter.movedim(1, -1)).movedim(-1, 1)
                parameter.add_(turn, alpha=-group["lr"])

    def _adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        lr, (fast, slow), step = group["lr"] * ADAM_SHARE, BETAS, group["step"]
        gradients = [p.grad for p in parameters if p.grad is not None]
        means, squares = self._kept(parameters, "mean"), self._kept(parameters, "square")
        torch._foreach_lerp_(means, gradients, 1 - fast)
        torch._foreach_mul_(squares, slow)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - slow)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1 - slow**step) ** 0.5)
        torch._foreach_add_(roots, 1e-8)
        torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, means, roots, -lr / (1 - fast**step))

    def _kept(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in parameters]


def orthogonal(matrices: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """About U·Vᵀ of each of (N, rows, columns), bf16 or float: singular values move towards one.

    Newton–Schulz iteration x ← a·x + (b·xxᵀ + c·(xxᵀ)²)·x, for which bf16 is exact enough.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)  # no singular value above one
    for _ in range(iterations):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
