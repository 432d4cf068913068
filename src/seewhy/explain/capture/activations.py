"""One forward that keeps the activations of chosen layers, with a graph that starts there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.explain.explained_model import ExplainedModel

__all__ = ["Capture", "capture"]


@dataclass(frozen=True)
class Capture:
    """Scores of a batch and the activations they were made of.

    Attributes:
        scores: [B, K] with graph back to the activations.
        activations: input → the layer's output, as the layer gave it.
    """

    scores: Tensor
    activations: dict[str, Tensor]

    def gradients(self, score: Tensor, *, last: bool) -> dict[str, Tensor]:
        """Gradients of the samples' scores by the activations, input → tensor of the activation's shape.

        Args:
            score: [B]; samples do not mix in evaluation mode, so their sum has each sample's own gradient.
            last: free the graph, since no further target follows.

        Raises:
            ConfigError: no activation has a path to the scores.
        """
        if not score.requires_grad:
            raise ConfigError(
                "the scores do not depend on the layers' output: the forward runs under no_grad, or goes past them"
            )
        kept = list(self.activations.values())
        found = torch.autograd.grad(score.sum(), kept, retain_graph=not last, allow_unused=True)
        # An input that the model masked has no path to the scores: its gradient is zero.
        return {
            name: torch.zeros_like(one) if gradient is None else gradient
            for (name, one), gradient in zip(self.activations.items(), found, strict=True)
        }


def capture(subject: ExplainedModel, layers: Mapping[str, tuple[str, nn.Module]]) -> Capture:
    """Run the module once and keep what its layers give.

    The layer's output is cut from what came before, so that nothing before it is kept for a backward: the maps
    cost about one forward. It is not cut where it already lies in the graph of another kept layer.

    Args:
        subject: module and batch.
        layers: input → (dotted name, submodule), inputs in the order in which the module computes them.

    Raises:
        ConfigError: a layer that did not run, ran another number of times than there are inputs that name it, or
            gives no activations.
    """
    owners: dict[nn.Module, list[str]] = {}
    for name, (_, layer) in layers.items():
        owners.setdefault(layer, []).append(name)
    kept: dict[nn.Module, list[Tensor]] = {layer: [] for layer in owners}

    def keep(layer: nn.Module, _: object, output: object) -> object:
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if not isinstance(first, Tensor) or not first.is_floating_point():
            found = f"{first.dtype} numbers" if isinstance(first, Tensor) else type(first).__name__
            raise ConfigError(f"layer {_name_of(layer, layers)!r} gives {found}, not activations; choose another")
        tensor = first if first.requires_grad else first.detach().requires_grad_()
        kept[layer].append(tensor)
        # What follows may work in place; it gets a copy, and the kept values stay what the layer gave.
        return _with_first(output, tensor.clone())

    hooks = [layer.register_forward_hook(keep) for layer in owners]
    try:
        scores = subject.scores(subject.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, names in owners.items():
        _check_runs(_name_of(layer, layers), len(kept[layer]), names)
    return Capture(scores, {name: kept[layer][owners[layer].index(name)] for name, (_, layer) in layers.items()})


def _with_first(output: object, tensor: Tensor) -> object:
    """The same output with its first tensor replaced, whatever kind of tuple or list it is."""
    if not isinstance(output, (tuple, list)):
        return tensor
    items = [tensor, *output[1:]]
    return output._make(items) if hasattr(output, "_make") else type(output)(items)


def _check_runs(layer: str, runs: int, names: list[str]) -> None:
    if runs == 0:
        raise ConfigError(
            f"layer {layer!r} did not run in the forward; if only its parts are called, choose the last of them"
        )
    if runs != len(names):
        raise ConfigError(
            f"layer {layer!r} ran {runs} times in the forward, but stands for {len(names)} "
            f"input{'s' * (len(names) > 1)} ({', '.join(names)}); choose a layer that runs once for each"
        )


def _name_of(layer: nn.Module, layers: Mapping[str, tuple[str, nn.Module]]) -> str:
    return next(name for name, one in layers.values() if one is layer)
