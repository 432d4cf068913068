"""Attribution maps of a batch, the result of every explainer: their completeness, and contributions of whole inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

__all__ = ["LIMIT", "Contributions", "Maps", "Reading", "compute_completeness_error", "find_incomplete"]


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """Contributions to the target's score, in its units, with sign.

    Attributes:
        values: name → [B] Shapley value; over all names they sum to `total`.
        left_out: name → [B] fall of the score if this one alone is absent; 0 if another one carries the same.
        interactions: "first x second" → [B]; below 0 if the two are redundant, above 0 if one needs the other.
        total: [B] score with everything minus score with nothing.
        removal: how something is made absent.
    """

    values: Mapping[str, Tensor]
    left_out: Mapping[str, Tensor]
    interactions: Mapping[str, Tensor]
    total: Tensor
    removal: str

    def shares(self) -> dict[str, Tensor]:
        """Return each value as a share [B] of the total, with sign; they sum to 1. NaN if the total is 0."""
        return {name: (value / self.total).where(self.total != 0, float("nan")) for name, value in self.values.items()}

    def apply(self, change: Callable[[Tensor], Tensor]) -> Contributions:
        """Apply a function to all tensors, e.g. to select samples."""
        return Contributions(
            values={name: change(one) for name, one in self.values.items()},
            left_out={name: change(one) for name, one in self.left_out.items()},
            interactions={name: change(one) for name, one in self.interactions.items()},
            total=change(self.total),
            removal=self.removal,
        )

    def record(self) -> dict[str, object]:
        """Return the contributions of the only sample as plain data; a share that is not defined is None."""
        shares = {name: float(one[0]) for name, one in self.shares().items()}
        return {
            "total": float(self.total[0]),
            "removal": self.removal,
            "values": {name: float(one[0]) for name, one in self.values.items()},
            "left_out": {name: float(one[0]) for name, one in self.left_out.items()},
            "interactions": {name: float(one[0]) for name, one in self.interactions.items()},
            "shares": {name: value if value == value else None for name, value in shares.items()},
        }


Reading = Literal["positive", "magnitude"]
"""Part of a signed map that is evidence for the target: its positive part, or its absolute value."""


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Maps of a batch for one target per sample, raw and signed; they are not rescaled, so that they can be compared.

    Attributes:
        method: name of the explainer, equal to its file name in `conf/explainer`.
        maps: input name → [B, H, W] or [B, D, H, W] float32 at the size of the input, signed.
        target: [B] int64, the explained class.
        reference: [B] int64, the class that the target is contrasted with; None if the target's own score is explained.
        probability: [B] float32 of that class, in [0, 1]; of a contrast, if only its two classes were possible.
        scores: [B, K] float32 raw class scores.
        reading: how `evidence` is computed from signed maps.
        strength: input name → non-negative maps, if the method defines the evidence in another way than `reading`
            (CAMs are rectified before they are enlarged).
        layers: input name → name of the layer whose activations were used.
        baseline: description of the baseline; None if the method has no baseline.
        completeness: [B] |Σ map − (f(x) − f(x0))| / |f(x) − f(x0)| of methods that guarantee equality.
        contributions: of whole inputs or channels, of methods that compute them.
        seed: seed of random draws; None if nothing is random.
        notes: remarks for the reader, e.g. that one map was computed for all slices.

    Example:
        >>> import torch
        >>> from seewhy.explain import Maps
        >>> maps = Maps(
        ...     method="grad_cam",
        ...     maps={"t1": torch.tensor([[[3.0, -1.0]]]), "t2": torch.tensor([[[1.0, 0.0]]])},
        ...     target=torch.tensor([1]),
        ...     probability=torch.tensor([0.9]),
        ...     scores=torch.tensor([[0.0, 2.2]]),
        ... )
        >>> maps.evidence()["t1"]
        tensor([[[3., 0.]]])
        >>> maps.shares()
        {'t1': tensor([0.7500]), 't2': tensor([0.2500])}
    """

    method: str
    maps: dict[str, Tensor]
    target: Tensor
    probability: Tensor
    scores: Tensor
    reference: Tensor | None = None
    reading: Reading = "positive"
    strength: dict[str, Tensor] | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    baseline: str | None = None
    completeness: Tensor | None = None
    contributions: Contributions | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def explained(self) -> Tensor:
        """The target as explainers take it: [B] classes, or [B, 2] classes and those that they are contrasted with."""
        return self.target if self.reference is None else torch.stack([self.target, self.reference], dim=1)

    @property
    def signed(self) -> bool:
        """Whether any value is below zero."""
        return any(bool((values < 0).any()) for values in self.maps.values())

    def evidence(self) -> dict[str, Tensor]:
        """Return the evidence for the target, non-negative, in the shapes of `maps`."""
        if self.strength is not None:
            return self.strength
        rectify = Tensor.abs if self.reading == "magnitude" else Tensor.relu
        return {name: rectify(values) for name, values in self.maps.items()}

    def shares(self) -> dict[str, Tensor]:
        """Return the share [B] of each input in the total evidence; zero if there is no evidence."""
        sums = {name: one.flatten(1).sum(dim=1) for name, one in self.evidence().items()}
        total = sum(sums.values())
        return {name: one / total.clamp_min(1e-30) for name, one in sums.items()}  # type: ignore[union-attr]

    def cpu(self) -> Maps:
        """Copy the maps to the CPU."""
        return replace(
            self,
            maps={name: one.cpu() for name, one in self.maps.items()},
            strength=None if self.strength is None else {name: one.cpu() for name, one in self.strength.items()},
            target=self.target.cpu(),
            reference=None if self.reference is None else self.reference.cpu(),
            probability=self.probability.cpu(),
            scores=self.scores.cpu(),
            completeness=None if self.completeness is None else self.completeness.cpu(),
            contributions=None if self.contributions is None else self.contributions.apply(Tensor.cpu),
        )

    def __getitem__(self, rows: int | slice) -> Maps:
        """Select samples of the batch; an integer selects a batch of one sample."""
        part = slice(rows, rows + 1 or None) if isinstance(rows, int) else rows
        return replace(
            self,
            maps={name: one[part] for name, one in self.maps.items()},
            strength=None if self.strength is None else {name: one[part] for name, one in self.strength.items()},
            target=self.target[part],
            reference=None if self.reference is None else self.reference[part],
            probability=self.probability[part],
            scores=self.scores[part],
            completeness=None if self.completeness is None else self.completeness[part],
            contributions=None if self.contributions is None else self.contributions.apply(lambda one: one[part]),
        )


NOISE = 1e-4  # relative to the scores; a smaller difference is float32 rounding


def compute_completeness_error(maps: Mapping[str, Tensor], score: Tensor, reference: Tensor) -> Tensor:
    """Compute |Σ map − (f(x) − f(x0))| / |f(x) − f(x0)| of each sample (Sundararajan 2017, proposition 1).

    Args:
        maps: input → [B, *spatial]; the sum is over all inputs.
        score: [B] f(x).
        reference: [B] f(x0).

    Example:
        >>> import torch
        >>> from seewhy.explain.maps import compute_completeness_error
        >>> compute_completeness_error({"image": torch.ones(1, 2, 2)}, torch.tensor([6.0]), torch.tensor([1.0]))
        tensor([0.2000])
    """
    difference = (score - reference).double()
    total = torch.stack([one.flatten(1).double().sum(dim=1) for one in maps.values()]).sum(dim=0)
    floor = NOISE * (score.abs() + reference.abs()).double() + 1e-12
    return ((total - difference).abs() / torch.maximum(difference.abs(), floor)).float()


LIMIT = 0.05
"""Relative error above which a map of a method that guarantees completeness is reported as incomplete."""


def find_incomplete(maps: Maps, *, limit: float = LIMIT) -> Tensor | None:
    """Find samples whose map misses the difference of scores by more than `limit` (Sundararajan 2017, proposition 1).

    Returns:
        [B] bool, true also where the error is NaN; None for methods that do not guarantee completeness.
    """
    return None if maps.completeness is None else ~(maps.completeness <= limit)
