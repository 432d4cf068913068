"""Segmented volumes of a test or a prediction, as OME-Zarr labels on the grid of their images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seewhy.data.volumes.datamodule import VolumesDataModule
from seewhy.io.zarr.sink import create_sink

__all__ = ["WriteSegmentations", "masks_as_labels", "write_segmentations"]

CHUNK = 64


class WriteSegmentations(Callback):
    """Writes `<folder>/<id>.zarr` for every tested volume: `labels/prediction` with names, spacing and position.

    Args:
        folder: where to.
    """

    def __init__(self, *, folder: str) -> None:
        self.folder = Path(folder)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the volumes of a batch."""
        write_segmentations(self.folder, trainer, pl_module, outputs)


def write_segmentations(folder: Path, trainer: Trainer, module: LightningModule, prediction: Any) -> list[Path]:
    """Write the volumes of a prediction; what an earlier run wrote there is replaced.

    Args:
        folder: where to.
        trainer: its DataModule knows where the volumes come from.
        module: a `VolumeSegmentation`.
        prediction: with the map `segmentation`, [B, K, Z, Y, X].
    """
    datamodule = cast(VolumesDataModule, trainer.datamodule)  # type: ignore[attr-defined]
    cases = {case.id: case for case in datamodule.cases}
    written = []
    for place, name in enumerate(prediction["id"]):
        labels = masks_as_labels(cast(Any, module).decided(prediction["maps"]["segmentation"][place]))
        case, source = cases[name], cases[name].open()[0]
        steps, first = source.spacing or (1.0, 1.0, 1.0), source.translation or (0.0, 0.0, 0.0)
        corner = [low + part.start * step for low, part, step in zip(first, case.box, steps, strict=True)]
        sink = create_sink(
            folder / f"{name}.zarr",
            shape=labels.shape,
            dtype=labels.dtype,
            chunk=(CHUNK,) * 3,
            shard=tuple(math.ceil(size / CHUNK) * CHUNK for size in labels.shape),
            spacing=source.spacing,
            translation=corner,
            unit=source.unit,
            labels=True,
            classes=dict(enumerate(cast(Any, module).classes, start=1)),
            attributes={"input": case.image, "box": list(case.ends), "phantom": datamodule.is_phantom},
            overwrite=True,
        )
        z, y, x = (slice(0, size) for size in labels.shape)
        sink.write((z, y, x), labels)
        sink.finish()
        written.append(folder / f"{name}.zarr")
    return written


def masks_as_labels(masks: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[Z, Y, X] uint8 of masks [K, Z, Y, X]: 1, 2, … in their order, later ones on top."""
    labels = torch.zeros(masks.shape[1:], dtype=torch.uint8)
    for number, mask in enumerate(masks.cpu()):
        labels[mask] = number + 1
    return labels.numpy()
