"""Ablation-CAM: channels weighted by the fall of the score without them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seewhy.explain.cam.base import ChannelTrials, weighted_sum
from seewhy.explain.capture.layers import replace_first, resolve_layers
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.grid import to_grid

__all__ = ["AblationCAM"]


class AblationCAM(ChannelTrials):
    """Channels weighted by the fall of the target's score when the channel is set to 0 (Desai and Ramaswamy 2020).

    The paper divides the fall by the score. That reverses a map wherever the score is negative, as logits often are,
    and changes nothing else but the unit, so weights are falls in units of the score here. Each channel costs one
    forward per sample, which serves all targets. Channels of different inputs are removed one at a time.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`.
        reshape: see `ActivationMap`.
        channels: number of channels per sample, those with the largest mean magnitude; None uses all.
        memory_budget: see `ChannelTrials`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import AblationCAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> maps = AblationCAM(layers="1")(net, torch.rand(2, 1, 4, 4), target=1)
        >>> maps.maps["image"].shape
        torch.Size([2, 4, 4])
    """

    method = "ablation_cam"

    @torch.no_grad()
    def prepare(self, subject: ExplainedModel, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute falls [B, C, K] of all scores without each channel; 0 for channels that are not tried."""
        layers = resolve_layers(subject, self.layers)
        calls = {layer: [name for name, (_, one) in layers.items() if one is layer] for _, layer in layers.values()}
        rows = self.budget.forward_rows(subject)
        whole = subject.scores(subject.inputs).float()
        with self.budget.guarded():
            return {
                name: self._remove_channels(
                    subject, layers[name][1], calls[layers[name][1]].index(name), grid, whole, rows
                )
                for name, grid in activations.items()
            }

    def coarse(
        self,
        subject: ExplainedModel,
        activations: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        trials: Mapping[str, Tensor],
        target: Tensor,
    ) -> dict[str, Tensor]:
        """Compute Σ_c (score − score without c) A_c."""
        maps = {}
        for name, activation in activations.items():
            falls = trials[name]
            weights = self.target_of_trials(subject, falls, target)
            maps[name] = weighted_sum(activation, weights.repeat_interleave(len(activation) // len(falls), dim=0))
        return maps

    def _remove_channels(
        self, subject: ExplainedModel, layer: nn.Module, call: int, grid: Tensor, whole: Tensor, rows: int
    ) -> Tensor:
        """Compute the falls of the scores, `rows` forwards at a time.

        Args:
            subject: module and batch.
            layer: whose channels are removed.
            call: number of the layer's run that belongs to the input.
            grid: activations [N, C, *s]; N is B, or B times the slices of a volume.
            whole: [B, K] scores with all channels.
            rows: forwards at once.
        """
        batch, channels = subject.batch, grid.shape[1]
        count = self.count_channels(grid)
        strength = grid.unflatten(0, (batch, -1)).abs().transpose(1, 2).flatten(2).mean(dim=2)
        chosen = strength.argsort(dim=1, descending=True, stable=True)[:, :count]
        image = next(iter(subject.inputs.values()))
        falls = []
        for part in torch.arange(batch * count, device=image.device).split(rows):
            sample = part // count
            remover = _ChannelRemover(image, call, chosen[sample, part % count])
            hook = layer.register_forward_hook(remover)
            try:
                images = {name: values[sample] for name, values in subject.inputs.items()}
                falls.append(whole[sample] - subject.scores(images, rows=sample).float())
            finally:
                hook.remove()
        tried = torch.cat(falls).reshape(batch, count, -1)
        result = tried.new_zeros(batch, channels, tried.shape[2])
        return result.scatter_(1, chosen[:, :, None].expand_as(tried), tried)


class _ChannelRemover:
    """Hook that sets one channel of each row to 0 in one run of a layer."""

    def __init__(self, image: Tensor, call: int, channels: Tensor) -> None:
        self.image, self.call, self.channels = image, call, channels
        self.runs = 0

    def __call__(self, layer: nn.Module, _: object, output: object) -> object:
        """Return the output without the channels."""
        self.runs += 1
        if self.runs - 1 != self.call:
            return output
        first = output[0] if isinstance(output, (tuple, list)) else output
        assert isinstance(first, Tensor)
        grid = to_grid(first[:1], self.image)
        axis = 1 if first.ndim > 3 and grid.shape[1:] == first.shape[1:] else -1  # tokens have channels last
        changed = first.clone().movedim(axis, 1)
        channels = self.channels.repeat_interleave(len(first) // len(self.channels))
        changed[torch.arange(len(first), device=first.device), channels] = 0
        return replace_first(output, changed.movedim(1, axis))
