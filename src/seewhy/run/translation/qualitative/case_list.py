"""Options of `cases`, and the list of selected cases in `case_ids.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from typing_extensions import TypedDict

from seewhy.batch import MODALITIES
from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import replace_non_finite, write_json
from seewhy.io.documents import read_json
from seewhy.option_types import Fraction, NonNegativeInt, PositiveInt, Seed
from seewhy.options import check_fields

__all__ = [
    "CATEGORIES",
    "COMPARED",
    "PAIRING",
    "SIDES",
    "STAGES",
    "CaseOptions",
    "SelectedCase",
    "describe_category",
    "find_changed_categories",
    "read_cases",
    "write_cases",
]

Category: TypeAlias = Literal["best", "worst", "median", "interesting", "random"]
Stage: TypeAlias = Literal["select", "infer", "attention", "figures"]
Modality: TypeAlias = Literal["all", "t1", "t1ce", "t2", "flair"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
STAGES: tuple[Stage, ...] = get_args(Stage)
COMPARED = ("ssim", "psnr", "mae")
"""Metrics whose ranks disagree on an interesting case."""
RISING = {"ssim": 1, "psnr": 1, "mae": -1, "mse": -1}
"""Metric → 1 if more is better, else -1."""
SIDES = {"a2b": "", "b2a": "_b"}
"""Direction → suffix of its keys in a category; the reference has only those without a suffix."""
PAIRING = (
    "cases of domain b are chosen like those of domain a and are shown next to them rank by rank; they are of other "
    "people and do not correspond"
)
"""Remark in `case_ids.json`."""


@dataclass(frozen=True, kw_only=True)
class CaseOptions:
    """Which cases are selected, and what is done with them; the defaults are those of `conf/cases/default.yaml`.

    Attributes:
        metric: metric that cases are ranked by: `ssim`, `psnr`, `mae` or `mse`.
        comparison: images that the metric compares: `translation`, with the true counterpart; `cycle`, the
            reconstruction with the input; or `auto`: translation if there are counterparts, else cycle.
        modality: modality of the score; `all` is the mean over modalities.
        unit: `slice`, or `subject`, whose score is the mean over its slices and which is shown by the slice nearest to
            that mean.
        n_best: number of cases of this category for each direction.
        n_worst: see `n_best`.
        n_median: see `n_best`.
        n_interesting: see `n_best`.
        n_random: see `n_best`.
        seed: of random cases.
        min_tissue: least tissue of a slice, as a fraction of the tissue in its subject's fullest slice.
        max_per_subject: most cases of a category from one subject, since adjacent slices of a head are alike.
        stages: steps of `STAGES` to run; each can be repeated separately.
        categories: categories that are translated and drawn.
        modalities: modalities that are drawn; `all` draws every one.
        rows: most cases in a comparison.
        full_attention: also write the whole matrices of self-attention, [N, N] for N positions, in 16 bit.
        folder: folder of the cases, their arrays and figures; None is `cases` and `figures/qualitative` of the run.

    Raises:
        ConfigError: all invalid options at once.

    Example:
        >>> from seewhy.run.translation.qualitative.case_list import CaseOptions
        >>> CaseOptions(n_random=2).counts
        {'best': 5, 'worst': 5, 'median': 3, 'interesting': 5, 'random': 2}
        >>> CaseOptions(metric="sim")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: cases.metric='sim' is unknown; nearest: 'ssim'
    """

    metric: Literal["ssim", "psnr", "mae", "mse"] = "ssim"
    comparison: Literal["auto", "translation", "cycle"] = "auto"
    modality: Modality = "all"
    unit: Literal["slice", "subject"] = "slice"
    n_best: NonNegativeInt = 5
    n_worst: NonNegativeInt = 5
    n_median: NonNegativeInt = 3
    n_interesting: NonNegativeInt = 5
    n_random: NonNegativeInt = 10
    seed: Seed = 42
    min_tissue: Fraction = 0.3
    max_per_subject: PositiveInt = 1
    stages: Sequence[Stage] = STAGES
    categories: Sequence[Category] = CATEGORIES
    modalities: Sequence[Modality] = ("t1ce",)
    rows: PositiveInt = 5
    full_attention: bool = False
    folder: str | None = None

    def __post_init__(self) -> None:
        """Check all options."""
        check_fields(self, "cases")
        lists = {"stages": self.stages, "categories": self.categories, "modalities": self.modalities}
        empty = [f"cases.{name}" for name, values in lists.items() if not values]
        if empty:
            raise ConfigError(f"{' and '.join(empty)} must not be empty")

    @property
    def counts(self) -> dict[str, int]:
        """Category → number of cases."""
        return {name: int(vars(self)[f"n_{name}"]) for name in CATEGORIES}

    @property
    def figure_modalities(self) -> tuple[str, ...]:
        """Modalities of the figures."""
        return MODALITIES if "all" in self.modalities else tuple(self.modalities)


@dataclass(frozen=True, kw_only=True)
class SelectedCase:
    """A slice that may be shown.

    Attributes:
        index: position in the ordered list of test samples.
        id: of the sample.
        subject: name of the scan.
        patient: name of the patient.
        domain: `a` or `b`.
        slice: number in the source.
        scores: metric → value of the chosen modality or mean over modalities; of a subject, the mean over its slices.
    """

    index: int
    id: str
    subject: str
    patient: str
    domain: str
    slice: int
    scores: Mapping[str, float] = field(default_factory=dict)

    def quality(self, metric: str) -> float:
        """Return a score with its sign so that more is better."""
        return RISING[metric] * self.scores[metric]


def describe_category(category: str, options: CaseOptions, comparison: str) -> str:
    """Describe a category in words.

    Example:
        >>> from seewhy.run.translation.qualitative.case_list import CaseOptions, describe_category
        >>> describe_category("best", CaseOptions(), "cycle")
        'slices with the best cycle SSIM (mean over modalities)'
    """
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


def write_cases(
    path: Path,
    chosen: Mapping[str, Mapping[str, Sequence[SelectedCase]]],
    options: CaseOptions,
    *,
    comparisons: Mapping[str, str],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the cases of all categories in the schema of the reference, extended by domain b and the samples' names.

    Each category has `indices`, `ssim_a2b`, `psnr_a2b`, `description` for cases of domain a, as in the reference; and
    `indices_b`, `ssim_b2a`, `psnr_b2a`, `description_b` for domain b. `cases` and `cases_b` hold a record of each case.

    Args:
        path: of the file.
        chosen: direction → category → cases.
        options: of the selection.
        comparisons: direction → comparison of its scores.
        facts: of the run: `n_samples`, `selection_date`, `checkpoint`, `checkpoint_epoch`, …

    Returns:
        The contents of the file.
    """
    record: dict[str, Any] = {
        "metadata": {
            **facts,
            "seed": options.seed,
            "selection_method": "true_per_sample_scores",
            "metric": options.metric,
            "comparison": dict(comparisons),
            "modality": options.modality,
            "unit": options.unit,
            "min_tissue": options.min_tissue,
            "max_per_subject": options.max_per_subject,
            "pairing": PAIRING,
        }
    }
    for category in CATEGORIES:
        entry: dict[str, Any] = {}
        for direction, side in SIDES.items():
            cases = chosen.get(direction, {}).get(category, [])
            comparison = comparisons.get(direction)
            entry[f"indices{side}"] = [case.index for case in cases]
            for name in ("ssim", "psnr"):
                entry[f"{name}_{direction}"] = [replace_non_finite(case.scores[name]) for case in cases]
            entry[f"description{side}"] = (
                describe_category(category, options, comparison) if comparison else "no scores"
            )
            entry[f"cases{side}"] = [_describe_case(case, comparisons[direction], direction) for case in cases]
        record[category] = entry
    for side in SIDES.values():
        every = {index for category in CATEGORIES for index in record[category][f"indices{side}"]}
        record[f"all_indices{side}"] = sorted(every)
    write_json(path, record)
    return record


class CaseEntry(TypedDict):
    """One case; a score is None where it is infinite."""

    index: int
    id: str
    subject: str
    slice: int
    comparison: Literal["translation", "cycle"]
    ssim: float | None
    psnr: float | None
    mae: float | None
    mse: float | None


class CategoryEntry(TypedDict):
    """Cases of both directions."""

    cases: list[CaseEntry]
    cases_b: list[CaseEntry]


class MetadataEntry(TypedDict):
    """The facts of a selection that later stages read."""

    metric: Literal["ssim", "psnr", "mae", "mse"]
    phantom: bool
    unit: Literal["slice", "subject"]
    modality: str


class CaseFile(TypedDict):
    """Contents of `case_ids.json`."""

    metadata: MetadataEntry
    best: CategoryEntry
    worst: CategoryEntry
    median: CategoryEntry
    interesting: CategoryEntry
    random: CategoryEntry


def read_cases(path: Path) -> dict[str, Any]:
    """Read a file of `write_cases`.

    Raises:
        DataError: it is missing or was not written by `write_cases`.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; select cases first: cases.stages=[select,…]")
    try:
        record: dict[str, Any] = read_json(path, CaseFile)
    except DataError as error:
        raise DataError(f"{path} is not a list of cases ({error}); write it again: cases.stages=[select,…]") from error
    return record


def find_changed_categories(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """List the categories whose cases changed; all of them if options or facts of the selection changed.

    Args:
        before: earlier contents of `case_ids.json`; None if there was no such file.
        after: present contents.
    """
    if before is None:
        return list(CATEGORIES)
    facts = [{**record.get("metadata", {}), "selection_date": None} for record in (before, after)]
    return [name for name in CATEGORIES if facts[0] != facts[1] or before[name] != after[name]]


def _describe_case(case: SelectedCase, comparison: str, direction: str) -> dict[str, Any]:
    return {
        "index": case.index,
        "id": case.id,
        "subject": case.subject,
        "patient": case.patient,
        "domain": case.domain,
        "slice": case.slice,
        "direction": direction,
        "comparison": comparison,
        **replace_non_finite(case.scores),
    }
