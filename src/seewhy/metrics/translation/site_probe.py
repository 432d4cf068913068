"""Whether a classifier can still tell two sites apart after one of them was translated: frozen, and trained again.

A frozen probe, trained on scans as they came, only says that translated scans no longer look as its training scans
did; a few changed pixels can do that. A probe trained on the translated scans themselves says whether anything is left
to tell them by, be it the site or the traces of the translation. Both are measured on subjects it was not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seewhy.metrics.translation.probes import Fitted, Probe
from seewhy.metrics.translation.scores import DIRECTIONS

__all__ = ["LEAST_SUBJECTS", "Site", "probe_rows", "subject_folds", "too_few"]

LEAST_SUBJECTS = 4
"""Fewest patients per site: below, a fold trains on one or two heads and learns those."""


class Site(NamedTuple):
    """Samples of one site.

    Attributes:
        real: [N, …] as they came.
        translated: method → [N, …], the same samples as the other site's; a method may know one direction only.
        patients: [N] whose each is.
    """

    real: Tensor
    translated: Mapping[str, Tensor]
    patients: Sequence[str]


def too_few(a: Site, b: Site) -> str | None:
    """Why the probe cannot be estimated, in words; None where it can."""
    counts = {name: len(set(site.patients)) for name, site in (("a", a), ("b", b))}
    if min(counts.values()) >= LEAST_SUBJECTS:
        return None
    found = " and ".join(f"{count} of domain {name}" for name, count in counts.items())
    return f"the site probe cannot be estimated from {found}: it takes {LEAST_SUBJECTS} patients of each"


def subject_folds(a: Sequence[str], b: Sequence[str], *, folds: int, seed: int) -> list[set[str]]:
    """Deal patients into folds, each site's evenly; one who was scanned at both sites is in one fold.

    Every fold has patients of both sites.

    Args:
        a: patients of the samples of one site.
        b: of the other.
        folds: how many; no more than the smaller site has patients.
        seed: of the deal.
    """
    rng = np.random.default_rng(seed)
    both, *others = sorted(set(a) & set(b)), sorted(set(a) - set(b)), sorted(set(b) - set(a))
    count = min(folds, len(set(a)), len(set(b)))
    dealt: list[set[str]] = [set() for _ in range(count)]
    # A site's deal goes on where that of both ended: begun anew, it would leave later folds without the site.
    for first, group in ((0, both), *((len(both), own) for own in others)):
        for place, patient in enumerate(rng.permutation(group).tolist(), first):
            dealt[place % count].add(patient)
    return dealt


def probe_rows(
    probe: Probe,
    a: Site,
    b: Site,
    *,
    seeds: Sequence[int],
    folds: int = 5,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[dict[str, Any]]:
    """Train and test a probe on every fold with every seed.

    Args:
        probe: trained anew each time.
        a: samples of one site.
        b: of the other.
        seeds: of the folds' deal and of training.
        folds: of patients.
        advance: called after every training.

    Yields:
        Rows `probe`, `method`, `direction` (None for scans as they came), `kind` (`raw`, `frozen`, `retrained`,
        `floor`), `seed`, `fold`, `balanced_accuracy`, `auc`, `converged`. In direction `a2b` translated scans of a are
        told from real ones of b; chance is 0.5. Methods `raw` and `real` are scans as they came: of both sites, and, as
        the floor, a random half of the target's patients told from the other half. With few patients that is below
        0.5, since whoever is held out is missed on the other side.
    """
    sites = {"a": a, "b": b}
    methods = list(dict.fromkeys([*a.translated, *b.translated]))
    for seed in seeds:
        for domain, direction in DIRECTIONS.items():
            yield from _floor(probe, sites["b" if domain == "a" else "a"], direction, folds, seed, advance)
        for fold, held in enumerate(subject_folds(a.patients, b.patients, folds=folds, seed=seed)):
            place = {"probe": probe.name, "seed": seed, "fold": fold}
            raw = _fit(probe, a.real, b.real, sites, held, seed)
            advance()
            yield {
                **place, "method": "raw", "direction": None, "kind": "raw",
                **_scores(raw, a.real, b.real, sites, held),
            }  # fmt: skip
            for method, (domain, direction) in product(methods, DIRECTIONS.items()):
                if method not in sites[domain].translated:
                    continue
                told = {name: site.translated[method] if name == domain else site.real for name, site in sites.items()}
                again = _fit(probe, told["a"], told["b"], sites, held, seed)
                advance()
                for kind, fitted in (("frozen", raw), ("retrained", again)):
                    yield {
                        **place, "method": method, "direction": direction, "kind": kind,
                        **_scores(fitted, told["a"], told["b"], sites, held),
                    }  # fmt: skip


def _floor(
    probe: Probe, site: Site, direction: str, folds: int, seed: int, advance: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """Rows of telling two random halves of a site's patients apart."""
    order = np.random.default_rng(seed).permutation(sorted(set(site.patients)))
    halves = [set(half.tolist()) for half in np.array_split(order, 2)]
    sites = {}
    for name, half in zip("ab", halves, strict=True):
        owned = _of(site, half)
        kept = [patient for patient in site.patients if patient in half]
        sites[name] = Site(site.real[owned], {}, kept)
    a, b = sites["a"], sites["b"]
    if min(len(half) for half in halves) < 2:
        return
    for fold, held in enumerate(subject_folds(a.patients, b.patients, folds=folds, seed=seed)):
        fitted = _fit(probe, a.real, b.real, sites, held, seed)
        advance()
        yield {
            "probe": probe.name, "seed": seed, "fold": fold, "method": "real", "direction": direction, "kind": "floor",
            **_scores(fitted, a.real, b.real, sites, held),
        }  # fmt: skip


def _fit(probe: Probe, a: Tensor, b: Tensor, sites: Mapping[str, Site], held: set[str], seed: int) -> Fitted:
    """Train on the patients that are not held out."""
    kept = [values[~_of(sites[name], held)] for name, values in (("a", a), ("b", b))]
    second = torch.cat([torch.full((len(values),), name) for values, name in zip(kept, (False, True), strict=True)])
    return probe.fit(torch.cat(kept), second.to(a.device), seed=seed)


def _scores(fitted: Fitted, a: Tensor, b: Tensor, sites: Mapping[str, Site], held: set[str]) -> dict[str, Any]:
    first, second = (fitted.scores(values[_of(sites[name], held)]) for name, values in (("a", a), ("b", b)))
    wins = second[:, None] - first[None]
    return {
        "balanced_accuracy": float(((first <= 0).double().mean() + (second > 0).double().mean()) / 2),
        "auc": float(((wins > 0).double() + (wins == 0).double() / 2).mean()),
        "converged": fitted.converged,
    }


def _of(site: Site, patients: set[str]) -> Tensor:
    """[N] bool, which samples are of these patients."""
    return torch.tensor([patient in patients for patient in site.patients], device=site.real.device)
