"""Splitting cases: by what their tables say, or by dealing patients evenly over the classes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from seewhy.data.splits import PARTS, Split, assign_by_fractions, choose_split, split_by_given_folds
from seewhy.data.table import Case
from seewhy.errors import ConfigError

__all__ = ["rarest_class", "split_cases"]


def split_cases(cases: Sequence[Case], *, stratify: bool, options: Mapping[str, Any]) -> Split:
    """Make the split that the tables and the options ask for.

    Args:
        cases: all of them.
        stratify: whether fractions and folds hold the classes alike.
        options: keyword arguments of `choose_split`.

    Raises:
        ConfigError: two ways at once, or a way that does not fit the data.
    """
    patients = list(dict.fromkeys(case.patient for case in cases))
    parts = {case.patient: case.part for case in cases if case.part is not None}
    folds = {case.patient: case.fold for case in cases if case.fold is not None}
    strata = rarest_class(cases) if stratify else None
    chosen = {key for key, value in options.items() if value is not None} - {"fractions", "seed"}
    if parts:
        if chosen or folds:
            names = ", ".join(f"data.{name}" for name in sorted(chosen)) or "data.fold_column"
            raise ConfigError(f"the tables say who validates and tests, and so does {names}; keep one way")
        return _by_tables(patients, parts, strata, fractions=options["fractions"], seed=options["seed"])
    if folds:
        return _by_given_folds(folds, options, chosen)
    return choose_split(patients, strata=strata, **options)


def rarest_class(cases: Sequence[Case]) -> dict[str, int] | None:
    """For each patient the class that fewest patients have, of those of its cases; None without labels.

    A patient with an early and an advanced eye is so dealt among the patients with advanced ones.
    """
    classes: defaultdict[str, set[int]] = defaultdict(set)
    for case in cases:
        if case.label is None:
            return None
        classes[case.patient].add(case.label)
    count = Counter(label for own in classes.values() for label in own)
    return {patient: min(own, key=lambda label: (count[label], -label)) for patient, own in classes.items()}


def _by_tables(
    patients: Sequence[str],
    parts: Mapping[str, str],
    strata: Mapping[str, int] | None,
    *,
    fractions: Sequence[float],
    seed: int,
) -> Split:
    """Patients with a part go there; the others train, or fill by `fractions` the parts that nobody was put into."""
    given = set(parts.values())
    free = [patient for patient in patients if patient not in parts]
    lists = {part: [patient for patient in patients if parts.get(patient) == part] for part in PARTS}
    shares = [
        float(share) if part == "train" or part not in given else 0.0
        for part, share in zip(PARTS, fractions, strict=True)
    ]
    if free and sum(shares) <= 0:
        raise ConfigError(f"data.fractions={list(fractions)} leaves no share for the rows of data.table")
    if free:
        shares = [share / sum(shares) for share in shares]
        if len(free) < sum(share > 0 for share in shares):
            raise ConfigError(f"data.table has {len(free)} patients, too few for the parts that no table is named for")
        for part, dealt in zip(PARTS, assign_by_fractions(free, shares, seed, strata), strict=True):
            lists[part] += dealt
    made = {"by": "tables", "given": sorted(given), "fractions": shares, "seed": seed}
    train, val, test = (tuple(patient for patient in patients if patient in set(lists[part])) for part in PARTS)
    return Split(train, val, test, made)


def _by_given_folds(folds: Mapping[str, int], options: Mapping[str, Any], chosen: set[str]) -> Split:
    others = sorted(chosen - {"fold", "num_folds"})
    if others:
        raise ConfigError(f"data.fold_column and data.{others[0]} are two ways to split; keep one")
    numbers = sorted(set(folds.values()))
    if options.get("fold") is None:
        raise ConfigError(f"data.fold_column is given, but not which fold is tested; set data.fold to one of {numbers}")
    if options.get("num_folds") not in (None, len(numbers)):
        raise ConfigError(f"data.num_folds={options['num_folds']}, but data.fold_column holds the folds {numbers}")
    return split_by_given_folds(folds, fold=options["fold"])
