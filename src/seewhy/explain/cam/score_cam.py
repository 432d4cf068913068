"""ScoreCAM: channels weighted by the score of the masked input."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.cam.base import ChannelTrials, weighted_sum
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.grid import enlarge

__all__ = ["ScoreCAM"]


class ScoreCAM(ChannelTrials):
    """Channels weighted by the score of the input masked by their activation (Wang 2020, algorithm 1).

    A channel's activation, enlarged and scaled to [0, 1], masks the input; the weights are the softmax over channels
    of the target's raw scores (the baseline of the paper cancels in it). Each channel costs one forward per sample,
    which serves all targets. Several inputs are masked one at a time; since a softmax has no absolute scale, the maps
    of different inputs cannot be compared. The slices of a volume are masked together.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`.
        reshape: see `ActivationMap`.
        channels: number of channels per sample, those that vary most over positions; None uses all.
        memory_budget: see `ChannelTrials`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ScoreCAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> ScoreCAM(layers="1", channels=2)(net, torch.rand(2, 1, 4, 4)).maps["image"].shape
        torch.Size([2, 4, 4])
    """

    method = "score_cam"
    joins_slices = True

    @torch.no_grad()
    def prepare(self, subject: ExplainedModel, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute raw scores [B, C, K] of the masked inputs; minus infinity for channels that are not used."""
        rows = self.budget.forward_rows(subject)
        with self.budget.guarded():
            return {name: self._score_masked(subject, name, grid, rows) for name, grid in activations.items()}

    def coarse(
        self,
        subject: ExplainedModel,
        activations: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        trials: Mapping[str, Tensor],
        target: Tensor,
    ) -> dict[str, Tensor]:
        """Compute Σ_c softmax(score_c) A_c."""
        maps = {}
        for name, activation in activations.items():
            scores = trials[name]
            target_scores = self.target_of_trials(subject, scores, target)
            # Masked again, since with one column the score of class 0 is negated.
            target_scores = target_scores.masked_fill(scores[:, :, 0].isneginf(), -torch.inf)
            maps[name] = weighted_sum(activation, target_scores.softmax(dim=1))
        return maps

    def _score_masked(self, subject: ExplainedModel, name: str, activation: Tensor, rows: int) -> Tensor:
        """Compute scores [B, C, K] of one input masked by each channel, `rows` forwards at a time."""
        image = subject.inputs[name]
        # If the layer has one plane for a whole volume, it masks all slices.
        grid = activation[:, :, None] if activation.ndim < image.ndim else activation
        if len(grid) != len(image):
            raise ConfigError(f"the layer of {name!r} returns {len(grid)} maps for {len(image)} samples")
        count = self.count_channels(grid)
        chosen = grid.flatten(2).std(dim=2, correction=0).argsort(dim=1, descending=True, stable=True)[:, :count]
        pairs = torch.arange(len(image) * count, device=image.device)
        parts = []
        for part in pairs.split(rows):
            sample = part // count
            masks = _scale_to_unit(enlarge(grid[sample, chosen[sample, part % count]], image.shape[2:]))
            changed = {other: values[sample] for other, values in subject.inputs.items()}
            changed[name] = changed[name] * masks[:, None].to(image.dtype)
            parts.append(subject.scores(changed, rows=sample).float())
        scores = torch.cat(parts).reshape(len(image), count, -1)
        result = scores.new_full((len(image), grid.shape[1], scores.shape[2]), -torch.inf)
        return result.scatter_(1, chosen[:, :, None].expand_as(scores), scores)


def _scale_to_unit(masks: Tensor) -> Tensor:
    """Scale each mask of [n, *s] to [0, 1]; a constant mask becomes 0."""
    flat = masks.flatten(1)
    low, high = flat.amin(dim=1), flat.amax(dim=1)
    shape = (-1, *[1] * (masks.ndim - 1))
    return (masks - low.reshape(shape)) / (high - low + 1e-8).reshape(shape)
