"""Fixed rule that measures tissues and lesions in a scan, calibrated once on scans of the reference scanner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from seewhy.batch import MODALITIES
from seewhy.metrics.segmentation.floors import otsu_thresholds

__all__ = ["LESION", "TISSUES", "RuleScan", "ScanRule", "fit_scan_rule"]

TISSUES = ("fluid", "gray", "white")
"""Classes of T1, from dark to bright."""
LESION = "lesion"
T1, FLAIR = MODALITIES.index("t1"), MODALITIES.index("flair")
BINS = 200
"""Candidates of the lesion's threshold between -1 and 1."""


class RuleScan(NamedTuple):
    """One scan.

    Attributes:
        image: [S, M, H, W] in [-1, 1].
        body: [S, H, W] bool, the tissue.
        mask: [S, H, W] class indices of the lesion, 0 is background; None without an annotation.
    """

    image: NDArray[np.floating]
    body: NDArray[np.bool_]
    mask: NDArray[np.integer] | None


@dataclass(frozen=True)
class ScanRule:
    """Thresholds that never change: the tool of somebody who has only seen the reference scanner.

    It is not a segmentation to be proud of. What counts is that the same rule measures every scan, so that differences
    between the scans of a head come from the scanner and the harmonisation alone.

    Attributes:
        cuts: T1 between fluid and grey matter, and between grey and white matter.
        lesion: FLAIR above which tissue is a lesion; None if no annotated scan was there to choose it.
    """

    cuts: tuple[float, float]
    lesion: float | None

    def measure_volumes(self, scan: RuleScan, *, voxel: float) -> dict[str, float]:
        """Measure the volume of each tissue, and of the largest connected region above the lesion's threshold.

        Args:
            scan: the scan; its mask is not read.
            voxel: volume of a voxel, e.g. in mL.

        Returns:
            Tissue or `lesion` → volume in the unit of `voxel`.

        Example:
            >>> image = np.zeros((1, 4, 2, 4))
            >>> image[0, 0] = [[-0.9, -0.9, 0.0, 0.0], [0.0, 0.9, 0.9, 0.9]]
            >>> image[0, 3, 0, :2] = 0.8
            >>> scan = RuleScan(image, np.ones((1, 2, 4), bool), None)
            >>> ScanRule((-0.5, 0.5), 0.6).measure_volumes(scan, voxel=0.1)
            {'fluid': 0.2, 'gray': 0.3, 'white': 0.3, 'lesion': 0.2}
        """
        classes = self._classify(scan)
        volumes = {name: round(float((classes == number).sum()) * voxel, 9) for number, name in enumerate(TISSUES, 1)}
        if self.lesion is not None:
            regions, count = label((scan.image[:, FLAIR] > self.lesion) & scan.body)
            largest = int(np.bincount(regions.ravel())[1:].max()) if count else 0
            volumes[LESION] = round(largest * voxel, 9)
        return volumes

    def find_regions(self, scan: RuleScan) -> dict[str, NDArray[np.bool_]]:
        """Find the tissues outside the annotated lesion, and the annotated lesion; those without voxels are left out.

        Args:
            scan: of the reference scanner; the same voxels are then read in all scans of the head.
        """
        annotated = np.zeros_like(scan.body) if scan.mask is None else (scan.mask > 0) & scan.body
        classes = self._classify(scan)
        regions = {name: (classes == number) & ~annotated for number, name in enumerate(TISSUES, 1)}
        regions[LESION] = annotated
        return {name: region for name, region in regions.items() if region.any()}

    def _classify(self, scan: RuleScan) -> NDArray[np.int64]:
        """Return [S, H, W], 1 to 3 for the tissues and 0 outside."""
        return np.where(scan.body, 1 + np.digitize(scan.image[:, T1], self.cuts, right=True), 0)


def fit_scan_rule(scans: Iterable[RuleScan]) -> ScanRule:
    """Choose the thresholds on the reference scanner's training scans; each scan has the same weight.

    The cuts of T1 are Otsu's for three classes. The lesion's is the FLAIR threshold with the highest mean Dice with the
    annotations, voxel by voxel.

    Args:
        scans: at least one; masks may be missing.
    """
    values, scores = [], []
    levels = np.linspace(0, 1, 1001)
    edges = np.linspace(-1, 1, BINS + 1)
    for scan in scans:
        values.append(np.quantile(scan.image[:, T1][scan.body], levels))
        annotated = None if scan.mask is None else (scan.mask > 0) & scan.body
        if annotated is None or not annotated.any():
            continue
        inside, everything = (np.histogram(scan.image[:, FLAIR][chosen], edges)[0] for chosen in (annotated, scan.body))
        # Voxels at or above the lower edge of each bin.
        hits, found = (np.cumsum(counts[::-1])[::-1] for counts in (inside, everything))
        scores.append(2 * hits / (found + inside.sum()))
    low, high = otsu_thresholds(np.concatenate(values), classes=3)
    best = float(edges[int(np.mean(scores, axis=0).argmax())]) if scores else None
    return ScanRule((low, high), best)
