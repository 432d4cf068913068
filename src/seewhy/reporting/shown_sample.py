"""One sample of a prediction as a picture shows it: plain arrays, upright."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from seewhy.batch import Batch, Prediction
from seewhy.data.base import BaseDataModule
from seewhy.io.geometry import Display

__all__ = ["ShownSample", "shown"]


@dataclass(frozen=True, kw_only=True)
class ShownSample:
    """What pictures are made of; never written as data, since it is turned for the eye."""

    image: NDArray[np.float32]
    """[H, W], the mean of its channels."""
    maps: dict[str, NDArray[np.float32]]
    """Name → [H, W], the highest of its classes."""
    mask: NDArray[np.uint8] | None
    """[H, W], the annotation where there is one."""


def shown(
    trainer: Trainer, prediction: Prediction, batch: Batch, position: int, *, maps: Iterable[str] | None = None
) -> ShownSample:
    """Take one sample out of a batch and turn it as its data set says.

    Args:
        trainer: its data module knows how pictures are turned.
        prediction: of the batch.
        batch: with `image` and perhaps `mask`.
        position: of the sample in the batch.
        maps: names of the maps to take; None takes all.
    """
    from seewhy.figures.style import turn_upright

    datamodule = getattr(trainer, "datamodule", None)
    known = isinstance(datamodule, BaseDataModule)
    display = datamodule.display_of(prediction["patient"][position]) if known else Display()  # type: ignore[union-attr]
    names = prediction["maps"] if maps is None else maps
    heats = {name: prediction["maps"][name][position].float().amax(0).cpu().numpy() for name in names}
    image = batch["image"][position].float().mean(0).cpu().numpy()  # type: ignore[index]
    return ShownSample(
        image=turn_upright(image, display),
        maps={name: turn_upright(heat, display) for name, heat in heats.items()},
        mask=turn_upright(batch["mask"][position].cpu().numpy(), display) if "mask" in batch else None,  # type: ignore[index]
    )
