"""How much of a map lies in which slice and which region of an atlas."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seewhy.callbacks.explanations.view import SampleView
from seewhy.errors import DataError
from seewhy.explain.judging.shares import region_shares, slice_shares
from seewhy.explain.maps import Maps
from seewhy.io.nifti import NIFTI_SUFFIXES, read_nifti
from seewhy.io.npy import read_npy

__all__ = ["parts_of"]


def parts_of(maps: Maps, view: SampleView, atlas: str | None) -> dict[str, Any]:
    """Shares of one volume, as plain data.

    Args:
        maps: a batch of one.
        view: of the sample.
        atlas: file of labels on the grid of the sample's source, or None.

    Returns:
        `slices`: input → share of each slice; `regions`: input → label → share, and `region_areas`: label → the
        region's share of the grid, which is what an even map would have. Empty for planar samples.

    Raises:
        DataError: an atlas on another grid.
    """
    if not view.is_volume:
        return {}
    found: dict[str, Any] = {
        "slices": {name: [round(float(one), 6) for one in shares[0]] for name, shares in slice_shares(maps).items()}
    }
    if atlas is not None:
        labels = _on_grid(atlas, view)
        tensor = torch.from_numpy(labels)
        regions = region_shares(maps, dict.fromkeys(maps.maps, tensor))
        found["regions"] = {
            name: {str(label): round(float(share[0]), 6) for label, share in own.items()}
            for name, own in regions.items()
        }
        values, counts = np.unique(labels, return_counts=True)
        found["region_areas"] = {
            str(int(v)): round(float(c) / labels.size, 6) for v, c in zip(values, counts, strict=True)
        }
    return found


def _on_grid(atlas: str, view: SampleView) -> NDArray[np.int64]:
    """The atlas cut and resized as the sample was."""
    labels = _read(atlas)
    if view.placement is None:
        raise DataError(f"explain.atlas={atlas}: it is not known how {view.id} was cut from its source", where=view.id)
    if labels.shape != tuple(view.placement.shape):
        raise DataError(
            f"explain.atlas={atlas} has shape {labels.shape}, {view.placement.source} has {view.placement.shape}; "
            "an atlas must lie on the grid of the volumes"
        )
    return view.placement.apply(labels, order=0).astype(np.int64)


@lru_cache(maxsize=1)
def _read(atlas: str) -> NDArray[Any]:
    values: NDArray[Any] = read_nifti(atlas)[0] if atlas.endswith(NIFTI_SUFFIXES) else read_npy(Path(atlas))
    rounded = np.rint(values)
    if not np.allclose(values, rounded):
        raise DataError(f"explain.atlas={atlas} holds values that are no labels; expected whole numbers")
    return rounded.astype(np.int32)
