"""What every explainer returns.

Whether a map's sum is the difference that it claims to explain.

Whether attributions add up to the score they explain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

__all__ = ["LIMIT", "Maps", "Reading", "compute_completeness_error", "find_incomplete"]

Reading = Literal["positive", "magnitude"]
"""What of a signed map speaks for the target: its positive part, or its absolute value."""


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Maps of a batch for one target per sample, raw and signed: nothing is rescaled, so that maps compare.

    Attributes:
        method: name of the explainer, as its file in `conf/explainer` is called.
        maps: input name → [B, H, W] or [B, D, H, W] float32 at the input's own size, signed.
        target: [B] int64, the explained class.
        probability: [B] float32 of that class, in [0, 1].
        scores: [B, K] float32 raw class scores.
        reading: how `evidence` is read off signed maps.
        strength: input name → non-negative maps, where the method defines them otherwise than by `reading`
            (CAMs are rectified before they are enlarged).
        layers: input name → the layer whose activations were used.
        baseline: what "absent" meant to the method, in words; None where it needs none.
        completeness: [B] |Σ map − (f(x) − f(x0))| / |f(x) − f(x0)| of methods that promise equality.
        seed: of random draws; None where there are none.
        notes: what a reader must know, e.g. that one map stands for all slices.
    """

    method: str
    maps: dict[str, Tensor]
    target: Tensor
    probability: Tensor
    scores: Tensor
    reading: Reading = "positive"
    strength: dict[str, Tensor] | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    baseline: str | None = None
    completeness: Tensor | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def signed(self) -> bool:
        """Whether any value is below zero."""
        return any(bool((one < 0).any()) for one in self.maps.values())

    def evidence(self) -> dict[str, Tensor]:
        """What speaks for the target, non-negative, in the shapes of `maps`."""
        if self.strength is not None:
            return self.strength
        read = Tensor.abs if self.reading == "magnitude" else Tensor.relu
        return {name: read(one) for name, one in self.maps.items()}

    def shares(self) -> dict[str, Tensor]:
        """[B] share of each input in all evidence, on the raw common scale; zero where there is no evidence."""
        sums = {name: one.flatten(1).sum(dim=1) for name, one in self.evidence().items()}
        total = sum(sums.values())
        return {name: one / total.clamp_min(1e-30) for name, one in sums.items()}  # type: ignore[union-attr]

    def cpu(self) -> Maps:
        """The same on the CPU."""
        return replace(
            self,
            maps={name: one.cpu() for name, one in self.maps.items()},
            strength=None if self.strength is None else {name: one.cpu() for name, one in self.strength.items()},
            target=self.target.cpu(),
            probability=self.probability.cpu(),
            scores=self.scores.cpu(),
            completeness=None if self.completeness is None else self.completeness.cpu(),
        )

    def __getitem__(self, rows: int | slice) -> Maps:
        """Some samples of the batch; a number gives a batch of one."""
        part = slice(rows, rows + 1 or None) if isinstance(rows, int) else rows
        return replace(
            self,
            maps={name: one[part] for name, one in self.maps.items()},
            strength=None if self.strength is None else {name: one[part] for name, one in self.strength.items()},
            target=self.target[part],
            probability=self.probability[part],
            scores=self.scores[part],
            completeness=None if self.completeness is None else self.completeness[part],
        )


NOISE = 1e-4  # relative to the scores; a smaller difference is rounding in float32, not something to be explained


def compute_completeness_error(maps: Mapping[str, Tensor], score: Tensor, reference: Tensor) -> Tensor:
    """|Σ map − (f(x) − f(x0))| / |f(x) − f(x0)| of each sample (Sundararajan 2017, proposition 1).

    Args:
        maps: input → [B, *spatial]; the sum is over all inputs.
        score: [B] f(x).
        reference: [B] f(x0).
    """
    difference = (score - reference).double()
    total = torch.stack([one.flatten(1).double().sum(dim=1) for one in maps.values()]).sum(dim=0)
    floor = NOISE * (score.abs() + reference.abs()).double() + 1e-12
    return ((total - difference).abs() / torch.maximum(difference.abs(), floor)).float()


LIMIT = 0.05
"""Relative error above which a map of a method that promises completeness is marked."""


def find_incomplete(maps: Maps, *, limit: float = LIMIT) -> Tensor | None:
    """Samples whose map misses the difference of scores by more than `limit` (Sundararajan 2017, proposition 1).

    Returns:
        [B] bool, true also where the error is not a number; None for methods that promise no equality.
    """
    return None if maps.completeness is None else ~(maps.completeness <= limit)
