"""Regions that keep the prediction: calibration on validation patients, a check on each sample, and their table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.batch import Batch
from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain.base import Explainer
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import Inputs
from seewhy.explain.judging.measures.conformal_region import (
    ConformalRegion,
    calibrate_region,
    check_region,
    count_needed_patients,
    measure_sufficient_share,
)
from seewhy.explain.maps import Maps
from seewhy.explain.targets import Target
from seewhy.io.atomic import write_csv
from seewhy.metrics.bootstrap import bootstrap_interval
from seewhy.reporting.sample import select_inputs, select_rows

__all__ = ["REGION_COLUMNS", "Regions", "check_patients", "region_rows", "write_region_table"]

CALIBRATED = 128
"""Validation samples that regions are calibrated on; more if more are explained."""
REGION_COLUMNS = ("region_size", "region_kept", "region_empty", "region_share", "region_patients")
"""Columns of a judged sample: share of its pixels in the region, whether they keep the prediction, whether an empty
region does, the calibrated share of the method, and the number of patients it was calibrated on."""


def check_patients(alpha: float, patients: int) -> None:
    """Check that there are enough validation patients for a region smaller than the whole image.

    Raises:
        ConfigError: there are not.

    Example:
        >>> check_patients(0.1, 9)
        >>> check_patients(0.1, 8)
        Traceback (most recent call last):
        seewhy.errors.ConfigError: explain.region_alpha=0.1 needs at least 9 validation patients, but there are 8; \
with these the lowest is 0.112, or use explain.region_alpha=null
    """
    needed = count_needed_patients(alpha)
    if patients >= needed:
        return
    remedy = f"with these the lowest is {_round_up(1 / (patients + 1)):.3f}, or use" if patients else "use"
    raise ConfigError(
        f"explain.region_alpha={alpha} needs at least {needed} validation patients, but there are {patients}; "
        f"{remedy} explain.region_alpha=null"
    )


def _round_up(value: float) -> float:
    """Round up to three digits."""
    return -(-value * 1000 // 1) / 1000


class Regions:
    """Calibrates a region for each method and control, and checks it on the explained samples.

    Args:
        alpha: see `seewhy.explain.judging.calibrate_region`.
        samples: number of explained samples.
        calibration: gives batches of so many validation samples, none of which is explained.
        targets: batch → explained targets, in the order of their folders.
        seed: of the order among equal pixels.
    """

    def __init__(
        self,
        alpha: float,
        *,
        samples: int,
        calibration: Callable[[int], Iterable[Batch]],
        targets: Callable[[Batch], Sequence[Target]],
        seed: int = 0,
    ) -> None:
        self.alpha, self.count, self.calibration = alpha, max(CALIBRATED, samples), calibration
        self.targets, self.seed, self.budget = targets, seed, MemoryBudget("1GiB")
        self._regions: dict[tuple[str, int], ConformalRegion] = {}

    def measure(
        self, explainer: Explainer, module: nn.Module, inputs: Inputs, maps: Maps, *, number: int = 0
    ) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
        """Check the region of a method on a batch.

        Args:
            explainer: the method.
            module: the explained module.
            inputs: the batch.
            maps: of the batch.
            number: of the target, among those of `targets`.

        Returns:
            `REGION_COLUMNS` of each sample, and input → region [B, *spatial] bool.

        Raises:
            ConfigError: too few validation patients.
        """
        region = self._calibrate(explainer, module, number)
        found = check_region(module, inputs, maps, region, budget=self.budget)
        values = zip(found.size.tolist(), found.kept.tolist(), found.empty.tolist(), strict=True)
        rows = [dict(zip(REGION_COLUMNS, (*own, region.share, region.patients), strict=True)) for own in values]
        return rows, {name: mask.cpu() for name, mask in found.masks.items()}

    def _calibrate(self, explainer: Explainer, module: nn.Module, number: int) -> ConformalRegion:
        key = (explainer.method, number)
        if key not in self._regions:
            shares: list[float] = []
            patients: list[str] = []
            for batch in self.calibration(self.count):
                for part, maps in self._explain(explainer, module, batch, number):
                    inputs = select_inputs(part)
                    measured = measure_sufficient_share(module, inputs, maps, seed=self.seed, budget=self.budget)
                    shares += measured.tolist()
                    patients += part["patient"]
            check_patients(self.alpha, len(set(patients)))
            self._regions[key] = calibrate_region(shares, patients, alpha=self.alpha)
        return self._regions[key]

    def _explain(
        self, explainer: Explainer, module: nn.Module, batch: Batch, number: int
    ) -> Iterator[tuple[Batch, Maps]]:
        """Maps of a batch; where the method refuses it, of those samples that it does not refuse."""
        target = self.targets(batch)[number]
        try:
            yield batch, explainer(module, select_inputs(batch), target)
        except ExplanationError:
            for row in range(len(batch["id"]) if len(batch["id"]) > 1 else 0):
                one = target[[row]] if isinstance(target, Tensor) else target
                try:
                    part = select_rows(batch, [row])
                    yield part, explainer(module, select_inputs(part), one)
                except ExplanationError:
                    continue


def to_arrays(masks: dict[str, Tensor], row: int) -> dict[str, Any]:
    """Region of one sample, input → bool array."""
    return {name: mask[row].to(torch.bool).numpy() for name, mask in masks.items()}


CONTROL = "control_"


def region_rows(scores: Sequence[Mapping[str, Any]], *, alpha: float) -> list[dict[str, Any]]:
    """One row per method and control with a calibrated region: methods first, and small regions first.

    A patient counts as kept if the regions of all its samples keep their predictions. The interval of the share of
    these patients is binomial (Wilson, 95 %); there is none with fewer than three.

    Args:
        scores: judged samples with `method`, `patient` and `seewhy.reporting.regions.REGION_COLUMNS`.
        alpha: of the calibration.

    Example:
        >>> rows = [{"method": "grad_cam", "patient": str(number), "region_size": 0.2, "region_kept": number < 4,
        ...          "region_empty": number < 2, "region_share": 0.2, "region_patients": 9} for number in range(5)]
        >>> row = region_rows(rows, alpha=0.1)[0]
        >>> row["coverage"], round(row["low"], 2), round(row["high"], 2), row["empty"], row["promised"], row["size"]
        (0.8, 0.38, 0.96, 0.4, 0.9, 0.2)
    """
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in scores:
        if row.get("region_kept") is not None:
            groups[str(row["method"])].append(row)
    result = []
    for method, own in groups.items():
        patients: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in own:
            patients[str(row["patient"])].append(row)
        kept = [float(all(row["region_kept"] for row in rows)) for rows in patients.values()]
        interval = bootstrap_interval(kept, limits=(0, 1))
        result.append(
            {
                "method": method,
                "share": own[0]["region_share"],
                "calibration_patients": own[0]["region_patients"],
                "promised": round(1 - alpha, 6),
                "samples": len(own),
                "patients": len(kept),
                "coverage": mean(kept),
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "empty": mean(float(all(row["region_empty"] for row in rows)) for rows in patients.values()),
                "size": mean(mean(row["region_size"] for row in rows) for rows in patients.values()),
            }
        )
    return sorted(result, key=lambda row: (row["method"].startswith(CONTROL), row["size"]))


def write_region_table(path: Path, scores: Sequence[Mapping[str, Any]], *, alpha: float | None) -> list[dict[str, Any]]:
    """Write `regions.csv`, and return its rows; no file and no rows without calibrated regions."""
    rows = [] if alpha is None else region_rows(scores, alpha=alpha)
    if rows:
        write_csv(path, rows)
    return rows
