"""Samples of a batch as plain arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from torch import Tensor

from seewhy.batch import Batch, Prediction
from seewhy.data.base import BaseDataModule, find_datamodule
from seewhy.errors import DataError
from seewhy.explain.explained_model import Explainable
from seewhy.io.geometry import Display
from seewhy.io.placement import Placement
from seewhy.wording import LESION, TargetWords

__all__ = [
    "SampleView",
    "find_words",
    "is_phantom",
    "select_inputs",
    "select_rows",
    "view_prediction",
    "view_sample",
]


@dataclass(frozen=True, kw_only=True)
class SampleView:
    """A sample on the model's grid.

    Attributes:
        id: safe as a file name.
        patient: patient of the sample.
        source: file it was cut from, or an empty string.
        index: number of the (first) slice in the source, -1 where unknown.
        label: class index, [K] multi-hot, or None.
        images: input → [H, W] or [D, H, W], the mean of its channels; None for a missing input.
        masks: input → [H, W] or [D, H, W] bool, for annotated inputs.
        placement: the way back to the source's grid.
        spacing: millimetres per voxel of the grid, or None.
        display: the turn that brings pictures upright.
        maps: map of a prediction → [H, W], the maximum over its classes.
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
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def image(self) -> NDArray[np.float32]:
        """The first input that is not missing."""
        return next(image for image in self.images.values() if image is not None)

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """The mask of the first annotated input."""
        return next(iter(self.masks.values()), None)

    @property
    def is_volume(self) -> bool:
        """Whether maps have slices."""
        return any(image is not None and image.ndim == 3 for image in self.images.values())

    def upright(self) -> SampleView:
        """The same sample turned for display; never written as data."""
        from seewhy.figures.style import turn_upright

        images = {
            name: None if image is None else turn_upright(image, self.display) for name, image in self.images.items()
        }
        masks = {name: turn_upright(mask, self.display) for name, mask in self.masks.items()}
        maps = {name: turn_upright(values, self.display) for name, values in self.maps.items()}
        return replace(self, images=images, masks=masks, maps=maps)

    def slice_number(self, position: int) -> int:
        """Number in the scan of a slice of the grid."""
        number = self.placement.slice_number(position) if self.placement is not None else None
        return number if number is not None else max(self.index, 0) + position

    def slice_position(self, number: int) -> int:
        """Position in the grid of a slice of the scan.

        Raises:
            DataError: the slice lies outside the part of the scan that the model sees.
        """
        if self.placement is not None:
            return self.placement.position(number)
        depth, first = len(self.image), max(self.index, 0)
        if not first <= number < first + depth:
            raise DataError(f"slice {number} is not among its slices {first} to {first + depth - 1}", where=self.id)
        return number - first


def is_phantom(trainer: Trainer) -> bool:
    """Whether the Trainer's data are synthetic."""
    datamodule = find_datamodule(trainer)
    return datamodule is not None and datamodule.is_phantom


def find_words(trainer: Trainer) -> TargetWords:
    """Words of the Trainer's data set for what it annotates."""
    datamodule = find_datamodule(trainer)
    return LESION if datamodule is None else datamodule.words


def select_rows(batch: Batch, rows: list[int]) -> Batch:
    """Some samples of a batch, for entries of any kind."""
    part: dict[str, Any] = {}
    for key, value in batch.items():
        if isinstance(value, Tensor):
            part[key] = value[rows]
        elif isinstance(value, Mapping):
            part[key] = {name: item[rows] for name, item in value.items()}
        else:
            part[key] = [value[row] for row in rows]  # type: ignore[index]
    return cast(Batch, part)


def select_inputs(batch: Batch) -> Tensor | dict[str, Tensor]:
    """The argument of a model's `forward` from a batch."""
    image = batch["image"]
    return dict(image) if isinstance(image, Mapping) else image


def view_sample(batch: Batch, position: int, about: Explainable, datamodule: BaseDataModule | None) -> SampleView:
    """Take one sample out of a batch.

    Args:
        batch: with `image`, `id` and everything else that is known.
        position: position of the sample in the batch.
        about: names of the inputs.
        datamodule: gives the turn of pictures; None does not turn them.

    Example:
        >>> import torch
        >>> batch = {"image": torch.ones(2, 3, 4, 4), "id": ["a", "b"], "label": torch.tensor([0, 1])}
        >>> view = view_sample(batch, 1, Explainable(), None)
        >>> view.id, view.label, view.image.shape
        ('b', 1, (4, 4))
    """
    image = batch["image"]
    named: Mapping[str, Tensor] = image if isinstance(image, Mapping) else {about.inputs[0]: image}
    present = named.get("present")
    images: dict[str, Any] = {}
    for column, name in enumerate(about.inputs):
        given = present is None or bool(present[position, column])
        image_channels = named[name][position]
        chosen = image_channels[list(about.shown)] if about.shown else image_channels
        images[name] = chosen.float().mean(dim=0).cpu().numpy() if given else None
    mask = batch.get("mask")
    masks = {} if mask is None else mask if isinstance(mask, Mapping) else {about.inputs[0]: mask}
    patient = str(_get_item(batch.get("patient"), position, str(batch["id"][position])))
    spacing = batch.get("spacing")
    return SampleView(
        id=str(batch["id"][position]),
        patient=patient,
        source=str(_get_item(batch.get("source"), position, "")),
        index=int(_get_item(batch.get("index"), position, -1)),
        label=_get_label(batch.get("label"), position),
        images=images,
        masks={name: (values[position] > 0).cpu().numpy() for name, values in masks.items()},
        placement=_get_item(batch.get("placement"), position, None),
        spacing=None if spacing is None else tuple(float(value) for value in spacing[position]),
        display=Display() if datamodule is None else datamodule.display_of(patient),
    )


def view_prediction(
    trainer: Trainer, prediction: Prediction, batch: Batch, position: int, *, maps: Iterable[str] | None = None
) -> SampleView:
    """Take one sample with its predicted maps out of a batch, upright.

    Args:
        trainer: its DataModule gives the turn of pictures.
        prediction: of the batch.
        batch: with `image` and perhaps `mask`.
        position: position of the sample in the batch.
        maps: names of the maps to take; None takes all.
    """
    names = prediction["maps"] if maps is None else maps
    values = {name: prediction["maps"][name][position].float().amax(0).cpu().numpy() for name in names}
    datamodule = find_datamodule(trainer)
    # The mean of several modalities would show none of them.
    shown = (0,) if datamodule is not None and datamodule.channel_sources else ()
    view = view_sample(batch, position, Explainable(shown=shown), datamodule)
    return replace(view, maps=values).upright()


def _get_item(values: object, position: int, default: object) -> Any:
    return default if values is None else values[position]  # type: ignore[index]


def _get_label(label: Tensor | None, position: int) -> int | list[float] | None:
    if label is None:
        return None
    if label.ndim == 2:
        return [float(value) for value in label[position]]
    index = int(label[position])
    return index if index >= 0 else None
