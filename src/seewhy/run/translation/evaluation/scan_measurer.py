"""Measure tissues and lesions of every scan of a travelling head, raw and harmonised, by one fixed rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seewhy.batch import MODALITIES, Batch
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.data.domains.store import PreparedSubject
from seewhy.errors import DataError
from seewhy.metrics.gather import Row
from seewhy.metrics.translation.scan_rule import RuleScan, ScanRule, fit_scan_rule
from seewhy.metrics.translation.similarity import centre_slices, subject_name

__all__ = ["REFERENCE", "ScanMeasurer"]

REFERENCE = "b"
"""Domain of the reference scanner."""


class ScanMeasurer:
    """Measures volumes by a rule that is fixed on the reference's training scans, and intensities in fixed voxels.

    The voxels are those of the tissues in the reference's own first scan of the same head, so that only intensities
    differ between scans. They are known where both scans have the same grid.

    Args:
        datamodule: set up; domain b is the reference.
        rule: of another run with the same reference; None fits one.

    Raises:
        DataError: the reference has no training scans.
    """

    def __init__(self, datamodule: BraTSDomainsDataModule, *, rule: ScanRule | None = None) -> None:
        self.reader = datamodule.reader
        self.rule = self._fit(datamodule) if rule is None else rule
        self._subjects = {(subject.domain, subject.id): subject for subject in datamodule.subjects}
        self._first: dict[str, PreparedSubject] = {}
        for subject in datamodule.subjects:
            if subject.domain == REFERENCE:
                self._first.setdefault(subject.patient, subject)

    def measure(self, images: Mapping[str, Tensor], batch: Batch) -> list[Row]:
        """Measure one subject.

        Args:
            images: method → [S, M, H, W] in [-1, 1].
            batch: the subject.

        Returns:
            Rows `method`, `kind` (`volume` in mL, `intensity` from -1 to 1), `modality` (empty for volumes), `region`,
            `value`.
        """
        domain, body = batch["domain"][0], batch["body"].cpu().numpy()
        subject = self._subjects[domain, subject_name(batch["id"][0], domain)]
        voxel = float(np.prod(subject.geometry.spacing)) / 1000
        regions = self._find_regions(subject, body)
        rows = []
        for method, image in images.items():
            scan = RuleScan(image.float().cpu().numpy(), body, None)
            about: Row = {"method": method, "kind": "volume", "modality": ""}
            volumes = self.rule.measure_volumes(scan, voxel=voxel)
            rows += [{**about, "region": name, "value": value} for name, value in volumes.items()]
            for name, region in regions.items():
                means = scan.image.transpose(1, 0, 2, 3)[:, region].mean(axis=1, dtype=np.float64)
                rows += [
                    {**about, "kind": "intensity", "modality": modality, "region": name, "value": float(value)}
                    for modality, value in zip(MODALITIES, means, strict=True)
                ]
        return rows

    def _find_regions(self, subject: PreparedSubject, body: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        """Find the reference's regions on the grid of a subject; none if it was not scanned there on the same grid."""
        first = self._first.get(subject.patient)
        if first is None or first.shape != subject.shape or subject.geometry.difference(first.geometry):
            return {}
        placement, span = self.reader.find_placement(subject), subject.box[0]
        planes = self.reader.read_planes(first, placement, *span, body=body)
        return self.rule.find_regions(RuleScan(planes, body, self.reader.read_mask(first, placement, *span)))

    @staticmethod
    def _fit(datamodule: BraTSDomainsDataModule) -> ScanRule:
        """Fit the rule on the reference's training scans."""
        training = [subject for subject in datamodule.items_of("train") if subject.domain == REFERENCE]
        if not training:
            raise DataError("domain b has no training subjects, on which the rule for tissues and lesions is fixed")
        return fit_scan_rule(_read_scans(datamodule, training))


def _read_scans(datamodule: BraTSDomainsDataModule, subjects: list[PreparedSubject]) -> Iterator[RuleScan]:
    dataset: Any = datamodule.evaluation_data(subjects)
    for number in range(len(dataset)):
        batch = dataset[number]
        mask = batch["mask"].numpy() if "mask" in batch else None
        yield RuleScan(centre_slices(batch["image"]).numpy(), batch["body"].numpy(), mask)
