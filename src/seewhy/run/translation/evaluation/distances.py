"""How far translated scans are from real ones of the target, beside the raw value and real scans among themselves."""

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
from seewhy.run.translation.evaluation.settings import Distances

__all__ = ["MEASURES", "direction_distances", "measure_distances"]

MEASURES = ("frechet", "kid", "mmd")
Floats = NDArray[np.float64]


class FeatureSample(NamedTuple):
    """Features of one domain's scans.

    Attributes:
        values: [N, M, D].
        patients: [N] whose.
    """

    values: Floats
    patients: list[str]

    def names(self) -> list[str]:
        """Patients, in the order of their first slice."""
        return list(dict.fromkeys(self.patients))


class SubsetDraw(NamedTuple):
    """Patients of one repeat, by their place: two groups of the target's that share nobody, and one of the source's.

    All three are of equal numbers.
    """

    first: list[int]
    second: list[int]
    source: list[int]


@dataclass
class Collected:
    """Values of one measure, per modality."""

    whole: list[float] = field(default_factory=list)
    resampled: list[Floats | None] = field(default_factory=list)
    matched: list[list[float]] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """Means over modalities, and the interval of that mean; None where a number is not defined."""
        repeats = np.asarray(self.matched).mean(axis=0)
        known = repeats[~np.isnan(repeats)]
        drawn = [values for values in self.resampled if values is not None]
        ends = percentile_bounds(np.mean(drawn, axis=0)) if drawn else None
        return {
            "value": _number(np.mean(self.whole)) if self.whole else None,
            "modalities": {name: _number(value) for name, value in zip(MODALITIES, self.whole, strict=False)},
            "interval": None if ends is None else list(ends),
            "matched": _number(known.mean()) if known.size else None,
            "matched_sd": _number(known.std(ddof=1)) if known.size > 1 else None,
        }


def measure_distances(
    records: Sequence[Row],
    *,
    standardized: bool,
    options: Distances,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Distances in both directions; see `direction_distances`.

    Args:
        records: of all subjects.
        standardized: divide features by their spread among the target's real slices.
        options: numbers of repeats and resamples.
        seed: of both.
        advance: called after each method and modality.
    """
    found = {}
    for domain, direction in DIRECTIONS.items():
        own, other = ([row for row in records if row["domain"] == side] for side in (domain, other_domain(domain)))
        methods = [name for name in own[0]["features"] if all(name in row["features"] for row in own)]
        target = _sample(other, RAW)
        sources = {name: _sample(own, name) for name in methods}
        if standardized:
            mean, spread = target.values.mean(axis=0), target.values.std(axis=0)
            spread = np.where(spread > 1e-8, spread, 1)
            target = target._replace(values=(target.values - mean) / spread)
            sources = {name: one._replace(values=(one.values - mean) / spread) for name, one in sources.items()}
        found[direction] = direction_distances(sources, target, options=options, seed=seed, advance=advance)
    return found


def direction_distances(
    sources: Mapping[str, FeatureSample],
    target: FeatureSample,
    *,
    options: Distances,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Distances of every method's scans to the target's real ones, modality by modality, averaged over modalities.

    Distances depend on how many samples they are taken from, the Fréchet distance strongly. So each method is also
    measured on equal numbers with the floor: as often as `options.repeats` says, two groups of the target's patients
    are drawn that share nobody; the floor is the distance between them, and `matched` that between the second one and
    as many patients of the source. A group is half of the target's patients, or all of the source's if these are fewer.

    Args:
        sources: method → features of the same scans; `identity` gives the raw value and the Gaussian kernel's width.
        target: real scans of the other domain.
        options: see `Distances`.
        seed: of the groups and of the bootstrap.
        advance: called after each method and modality.

    Returns:
        `matched_patients`, the size of a group; `floor` and `methods`, each with `frechet`, `kid` (squared, polynomial
        kernel) and `mmd` (squared, Gaussian kernel): `value` of all scans, its `modalities`, `matched` with
        `matched_sd`, and, of kernel distances, the `interval` of 95 % that the mean over modalities has when patients
        are drawn again.
    """
    raw = sources[RAW]
    draws = _draws(len(target.names()), len(raw.names()), repeats=options.repeats, seed=seed)
    floor = {measure: Collected() for measure in MEASURES}
    methods = {name: {measure: Collected() for measure in MEASURES} for name in sources}
    for place in range(raw.values.shape[1]):
        width = median_width(raw.values[:, place], target.values[:, place])
        widths = {"kid": None, "mmd": width}
        for name, source in sources.items():
            own, other = source.values[:, place], target.values[:, place]
            patients = (source.patients, target.patients)
            tables = {key: kernel_table(own, other, subjects=patients, width=value) for key, value in widths.items()}
            _add_kernels(methods[name], tables, draws, options, seed)
            _add_frechet(methods[name]["frechet"], source, target, place, draws)
            advance()
            if name == RAW:
                for key, table in tables.items():
                    floor[key].matched.append([_within(table, draw) for draw in draws])
                floor["frechet"].matched.append(
                    [_frechet(target, draw.first, target, draw.second, place) for draw in draws]
                )
    return {
        "matched_patients": len(draws[0].first),
        "floor": {measure: one.told() for measure, one in floor.items()},
        "methods": {name: {key: one.told() for key, one in own.items()} for name, own in methods.items()},
    }


def _add_kernels(
    collected: Mapping[str, Collected],
    tables: Mapping[str, KernelTable],
    draws: Sequence[SubsetDraw],
    options: Distances,
    seed: int,
) -> None:
    for key, table in tables.items():
        collected[key].whole.append(table.distance())
        collected[key].resampled.append(table.resampled(resamples=options.resamples, seed=seed))
        collected[key].matched.append([table.distance(draw.source, draw.second) for draw in draws])


def _add_frechet(
    collected: Collected, source: FeatureSample, target: FeatureSample, place: int, draws: Sequence[SubsetDraw]
) -> None:
    everyone = range(len(source.names())), range(len(target.names()))
    collected.whole.append(_frechet(source, everyone[0], target, everyone[1], place))
    collected.resampled.append(None)  # drawing subjects twice would change the bias more than what is measured
    collected.matched.append([_frechet(source, draw.source, target, draw.second, place) for draw in draws])


def _frechet(
    first: FeatureSample, one: Sequence[int], second: FeatureSample, other: Sequence[int], place: int
) -> float:
    chosen = [_slices(sample, patients)[:, place] for sample, patients in ((first, one), (second, other))]
    return frechet_distance(*chosen) if min(map(len, chosen)) > 1 else float("nan")


def _slices(sample: FeatureSample, patients: Sequence[int]) -> Floats:
    names = sample.names()
    wanted = {names[number] for number in patients}
    values: Floats = sample.values[[owner in wanted for owner in sample.patients]]
    return values


def _within(table: KernelTable, draw: SubsetDraw) -> float:
    """Distance between two groups of the second sample."""
    own = table.within_second
    return KernelTable(own, own, own).distance(draw.first, draw.second)


def _draws(target: int, source: int, *, repeats: int, seed: int) -> list[SubsetDraw]:
    """Random groups of equal numbers; who is in none of them is another one each time."""
    rng = np.random.default_rng(seed)
    size = min(target // 2, source)
    draws = []
    for _ in range(repeats):
        order = rng.permutation(target).tolist()
        drawn = rng.permutation(source)[:size].tolist()
        draws.append(SubsetDraw(order[:size], order[size : 2 * size], drawn))
    return draws


def _sample(records: Sequence[Row], method: str) -> FeatureSample:
    values = np.concatenate([np.asarray(row["features"][method], np.float64) for row in records])
    return FeatureSample(values, [row["patient"] for row in records for _ in range(len(row["features"][method]))])


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
