"""ScoreCAM."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.cam.base import ActivationMap, Reshape, weighted_sum
from seewhy.explain.capture.layers import Layers
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.grid import enlarge

__all__ = ["ScoreCAM"]


class ScoreCAM(ActivationMap):
    """Channels weighted by the score of the input that shows only where they are active (Wang 2020, algorithm 1).

    A channel's activation, enlarged and stretched to [0, 1], masks the input; the weights are the softmax over
    channels of the target's raw scores (to which the paper's baseline is a constant). Each channel costs a forward
    per sample, which serves all targets. With several inputs one is masked at a time and the others are kept; a
    softmax knows no absolute strength, so the inputs' maps are not on a common scale. The slices of a volume are
    masked together.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`.
        reshape: see `ActivationMap`.
        channels: only this many channels of each sample, those that vary most over places; None takes all.
        memory_budget: bounds the masked inputs that run at a time, see `seewhy.explain.budget.MemoryBudget`.
    """

    method = "score_cam"
    needs_gradient = False
    joins_slices = True

    def __init__(
        self,
        *,
        layers: Layers = None,
        reshape: Reshape | None = None,
        channels: int | None = None,
        memory_budget: int | str = "1GiB",
    ) -> None:
        super().__init__(layers=layers, reshape=reshape)
        if channels is not None and channels < 1:
            raise ConfigError(f"score_cam: channels={channels} must be at least 1, or null for all")
        self.channels = channels
        self.budget = MemoryBudget(memory_budget)

    @torch.no_grad()
    def prepare(self, subject: ExplainedModel, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Raw scores [B, C, K] of the masked inputs; minus infinity for channels that were left out."""
        rows = self.budget.forward_rows(subject)
        with self.budget.guarded():
            return {name: self._trials(subject, name, one, rows) for name, one in activations.items()}

    def coarse(
        self,
        subject: ExplainedModel,
        activations: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        trials: Mapping[str, Tensor],
        target: Tensor,
    ) -> dict[str, Tensor]:
        """Σ_c softmax(score_c) A_c."""
        maps = {}
        for name, activation in activations.items():
            scores = trials[name]
            count = scores.shape[1]
            own = subject.target_scores(scores.flatten(0, 1), target.repeat_interleave(count)).reshape(-1, count)
            own = own.masked_fill(scores[:, :, 0].isneginf(), -torch.inf)  # also where class 0 is a negative score
            maps[name] = weighted_sum(activation, own.softmax(dim=1))
        return maps

    def _trials(self, subject: ExplainedModel, name: str, activation: Tensor, rows: int) -> Tensor:
        """Scores [B, C, K] of the masked inputs of one name, `rows` forwards at a time."""
        image = subject.inputs[name]
        # One plane for a whole volume masks all its slices.
        places = activation[:, :, None] if activation.ndim < image.ndim else activation
        if len(places) != len(image):
            raise ConfigError(f"the layer of {name!r} gives {len(places)} maps for {len(image)} samples")
        count = places.shape[1] if self.channels is None else min(self.channels, places.shape[1])
        taken = places.flatten(2).std(dim=2, correction=0).argsort(dim=1, descending=True, stable=True)[:, :count]
        pairs = torch.arange(len(image) * count, device=image.device)
        found = []
        for part in pairs.split(rows):
            sample = part // count
            masks = _stretched(enlarge(places[sample, taken[sample, part % count]], image.shape[2:]))
            changed = {other: one[sample] for other, one in subject.inputs.items()}
            changed[name] = changed[name] * masks[:, None].to(image.dtype)
            found.append(subject.scores(changed, rows=sample).float())
        scores = torch.cat(found).reshape(len(image), count, -1)
        every = scores.new_full((len(image), places.shape[1], scores.shape[2]), -torch.inf)
        return every.scatter_(1, taken[:, :, None].expand_as(scores), scores)


def _stretched(masks: Tensor) -> Tensor:
    """Each of [n, *s] stretched to [0, 1]; a flat one shows nothing."""
    flat = masks.flatten(1)
    low, high = flat.amin(dim=1), flat.amax(dim=1)
    shape = (-1, *[1] * (masks.ndim - 1))
    return (masks - low.reshape(shape)) / (high - low + 1e-8).reshape(shape)
