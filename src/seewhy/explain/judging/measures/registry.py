"""Measures by name: what each compares, what it needs, and its columns; for tables of methods and for options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.explain.base import Explainer
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.judging.measures import (
    conformal_region,
    evidence,
    faithfulness,
    repeated_maps,
)
from seewhy.explain.judging.removal import number_regions
from seewhy.explain.judging.shared_work import SharedWork
from seewhy.explain.maps import Maps

__all__ = ["MEASURES", "Judged", "Measure", "choose_measures", "measure_all"]

REGIONS = 64
"""Largest number of regions that an image is divided into."""
STEPS = 32
"""Steps in which pixels are restored."""
Columns: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A batch of maps that is judged.

    Attributes:
        explainer: the method that made the maps.
        module: the explained module.
        inputs: the batch.
        maps: the maps.
        masks: see `measure_localization`; None without annotations.
        seed: seed of all draws.
        budget: memory limit of a forward.
        shared: keeps re-initialised weights for several measures and methods.
    """

    explainer: Explainer
    module: nn.Module
    inputs: Inputs
    maps: Maps
    masks: Tensor | Mapping[str, Tensor] | None = None
    seed: int = 0
    budget: MemoryBudget = field(default_factory=lambda: MemoryBudget("1GiB"))
    shared: SharedWork = field(default_factory=SharedWork)

    @cached_property
    def patch(self) -> int:
        """Smallest side of regions that divide the images of a sample into at most 64."""
        images = ExplainedModel(self.module, self.inputs).inputs
        side = 1
        while int(number_regions(images, side)[-1]) >= max(REGIONS, len(images)):
            side += 1
        return side

    @cached_property
    def step(self) -> int:
        """Pixels restored at once."""
        return -(-sum(one[0].numel() for one in self.maps.maps.values()) // STEPS)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure of the explanation literature.

    Attributes:
        name: as in Quantus, in lower case.
        kind: `faithfulness`, `robustness`, `localization`, `complexity` or `randomization`.
        compute: makes its columns, [B] each.
        columns: column → (printed name, whether higher is better; None for a column that does not rank methods).
        with_masks: whether it needs masks.
    """

    name: str
    kind: str
    compute: Callable[[Judged], Columns]
    columns: Mapping[str, tuple[str, bool | None]]
    with_masks: bool = False


def choose_measures(names: Sequence[str]) -> tuple[Measure, ...]:
    """Choose measures by their names, their kinds, or `all`.

    Raises:
        ConfigError: unknown names.

    Example:
        >>> from seewhy.explain.judging import choose_measures
        >>> [measure.name for measure in choose_measures(["complexity"])]
        ['sparseness', 'complexity', 'effective_complexity']
        >>> [measure.name for measure in choose_measures(["infidelty"])]
        Traceback (most recent call last):
        seewhy.errors.ConfigError: explain.metrics: unknown measure 'infidelty'; nearest: 'infidelity'
    """
    kinds = {measure.kind for measure in MEASURES.values()}
    known = [*MEASURES, *sorted(kinds), "all"]
    unknown = [name for name in names if name not in known]
    if unknown:
        listed = ", ".join(f"{name!r}; {nearest(name, known)}" for name in unknown)
        raise ConfigError(f"explain.metrics: unknown measure {listed}")
    return tuple(m for m in MEASURES.values() if {m.name, m.kind, "all"} & set(names))


def measure_all(judged: Judged, measures: Sequence[Measure]) -> dict[str, Tensor]:
    """Compute the columns of measures, [B] each; those that need masks are left out where there are none."""
    columns: dict[str, Tensor] = {}
    for measure in measures:
        if judged.masks is not None or not measure.with_masks:
            columns |= measure.compute(judged)
    return columns


def _measure_infidelity(judged: Judged) -> Columns:
    raw, scaled = (
        faithfulness.measure_infidelity(
            judged.module, judged.inputs, judged.maps, patch=judged.patch, scaled=scaled, budget=judged.budget
        )
        for scaled in (False, True)
    )
    return {"infidelity": raw, "infidelity_scaled": scaled}


def _measure_monotonicity(judged: Judged) -> Tensor:
    return faithfulness.measure_monotonicity(
        judged.module, judged.inputs, judged.maps, features_in_step=judged.step, seed=judged.seed, budget=judged.budget
    ).double()


def _measure_sensitivity_n(judged: Judged) -> Tensor:
    return faithfulness.measure_sensitivity_n(
        judged.module, judged.inputs, judged.maps, seed=judged.seed, budget=judged.budget
    )


def _measure_selectivity(judged: Judged) -> Tensor:
    curve = faithfulness.measure_selectivity(
        judged.module, judged.inputs, judged.maps,
        patch=judged.patch, output="probability", seed=judged.seed, budget=judged.budget,
    )  # fmt: skip
    return curve.double().mean(dim=1)


def _measure_region_perturbation(judged: Judged) -> Tensor:
    curve = faithfulness.measure_region_perturbation(
        judged.module, judged.inputs, judged.maps,
        patch=judged.patch, most=REGIONS // 2, output="probability", seed=judged.seed, budget=judged.budget,
    )  # fmt: skip
    return curve.double().mean(dim=1)


def _measure_sufficient_share(judged: Judged) -> Tensor:
    return conformal_region.measure_sufficient_share(
        judged.module, judged.inputs, judged.maps, seed=judged.seed, budget=judged.budget
    )


def _explain_again(measure: Callable[..., Tensor], judged: Judged, **options: object) -> Tensor:
    """Compute a measure that explains again."""
    return measure(judged.explainer, judged.module, judged.inputs, judged.maps, seed=judged.seed, **options)


def _locate(measure: Callable[..., Tensor], judged: Judged) -> Tensor:
    """Compute a measure that needs masks."""
    return measure(judged.maps, judged.masks)


def _make(name: str, kind: str, label: str, higher: bool | None, compute: Callable[[Judged], Tensor]) -> Measure:
    """Make a measure with one column of its own name."""
    return Measure(
        name=name,
        kind=kind,
        compute=lambda judged: {name: compute(judged)},
        columns={name: (label, higher)},
        with_masks=kind == "localization",
    )


INFIDELITY = Measure(
    name="infidelity",
    kind="faithfulness",
    compute=_measure_infidelity,
    columns={"infidelity": ("infidelity", None), "infidelity_scaled": ("infidelity at the map's best scale", False)},
)
OTHERS = [
    ("monotonicity", "faithfulness", "monotonicity", True, _measure_monotonicity),
    ("sensitivity_n", "faithfulness", "sensitivity-n", True, _measure_sensitivity_n),
    ("selectivity", "faithfulness", "selectivity, mean of the curve", False, _measure_selectivity),
    ("region_perturbation", "faithfulness", "region perturbation (AOPC)", True, _measure_region_perturbation),
    ("sufficiency", "faithfulness", "sufficiency", True, lambda one: evidence.compute_sufficiency(one.maps)),
    ("sufficient_share", "faithfulness", "share that keeps the prediction", False, _measure_sufficient_share),
    ("max_sensitivity", "robustness", "max-sensitivity", False,
     lambda one: _explain_again(repeated_maps.measure_max_sensitivity, one)),
    ("top_k_intersection", "localization", "top-1000 intersection", True,
     lambda one: _locate(evidence.compute_top_k_intersection, one)),
    ("relevance_rank_accuracy", "localization", "relevance rank accuracy", True,
     lambda one: _locate(evidence.compute_relevance_rank_accuracy, one)),
    ("relevance_mass_accuracy", "localization", "relevance mass accuracy", None,
     lambda one: _locate(evidence.compute_relevance_mass_accuracy, one)),
    ("sparseness", "complexity", "sparseness (Gini index)", None, lambda one: evidence.compute_sparseness(one.maps)),
    ("complexity", "complexity", "complexity (nats)", None, lambda one: evidence.compute_complexity(one.maps)),
    ("effective_complexity", "complexity", "effective complexity (pixels)", None,
     lambda one: evidence.compute_effective_complexity(one.maps)),
    ("random_logit", "randomization", "random logit (SSIM)", None,
     lambda one: _explain_again(repeated_maps.measure_random_logit, one)),
    ("smooth_mprt", "randomization", "smooth MPRT", None,
     lambda one: _explain_again(repeated_maps.measure_smooth_mprt, one, shared=one.shared)),
    ("efficient_mprt", "randomization", "efficient MPRT", None,
     lambda one: _explain_again(repeated_maps.measure_efficient_mprt, one, shared=one.shared)),
]  # fmt: skip

MEASURES: Mapping[str, Measure] = {one.name: one for one in (INFIDELITY, *(_make(*row) for row in OTHERS))}
"""Name → measure."""
