"""Measure distances of translated scans to real scans of the target, with the raw value and a floor of real scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seewhy.batch import MODALITIES
from seewhy.metrics.bootstrap import percentile_bounds
from seewhy.metrics.gather import Row
from seewhy.metrics.translation.feature_distances import KernelTable, frechet_distance, kernel_table, median_width
from seewhy.metrics.translation.similarity import DIRECTIONS
from seewhy.models.translation.unpaired import other_domain
from seewhy.run.translation.evaluation.recorder import RAW
from seewhy.run.translation.evaluation.settings import DistanceOptions

__all__ = ["MEASURES", "FeatureSample", "build_sample", "draw_groups", "measure_direction", "measure_distances"]

MEASURES = ("frechet", "kid", "mmd")
Floats = NDArray[np.float64]


class FeatureSample(NamedTuple):
    """Features of one domain's scans.

    Attributes:
        values: [N, M, D].
        patients: [N] patient of each slice.
    """

    values: Floats
    patients: list[str]

    def names(self) -> list[str]:
        """List the patients in the order of their first slice."""
        return list(dict.fromkeys(self.patients))


class SubsetDraw(NamedTuple):
    """Positions of the patients of one repeat: two disjoint groups of the target, and one of the source.

    All three have the same size.
    """

    first: list[int]
    second: list[int]
    source: list[int]


@dataclass
class MeasureValues:
    """Values of one measure, per modality.

    Attributes:
        whole: distance of all scans.
        resampled: bootstrap distances, or None.
        matched: distances between groups of equal size, by repeat.
    """

    whole: list[float] = field(default_factory=list)
    resampled: list[Floats | None] = field(default_factory=list)
    matched: list[list[float]] = field(default_factory=list)

    def summarize(self) -> dict[str, Any]:
        """Return means over modalities and the interval of that mean; None for undefined numbers."""
        repeats = np.asarray(self.matched).mean(axis=0)
        finite = repeats[~np.isnan(repeats)]
        drawn = [values for values in self.resampled if values is not None]
        ends = percentile_bounds(np.mean(drawn, axis=0)) if drawn else None
        return {
            "value": _finite_or_none(np.mean(self.whole)) if self.whole else None,
            "modalities": {name: _finite_or_none(value) for name, value in zip(MODALITIES, self.whole, strict=False)},
            "interval": None if ends is None else list(ends),
            "matched": _finite_or_none(finite.mean()) if finite.size else None,
            "matched_sd": _finite_or_none(finite.std(ddof=1)) if finite.size > 1 else None,
        }


def measure_distances(
    records: Sequence[Row],
    *,
    standardized: bool,
    options: DistanceOptions,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure distances in both directions; see `direction_distances`.

    Args:
        records: of all subjects.
        standardized: divide features by their spread among the target's real slices.
        options: numbers of repeats and resamples.
        seed: of both.
        advance: called after each method and modality.
    """
    result = {}
    for domain, direction in DIRECTIONS.items():
        rows, others = ([row for row in records if row["domain"] == side] for side in (domain, other_domain(domain)))
        methods = [name for name in rows[0]["features"] if all(name in row["features"] for row in rows)]
        target = build_sample(others, RAW)
        sources = {name: build_sample(rows, name) for name in methods}
        if standardized:
            mean, spread = target.values.mean(axis=0), target.values.std(axis=0)
            spread = np.where(spread > 1e-8, spread, 1)
            target = target._replace(values=(target.values - mean) / spread)
            sources = {name: item._replace(values=(item.values - mean) / spread) for name, item in sources.items()}
        result[direction] = measure_direction(sources, target, options=options, seed=seed, advance=advance)
    return result


def measure_direction(
    sources: Mapping[str, FeatureSample],
    target: FeatureSample,
    *,
    options: DistanceOptions,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure the distances of every method's scans to the target's real scans per modality, averaged over modalities.

    Distances depend on the number of samples, the Fréchet distance strongly. So each method is also compared with the
    floor on equal numbers: `options.repeats` times two disjoint groups of the target's patients are drawn; the floor
    is the distance between them, and `matched` that between the second group and as many patients of the source. A
    group is half of the target's patients, or all of the source's if these are fewer. Patients of both domains are
    never compared with themselves: the source's group has none of the second group.

    Args:
        sources: method → features of the same scans; `identity` gives the raw value and the Gaussian kernel's width.
        target: real scans of the other domain.
        options: see `Distances`.
        seed: of the groups and of the bootstrap.
        advance: called after each method and modality.

    Returns:
        `matched_patients`, the size of a group; `floor` and `methods`, each with `frechet`, `kid` (squared, polynomial
        kernel) and `mmd` (squared, Gaussian kernel): `value` of all scans, its `modalities`, `matched` with
        `matched_sd`, and for kernel distances the bootstrap `interval` (95 %, over patients) of the mean over
        modalities.
    """
    raw = sources[RAW]
    draws = draw_groups(target.names(), raw.names(), repeats=options.repeats, seed=seed)
    floor = {measure: MeasureValues() for measure in MEASURES}
    methods = {name: {measure: MeasureValues() for measure in MEASURES} for name in sources}
    for modality in range(raw.values.shape[1]):
        width = median_width(raw.values[:, modality], target.values[:, modality])
        widths = {"kid": None, "mmd": width}
        for name, source in sources.items():
            pair = source.values[:, modality], target.values[:, modality]
            patients = (source.patients, target.patients)
            tables = {key: kernel_table(*pair, subjects=patients, width=value) for key, value in widths.items()}
            _add_kernels(methods[name], tables, draws, options, seed)
            _add_frechet(methods[name]["frechet"], source, target, modality, draws)
            advance()
            if name == RAW:
                for key, table in tables.items():
                    second = table.within_second
                    within = KernelTable(second, second, second)
                    floor[key].matched.append([within.distance(draw.first, draw.second) for draw in draws])
                floor["frechet"].matched.append(
                    [_frechet(target, draw.first, target, draw.second, modality) for draw in draws]
                )
    return {
        "matched_patients": len(draws[0].first),
        "floor": {measure: values.summarize() for measure, values in floor.items()},
        "methods": {name: {key: v.summarize() for key, v in several.items()} for name, several in methods.items()},
    }


def _add_kernels(
    collected: Mapping[str, MeasureValues],
    tables: Mapping[str, KernelTable],
    draws: Sequence[SubsetDraw],
    options: DistanceOptions,
    seed: int,
) -> None:
    for key, table in tables.items():
        collected[key].whole.append(table.distance())
        collected[key].resampled.append(table.resampled(resamples=options.resamples, seed=seed))
        collected[key].matched.append([table.distance(draw.source, draw.second) for draw in draws])


def _add_frechet(
    collected: MeasureValues, source: FeatureSample, target: FeatureSample, modality: int, draws: Sequence[SubsetDraw]
) -> None:
    everyone = range(len(source.names())), range(len(target.names()))
    collected.whole.append(_frechet(source, everyone[0], target, everyone[1], modality))
    collected.resampled.append(None)  # resampling subjects would change the bias more than the measured effect
    collected.matched.append([_frechet(source, draw.source, target, draw.second, modality) for draw in draws])


def _frechet(
    source: FeatureSample, source_patients: Sequence[int],
    target: FeatureSample, target_patients: Sequence[int], modality: int,
) -> float:  # fmt: skip
    pairs = ((source, source_patients), (target, target_patients))
    chosen = [_select_patients(sample, patients)[:, modality] for sample, patients in pairs]
    return frechet_distance(*chosen) if min(map(len, chosen)) > 1 else float("nan")


def _select_patients(sample: FeatureSample, patients: Sequence[int]) -> Floats:
    names = sample.names()
    wanted = {names[number] for number in patients}
    values: Floats = sample.values[[owner in wanted for owner in sample.patients]]
    return values


def draw_groups(target: Sequence[str], source: Sequence[str], *, repeats: int, seed: int) -> list[SubsetDraw]:
    """Draw random groups of equal size; the patients left out differ between repeats."""
    rng = np.random.default_rng(seed)
    size = min(len(target) // 2, len(source))
    draws = []
    for _ in range(repeats):
        order = rng.permutation(len(target)).tolist()
        second = order[size : 2 * size]
        met = {target[number] for number in second}
        drawn = [number for number in rng.permutation(len(source)).tolist() if source[number] not in met][:size]
        draws.append(SubsetDraw(order[:size], second, drawn))
    return draws


def build_sample(records: Sequence[Row], method: str) -> FeatureSample:
    """Collect the features of one method from the records of one domain."""
    values = np.concatenate([np.asarray(row["features"][method], np.float64) for row in records])
    return FeatureSample(values, [row["patient"] for row in records for _ in range(len(row["features"][method]))])


def _finite_or_none(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
