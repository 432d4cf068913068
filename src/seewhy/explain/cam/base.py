"""Base classes of class activation maps: weights from one forward, or from one forward for each channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.base import Attribution, Explainer
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.capture.layers import Capture, Layers, capture, resolve_layers
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.grid import arrange_by_sample, enlarge, join_slices, to_grid
from seewhy.explain.targets import Target
from seewhy.option_types import MemorySize, PositiveInt

__all__ = ["ActivationMap", "ChannelTrials", "Reshape", "weighted_sum"]

Reshape = Callable[[Tensor], Tensor]


class ActivationMap(Explainer):
    """A map computed from a layer's activations A [N, C, *s] and the gradients G of the target's score by them.

    One forward serves all inputs, samples and targets; each further target costs one backward through the layers
    after the captured one. Maps are signed; `strength` is rectified before it is enlarged, as in the papers. An input
    that the target's score does not depend on, e.g. a missing one, has an empty map.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`; None is the layer in the module's `explainable()`.
        reshape: converts a layer's output to a grid [N, C, *s], for layers that return neither a grid nor tokens.

    Attributes:
        needs_gradient: whether a module whose forward leaves no graph is an error.
        joins_slices: whether the slices of a volume [B · D, C, h, w] are joined to one grid [B, C, D, h, w].

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain.cam.base import ActivationMap
        >>> class MeanActivation(ActivationMap):
        ...     method = "mean_activation"
        ...     def combine(self, activation, gradient):
        ...         return activation.mean(dim=1)
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> MeanActivation(layers="1")(net, torch.rand(2, 1, 4, 4)).maps["image"].shape
        torch.Size([2, 4, 4])
    """

    needs_gradient: ClassVar[bool] = True
    joins_slices: ClassVar[bool] = False

    def __init__(self, *, layers: Layers = None, reshape: Reshape | None = None) -> None:
        self.layers = layers
        self.reshape = reshape

    def chosen_parts(self) -> object:
        """See `Explainer.chosen_parts`."""
        return self.layers

    def explain(
        self, subject: ExplainedModel, targets: Sequence[Target]
    ) -> tuple[Tensor, list[Tensor], list[Attribution]]:
        """One forward, then one short backward per target."""
        layers = resolve_layers(subject, self.layers)
        names = {name: dotted for name, (dotted, _) in layers.items()}
        captured = capture(subject, layers)
        activations = self._to_grids(subject, captured.activations)
        chosen = [subject.targets(target, captured.scores) for target in targets]
        trials = self.prepare(subject, activations)
        attributions = []
        for position, target in enumerate(chosen):
            gradients = self._compute_gradients(subject, captured, target, last=position == len(chosen) - 1)
            coarse = self.coarse(subject, activations, gradients, trials, target)
            attributions.append(_make_attribution(subject, coarse, gradients, names))
        return captured.scores, chosen, attributions

    def prepare(self, subject: ExplainedModel, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Do work that all targets share, by input; most methods need none."""
        return {}

    def coarse(
        self,
        subject: ExplainedModel,
        activations: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        trials: Mapping[str, Tensor],
        target: Tensor,
    ) -> dict[str, Tensor]:
        """Compute coarse signed maps [N, *s] of every input from activations and gradients [N, C, *s]."""
        return {name: self.combine(activation, gradients[name]) for name, activation in activations.items()}

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute the coarse signed map [N, *s] of one input from activations and gradients [N, C, *s], float32."""
        raise NotImplementedError(f"{type(self).__name__} defines neither combine nor coarse")

    def score(self, subject: ExplainedModel, scores: Tensor, target: Tensor) -> Tensor:
        """Return the quantity whose gradient is taken, [B]."""
        return subject.target_scores(scores, target)

    def _compute_gradients(
        self, subject: ExplainedModel, captured: Capture, target: Tensor, *, last: bool
    ) -> dict[str, Tensor]:
        if not self.needs_gradient and not captured.scores.requires_grad:
            # Ones mean that every position may have an effect.
            gradients = {name: torch.ones_like(activation) for name, activation in captured.activations.items()}
        else:
            gradients = captured.gradients(self.score(subject, captured.scores, target), last=last)
        return self._to_grids(subject, gradients)

    def _to_grids(self, subject: ExplainedModel, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert outputs of layers, or their gradients, to float32 grids [N, C, *s]."""
        grids = {}
        for name, output in outputs.items():
            image, tensor = subject.inputs[name], output.detach()
            grid = to_grid(tensor if self.reshape is None else self.reshape(tensor), image).float()
            grids[name] = join_slices(grid, image) if self.joins_slices else grid
        return grids


def weighted_sum(activation: Tensor, weights: Tensor) -> Tensor:
    """Compute Σ_c w_c A_c, [N, *s], from activations [N, C, *s] and weights [N, C]."""
    return torch.einsum("nc,nc...->n...", weights, activation)


def _make_attribution(
    subject: ExplainedModel, coarse: Mapping[str, Tensor], gradients: Mapping[str, Tensor], names: Mapping[str, str]
) -> Attribution:
    """Enlarge the maps to the size of the inputs; samples whose score does not depend on the layer get an empty map."""
    maps, strength = {}, {}
    notes: list[str] = []
    for name, grid in coarse.items():
        image = subject.inputs[name]
        values, new_notes = arrange_by_sample(grid, image)
        notes += new_notes
        used = gradients[name].reshape(len(image), -1).any(dim=1)
        if not used.any():
            notes.append(f"the score does not depend on {names[name]} of {name}: its map is empty")
        values = values * used.reshape(-1, *[1] * (values.ndim - 1))
        maps[name] = enlarge(values, image.shape[2:])
        strength[name] = enlarge(values.relu(), image.shape[2:])
    return Attribution(maps=maps, strength=strength, layers=names, notes=tuple(dict.fromkeys(notes)))


class ChannelTrials(ActivationMap):
    """A map whose channels are weighted by the scores of one forward per channel and sample, which serves all targets.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`.
        reshape: see `ActivationMap`.
        channels: number of channels per sample; None uses all.
        memory_budget: memory limit of the forwards, see `seewhy.explain.budget.MemoryBudget`.

    Raises:
        ConfigError: fewer than one channel.
    """

    needs_gradient = False

    def __init__(
        self,
        *,
        layers: Layers = None,
        reshape: Reshape | None = None,
        channels: PositiveInt | None = None,
        memory_budget: MemorySize = "1GiB",
    ) -> None:
        super().__init__(layers=layers, reshape=reshape)
        if channels is not None and channels < 1:
            raise ConfigError(f"{self.method}: channels={channels}; expected at least 1, or null for all")
        self.channels = channels
        self.budget = MemoryBudget(memory_budget)

    def count_channels(self, grid: Tensor) -> int:
        """Number of channels of a grid [N, C, *s] that are tried."""
        return grid.shape[1] if self.channels is None else min(self.channels, grid.shape[1])

    def target_of_trials(self, subject: ExplainedModel, trials: Tensor, target: Tensor) -> Tensor:
        """Scores [B, C] of the target in trials [B, C, K]."""
        count = trials.shape[1]
        return subject.target_scores(trials.flatten(0, 1), target.repeat_interleave(count, dim=0)).reshape(-1, count)
