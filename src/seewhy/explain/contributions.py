"""Contributions of whole inputs or channels to a score: exact values of each and of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Contributions"]


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
