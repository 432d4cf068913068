"""Select cases of a translation by their measured scores."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Any

import numpy as np
from scipy.stats import rankdata

from seewhy.errors import DataError
from seewhy.metrics.translation.similarity import METRICS
from seewhy.run.translation.qualitative.case_list import CATEGORIES, COMPARED, CaseOptions, SelectedCase

__all__ = ["choose_comparison", "collect_cases", "select_cases"]


def choose_comparison(rows: Iterable[Mapping[str, Any]], direction: str, wanted: str) -> str | None:
    """Choose the comparison that a direction is judged by; None if there are no such scores.

    Args:
        rows: of `seewhy.run.translation.score_table.read_samples`.
        direction: `a2b` or `b2a`.
        wanted: `translation`, `cycle`, or `auto`: translation if there are such scores.
    """
    available = {row["comparison"] for row in rows if row["direction"] == direction}
    order = ("translation", "cycle") if wanted == "auto" else (wanted,)
    return next((name for name in order if name in available), None)


def collect_cases(
    rows: Iterable[Mapping[str, Any]],
    samples: Sequence[str],
    *,
    direction: str,
    comparison: str,
    modality: str = "all",
    tissue: Mapping[str, float] | None = None,
    min_tissue: float = 0.0,
) -> list[SelectedCase]:
    """Collect the slices of a direction that have scores and enough tissue, in the order of the samples.

    Args:
        rows: long rows, see `seewhy.metrics.translation.similarity.TranslationScores.rows`.
        samples: ids of all test samples, in order.
        direction: `a2b` or `b2a`.
        comparison: `translation` or `cycle`.
        modality: modality of the scores; `all` is the mean over modalities.
        tissue: sample → fraction of tissue in [0, 1]; samples without an entry count as 1.
        min_tissue: least fraction of tissue.

    Raises:
        DataError: scores of samples that are not among the test samples, or slices without one of the metrics.
    """
    positions = {name: position for position, name in enumerate(samples)}
    heads: dict[str, Mapping[str, Any]] = {}
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["direction"] == direction and row["comparison"] == comparison and modality in ("all", row["modality"]):
            heads.setdefault(row["id"], row)
            values[row["id"]][row["metric"]].append(float(row["value"]))
    unknown = [name for name in heads if name not in positions]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(heads)} scored slices (first: {unknown[0]}) are not test samples of this run with "
            "its present configuration; restore data.* or score them again: python -m seewhy evaluate run=…"
        )
    incomplete = [name for name in heads if not set(METRICS) <= values[name].keys()]
    if incomplete:
        raise DataError(
            f"{len(incomplete)} of {len(heads)} scored slices (first: {incomplete[0]}) have no "
            f"{', '.join(sorted(set(METRICS) - values[incomplete[0]].keys()))}; score them again: python -m seewhy "
            "evaluate run=…"
        )
    fractions = tissue or {}
    cases = []
    for name in sorted(heads, key=positions.__getitem__):
        scores = {metric: fmean(several) for metric, several in values[name].items()}
        if any(math.isnan(value) for value in scores.values()) or fractions.get(name, 1.0) < min_tissue:
            continue
        head = heads[name]
        cases.append(
            SelectedCase(
                index=positions[name], id=name, subject=head["subject"], patient=head["patient"],
                domain=head["domain"], slice=int(head["slice"]), scores=scores,
            )
        )  # fmt: skip
    return cases


def select_cases(cases: Sequence[SelectedCase], options: CaseOptions) -> dict[str, list[SelectedCase]]:
    """Select the cases of each category, the most typical first; a case may be in several categories.

    Ties are broken by the position among the samples. There may be fewer cases than requested, since a category gets
    at most `max_per_subject` cases of one subject.

    Args:
        cases: of one direction.
        options: counts and ranking.
    """
    if options.unit == "subject":
        cases = _average_subjects(cases, options.metric)
    if not cases:
        return {name: [] for name in CATEGORIES}
    metric = options.metric
    middle = median(case.quality(metric) for case in cases)
    disagreement = dict(zip((case.id for case in cases), _measure_disagreement(cases), strict=True))
    drawn = np.random.default_rng(options.seed).permutation(len(cases))
    order = {case.id: int(position) for case, position in zip(cases, drawn, strict=True)}
    keys: dict[str, Callable[[SelectedCase], float]] = {
        "best": lambda case: -case.quality(metric),
        "worst": lambda case: case.quality(metric),
        "median": lambda case: _distance(case.quality(metric), middle),
        "interesting": lambda case: -disagreement[case.id],
        "random": lambda case: order[case.id],
    }
    selected = {}
    for name, count in options.counts.items():
        key = keys[name]
        ranked = sorted(cases, key=lambda case: (key(case), case.index))
        selected[name] = _limit_per_subject(ranked, count, options.max_per_subject)
    return selected


def _distance(first: float, second: float) -> float:
    """Return the distance of two values; 0 for two equal infinite ones."""
    return 0.0 if first == second else abs(first - second)


def _measure_disagreement(cases: Sequence[SelectedCase]) -> list[float]:
    """Measure in [0, 1] how much the ranks of each case by the compared metrics differ; ties share their mean rank."""
    ranks = [rankdata([case.quality(metric) for case in cases]) for metric in COMPARED]
    spread: list[float] = (np.ptp(np.stack(ranks), axis=0) / max(len(cases) - 1, 1)).tolist()
    return spread


def _limit_per_subject(ranked: Iterable[SelectedCase], count: int, most: int) -> list[SelectedCase]:
    """Return the first `count` cases with at most `most` of each subject."""
    taken: Counter[str] = Counter()
    kept: list[SelectedCase] = []
    for case in ranked:
        if len(kept) == count:
            break
        if taken[case.subject] < most:
            taken[case.subject] += 1
            kept.append(case)
    return kept


def _average_subjects(cases: Sequence[SelectedCase], metric: str) -> list[SelectedCase]:
    """Return one case per subject: its mean scores, with the slice nearest to the mean."""
    groups: dict[str, list[SelectedCase]] = defaultdict(list)
    for case in cases:
        groups[case.subject].append(case)
    averaged = []
    for group in groups.values():
        scores = {name: fmean(case.scores[name] for case in group) for name in group[0].scores}
        nearest = min(group, key=lambda case: (_distance(case.scores[metric], scores[metric]), case.index))
        averaged.append(replace(nearest, scores=scores))
    return averaged
