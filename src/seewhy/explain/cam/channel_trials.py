"""Base class of class activation maps whose weights are forwards of the module, one for each channel."""

from __future__ import annotations

from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.cam.base import ActivationMap, Reshape
from seewhy.explain.capture.layers import Layers
from seewhy.explain.explained_model import ExplainedModel
from seewhy.option_types import MemorySize, PositiveInt

__all__ = ["ChannelTrials"]


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
