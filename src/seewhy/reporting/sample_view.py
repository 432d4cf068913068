"""One sample of a batch as plain arrays: what is drawn of it and said of it.

How much of a map lies in which slice and which region of an atlas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.batch import Batch
from seewhy.data.base import BaseDataModule
from seewhy.errors import DataError
from seewhy.explain.explained_model import Explainable
from seewhy.explain.judging.localization import compute_region_shares, compute_slice_shares
from seewhy.explain.maps import Maps
from seewhy.io.geometry import Display
from seewhy.io.nifti import NIFTI_SUFFIXES, read_nifti
from seewhy.io.npy import read_npy
from seewhy.io.placement import Placement

__all__ = ["SampleView", "inputs_of", "parts_of", "view_of"]


@dataclass(frozen=True, kw_only=True)
class SampleView:
    """A sample on the model's grid.

    Attributes:
        id: safe as a file name.
        patient: whose sample it is.
        source: the file it was cut from, or an empty string.
        index: number in the source of the (first) slice, -1 where unknown.
        label: class index, [K] multi-hot, or None.
        images: input → [H, W] or [D, H, W], the mean of its channels; None where the sample lacks the input.
        masks: input → [H, W] or [D, H, W] bool, for those inputs that are annotated.
        placement: how to go back to the source's grid.
        spacing: millimetres per voxel of the grid, or None.
        display: how pictures are turned upright.
    """

    id: str
    patient: str
    source: str
    index: int
    label: int | list[float] | None
    images: dict[str, NDArray[np.float32] | None]
    masks: dict[str, NDArray[np.bool_]]
    placement: Placement | None
    spacing: tuple[float, ...] | None
    display: Display

    @property
    def is_volume(self) -> bool:
        """Whether maps have slices."""
        return any(image is not None and image.ndim == 3 for image in self.images.values())

    def slice_number(self, position: int) -> int:
        """Number in the scan of a slice of the grid."""
        number = self.placement.slice_number(position) if self.placement is not None else None
        return number if number is not None else max(self.index, 0) + position

    def slice_position(self, number: int) -> int:
        """Position in the grid of a slice of the scan.

        Raises:
            DataError: a slice that the model does not see.
        """
        from seewhy.errors import DataError

        if self.placement is not None:
            return self.placement.position(number)
        depth = next(len(image) for image in self.images.values() if image is not None)
        first = max(self.index, 0)
        if not first <= number < first + depth:
            raise DataError(f"slice {number} is not among its slices {first} to {first + depth - 1}", where=self.id)
        return number - first


def inputs_of(batch: Batch, rows: slice) -> Tensor | dict[str, Tensor]:
    """What a module takes, of some rows of a batch."""
    image = batch["image"]
    if isinstance(image, Mapping):
        return {name: value[rows] for name, value in image.items()}
    return image[rows]


def view_of(batch: Batch, position: int, about: Explainable, datamodule: object) -> SampleView:
    """Take one sample out of a batch.

    Args:
        batch: with `image`, `id` and what else is known.
        position: of the sample in the batch.
        about: names the inputs.
        datamodule: knows how pictures are turned, if it is one of ours.
    """
    image = batch["image"]
    named: Mapping[str, Tensor] = image if isinstance(image, Mapping) else {about.inputs[0]: image}
    present = named.get("present")
    images: dict[str, Any] = {}
    for column, name in enumerate(about.inputs):
        given = present is None or bool(present[position, column])
        images[name] = named[name][position].float().mean(dim=0).cpu().numpy() if given else None
    patient = _item(batch.get("patient"), position, str(batch["id"][position]))
    spacing = batch.get("spacing")
    return SampleView(
        id=str(batch["id"][position]),
        patient=str(patient),
        source=str(_item(batch.get("source"), position, "")),
        index=int(_item(batch.get("index"), position, -1)),
        label=_label(batch.get("label"), position),
        images=images,
        masks=_masks(batch.get("mask"), position, about),
        placement=_item(batch.get("placement"), position, None),
        spacing=None if spacing is None else tuple(float(value) for value in spacing[position]),
        display=datamodule.display_of(str(patient)) if isinstance(datamodule, BaseDataModule) else Display(),
    )


def _item(values: object, position: int, otherwise: object) -> Any:
    return otherwise if values is None else values[position]  # type: ignore[index]


def _label(label: Tensor | None, position: int) -> int | list[float] | None:
    if label is None:
        return None
    if label.ndim == 2:
        return [float(value) for value in label[position]]
    known = int(label[position])
    return known if known >= 0 else None


def _masks(mask: Tensor | Mapping[str, Tensor] | None, position: int, about: Explainable) -> dict[str, Any]:
    if mask is None:
        return {}
    named = mask if isinstance(mask, Mapping) else {about.inputs[0]: mask}
    return {name: (one[position] > 0).cpu().numpy() for name, one in named.items()}


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
        "slices": {
            name: [round(float(one), 6) for one in shares[0]] for name, shares in compute_slice_shares(maps).items()
        }
    }
    if atlas is not None:
        labels = _on_grid(atlas, view)
        tensor = torch.from_numpy(labels)
        regions = compute_region_shares(maps, dict.fromkeys(maps.maps, tensor))
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
