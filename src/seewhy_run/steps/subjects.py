"""Read the scans of a head in several modalities as stacks of slices, and write translated scans; needs scipy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seewhy_run.arrays.body import find_box, segment_tissue
from seewhy_run.arrays.resizing import fit_length
from seewhy_run.errors import RunError
from seewhy_run.files import Scan, write_nifti
from seewhy_run.graphs import Graph
from seewhy_run.steps.base import State
from seewhy_run.steps.scans import open_scans

__all__ = ["ReadSubject", "WriteScans"]

OUTSIDE = np.float32(-1)
"""Value of voxels outside the tissue."""
QUANTILES = np.linspace(0, 100, 1001)
"""Percentiles of the tissue, between which the window's ends are interpolated."""


@dataclass(frozen=True, kw_only=True)
class ReadSubject:
    """Makes `image` [S, 3 · M, H, W] in [-1, 1] of all slices with tissue, and what `write_scans` needs.

    Attributes:
        modalities: names of the scans, in order; NIfTI on one grid, with axial slices along the third axis.
        percentiles: of the tissue, which become -1 and 1.
        image_size: rows and columns of the grid; None keeps the scan's, padded to a multiple of `multiple_of`.
        multiple_of: divisor of rows and columns.
    """

    modalities: tuple[str, ...]
    percentiles: tuple[float, float]
    image_size: tuple[int, int] | None
    multiple_of: int

    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ("image", "body", "scans", "tissue", "place", "window")

    def __post_init__(self) -> None:
        low, high = self.percentiles
        if self.multiple_of < 1 or not 0 <= low < high <= 100:
            raise RunError(
                f"read_subject: multiple_of={self.multiple_of} or percentiles={self.percentiles} is impossible"
            )

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Read the scans of a case."""
        scans = open_scans(state, self.modalities)
        for scan in scans.values():
            if scan.codes is not None and scan.codes[2] not in "SI":
                raise RunError(
                    f"{scan.path} is stored as {scan.codes}; expected axial slices along the third axis (… S or I)"
                )
        volumes = [_slices_first(scan) for scan in scans.values()]
        tissue = segment_tissue(volumes)
        if not tissue.any():
            raise RunError(f"case {state.id} holds no tissue; expected scans of a head on a dark background")
        (first, last), *planes = find_box(tissue)
        quantiles = [np.percentile(values[tissue], QUANTILES).astype(np.float32) for values in volumes]
        window = np.array([np.interp(self.percentiles, QUANTILES, row) for row in quantiles], np.float32)
        fits = [
            fit_length(length, box, None if self.image_size is None else self.image_size[axis], self.multiple_of)
            for axis, (length, box) in enumerate(zip(tissue.shape[1:], planes, strict=True))
        ]
        if any(start > box[0] or stop < box[1] for ((start, stop), _), box in zip(fits, planes, strict=True)):
            raise RunError(f"case {state.id} has more tissue than the network's grid of {self.image_size} pixels")
        # Beyond the ends, the outermost slice is repeated.
        numbers = np.clip(np.arange(first - 1, last + 1), 0, len(tissue) - 1)
        crop = tuple(slice(start, stop) for (start, stop), _ in fits)
        pad = ((0, 0), *(pad for _, pad in fits))
        body = np.pad(tissue[numbers][(slice(None), *crop)], pad)
        slices = np.stack([values[numbers][(slice(None), *crop)] for values in volumes], axis=1).astype(np.float32)
        low, high = window.T[:, :, None, None]
        scaled = np.clip((slices - low) * (2 / np.maximum(high - low, np.float32(1e-12))) - 1, -1, 1)
        scaled = np.pad(scaled, (pad[0], (0, 0), *pad[1:]), constant_values=OUTSIDE)
        scaled[np.broadcast_to(~body[:, None], scaled.shape)] = OUTSIDE
        state.values["image"] = np.concatenate([scaled[:-2], scaled[1:-1], scaled[2:]], axis=1)
        state.values |= {"body": body[1:-1], "scans": scans, "tissue": tissue, "window": window}
        state.values["place"] = (slice(first, last), crop, pad)


def _slices_first(scan: Scan) -> NDArray[Any]:
    """Values [D, H, W]: whole numbers of up to 16 bits stay int16, all others become float32."""
    values = np.moveaxis(scan.values, 2, 0)
    small = values.dtype.kind in "iu" and np.can_cast(values.dtype, np.int16)
    return values.astype(np.int16 if small else np.float32)


@dataclass(frozen=True, kw_only=True)
class WriteScans:
    """Writes `<id>/<name of the source>` for every modality, on its grid, with translated tissue.

    Attributes:
        units: `target` (of the scanner that it is translated to), `source` (of the scan) or `normalized` (-1 to 1).
        target: per modality the intensities that -1 and 1 become with `units=target`.
    """

    units: str
    target: tuple[tuple[float, float], ...]

    needs: ClassVar[tuple[str, ...]] = ("translated", "scans", "tissue", "place", "window")
    gives: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.units not in ("target", "source", "normalized"):
            raise RunError(f"write_scans: units={self.units!r} is unknown")

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Write the scans of a case."""
        values, scans = state.values, state.values["scans"]
        numbers, crop, pad = values["place"]
        tissue = values["tissue"]
        windows = np.asarray(self.target, np.float32) if self.units == "target" else values["window"]
        for number, (scan, window) in enumerate(zip(scans.values(), windows, strict=True)):
            made = values["translated"][:, number]
            inner = tuple(slice(low, side - high) for (low, high), side in zip(pad[1:], made.shape[1:], strict=True))
            whole = np.zeros(tissue.shape, np.float32)
            whole[(numbers, *crop)] = made[(slice(None), *inner)]
            volume = np.moveaxis(scan.values, 2, 0).astype(np.float32)
            if self.units == "normalized":
                volume[~tissue], volume[tissue] = OUTSIDE, whole[tissue]
            else:
                background, (low, high) = volume[~tissue], window
                volume[~tissue] = float(np.median(background)) if background.size else 0.0
                volume[tissue] = low + (whole[tissue] + 1) * (high - low) / 2
            path = state.folder / state.id / scan.path.name
            state.written.append(write_nifti(path, np.ascontiguousarray(np.moveaxis(volume, 0, 2)), scan))
        row = {"id": state.id, "slices": len(values["translated"]), "units": self.units}
        state.rows.append(row | {"source": str(next(iter(scans.values())).path)})
