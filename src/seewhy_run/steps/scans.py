"""Scans of a case in several modalities on one grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seewhy_run.errors import RunError
from seewhy_run.files import Scan, open_scan
from seewhy_run.steps.base import State

__all__ = ["open_scans"]

GRID = 1e-2
"""Largest difference of two affines of one grid, in millimetres."""


def open_scans(state: State, modalities: Sequence[str]) -> dict[str, Scan]:
    """Open the scans of a case: modality → volume, all on one grid.

    Raises:
        RunError: a scan is missing, cannot be read, is no single volume, has voxels that are not finite, or another
            grid.
    """
    scans: dict[str, Scan] = {}
    for name in modalities:
        path = state.files.get(name)
        if path is None:
            raise RunError(f"case {state.id} has no {name}")
        scan = open_scan(path)
        if scan.values.ndim != 3:
            raise RunError(f"{path} has shape {scan.values.shape}; expected one volume")
        if scan.values.dtype.kind == "f" and not np.isfinite(scan.values).all():
            raise RunError(f"{path} holds voxels that are NaN or infinite; repair it")
        first = next(iter(scans.values()), scan)
        if scan.values.shape != first.values.shape or abs(scan.affine - first.affine).max() > GRID:
            raise RunError(f"{path} has another grid than {first.path.name}; resample it first")
        scans[name] = scan
    return scans
