"""Capture the activations of chosen layers in one forward, with a graph that starts at them."""

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
    """Scores of a batch, and the activations that they were computed from.

    Attributes:
        scores: [B, K] with a graph back to the activations.
        activations: input → output of the layer, unchanged.
    """

    scores: Tensor
    activations: dict[str, Tensor]

    def gradients(self, score: Tensor, *, last: bool) -> dict[str, Tensor]:
        """Compute the gradients of the samples' scores by the activations, input → tensor of the activation's shape.

        Args:
            score: [B]; samples do not mix in evaluation mode, so the gradient of their sum is that of each sample.
            last: free the graph, because no other target follows.

        Raises:
            ConfigError: no activation has a path to the scores.
        """
        if not score.requires_grad:
            raise ConfigError(
                "the scores do not depend on the layers' output: the forward runs under no_grad, or bypasses the layers"
            )
        captured = list(self.activations.values())
        gradients = torch.autograd.grad(score.sum(), captured, retain_graph=not last, allow_unused=True)
        # An input that the model masks has no path to the scores: its gradient is zero.
        return {
            name: torch.zeros_like(activation) if gradient is None else gradient
            for (name, activation), gradient in zip(self.activations.items(), gradients, strict=True)
        }


def capture(subject: ExplainedModel, layers: Mapping[str, tuple[str, nn.Module]]) -> Capture:
    """Run the module once and capture the output of its layers.

    The output is detached from the layers before it, so that autograd keeps nothing of them and one forward serves all
    inputs: Grad-CAM of four EfficientNet-B0 branches takes 1.07 times a forward without gradients, the grad-cam
    package 17 times as long (benchmarks/explain.py, docs/results.md). An output that already lies in the graph of
    another captured layer is not detached.

    Args:
        subject: module and batch.
        layers: input → (dotted name, submodule), inputs in the order in which the module computes them.

    Raises:
        ConfigError: a layer that did not run, that ran more or less often than the number of inputs that name it, or
            that does not return activations.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ExplainedModel
        >>> from seewhy.explain.capture.activations import capture
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
        >>> result = capture(ExplainedModel(net, torch.zeros(2, 1, 7, 7)), {"image": ("1", net[1])})
        >>> result.activations["image"].shape, result.scores.shape
        (torch.Size([2, 4, 3, 3]), torch.Size([2, 3]))
    """
    subject.check_not_scripted(dict(layers.values()))
    owners: dict[nn.Module, list[str]] = {}
    for name, (_, layer) in layers.items():
        owners.setdefault(layer, []).append(name)
    kept: dict[nn.Module, list[Tensor]] = {layer: [] for layer in owners}

    def keep(layer: nn.Module, _: object, output: object) -> object:
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if not isinstance(first, Tensor) or not first.is_floating_point():
            kind = str(first.dtype) if isinstance(first, Tensor) else type(first).__name__
            raise ConfigError(f"layer {_get_name(layer, layers)!r} returns {kind}, not activations; choose another")
        tensor = first if first.requires_grad else first.detach().requires_grad_()
        kept[layer].append(tensor)
        # The next layer gets a copy, since it may work in place.
        return _replace_first(output, tensor.clone())

    hooks = [layer.register_forward_hook(keep) for layer in owners]
    try:
        scores = subject.scores(subject.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, names in owners.items():
        _check_runs(_get_name(layer, layers), len(kept[layer]), names)
    return Capture(scores, {name: kept[layer][owners[layer].index(name)] for name, (_, layer) in layers.items()})


def _replace_first(output: object, tensor: Tensor) -> object:
    """Replace the first tensor of an output: of a tensor, tuple, named tuple or list."""
    if not isinstance(output, (tuple, list)):
        return tensor
    items = [tensor, *output[1:]]
    return output._make(items) if hasattr(output, "_make") else type(output)(items)


def _check_runs(layer: str, runs: int, names: list[str]) -> None:
    if runs == 0:
        raise ConfigError(
            f"layer {layer!r} did not run in the forward; if only its children are called, choose the last of them"
        )
    if runs != len(names):
        raise ConfigError(
            f"layer {layer!r} ran {runs} times in the forward, but is the layer of {len(names)} "
            f"input{'s' * (len(names) > 1)} ({', '.join(names)}); choose a layer that runs once for each"
        )


def _get_name(layer: nn.Module, layers: Mapping[str, tuple[str, nn.Module]]) -> str:
    return next(name for name, submodule in layers.values() if submodule is layer)
