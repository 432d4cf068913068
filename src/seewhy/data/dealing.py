"""Dealing patients to the parts of a split: in random order, and evenly within groups where asked."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

__all__ = ["deal_by_shares", "dealt"]


def dealt(patients: Sequence[str], seed: int, strata: Mapping[str, int] | None = None) -> list[str]:
    """Patients in an order that depends on the seed and each name alone; group after group where there are groups.

    Every k-th patient of it is then a sample in which each group has its share.

    Args:
        patients: all patients.
        seed: of the deal.
        strata: patient → group.
    """
    groups = strata or {}
    return sorted(
        patients,
        key=lambda patient: (groups.get(patient, 0), hashlib.sha256(f"{seed}:{patient}".encode()).digest()),
    )


def deal_by_shares(
    patients: Sequence[str], shares: Sequence[float], seed: int, strata: Mapping[str, int] | None = None
) -> tuple[list[str], list[str], list[str]]:
    """Deal patients to train, val and test.

    Each group is dealt by itself, so that every part has patients of every group that is large enough; what
    rounding takes from a part in one group it gets back in the next. Groups with fewer patients than parts
    are put together.

    Args:
        patients: all patients, as many as there are shares above 0 at least.
        shares: of train, val and test; they add up to 1. A share above 0 gets one patient at least.
        seed: of the deal.
        strata: patient → group; None is one group.
    """
    groups = _groups(dealt(patients, seed, strata), strata or {}, least=sum(share > 0 for share in shares))
    train, val, test = [], [], []
    owed = [0.0, 0.0, 0.0]
    for group in groups:
        exact = [share * len(group) + debt for share, debt in zip(shares, owed, strict=True)]
        counts = _counts(len(group), exact, shares)
        owed = [value - count for value, count in zip(exact, counts, strict=True)]
        val += group[: counts[1]]
        test += group[counts[1] : counts[1] + counts[2]]
        train += group[counts[1] + counts[2] :]
    return train, val, test


def _groups(order: Sequence[str], strata: Mapping[str, int], *, least: int) -> list[list[str]]:
    """The groups in order; those of fewer than `least` patients come last, as one."""
    members: defaultdict[int, list[str]] = defaultdict(list)
    for patient in order:
        members[strata.get(patient, 0)].append(patient)
    large = [group for group in members.values() if len(group) >= least]
    small = [patient for group in members.values() if len(group) < least for patient in group]
    return [*large, small] if small else large


def _counts(total: int, exact: Sequence[float], shares: Sequence[float]) -> list[int]:
    """Whole numbers near the exact ones that add up to the total: largest remainders.

    A share above 0 gets 1 at least where there are enough for all; else training gets its 1 first.
    """
    wanted = [int(share > 0) for share in shares]
    floor = wanted if total >= sum(wanted) else [wanted[0], 0, 0]
    counts = [max(int(value), low) for value, low in zip(exact, floor, strict=True)]
    while sum(counts) < total:
        open_parts = [part for part in range(3) if wanted[part]]
        counts[max(open_parts, key=lambda part: exact[part] - counts[part])] += 1
    while sum(counts) > total:
        counts[max(range(3), key=lambda part: (counts[part] > floor[part], counts[part] - exact[part]))] -= 1
    return counts
