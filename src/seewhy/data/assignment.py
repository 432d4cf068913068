"""Assign patients to train, validation and test at random, by shares."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from seewhy.data.patients import group_scans

__all__ = ["assign_by_fractions", "list_scans", "shuffle_patients"]


def assign_by_fractions(
    patients: Sequence[str], shares: Sequence[float], seed: int, strata: Mapping[str, int] | None = None
) -> tuple[list[str], list[str], list[str]]:
    """Assign patients to train, val and test at random.

    Each group is assigned separately, so that every part has patients of every group that is large enough. The
    rounding error of one group is carried over to the next. Groups with fewer patients than parts are merged. Scans of
    one person stay together, see `group_scans`.

    Args:
        patients: all patients, at least one for every share above 0.
        shares: of train, val and test; they add up to 1. A share above 0 gets at least one patient.
        seed: of the random order.
        strata: patient → group; None: one group.
    """
    members: defaultdict[int, list[str]] = defaultdict(list)
    people = group_scans(patients)
    for patient in shuffle_patients(list(people), seed, strata):
        members[(strata or {}).get(patient, 0)].append(patient)
    least = sum(share > 0 for share in shares)
    groups = [group for group in members.values() if len(group) >= least]
    small = [patient for group in members.values() if len(group) < least for patient in group]
    train, val, test = [], [], []
    carried = [0.0, 0.0, 0.0]
    for group in [*groups, small] if small else groups:
        exact = [share * len(group) + rest for share, rest in zip(shares, carried, strict=True)]
        counts = _round_counts(len(group), exact, shares)
        carried = [value - count for value, count in zip(exact, counts, strict=True)]
        val += group[: counts[1]]
        test += group[counts[1] : counts[1] + counts[2]]
        train += group[counts[1] + counts[2] :]
    return list_scans(people, train), list_scans(people, val), list_scans(people, test)


def shuffle_patients(patients: Sequence[str], seed: int, strata: Mapping[str, int] | None = None) -> list[str]:
    """Sort patients into a random order that depends on the seed and each name alone, group after group.

    Every k-th patient of it is a sample with the same share of each group (`strata`: patient → group).
    """
    keys = {patient: hashlib.sha256(f"{seed}:{patient}".encode()).digest() for patient in patients}
    return sorted(patients, key=lambda patient: ((strata or {}).get(patient, 0), keys[patient]))


def _round_counts(total: int, exact: Sequence[float], shares: Sequence[float]) -> list[int]:
    """Round to integers that add up to the total, by largest remainders.

    A share above 0 gets at least 1 where there are enough for all; else training gets its 1 first.
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


def list_scans(people: Mapping[str, Sequence[str]], first: Iterable[str]) -> list[str]:
    """All scans of people that are given by their first scan."""
    return [scan for name in first for scan in people[name]]
