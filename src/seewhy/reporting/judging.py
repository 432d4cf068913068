"""Scores of maps during a session: scorecards, floors and tuned thresholds; shares by slice and by region."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.batch import Batch
from seewhy.errors import DataError, ExplanationError
from seewhy.explain.base import Explainer
from seewhy.explain.explained_model import Inputs
from seewhy.explain.judging.controls import Control, make_controls
from seewhy.explain.judging.localization import (
    Threshold,
    compute_region_shares,
    compute_slice_shares,
    join_masks,
    tune_threshold,
)
from seewhy.explain.judging.measures.mask_tuning import TunedCopy, tune_with_masks
from seewhy.explain.judging.scorecard import JudgingSettings, Scope, Scorecard, Verdict
from seewhy.explain.judging.shared_work import SharedWork
from seewhy.explain.judging.similarity import join_maps
from seewhy.explain.maps import Maps
from seewhy.explain.targets import Target
from seewhy.io.npy import read_npy
from seewhy.io.scans.scan import is_scan, read_scan
from seewhy.reporting.regions import Regions
from seewhy.reporting.sample import SampleView, select_inputs, select_rows
from seewhy.reporting.selection import ExplanationSettings
from seewhy.reporting.store import Place

__all__ = ["TUNING", "Judges", "compute_part_shares"]

Row = dict[str, Any]
Masks = Tensor | Mapping[str, Tensor] | None
TUNING = 16
"""Validation samples that thresholds are tuned on."""
TUNED = 4
"""Explained samples for each validation sample of cheap judging."""
TESTED, SMALLEST = 2, 12
"""Explained samples for each map of its tests, of which there are 12 where as many samples are explained: three cases
with a network, a head and two other classes give all verdicts (without the other classes VarGrad, DiffCAM and guided
backprop pass on most phantoms of the benchmark). With the validation samples these are five maps for eight samples, so
that with the scores cheap judging costs about what the maps cost."""
MASKED, CHECKED = 96, 32
"""Training samples that a copy of the network is tuned on, and validation and test samples each that it is checked on,
at most."""
MOST_BYTES = 256 * 2**20
"""Largest size of each of these; at least one batch is taken."""
BY_COPY = "deletion and insertion by the tuned copy (explain.mask_tuning)"
HELD_OUT = 4
"""Without training samples, one in so many of the validation patients checks it, and the others tune it."""
FAITHFUL = ("control_intensity",)
"""Floors that are also judged by deletion and insertion, each at the cost of a method. These scores already compare
with noise as smooth as a map; of the other floors, brightness is the most informative, since it separates tissue from
background."""


class Judges:
    """Judges all methods of a session.

    Args:
        explainers: method → explainer.
        settings: its `judge` and `seed` are used.
        samples: number of samples of the run, which decides the scope of `auto`.
        validation: gives batches of so many validation samples, none of which is explained; may be empty.
        regions: calibrates regions that keep the prediction; None calibrates none.
        masked: gives batches of so many samples of `train`, `val` or `test`; may be empty, as `train` and `val` are
            where they are explained. A copy of the network is tuned on the first and checked on the others, or without
            any on the first explained batch. Without the first it is tuned and checked on `val`.

    Attributes:
        testing: whether the randomisation test takes the next samples; False where another process tests the first.
        tuning_note: why scores by the tuned copy are doubtful or left out; empty if the copy passed its check.
    """

    def __init__(
        self,
        explainers: Mapping[str, Explainer],
        settings: ExplanationSettings,
        *,
        samples: int,
        validation: Callable[[int], Iterable[Batch]],
        regions: Regions | None = None,
        masked: Callable[[str, int], Iterable[Batch]] = lambda part, count: (),
    ) -> None:
        self.explainers, self.regions, self.masked = explainers, regions, masked
        chosen = JudgingSettings(scope=settings.judge, metrics=settings.metrics, seed=settings.seed)
        self.samples, self.validation, self.tuning = samples, validation, TUNING
        if chosen.scope_of(samples) == "cheap":
            self.tuning = min(TUNING, samples // TUNED)
            left = samples - self.tuning
            chosen = chosen.within(max(left // TESTED, min(left, SMALLEST)))
        self.settings, self.shared = chosen, SharedWork()
        self.testing = True
        self.floors = {floor.method: floor for floor in make_controls(seed=settings.seed)}
        self._cards: dict[Place, Scorecard] = {}
        self._thresholds: dict[str, Threshold | None] = {}
        self._tuning_batches: list[Batch] | None = None
        self._tuning_bases: dict[int, Maps] = {}
        self.mask_tuning = settings.mask_tuning
        self.tuned: TunedCopy | None = None
        self.tuning_note = ""

    @property
    def active(self) -> bool:
        """Whether anything is judged."""
        scored = self.settings.scope != "none" or bool(self.settings.metrics) or self.mask_tuning > 0
        return scored or self.regions is not None

    def judge(self, place: Place, module: nn.Module, inputs: Inputs, maps: Maps, masks: Masks) -> list[Row]:
        """Score a batch of maps, a row per sample; rows are empty with `judge=none`."""
        if not self.active:
            return [{} for _ in maps.target]
        tuned = self._tune_copy(module, inputs)
        if place not in self._cards:
            explainer = self.explainers[place.method]
            threshold = self._threshold(explainer, module) if masks is not None else None
            self._cards[place] = Scorecard(
                explainer, settings=self.settings, samples=self.samples, threshold=threshold, tuned=tuned,
                shared=self.shared,
            )  # fmt: skip
        return self._cards[place].judge(module, inputs, maps, masks, tested=self.testing)

    def judge_floors(
        self, module: nn.Module, inputs: Inputs, target: Target, masks: Masks, *, base: Maps | None = None
    ) -> dict[str, list[Row]]:
        """Score the floors, method → rows: with masks, measures or regions all, else those with deletion.

        Args:
            module: the explained module.
            inputs: the batch.
            target: of the floors.
            masks: of the batch.
            base: maps of any method of this batch and target, which save a forward.
        """
        costly = self.settings.scope_of(self.samples) == "all"
        metrics = self.settings.metrics
        result = {}
        for name, floor in self.floors.items():
            faithful = costly and name in FAITHFUL
            tuned = self._tune_copy(module, inputs)
            wanted = masks is not None or faithful or metrics or tuned is not None or self.regions is not None
            if not self.active or not wanted:
                continue
            scope: Scope = "none" if self.settings.scope == "none" else "all" if faithful else "cheap"
            settings = JudgingSettings(scope=scope, cases=0, stability=False, metrics=metrics, seed=self.settings.seed)
            threshold = self._threshold(floor, module) if masks is not None else None
            card = Scorecard(floor, settings=settings, threshold=threshold, tuned=tuned, shared=self.shared)
            maps = floor(module, inputs, target) if base is None else floor.redraw(base, module, inputs)
            base = base or maps
            result[name] = card.judge(module, inputs, maps, masks)
            if self.regions is not None:
                own, _ = self.regions.measure(floor, module, inputs, maps)
                result[name] = [{**row, **more} for row, more in zip(result[name], own, strict=True)]
        return result

    def verdict(self, place: Place) -> Verdict | None:
        """The verdict on a method from all samples of this process; None without any."""
        return self._cards[place].verdict() if place in self._cards else None

    def _tune_copy(self, module: nn.Module, explained: Inputs) -> nn.Module | None:
        """The copy of the network that judges too, tuned and checked once; None without samples to tune it on."""
        if not self.mask_tuning:
            return None
        if self.tuned is None and not self.tuning_note:
            batches: list[Inputs] = [select_inputs(batch) for batch in _take(self.masked("train", MASKED))]
            held_out: list[Inputs]
            others = _take(self.masked("val", CHECKED))
            if batches:
                others += _take(self.masked("test", CHECKED))
                held_out = [select_inputs(batch) for batch in others]
                held_out = held_out or [explained]
            else:
                batches, held_out = _hold_out(others)
            if not batches or not held_out:
                self.tuning_note = (
                    f"{BY_COPY} are left out: no training images to tune it on, and validation images of fewer than "
                    "two patients"
                )
                return None
            self.tuned = tune_with_masks(
                module, batches, held_out=held_out, steps=self.mask_tuning, seed=self.settings.seed
            )
            self.tuning_note = f"{BY_COPY} are doubtful: {self.tuned.problem}" if self.tuned.problem else ""
        return None if self.tuned is None else self.tuned.module

    def _threshold(self, explainer: Explainer, module: nn.Module) -> Threshold | None:
        """The threshold of a method's maps, tuned on validation samples; None without masks."""
        if explainer.method not in self._thresholds:
            self._thresholds[explainer.method] = self._tune(explainer, module)
        return self._thresholds[explainer.method]

    def _tune(self, explainer: Explainer, module: nn.Module) -> Threshold | None:
        pairs: list[tuple[Tensor, Tensor]] = []
        try:
            if self._tuning_batches is None:
                self._tuning_batches = list(self.validation(self.tuning)) if self.tuning else []
            for number, batch in enumerate(self._tuning_batches):
                if "mask" not in batch:
                    return None
                if isinstance(explainer, Control) and number in self._tuning_bases:
                    maps = explainer.redraw(self._tuning_bases[number], module, select_inputs(batch))
                else:
                    maps = explainer(module, select_inputs(batch))
                self._tuning_bases.setdefault(number, replace(maps, maps={}, strength=None, contributions=None))
                values, masks = join_maps(maps.evidence()), join_masks(maps, batch["mask"])
                pairs += zip(values.cpu(), masks.cpu(), strict=True)
            return tune_threshold(pairs) if pairs else None
        except (DataError, ExplanationError):  # no lesion in the samples, or the method refuses some of them
            return None


def _take(batches: Iterable[Batch]) -> list[Batch]:
    """Take batches as long as their images fit into `MOST_BYTES`, and at least one."""
    taken: list[Batch] = []
    size = 0
    for batch in batches:
        images = select_inputs(batch)
        size += sum(one.nbytes for one in (images.values() if isinstance(images, dict) else [images]))
        if taken and size > MOST_BYTES:
            break
        taken.append(batch)
    return taken


def _hold_out(batches: list[Batch]) -> tuple[list[Inputs], list[Inputs]]:
    """Divide batches by patient: inputs to tune on, and those of the last quarter of the patients."""
    patients = list(dict.fromkeys(patient for batch in batches for patient in batch["patient"]))
    last = set(patients[-max(len(patients) // HELD_OUT, 1) :]) if len(patients) > 1 else set()
    parts: tuple[list[Inputs], list[Inputs]] = [], []
    for batch in batches:
        for number, part in enumerate(parts):
            rows = [row for row, name in enumerate(batch["patient"]) if (name in last) == bool(number)]
            if rows:
                part.append(select_inputs(select_rows(batch, rows)))
    return parts


def compute_part_shares(maps: Maps, view: SampleView, atlas: str | None) -> dict[str, Any]:
    """Compute the share of a volume's map in each slice and in each region of an atlas.

    Args:
        maps: a batch of one sample.
        view: the sample.
        atlas: file of labels on the grid of the sample's source, or None.

    Returns:
        Plain data: `slices`: input → share of each slice; `regions`: input → label → share, and `region_areas`:
        label → the region's share of the grid, which is the share of a constant map. Empty for planar samples.

    Raises:
        DataError: an atlas on another grid.
    """
    if not view.is_volume:
        return {}
    result: dict[str, Any] = {
        "slices": {
            name: [round(float(share), 6) for share in shares[0]] for name, shares in compute_slice_shares(maps).items()
        }
    }
    if atlas is not None:
        labels = _place_atlas(atlas, view)
        regions = compute_region_shares(maps, dict.fromkeys(maps.maps, torch.from_numpy(labels)))
        result["regions"] = {
            name: {str(label): round(float(share[0]), 6) for label, share in shares.items()}
            for name, shares in regions.items()
        }
        values, counts = np.unique(labels, return_counts=True)
        result["region_areas"] = {
            str(int(v)): round(float(c) / labels.size, 6) for v, c in zip(values, counts, strict=True)
        }
    return result


def _place_atlas(atlas: str, view: SampleView) -> NDArray[np.int64]:
    """Cut and resize the atlas like the sample."""
    labels = _read_atlas(atlas)
    if view.placement is None:
        raise DataError(f"explain.atlas={atlas}: it is unknown how {view.id} was cut from its source", where=view.id)
    if labels.shape != tuple(view.placement.shape):
        raise DataError(
            f"explain.atlas={atlas} has shape {labels.shape}, {view.placement.source} has {view.placement.shape}; "
            "an atlas must lie on the grid of the volumes"
        )
    return view.placement.apply(labels, order=0).astype(np.int64)


@lru_cache(maxsize=1)
def _read_atlas(atlas: str) -> NDArray[Any]:
    values: NDArray[Any] = read_scan(atlas)[0] if is_scan(atlas) else read_npy(Path(atlas))
    rounded = np.rint(values)
    if not np.allclose(values, rounded):
        raise DataError(f"explain.atlas={atlas} holds fractions; expected whole numbers as labels")
    return rounded.astype(np.int32)
