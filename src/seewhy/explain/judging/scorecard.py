"""All scores of a method's maps, a row per sample, and the verdict on the method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from torch import Tensor, nn

from seewhy.explain.base import Explainer
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import Inputs
from seewhy.explain.judging.faithfulness import measure_faithfulness
from seewhy.explain.judging.input_effects import leave_one_out
from seewhy.explain.judging.localization import Threshold, measure_localization
from seewhy.explain.judging.randomization import LOCATED, Randomization, RandomizationTest
from seewhy.explain.judging.settings import Scope, Settings
from seewhy.explain.judging.stability import measure_stability
from seewhy.explain.maps import LIMIT, Maps, find_incomplete

__all__ = ["Row", "Scorecard", "Settings", "Verdict"]

Row: TypeAlias = dict[str, "float | int | bool | str | None"]
Column: TypeAlias = "list[float | int | bool | str | None]"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What all samples together say of a method.

    Attributes:
        method: its name.
        samples: number of samples judged.
        passes: whether the randomisation test is passed; None where it was not run or says nothing.
        failures: why it is not, a sentence each: to be written on every picture.
        randomization: the test's figures; None where it was not run.
        incomplete: share of samples beyond the limit of completeness; None for methods that promise none.
        seconds: wall time of each part of the judging.
    """

    method: str
    samples: int
    passes: bool | None
    failures: tuple[str, ...]
    randomization: Randomization | None
    incomplete: float | None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Everything that speaks against belief, a sentence each."""
        if not self.incomplete:
            return self.failures
        return (*self.failures, f"{self.incomplete:.0%} of the maps miss the score they explain by over {LIMIT:.0%}")


class Scorecard:
    """Judges one method over a run, batch by batch.

    Args:
        explainer: what makes the maps.
        settings: what is judged.
        samples: number of samples of the run, which decides what `scope=auto` means.
        threshold: for the IoU, from `tune_threshold` on validation samples; without one there is no IoU.
    """

    def __init__(
        self,
        explainer: Explainer,
        *,
        settings: Settings | None = None,
        samples: int = 1,
        threshold: Threshold | None = None,
    ) -> None:
        self.explainer = explainer
        self.settings = settings or Settings()
        self.threshold = threshold
        self.scope: Scope = self.settings.scope_of(samples)
        self._test = RandomizationTest(
            explainer, cases=self.settings.cases, draws=self.settings.redraws, seed=self.settings.seed
        )
        self._budget = MemoryBudget(self.settings.memory_budget)
        self._samples = 0
        self._incomplete: list[bool] = []
        self._seconds: dict[str, float] = {}

    def judge(
        self, module: nn.Module, inputs: Inputs, maps: Maps, masks: Tensor | Mapping[str, Tensor] | None = None
    ) -> list[Row]:
        """Scores of a batch, a row per sample in its order; a score that does not apply is None.

        Columns (those of a part are there whenever the part is run, with the same names for every method):
            method, target, probability; share_<input> with several inputs;
            completeness, incomplete;
            randomization_net, randomization_head, and _ssim of both: likeness to re-initialised networks; with
            masks pointing_random, energy_random, auprc_random: what the maps of re-initialised networks reach, means
            over `redraws`; all of these for the first `cases` samples only;
            effect_<input> (fall of the probability without it), effect_agreement with several inputs;
            mask_share, pointing, energy, auprc, iou, energy_<input> with masks;
            deletion, insertion, random_order, blurred_order, deletion_gap, insertion_gap, deletion_gap_blurred,
            insertion_gap_blurred; stability_noise, stability_flip_<axis>.

        Args:
            module: what was explained; it is given back as it was.
            inputs: the batch.
            maps: what the explainer said of it.
            masks: see `localization`.
        """
        count = len(maps.target)
        columns: dict[str, Column] = {}
        for name, part in self._parts(module, inputs, maps, masks).items():
            with self._timed(name):
                columns |= {column: _plain(values, count) for column, values in part().items()}
        if self.scope != "none" and self.settings.cases:
            with self._timed("randomization"):
                columns |= self._randomization(module, inputs, maps, masks)
        self._samples += count
        first: dict[str, Column] = {"method": [maps.method] * count, "target": _plain(maps.target, count)}
        columns = first | columns
        return [{name: values[row] for name, values in columns.items()} for row in range(count)]

    def verdict(self) -> Verdict:
        """What all samples judged so far show."""
        result = self._test.result()
        return Verdict(
            method=self.explainer.method,
            samples=self._samples,
            passes=None if result is None else result.passes,
            failures=() if result is None or result.passes is None else tuple(result.failures),
            randomization=result,
            incomplete=float(np.mean(self._incomplete)) if self._incomplete else None,
            seconds=dict(self._seconds),
        )

    def _parts(
        self, module: nn.Module, inputs: Inputs, maps: Maps, masks: Tensor | Mapping[str, Tensor] | None
    ) -> dict[str, Callable[[], Mapping[str, Tensor | None]]]:
        """The parts to run, but for the randomisation test, which takes the first samples only."""
        parts: dict[str, Callable[[], Mapping[str, Tensor | None]]] = {"shares": lambda: _shares(maps)}
        if self.scope == "none":
            return parts
        parts["completeness"] = lambda: self._completeness(maps)
        if len(maps.maps) > 1:
            parts["leave_one_out"] = lambda: _effects(module, inputs, maps)
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
        self, module: nn.Module, inputs: Inputs, maps: Maps, masks: Tensor | Mapping[str, Tensor] | None
    ) -> dict[str, Column]:
        found = self._test.add(module, inputs, maps, masks)
        missing = [None] * (len(maps.target) - len(found))
        columns = {f"randomization_{name}": name for name in ("net", "head", "net_ssim", "head_ssim")}
        columns |= {} if masks is None else {f"{name}_random": name for name in LOCATED}
        return {column: [*(_number(row[name]) for row in found), *missing] for column, name in columns.items()}

    def _faithfulness(self, module: nn.Module, inputs: Inputs, maps: Maps) -> dict[str, Tensor | None]:
        own = self.settings
        found = measure_faithfulness(
            module, inputs, maps, steps=own.steps, fill=own.fill, draws=own.draws, seed=own.seed, budget=self._budget
        )
        levels = {"random_order": found.random, "blurred_order": found.blurred}
        return {"deletion": found.deletion, "insertion": found.insertion, **levels, **found.gaps()}

    def _stability(self, module: nn.Module, inputs: Inputs, maps: Maps) -> dict[str, Tensor | None]:
        own = self.settings
        found = measure_stability(self.explainer, module, inputs, maps, noise=own.noise, draws=own.draws, seed=own.seed)
        return {"stability_noise": found.noise, **{f"stability_flip_{axis}": one for axis, one in found.flip.items()}}


def _shares(maps: Maps) -> dict[str, Tensor | None]:
    shares = {f"share_{name}": one for name, one in maps.shares().items()} if len(maps.maps) > 1 else {}
    return {"probability": maps.probability, **shares}


def _effects(module: nn.Module, inputs: Inputs, maps: Maps) -> dict[str, Tensor | None]:
    found = leave_one_out(module, inputs, maps)
    return {**{f"effect_{name}": one for name, one in found.probability.items()}, "effect_agreement": found.agreement}


def _localization(
    maps: Maps, masks: Tensor | Mapping[str, Tensor], threshold: Threshold | None
) -> dict[str, Tensor | None]:
    found = measure_localization(maps, masks, threshold=threshold)
    named = {name: getattr(found, name) for name in ("mask_share", "pointing", "energy", "auprc", "iou")}
    single = len(maps.maps) == 1
    return named | ({} if single else {f"energy_{name}": one for name, one in found.by_input.items()})


def _plain(values: Tensor | None, count: int) -> Column:
    """Python numbers; NaN is None, for it means that the score does not apply."""
    return [None] * count if values is None else [_number(value) for value in values.tolist()]


def _number(value: float | int | bool) -> float | int | bool | None:
    return None if value != value else value
