"""Class activation maps: the frame they share, one capture of activations and gradients for all inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from seewhy.explain.base import Attribution, Explainer
from seewhy.explain.capture.activations import Capture, capture
from seewhy.explain.capture.layers import Layers, resolve_layers
from seewhy.explain.explained_model import ExplainedModel, Target
from seewhy.explain.grid import arrange_by_sample, enlarge, join_slices, to_grid

__all__ = ["ActivationMap", "Reshape", "weighted_sum"]

Reshape = Callable[[Tensor], Tensor]


class ActivationMap(Explainer):
    """A map made of a layer's activations A [N, C, *s] and the gradients G of the target's score by them.

    One forward serves all inputs, samples and targets; each further target costs a backward through the layers
    behind the captured one. Maps are signed; `strength` is rectified before enlarging, as the papers do. An input
    that the target's score does not depend on, e.g. one that is missing, has an empty map.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`; None takes what the module says of itself.
        reshape: turns a layer's output into a grid [N, C, *s], for layers that give neither a grid nor tokens.

    Attributes:
        needs_gradient: whether a module whose forward leaves no graph must be refused.
        joins_slices: see a volume's slices [B · D, C, h, w] as one grid [B, C, D, h, w], instead of each for itself.
    """

    needs_gradient: ClassVar[bool] = True
    joins_slices: ClassVar[bool] = False

    def __init__(self, *, layers: Layers = None, reshape: Reshape | None = None) -> None:
        self.layers = layers
        self.reshape = reshape

    def explain(
        self, subject: ExplainedModel, targets: Sequence[Target]
    ) -> tuple[Tensor, list[Tensor], list[Attribution]]:
        """One forward, then one short backward per target."""
        layers = resolve_layers(subject, self.layers)
        names = {name: dotted for name, (dotted, _) in layers.items()}
        seen = capture(subject, layers)
        activations = self._grids(subject, seen.activations)
        chosen = [subject.targets(target, seen.scores) for target in targets]
        trials = self.prepare(subject, activations)
        found = []
        for position, target in enumerate(chosen):
            gradients = self._gradients(subject, seen, target, last=position == len(chosen) - 1)
            coarse = self.coarse(subject, activations, gradients, trials, target)
            found.append(_attribution(subject, coarse, gradients, names))
        return seen.scores, chosen, found

    def prepare(self, subject: ExplainedModel, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Work that all targets share, by input; most methods have none."""
        return {}

    def coarse(
        self,
        subject: ExplainedModel,
        activations: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        trials: Mapping[str, Tensor],
        target: Tensor,
    ) -> dict[str, Tensor]:
        """Coarse signed maps [N, *s] of every input, of activations and gradients [N, C, *s]."""
        return {name: self.combine(activation, gradients[name]) for name, activation in activations.items()}

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """The coarse signed map [N, *s] of one input's activations and gradients [N, C, *s], float32."""
        raise NotImplementedError(f"{type(self).__name__} defines neither combine nor coarse")

    def score(self, subject: ExplainedModel, scores: Tensor, target: Tensor) -> Tensor:
        """What the gradients are of, [B]."""
        return subject.target_scores(scores, target)

    def _gradients(self, subject: ExplainedModel, seen: Capture, target: Tensor, *, last: bool) -> dict[str, Tensor]:
        if not self.needs_gradient and not seen.scores.requires_grad:
            found = {name: torch.ones_like(one) for name, one in seen.activations.items()}  # every place may count
        else:
            found = seen.gradients(self.score(subject, seen.scores, target), last=last)
        return self._grids(subject, found)

    def _grids(self, subject: ExplainedModel, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of layers, or their gradients, as float32 grids [N, C, *s]."""
        grids = {}
        for name, output in outputs.items():
            image, tensor = subject.inputs[name], output.detach()
            grid = to_grid(tensor if self.reshape is None else self.reshape(tensor), image).float()
            grids[name] = join_slices(grid, image) if self.joins_slices else grid
        return grids


def weighted_sum(activation: Tensor, weights: Tensor) -> Tensor:
    """Σ_c w_c A_c, [N, *s], of activations [N, C, *s] and weights [N, C]."""
    return torch.einsum("nc,nc...->n...", weights, activation)


def _attribution(
    subject: ExplainedModel, coarse: Mapping[str, Tensor], gradients: Mapping[str, Tensor], names: Mapping[str, str]
) -> Attribution:
    """Maps at the inputs' size, empty where nothing depends on the layer."""
    maps, strength = {}, {}
    notes: list[str] = []
    for name, grid in coarse.items():
        image = subject.inputs[name]
        placed, noted = arrange_by_sample(grid, image)
        used = gradients[name].reshape(len(image), -1).any(dim=1)
        if not used.any():
            noted = (*noted, f"the score does not depend on {names[name]} of {name}: its map is empty")
        placed = placed * used.reshape(-1, *[1] * (placed.ndim - 1))
        maps[name] = enlarge(placed, image.shape[2:])
        strength[name] = enlarge(placed.relu(), image.shape[2:])
        notes += noted
    return Attribution(maps=maps, strength=strength, layers=names, notes=tuple(dict.fromkeys(notes)))
