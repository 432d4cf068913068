"""Choosing cases by scores that were measured, never by such that were drawn."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import Any

import numpy as np
from scipy.stats import rankdata

from seewhy.errors import DataError
from seewhy.run.translation.qualitative.options import CATEGORIES, CaseOptions

__all__ = ["COMPARED", "SelectedCase", "cases_of", "comparison_of", "describe", "select"]

RISING = {"ssim": 1, "psnr": 1, "mae": -1, "mse": -1}
"""Metric → 1 where more is better, else -1."""
COMPARED = ("ssim", "psnr", "mae")
"""Metrics whose ranks disagree on an interesting case."""


@dataclass(frozen=True, kw_only=True)
class SelectedCase:
    """A slice that may be shown.

    Attributes:
        index: position in the ordered list of test samples.
        id: of the sample.
        subject: whose.
        patient: whose scan.
        domain: `a` or `b`.
        slice: number in the source.
        scores: metric → value, of the chosen modality or their mean; of a subject, the mean over its slices.
    """

    index: int
    id: str
    subject: str
    patient: str
    domain: str
    slice: int
    scores: Mapping[str, float] = field(default_factory=dict)

    def quality(self, metric: str) -> float:
        """A score with its sign so that more is better."""
        return RISING[metric] * self.scores[metric]


def comparison_of(rows: Iterable[Mapping[str, Any]], direction: str, wanted: str) -> str | None:
    """Which comparison a direction is judged by; None where there is none.

    Args:
        rows: as `seewhy.run.translation.score_table.read_samples` gives them.
        direction: `a2b` or `b2a`.
        wanted: `translation`, `cycle`, or `auto`: the former where there is one.
    """
    there = {row["comparison"] for row in rows if row["direction"] == direction}
    order = ("translation", "cycle") if wanted == "auto" else (wanted,)
    return next((name for name in order if name in there), None)


def cases_of(
    rows: Iterable[Mapping[str, Any]],
    samples: Sequence[str],
    *,
    direction: str,
    comparison: str,
    modality: str = "all",
    tissue: Mapping[str, float] | None = None,
    min_tissue: float = 0.0,
) -> list[SelectedCase]:
    """The slices of a direction that have scores and enough tissue, in the order of the samples.

    Args:
        rows: long rows, see `seewhy.metrics.translation.similarity.TranslationScores.rows`.
        samples: ids of all test samples, in order.
        direction: `a2b` or `b2a`.
        comparison: `translation` or `cycle`.
        modality: whose scores count; `all` is the mean over modalities.
        tissue: sample → share of tissue; those unknown count as full.
        min_tissue: least of it.

    Raises:
        DataError: scores of samples that are not among the test samples.
    """
    places = {name: place for place, name in enumerate(samples)}
    heads: dict[str, Mapping[str, Any]] = {}
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["direction"] == direction and row["comparison"] == comparison and modality in ("all", row["modality"]):
            heads.setdefault(row["id"], row)
            values[row["id"]][row["metric"]].append(float(row["value"]))
    unknown = [name for name in heads if name not in places]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(heads)} scored slices (first: {unknown[0]}) are no test samples of this run as it "
            "is configured now; leave data.* as it was, or score them: python -m seewhy evaluate run=…"
        )
    shares = tissue or {}
    found = []
    for name in sorted(heads, key=places.__getitem__):
        scores = {metric: fmean(several) for metric, several in values[name].items()}
        if any(math.isnan(value) for value in scores.values()) or shares.get(name, 1.0) < min_tissue:
            continue
        head = heads[name]
        found.append(
            SelectedCase(
                index=places[name], id=name, subject=head["subject"], patient=head["patient"], domain=head["domain"],
                slice=int(head["slice"]), scores=scores,
            )
        )  # fmt: skip
    return found


def select(cases: Sequence[SelectedCase], options: CaseOptions) -> dict[str, list[SelectedCase]]:
    """Category → its cases, the most typical of it first; a case may be in several.

    Ties go by the position among the samples. Of one subject come at most `max_per_subject` cases of a kind, so there
    may be fewer than asked for.

    Args:
        cases: of one direction.
        options: counts and what to rank by.
    """
    if options.unit == "subject":
        cases = _subjects(cases, options.metric)
    if not cases:
        return {name: [] for name in CATEGORIES}
    metric = options.metric
    middle = median(case.quality(metric) for case in cases)
    disagreement = dict(zip((case.id for case in cases), _disagreement(cases), strict=True))
    drawn = np.random.default_rng(options.seed).permutation(len(cases))
    order = {case.id: int(place) for case, place in zip(cases, drawn, strict=True)}
    keys: dict[str, Callable[[SelectedCase], float]] = {
        "best": lambda case: -case.quality(metric),
        "worst": lambda case: case.quality(metric),
        "median": lambda case: _apart(case.quality(metric), middle),
        "interesting": lambda case: -disagreement[case.id],
        "random": lambda case: order[case.id],
    }
    found = {}
    for name, count in options.counts.items():
        key = keys[name]
        ranked = sorted(cases, key=lambda case: (key(case), case.index))
        found[name] = _capped(ranked, count, options.max_per_subject)
    return found


def describe(category: str, options: CaseOptions, comparison: str) -> str:
    """A category in words."""
    metric = options.metric.upper()
    name = {"translation": f"{metric} to the true counterpart", "cycle": f"cycle {metric}"}[comparison]
    of = "mean over modalities" if options.modality == "all" else options.modality
    unit = options.unit
    return {
        "best": f"{unit}s with the best {name} ({of})",
        "worst": f"{unit}s with the worst {name} ({of})",
        "median": f"{unit}s nearest to the median {name} ({of})",
        "interesting": f"{unit}s whose ranks by {', '.join(COMPARED).upper()} disagree most ({comparison}, {of})",
        "random": f"{unit}s drawn at random (seed {options.seed})",
    }[category]


def _apart(one: float, other: float) -> float:
    """Distance, 0 between equal values, infinite ones too."""
    return 0.0 if one == other else abs(one - other)


def _disagreement(cases: Sequence[SelectedCase]) -> list[float]:
    """How far apart a case's ranks by the compared metrics lie, in [0, 1]; ties share their mean rank."""
    ranks = [rankdata([case.quality(metric) for case in cases]) for metric in COMPARED]
    apart: list[float] = (np.ptp(np.stack(ranks), axis=0) / max(len(cases) - 1, 1)).tolist()
    return apart


def _capped(ranked: Iterable[SelectedCase], count: int, most: int) -> list[SelectedCase]:
    """The first so many, at most so many of each subject."""
    taken: Counter[str] = Counter()
    kept: list[SelectedCase] = []
    for case in ranked:
        if len(kept) == count:
            break
        if taken[case.subject] < most:
            taken[case.subject] += 1
            kept.append(case)
    return kept


def _subjects(cases: Sequence[SelectedCase], metric: str) -> list[SelectedCase]:
    """One case per subject: its mean scores, with the slice nearest to the mean."""
    groups: dict[str, list[SelectedCase]] = defaultdict(list)
    for case in cases:
        groups[case.subject].append(case)
    found = []
    for own in groups.values():
        scores = {name: fmean(case.scores[name] for case in own) for name in own[0].scores}
        nearest = min(own, key=lambda case: (_apart(case.scores[metric], scores[metric]), case.index))
        found.append(replace(nearest, scores=scores))
    return found
