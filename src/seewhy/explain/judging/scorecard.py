"""Scorecard of a method: its settings, all scores of its maps, one row per sample, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from torch import Tensor, nn

from seewhy.explain.base import Explainer
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import Inputs
from seewhy.explain.judging.contrast import ClassContrast, ContrastTest
from seewhy.explain.judging.faithfulness import Faithfulness, measure_faithfulness
from seewhy.explain.judging.input_effects import leave_one_out
from seewhy.explain.judging.localization import Threshold, measure_localization
from seewhy.explain.judging.measures.registry import Judged, choose_measures, measure_all
from seewhy.explain.judging.perturbation import Fill
from seewhy.explain.judging.randomization import LEAST, LOCATED, Randomization, RandomizationTest
from seewhy.explain.judging.shared_work import SharedWork
from seewhy.explain.judging.stability import measure_stability
from seewhy.explain.maps import LIMIT, Maps, find_incomplete
from seewhy.option_types import MemorySize, NonNegativeFloat, NonNegativeInt, PositiveInt
from seewhy.options import check_fields

__all__ = ["JudgingSettings", "Row", "Scope", "Scorecard", "Verdict"]

Row: TypeAlias = dict[str, "float | int | bool | str | None"]
Column: TypeAlias = "list[float | int | bool | str | None]"


Scope: TypeAlias = Literal["auto", "all", "cheap", "none"]

FEW = 64
"""Largest number of samples for which `auto` computes the expensive scores, too."""
CONTRASTS = 2
"""Maps of other classes that the contrast test makes of a sample."""


@dataclass(frozen=True, kw_only=True)
class JudgingSettings:
    """Scores to compute, and their options.

    Attributes:
        scope: `cheap`: completeness, randomisation, class contrast, leaving inputs out, localisation; `all`: also
            faithfulness and stability; `auto`: all for up to 64 samples, else cheap; `none`: no scores.
        cases: samples of the randomisation and the contrast test; 0 skips both.
        redraws: re-initialised networks per sample of the test.
        heads: re-initialised heads per sample of the test; a method that ignores the head is found by a single one.
        contrast: whether to compare the maps with those of other classes, two more maps per sample.
        steps: steps of the deletion and insertion curves.
        fill: value of removed pixels: blur, mean or zero.
        draws: random orders and blurred orders per sample.
        copies: noisy copies per sample of the stability test; its correlation is over all pixels, so one is enough.
        stability: whether `all` includes stability; it is not informative for maps made without the network.
        noise: standard deviation of the noise of the stability test, as a share of each image's standard deviation.
        memory_budget: memory limit of the forwards of the curves, e.g. "1GiB".
        metrics: further measures by name or kind, see `choose_measures`; they are computed whatever the scope.
        seed: seed of all random draws.

    Raises:
        ConfigError: an unknown scope, fill or measure, or a number out of its range.
    """

    scope: Scope = "auto"
    cases: NonNegativeInt = 8
    redraws: PositiveInt = 3
    heads: NonNegativeInt = 1
    contrast: bool = True
    steps: PositiveInt = 10
    fill: Fill = "blur"
    draws: PositiveInt = 3
    copies: PositiveInt = 1
    stability: bool = True
    noise: NonNegativeFloat = 0.05
    memory_budget: MemorySize = "1GiB"
    metrics: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "judging")
        choose_measures(self.metrics)

    def scope_of(self, samples: int) -> Scope:
        """Resolve `auto` for a run of a number of samples."""
        if self.scope != "auto":
            return self.scope
        return "all" if samples <= FEW else "cheap"

    def within(self, maps: int) -> JudgingSettings:
        """Return settings whose randomisation and contrast tests make at most so many maps per method.

        At least three cases come first, since fewer give no verdict; then a head, since a method that ignores it is
        found by a single one; then the contrast; then more networks; then more cases.

        Args:
            maps: largest number of these maps; below 3 a single network is tested.

        Example:
            >>> from seewhy.explain import JudgingSettings
            >>> for settings in map(JudgingSettings().within, (3, 12, 30, 100)):
            ...     print(settings.cases, settings.redraws, settings.heads, settings.contrast)
            3 1 0 False
            3 1 1 True
            5 3 1 True
            8 3 1 True
        """
        contrasts = CONTRASTS * self.contrast
        if self.cases * (self.redraws + self.heads + contrasts) <= maps:
            return self
        heads = min(self.heads, 1)
        for extra in sorted({contrasts, 0}, reverse=True):
            for networks in range(self.redraws, 0, -1):
                cases = min(self.cases, maps // (networks + heads + extra))
                if cases >= min(self.cases, LEAST):
                    return replace(self, cases=cases, redraws=networks, heads=heads, contrast=extra > 0)
        return replace(self, cases=min(self.cases, max(maps, 1)), redraws=1, heads=0, contrast=False)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Verdict on a method over all samples.

    Attributes:
        method: name of the method.
        samples: number of judged samples.
        passes: whether the method passes the randomisation test; None if the test was not run or is inconclusive.
        failures: reasons why it fails this or the contrast test, one sentence each, for every picture.
        randomization: result of the test; None if it was not run.
        contrast: result of the contrast test; None if it was not run.
        incomplete: share of samples above the limit of completeness; None for methods that do not guarantee it.
        seconds: wall time of each part.
    """

    method: str
    samples: int
    passes: bool | None
    failures: tuple[str, ...]
    randomization: Randomization | None
    contrast: ClassContrast | None = None
    incomplete: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def doubts(self) -> tuple[str, ...]:
        """All reasons to doubt the maps, one sentence each."""
        if not self.incomplete:
            return self.failures
        return (*self.failures, f"{self.incomplete:.0%} of the maps miss the score they explain by over {LIMIT:.0%}")


class Scorecard:
    """Scores of one method over a run, batch by batch.

    Args:
        explainer: the method that makes the maps.
        settings: which scores to compute.
        samples: number of samples of the run; decides the meaning of `scope=auto`.
        threshold: for the IoU, from `tune_threshold` on validation samples; None computes no IoU.
        tuned: copy of the network, from `tune_with_masks`, that judges deletion and insertion too; None judges without.
        shared: keeps what the scorecards of several methods on the same batch have in common.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import JudgingSettings, Saliency, Scorecard
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> images, explainer = torch.rand(3, 1, 8, 8), Saliency()
        >>> card = Scorecard(explainer, settings=JudgingSettings(scope="all", redraws=1, draws=1))
        >>> rows = card.judge(net, images, explainer(net, images))
        >>> sorted(name for name in rows[0] if "gap" in name or "noise" in name)
        ['deletion_gap', 'deletion_gap_blurred', 'insertion_gap', 'insertion_gap_blurred', 'stability_noise']
        >>> card.verdict().method, card.verdict().samples
        ('saliency', 3)
    """

    def __init__(
        self,
        explainer: Explainer,
        *,
        settings: JudgingSettings | None = None,
        samples: int = 1,
        threshold: Threshold | None = None,
        tuned: nn.Module | None = None,
        shared: SharedWork | None = None,
    ) -> None:
        self.explainer = explainer
        self.tuned, self._tuned_work = tuned, SharedWork()
        self.settings = settings or JudgingSettings()
        self.threshold = threshold
        self.shared = shared or SharedWork()
        self.scope: Scope = self.settings.scope_of(samples)
        self._test = RandomizationTest(
            explainer,
            cases=self.settings.cases,
            draws=self.settings.redraws,
            heads=self.settings.heads,
            seed=self.settings.seed,
            shared=self.shared,
        )
        self._contrast = ContrastTest(explainer, cases=self.settings.cases * self.settings.contrast)
        self._budget = MemoryBudget(self.settings.memory_budget)
        self._samples = 0
        self._incomplete: list[bool] = []
        self._seconds: dict[str, float] = {}

    def judge(
        self,
        module: nn.Module,
        inputs: Inputs,
        maps: Maps,
        masks: Tensor | Mapping[str, Tensor] | None = None,
        *,
        tested: bool = True,
    ) -> list[Row]:
        """Compute the scores of a batch, one row per sample in order; a score that does not apply is None.

        Columns (the columns of a part exist whenever the part is run, with the same names for every method):
            method, target, probability; share_<input> with several inputs;
            completeness, incomplete;
            randomization_net, randomization_head, and _ssim of both: similarity to re-initialised networks;
            randomization_redraws: of these to each other; contrast_runner_up, contrast_least: similarity to the map of
            the runner-up and of the least likely class; with
            masks pointing_random, energy_random, auprc_random: scores of the maps of re-initialised networks, means
            over `redraws`; all of these for the first `cases` samples only;
            effect_<input> (decrease of the probability without it), effect_agreement with several inputs;
            mask_share, pointing, energy, auprc, iou, energy_<input> with masks;
            deletion, insertion, random_order, blurred_order, deletion_gap, insertion_gap, deletion_gap_blurred,
            insertion_gap_blurred, and the four gaps with _tuned by the tuned copy; stability_noise,
            stability_flip_<axis>; the columns of `metrics`.

        Args:
            module: the explained module; it is restored afterwards.
            inputs: the batch.
            maps: the explainer's maps of the batch.
            masks: see `measure_localization`.
            tested: False leaves these samples out of the randomisation and the contrast test, because another process
                tests the first.
        """
        count = len(maps.target)
        columns: dict[str, Column] = {}
        for name, part in self._parts(module, inputs, maps, masks).items():
            with self._timed(name):
                columns |= {column: _to_column(values, count) for column, values in part().items()}
        if self.scope != "none" and self.settings.cases:
            with self._timed("randomization"):
                columns |= self._randomization(module, inputs, maps, masks, tested)
        self._samples += count
        first: dict[str, Column] = {"method": [maps.method] * count, "target": _to_column(maps.target, count)}
        columns = first | columns
        return [{name: values[row] for name, values in columns.items()} for row in range(count)]

    def verdict(self) -> Verdict:
        """Return the verdict on all samples judged so far."""
        result, contrast = self._test.result(), self._contrast.result()
        failures = [] if result is None or result.passes is None else result.failures
        return Verdict(
            method=self.explainer.method,
            samples=self._samples,
            passes=None if result is None else result.passes,
            failures=(*failures, *(contrast.failures if contrast is not None else ())),
            randomization=result,
            contrast=contrast,
            incomplete=float(np.mean(self._incomplete)) if self._incomplete else None,
            seconds=dict(self._seconds),
        )

    def _parts(
        self, module: nn.Module, inputs: Inputs, maps: Maps, masks: Tensor | Mapping[str, Tensor] | None
    ) -> dict[str, Callable[[], Mapping[str, Tensor | None]]]:
        """Return the parts to run, except the randomisation test, which uses the first samples only."""
        parts: dict[str, Callable[[], Mapping[str, Tensor | None]]] = {"shares": lambda: _shares(maps)}
        if self.settings.metrics:
            parts["metrics"] = lambda: self._measure(module, inputs, maps, masks)
        if self.tuned is not None:
            parts["tuned"] = lambda: self._tuned_faithfulness(inputs, maps)
        if self.scope == "none":
            return parts
        parts["completeness"] = lambda: self._completeness(maps)
        if len(maps.maps) > 1:
            parts["leave_one_out"] = lambda: _effects(module, inputs, maps, self.shared)
        if masks is not None:
            parts["localization"] = lambda: _localization(maps, masks, self.threshold)
        if self.scope == "all":
            parts["faithfulness"] = lambda: self._faithfulness(module, inputs, maps)
            if self.settings.stability:
                parts["stability"] = lambda: self._stability(module, inputs, maps)
        return parts

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[part] = self._seconds.get(part, 0.0) + time.perf_counter() - start

    def _completeness(self, maps: Maps) -> dict[str, Tensor | None]:
        beyond = find_incomplete(maps)
        if beyond is not None:
            self._incomplete += [bool(one) for one in beyond]
        return {"completeness": maps.completeness, "incomplete": beyond}

    def _randomization(
        self, module: nn.Module, inputs: Inputs, maps: Maps, masks: Tensor | Mapping[str, Tensor] | None, tested: bool
    ) -> dict[str, Column]:
        rows = self._test.add(module, inputs, maps, masks) if tested else []
        others = self._contrast.add(module, inputs, maps, [row["redraws"] for row in rows]) if tested else []
        unknown = {"runner_up": float("nan"), "least": float("nan")}
        others += [unknown] * (len(rows) - len(others))
        rows = [{**row, **other} for row, other in zip(rows, others, strict=True)]
        missing = [None] * (len(maps.target) - len(rows))
        columns = {f"randomization_{name}": name for name in ("net", "head", "net_ssim", "head_ssim", "redraws")}
        columns |= {f"contrast_{name}": name for name in ("runner_up", "least")}
        columns |= {} if masks is None else {f"{name}_random": name for name in LOCATED}
        return {column: [*(_nan_to_none(row[name]) for row in rows), *missing] for column, name in columns.items()}

    def _measure(
        self, module: nn.Module, inputs: Inputs, maps: Maps, masks: Tensor | Mapping[str, Tensor] | None
    ) -> dict[str, Tensor | None]:
        judged = Judged(
            explainer=self.explainer, module=module, inputs=inputs, maps=maps, masks=masks, seed=self.settings.seed,
            budget=self._budget, shared=self.shared,
        )  # fmt: skip
        return {**measure_all(judged, choose_measures(self.settings.metrics))}

    def _curves(self, module: nn.Module, inputs: Inputs, maps: Maps, shared: SharedWork) -> Faithfulness:
        chosen = self.settings
        return measure_faithfulness(
            module, inputs, maps, budget=self._budget,
            steps=chosen.steps, fill=chosen.fill, draws=chosen.draws, seed=chosen.seed, shared=shared,
        )  # fmt: skip

    def _tuned_faithfulness(self, inputs: Inputs, maps: Maps) -> dict[str, Tensor | None]:
        assert self.tuned is not None
        result = self._curves(self.tuned, inputs, maps, self._tuned_work)
        return {f"{name}_tuned": values for name, values in result.gaps().items()}

    def _faithfulness(self, module: nn.Module, inputs: Inputs, maps: Maps) -> dict[str, Tensor | None]:
        result = self._curves(module, inputs, maps, self.shared)
        levels = {"random_order": result.random, "blurred_order": result.blurred}
        return {"deletion": result.deletion, "insertion": result.insertion, **levels, **result.gaps()}

    def _stability(self, module: nn.Module, inputs: Inputs, maps: Maps) -> dict[str, Tensor | None]:
        chosen = self.settings
        result = measure_stability(
            self.explainer, module, inputs, maps, noise=chosen.noise, draws=chosen.copies, seed=chosen.seed
        )
        flips = {f"stability_flip_{axis}": values for axis, values in result.flip.items()}
        return {"stability_noise": result.noise, **flips}


def _shares(maps: Maps) -> dict[str, Tensor | None]:
    shares = {f"share_{name}": one for name, one in maps.shares().items()} if len(maps.maps) > 1 else {}
    return {"probability": maps.probability, **shares}


def _effects(module: nn.Module, inputs: Inputs, maps: Maps, shared: SharedWork) -> dict[str, Tensor | None]:
    result = leave_one_out(module, inputs, maps, shared=shared)
    effects = {f"effect_{name}": values for name, values in result.probability.items()}
    return {**effects, "effect_agreement": result.agreement}


def _localization(
    maps: Maps, masks: Tensor | Mapping[str, Tensor], threshold: Threshold | None
) -> dict[str, Tensor | None]:
    result = measure_localization(maps, masks, threshold=threshold)
    scores = {name: values for name, values in vars(result).items() if name != "by_input"}
    single = len(maps.maps) == 1
    return scores | ({} if single else {f"energy_{name}": values for name, values in result.by_input.items()})


def _to_column(values: Tensor | None, count: int) -> Column:
    """Convert to Python numbers; NaN, which means that the score does not apply, becomes None."""
    return [None] * count if values is None else [_nan_to_none(value) for value in values.tolist()]


def _nan_to_none(value: float | int | bool) -> float | int | bool | None:
    return None if value != value else value
