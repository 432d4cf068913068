"""Measure distances of translated scans to real ones of the target, next to a floor of real scans; site probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from seewhy.batch import MODALITIES
from seewhy.data.domains.store import DOMAINS
from seewhy.io.atomic import replace_non_finite
from seewhy.metrics.bootstrap import percentile_bounds
from seewhy.metrics.gather import Row
from seewhy.metrics.translation.feature_distances import KernelTable, frechet_distance, kernel_table, median_width
from seewhy.metrics.translation.similarity import DIRECTIONS
from seewhy.metrics.translation.site_probe import (
    LogisticProbe,
    NetworkProbe,
    Probe,
    Site,
    describe_shortage,
    probe_rows,
)
from seewhy.models.translation.unpaired import other_domain
from seewhy.run.translation.evaluation.recorder import RAW
from seewhy.run.translation.evaluation.settings import DistanceOptions, ProbeOptions

__all__ = [
    "MEASURES",
    "FeatureSample",
    "build_sample",
    "count_trainings",
    "draw_groups",
    "measure_direction",
    "measure_distances",
    "run_probes",
    "summarize_probes",
]

MEASURES = ("frechet", "kid", "mmd")
Floats = NDArray[np.float64]
SCORES = ("balanced_accuracy", "auc")


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
        summary: dict[str, Any] = replace_non_finite(
            {
                "value": float(np.mean(self.whole)) if self.whole else None,
                "modalities": {name: float(value) for name, value in zip(MODALITIES, self.whole, strict=False)},
                "interval": None if ends is None else list(ends),
                "matched": float(finite.mean()) if finite.size else None,
                "matched_sd": float(finite.std(ddof=1)) if finite.size > 1 else None,
            }
        )
        return summary


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


# -- site probes ----------------------------------------------------------------------------------------------


def run_probes(
    records: Sequence[Row], *, choice: ProbeOptions, seed: int, advance: Callable[[], None] = lambda: None
) -> tuple[list[Row], str | None]:
    """Train and test both probes.

    Args:
        records: of all subjects.
        choice: numbers of seeds and folds, and training steps of the network.
        seed: the first seed.
        advance: called after every training.

    Returns:
        Rows of `probe_rows` and None; or no rows and the reason.
    """
    kinds: list[tuple[Probe, str]] = [(NetworkProbe(steps=choice.steps), "squares"), (LogisticProbe(), "features")]
    rows: list[Row] = []
    for probe, kept in kinds:
        a, b = (_build_site([row for row in records if row["domain"] == domain], kept) for domain in DOMAINS)
        reason = describe_shortage(a, b)
        if reason is not None:
            return [], reason
        seeds = range(seed, seed + choice.seeds)
        rows += probe_rows(probe, a, b, seeds=seeds, folds=choice.folds, advance=advance)
    return rows, None


def count_trainings(records: Sequence[Row], choice: ProbeOptions) -> int:
    """Return the number of trainings of `run_probes`, at most."""
    patients = [{row["patient"] for row in records if row["domain"] == domain} for domain in DOMAINS]
    methods = sum(len(next(row for row in records if row["domain"] == domain)["squares"]) - 1 for domain in DOMAINS)
    floors = sum(min(choice.folds, len(group) // 2) for group in patients)
    return 2 * choice.seeds * (min(choice.folds, *map(len, patients)) * (1 + methods) + floors)


def summarize_probes(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one entry per probe, method, direction and kind: means, and spreads over seeds and over folds.

    `<score>` is the mean over all folds and seeds, `<score>_seed_sd` the standard deviation of the seeds' means,
    `<score>_fold_sd` that of folds within a seed, averaged over seeds.
    """
    names = ("probe", "method", "direction", "kind")
    entries = []
    for key in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
        group = [row for row in rows if tuple(row[name] for name in names) == key]
        entry: dict[str, Any] = dict(zip(names, key, strict=True))
        for score in SCORES:
            by_seed: dict[int, list[float]] = {}
            for row in group:
                by_seed.setdefault(row["seed"], []).append(row[score])
            means = [float(np.mean(values)) for values in by_seed.values()]
            spreads = [float(np.std(values, ddof=1)) for values in by_seed.values() if len(values) > 1]
            entry[score] = float(np.mean(means))
            entry[f"{score}_seed_sd"] = float(np.std(means, ddof=1)) if len(means) > 1 else None
            entry[f"{score}_fold_sd"] = float(np.mean(spreads)) if spreads else None
        converged = float(np.mean([row["converged"] for row in group]))
        entries.append({**entry, "converged": converged, "fits": len(group)})
    return entries


def _build_site(records: Sequence[Row], kept: str) -> Site:
    """Collect the samples of one domain; `features` are concatenated over modalities."""

    def collect(method: str) -> torch.Tensor:
        values = torch.from_numpy(np.concatenate([row[kept][method] for row in records]))
        return values.flatten(1) if kept == "features" else values

    methods = [name for name in records[0][kept] if name != RAW and all(name in row[kept] for row in records)]
    patients = [row["patient"] for row in records for _ in range(row["slices"])]
    return Site(collect(RAW), {name: collect(name) for name in methods}, patients)
