"""Segmented volumes of a test or a prediction: OME-Zarr labels on the grid of their images, and a figure of cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seewhy.batch import Batch, Prediction
from seewhy.callbacks.predictions import PredictionOptions, WrittenFiles
from seewhy.data.base import BaseDataModule
from seewhy.data.volumes.cases import open_case
from seewhy.data.volumes.datamodule import VolumesDataModule
from seewhy.errors import ConfigError
from seewhy.io.names import safe_name
from seewhy.io.zarr.sink import write_part
from seewhy.metrics.gather import Row, gather_rows
from seewhy.metrics.segmentation.volume_scores import PREDICTION
from seewhy.models.protocols import SegmentsVolumes
from seewhy.option_types import PositiveInt
from seewhy.reporting.sample import is_phantom

__all__ = ["SegmentationWriter", "VolumeCaseFigure", "WriteSegmentations", "masks_to_labels", "write_segmentations"]


class WriteSegmentations(Callback):
    """Writes `<folder>/<id>.zarr` for every tested volume: `labels/prediction` with names, spacing and position.

    Args:
        folder: folder of the stores.
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
        write_segmentations(self.folder, trainer.datamodule, pl_module, outputs)  # type: ignore[attr-defined]


class SegmentationWriter:
    """The `seewhy.callbacks.predictions.PredictionWriter` of volumes: one `<id>.zarr` and one row each.

    Args:
        options: files to write; volumes are always written, as zarr.
        datamodule: the volumes; None for volumes that are in no data set.
    """

    skip_reason: ClassVar[str] = "have no prediction"

    def __init__(self, options: PredictionOptions, datamodule: BaseDataModule | None) -> None:
        self.folder, self.datamodule = options.folder, datamodule

    def write(self, prediction: Prediction, batch: Batch, module: LightningModule) -> WrittenFiles:
        """Write the volumes of a prediction."""
        files = write_segmentations(self.folder, cast("VolumesDataModule | None", self.datamodule), module, prediction)
        columns = {key: prediction[key] for key in ("id", "patient", "source")} | {"segmentation": files}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return WrittenFiles(rows=rows, others=files)


def write_segmentations(
    folder: Path, datamodule: VolumesDataModule | None, module: LightningModule, prediction: Mapping[str, Any]
) -> list[Path]:
    """Write the volumes of a prediction as OME-Zarr labels; existing ones are replaced.

    Args:
        folder: folder of the stores.
        datamodule: has the source of each volume; None for whole volumes that are in no data set.
        module: a `VolumeSegmentation`.
        prediction: with the map `segmentation`, [B, K, Z, Y, X].

    Returns:
        One store per volume.
    """
    model = _segmenter(module)
    if datamodule is None:
        sources = zip(prediction["id"], prediction["source"], strict=True)
        cases = {name: open_case(name, source) for name, source in sources}
    else:
        cases = {case.id: case for case in datamodule.cases}
    phantom = datamodule is not None and datamodule.is_phantom
    written = []
    for position, name in enumerate(prediction["id"]):
        labels = masks_to_labels(model.probability_masks(prediction["maps"]["segmentation"][position]))
        case, path = cases[name], folder / f"{safe_name(name)}.zarr"
        write_part(
            path,
            labels,
            source=case.open()[0],
            box=case.box,
            labels=True,
            classes=dict(enumerate(model.classes, start=1)),
            attributes={"input": case.image, "box": list(case.ends), "phantom": phantom},
        )
        written.append(path)
    return written


def masks_to_labels(masks: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Labels [Z, Y, X] uint8 of masks [K, Z, Y, X]: 1, 2, … in their order; later masks overwrite earlier ones."""
    labels = torch.zeros(masks.shape[1:], dtype=torch.uint8)
    for number, mask in enumerate(masks.cpu()):
        labels[mask] = number + 1
    return labels.numpy()


def _segmenter(module: LightningModule) -> SegmentsVolumes:
    if not isinstance(module, SegmentsVolumes):
        raise ConfigError(f"{type(module).__name__} does not segment volumes; expected e.g. VolumeSegmentation")
    return module


class VolumeCaseFigure(Callback):
    """Writes `cases.png` after a test of a volume segmentation: volumes from best to worst, three planes each.

    Volumes are ranked by their Dice, the mean over classes. The best, the worst and some evenly between are drawn
    with prediction and true outlines, at the voxel whose three planes show most of the labels. Only these planes are
    kept in memory.

    Args:
        folder: folder of `cases.png`.
        volumes: number of volumes in the figure.
        unit: unit of the data's spacing.

    Raises:
        ConfigError: fewer than one volume.
    """

    def __init__(self, *, folder: str, volumes: PositiveInt = 4, unit: str = "millimeter") -> None:
        if volumes < 1:
            raise ConfigError(f"callbacks.cases.volumes={volumes} must be 1 or more")
        self.folder, self.volumes, self.unit = Path(folder), volumes, unit
        self.rows: list[Row] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start without volumes."""
        self.rows = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep three planes of each volume of the batch."""
        from seewhy.figures.volumes.planes import informative_point, read_planes

        model = _segmenter(pl_module)
        for position, name in enumerate(batch["id"]):
            image = batch["image"][position].float().cpu().numpy()
            labels = batch["mask"][position].cpu().numpy()
            predicted = masks_to_labels(model.probability_masks(outputs["maps"]["segmentation"][position]))
            true = masks_to_labels(model.label_masks(torch.from_numpy(labels)))
            point = informative_point(true if true.any() else predicted)
            planes = {
                key: read_planes(array.__getitem__, true.shape, point)
                for key, array in (("overlay", predicted), ("truth", true), ("image", image[0]))
            }
            spacing = batch["spacing"][position].tolist() if "spacing" in batch else []
            self.rows.append({"id": name, **planes, "spacing": spacing if np.isfinite(spacing).all() else None})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the figure on the first process."""
        model = _segmenter(pl_module)
        rows = gather_rows(self.rows, key=("id",))
        scores = model.patient_scores["test"].rows()
        self.rows = []
        if rows and trainer.is_global_zero:
            self._draw(rows, scores, classes=tuple(model.classes), phantom=is_phantom(trainer))

    def _draw(self, rows: list[Row], scores: list[Row], *, classes: tuple[str, ...], phantom: bool) -> None:
        from seewhy.figures.style import write_figure
        from seewhy.figures.volumes.preview import PreviewVolume, volume_rows

        dice = {
            name: {row["id"]: row["dice"] for row in scores if row["map"] == f"{PREDICTION}{suffix}"}
            for name, suffix in (("", ""), *((name, f"_{name}") for name in classes))
        }
        ranked = sorted(rows, key=lambda row: -(dice[""].get(row["id"]) or 0.0))
        chosen = np.unique(np.linspace(0, len(ranked) - 1, min(self.volumes, len(ranked))).round().astype(int))
        views = [
            PreviewVolume(
                image=ranked[i]["image"],
                overlay=ranked[i]["overlay"],
                truth=ranked[i]["truth"],
                spacing=ranked[i]["spacing"],
                title=f"{ranked[i]['id']}: {_format_dice(dice, ranked[i]['id'])}",
            )
            for i in chosen
        ]
        title = f"test volumes from best to worst, {len(chosen)} of {len(rows)}"
        figure = volume_rows(
            views,
            classes=classes,
            unit=self.unit,
            title=title,
            phantom=phantom,
            note="Dice of whole volumes; images as the network sees them",
        )
        write_figure(self.folder / "cases.png", figure)


def _format_dice(dice: dict[str, dict[str, float | None]], volume: str) -> str:
    """Dice of a volume, and of its classes in parentheses."""
    from seewhy.figures.labels import NONE

    mean, *parts = [
        f"{name or 'Dice'} {NONE if values.get(volume) is None else format(values[volume], '.3f')}"
        for name, values in dice.items()
    ]
    return f"{mean} ({', '.join(parts)})"
