"""What can be chosen about cases; the defaults are those of `conf/cases/default.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seewhy.batch import MODALITIES
from seewhy.errors import ConfigError, nearest
from seewhy.metrics.translation.similarity import METRICS

__all__ = ["CATEGORIES", "STAGES", "CaseOptions"]

CATEGORIES = ("best", "worst", "median", "interesting", "random")
STAGES = ("select", "infer", "attention", "figures")
COMPARISONS = ("auto", "translation", "cycle")
UNITS = ("slice", "subject")


@dataclass(frozen=True, kw_only=True)
class CaseOptions:
    """Which cases, and what is made of them.

    Attributes:
        metric: what cases are ranked by: `ssim`, `psnr`, `mae` or `mse`.
        comparison: what the metric compares: `translation` with the true counterpart; `cycle` of the reconstruction
            with the input; or `auto`: translation where counterparts exist, else cycle.
        modality: whose score counts; `all` is the mean over modalities.
        unit: what a case stands for: a `slice`, or a `subject`, whose score is the mean over its slices and which is
            shown by the slice nearest to that mean.
        n_best: number of cases of each kind, for each direction.
        n_worst: see `n_best`.
        n_median: see `n_best`.
        n_interesting: see `n_best`.
        n_random: see `n_best`.
        seed: of random cases.
        min_tissue: least tissue of a slice, as a share of that in its subject's fullest slice.
        max_per_subject: most cases of a kind from one subject; adjacent slices of one head are no two cases.
        stages: what is done, of `STAGES`; each can be repeated by itself.
        categories: kinds that are translated, looked into and drawn.
        modalities: those that are drawn; `all` draws every one.

    Raises:
        ConfigError: all that does not exist or makes no sense.
    """

    metric: str = "ssim"
    comparison: str = "auto"
    modality: str = "all"
    unit: str = "slice"
    n_best: int = 5
    n_worst: int = 5
    n_median: int = 3
    n_interesting: int = 5
    n_random: int = 10
    seed: int = 42
    min_tissue: float = 0.3
    max_per_subject: int = 1
    stages: Sequence[str] = STAGES
    categories: Sequence[str] = CATEGORIES
    modalities: Sequence[str] = ("t1ce",)

    def __post_init__(self) -> None:
        """Refuse what makes no sense, all at once."""
        problems = [
            f"cases.{name}={value!r} is unknown; {nearest(value, known)}"
            for name, value, known in (
                ("metric", self.metric, METRICS),
                ("comparison", self.comparison, COMPARISONS),
                ("modality", self.modality, ("all", *MODALITIES)),
                ("unit", self.unit, UNITS),
            )
            if value not in known
        ]
        lists: dict[str, tuple[Sequence[str], Sequence[str]]] = {
            "stages": (self.stages, STAGES),
            "categories": (self.categories, CATEGORIES),
            "modalities": (self.drawn, MODALITIES),
        }
        for name, (values, every) in lists.items():
            wrong = [one for one in values if one not in every]
            problems += [f"cases.{name}: {one!r} is unknown; {nearest(one, every)}" for one in wrong]
            problems += [] if values else [f"cases.{name} is empty; expected some of {', '.join(every)}"]
        problems += [f"cases.n_{name}={count} must be 0 or more" for name, count in self.counts.items() if count < 0]
        if not 0 <= self.min_tissue <= 1:
            problems.append(f"cases.min_tissue={self.min_tissue} must be a share between 0 and 1")
        if self.max_per_subject < 1:
            problems.append(f"cases.max_per_subject={self.max_per_subject} must be 1 or more")
        if problems:
            raise ConfigError("; ".join(problems))

    @property
    def counts(self) -> dict[str, int]:
        """Category → how many cases."""
        return {name: int(getattr(self, f"n_{name}")) for name in CATEGORIES}

    @property
    def drawn(self) -> tuple[str, ...]:
        """Modalities of the figures."""
        return MODALITIES if "all" in self.modalities else tuple(self.modalities)
