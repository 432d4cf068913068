"""Agreement of explanations between trainings: maps of the same case by models that were trained separately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.explain.judging.similarity import average_ranks, subsample
from seewhy.figures.labels import NONE, method_label
from seewhy.figures.report.blocks import Block, ReportTable, Section, Text
from seewhy.io.atomic import list_files, write_csv
from seewhy.metrics.bootstrap import Interval, bootstrap_interval
from seewhy.reporting.store import ExplanationRecord, ExplanationStore, Place, read_record

__all__ = ["MEANING", "MapAgreement", "agreement_section", "compare_trainings", "write_agreement"]

Array = NDArray[Any]
CASES = 24
"""Largest number of cases that are compared, the first in order of their names."""
SAME_IMAGE = 0.95
"""Least correlation of the stored images of a sample between two runs; other windows and crops change them a little."""
MEANING = (
    "Agreement is not truth: trainings that all learned the same shortcut agree with each other. A method that does "
    "not agree shows what one training happened to learn."
)


@dataclass(frozen=True, kw_only=True)
class MapAgreement:
    """Agreement of one method's maps between trainings, as rank correlations of the evidence.

    Attributes:
        method: name, with the folder of the target if there are several.
        runs: number of trainings.
        cases: cases that at least two trainings explained for the same class.
        other_class: pairs of maps that were left out because the trainings explained different classes.
        same: mean over cases of the same case's maps between trainings.
        different: mean over pairs of different cases, also between trainings.
        reinitialized: mean with the maps of re-initialised networks; None if the runs were not judged.
        above: mean over cases of `same` minus the higher of the two levels, with its 95 % interval; None with fewer
            than three cases.
    """

    method: str
    runs: int
    cases: int
    other_class: int
    same: float
    different: float
    reinitialized: float | None
    above: Interval | None

    @property
    def passes(self) -> bool | None:
        """Whether the same case's maps are clearly more alike than the levels; None with fewer than three cases."""
        return None if self.above is None else self.above.low > 0

    def row(self) -> dict[str, Any]:
        """Row of `agreement.csv`."""
        above = self.above
        return {
            "method": self.method,
            "runs": self.runs,
            "cases": self.cases,
            "other_class": self.other_class,
            "same_case": self.same,
            "different_cases": None if np.isnan(self.different) else self.different,
            "reinitialized": self.reinitialized,
            "above_level": above.mean if above else None,
            "above_level_low": above.low if above else None,
            "above_level_high": above.high if above else None,
            "passes": self.passes,
        }


def compare_trainings(runs: Sequence[str | Path]) -> list[MapAgreement]:
    """Compare the maps of several runs (repeatability and reproducibility: Arun 2021).

    Only maps of the same sample, method and class are compared. The samples and methods need not be the same in all
    runs; two runs with a method and a sample in common are enough.

    Args:
        runs: run folders with `explanations/`, e.g. the members of a sweep over seeds, or runs of different backbones.

    Returns:
        One entry per method and target that two runs have in common.

    Raises:
        DataError: fewer than two runs, a run without explanations, damaged records, nothing in common, maps of
            different sizes, or other images under the same names.
    """
    folders = list(dict.fromkeys(Path(run).resolve() for run in runs))
    problems = [f"{folder} has no explanations; make them by explain.py run={folder}" for folder in folders
                if not (folder / "explanations" / "records").is_dir()]  # fmt: skip
    if len(folders) < 2:
        problems.append(f"{len(folders)} run; agreement needs at least two")
    if problems:
        raise DataError(problems)
    stores = [ExplanationStore(folder / "explanations") for folder in folders]
    records = [_read_records(store) for store in stores]
    places = dict.fromkeys(place for one in records for place in one)
    results = []
    for place in places:
        owners = [(store, one[place]) for store, one in zip(stores, records, strict=True) if place in one]
        known = [sample for _, own in owners for sample in own]
        samples = sorted({sample for sample in known if known.count(sample) > 1})[:CASES]
        if samples:
            _check_images(owners, samples)
            results.append(_compare(place, owners, samples))
    if not results:
        raise DataError("the runs have no method and sample in common; explain the same samples with the same methods")
    return results


def _read_records(store: ExplanationStore) -> dict[Place, dict[str, dict[str, Any]]]:
    """Read place → sample → record.

    Raises:
        DataError: records that are damaged or of another version.
    """
    found: dict[Place, dict[str, dict[str, Any]]] = {}
    damaged = []
    folder = store.folder / "records"
    for path in list_files(folder, "*/**/*.json"):
        parts = path.parent.relative_to(folder).parts
        if parts[0] == "floors" or len(parts) > 2:
            continue
        record = read_record(path, ExplanationRecord)
        if record is None:
            damaged.append(path)
        else:
            found.setdefault(Place(*parts), {})[record["id"]] = record
    if damaged:
        raise DataError(
            f"{damaged[0]} is damaged or of another version ({len(damaged)} such records); make them again by "
            f"explain.py run={store.folder.parent}"
        )
    return found


def _check_images(
    owners: Sequence[tuple[ExplanationStore, Mapping[str, Mapping[str, Any]]]], samples: Sequence[str]
) -> None:
    """Refuse runs whose samples of one name are different images, as in data sets that number their cases alike."""
    for sample in samples:
        stores = [store for store, own in owners if sample in own and store.has_view(sample)]
        shown = [store.view(sample)[0] for store in stores]
        for store, images in zip(stores[1:], shown[1:], strict=True):
            pairs = [(shown[0].get(name), image) for name, image in images.items()]
            alike = [_correlate(a, b) for a, b in pairs if a is not None and b is not None and a.shape == b.shape]
            if alike and min(alike) < SAME_IMAGE:
                raise DataError(
                    f"sample {sample} is another image in {store.folder.parent} than in {stores[0].folder.parent} "
                    f"(correlation {min(alike):.2f}); compare trainings that explained the same data"
                )


def _correlate(first: Array, second: Array) -> float:
    """Correlation of two images; 1 if they are equal, also where they are constant."""
    if np.array_equal(first, second):
        return 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
    return value if np.isfinite(value) else 0.0


def _compare(
    place: Place, owners: Sequence[tuple[ExplanationStore, Mapping[str, Mapping[str, Any]]]], samples: Sequence[str]
) -> MapAgreement:
    """Compare all pairs of runs."""
    lines = [_read_lines(place, store, own, samples) for store, own in owners]
    targets = [[_name_target(own.get(sample)) for sample in samples] for _, own in owners]
    same: list[list[float]] = [[] for _ in samples]
    different: list[float] = []
    skipped = 0
    for (first, names), (second, others) in combinations(list(zip(lines, targets, strict=True)), 2):
        if first.shape[1] != second.shape[1]:
            raise DataError(f"{place.title}: the runs have maps of different sizes; expected images of one size")
        table = first @ second.T
        for i, name in enumerate(names):
            if name is not None and others[i] is not None and name != others[i]:
                skipped += 1
            elif np.isfinite(table[i, i]):
                same[i].append(float(table[i, i]))
        apart = table[~np.eye(len(samples), dtype=bool)]
        different += apart[np.isfinite(apart)].tolist()
    means = np.array([np.mean(values) if values else np.nan for values in same])
    random = [
        value for _, own in owners for sample in samples
        if sample in own and isinstance(value := own[sample]["judged"].get("randomization_net"), float)
    ]  # fmt: skip
    apart_mean = float(np.mean(different)) if different else float("nan")
    level = np.nanmax([apart_mean, float(np.mean(random)) if random else -1.0, -1.0])
    return MapAgreement(
        method=place.title,
        runs=len(owners),
        cases=int(np.isfinite(means).sum()),
        other_class=skipped,
        same=float(np.nanmean(means)) if np.isfinite(means).any() else float("nan"),
        different=apart_mean,
        reinitialized=float(np.mean(random)) if random else None,
        above=bootstrap_interval(means - level, limits=(-2.0, 2.0)),
    )


def _name_target(record: Mapping[str, Any] | None) -> str | None:
    return None if record is None else str(record["target_name"])


def _read_lines(
    place: Place, store: ExplanationStore, own: Mapping[str, Mapping[str, Any]], samples: Sequence[str]
) -> Array:
    """Read the evidence of each sample as ranks [samples, P] of mean 0 and norm 1; NaN where missing or constant."""
    lines: list[Array | None] = []
    for sample in samples:
        if sample not in own:
            lines.append(None)
            continue
        joined = np.concatenate([array.ravel() for array in store.arrays(place, sample).values()])
        evidence = np.maximum(joined, 0) if own[sample]["signed"] else joined
        ranks = average_ranks(subsample(torch.from_numpy(evidence)[None])[0]).numpy()
        ranks = ranks - ranks.mean()
        norm = np.linalg.norm(ranks)
        lines.append(ranks / norm if norm > 0 else np.full_like(ranks, np.nan))
    sizes = {len(line) for line in lines if line is not None}
    if len(sizes) != 1:
        raise DataError(f"{place.title}: maps of different sizes in {store.folder}; expected images of one size")
    missing = np.full(sizes.pop(), np.nan)
    return np.stack([missing if line is None else line for line in lines])


def write_agreement(path: Path, results: Sequence[MapAgreement]) -> Path:
    """Write `agreement.csv`, one row per method."""
    return write_csv(path, [result.row() for result in results])


def agreement_section(results: Sequence[MapAgreement]) -> Section:
    """Make the section of a page: a table of the methods, and what agreement does not mean."""
    words = {None: "too few cases", True: "agrees", False: "does not agree"}
    rows = []
    for one in sorted(results, key=lambda one: -(one.above.mean if one.above else -2.0)):
        above = NONE if one.above is None else f"{one.above.mean:+.2f} [{one.above.low:+.2f}, {one.above.high:+.2f}]"
        numbers = [f"{value:.2f}" if value is not None and value == value else NONE
                   for value in (one.same, one.different, one.reinitialized)]  # fmt: skip
        rows.append([method_label(one.method), words[one.passes], *numbers, above, f"{one.cases}", f"{one.runs}"])
    columns = [
        "method",
        "verdict",
        "same case",
        "different cases",
        "re-initialised",
        "above the level",
        "cases",
        "trainings",
    ]
    caption = (
        "rank correlation of the evidence between trainings; a method agrees if the same case is clearly (95 % "
        "interval over cases) above different cases and re-initialised networks"
    )
    blocks: list[Block] = [
        Text(MEANING),
        ReportTable(columns, rows, caption, quiet=[not one for one in map(_agrees, rows)]),
    ]
    return Section("Agreement of explanations between trainings", blocks)


def _agrees(row: Sequence[str]) -> bool:
    return row[1] == "agrees"
