"""A figure of test volumes from best to worst: three planes each, with what was found and the true outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.callbacks.volumes.segmentations import masks_as_labels
from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError
from seewhy.metrics.gather import Row, gather_rows
from seewhy.metrics.segmentation.volume_scores import PREDICTION

__all__ = ["VolumeCases"]


class VolumeCases(Callback):
    """Writes `cases.png` after a test of a volume segmentation.

    Volumes are ranked by their Dice, the mean over classes; the best, the worst and some evenly between are drawn,
    each through the voxel where its labels show most. Of a volume only the planes are kept.

    Args:
        folder: where `cases.png` goes.
        volumes: rows of the figure.
        unit: of the data's spacing.

    Raises:
        ConfigError: fewer than one row.
    """

    def __init__(self, *, folder: str, volumes: int = 4, unit: str = "millimeter") -> None:
        if volumes < 1:
            raise ConfigError(f"callbacks.cases.volumes={volumes} must be 1 or more")
        self.folder, self.volumes, self.unit = Path(folder), volumes, unit
        self.rows: list[Row] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with no volume."""
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

        module = cast(Any, pl_module)
        for place, name in enumerate(batch["id"]):
            image = batch["image"][place].float().cpu().numpy()
            truth = batch["mask"][place].cpu().numpy()
            found = masks_as_labels(module.decided(outputs["maps"]["segmentation"][place]))
            known = masks_as_labels(module.truth(torch.from_numpy(truth)))
            point = informative_point(known if known.any() else found)
            planes = {
                key: read_planes(array.__getitem__, known.shape, point)
                for key, array in (("overlay", found), ("truth", known), ("image", image[0]))
            }
            spacing = batch["spacing"][place].tolist() if "spacing" in batch else []
            self.rows.append({"id": name, **planes, "spacing": spacing if np.isfinite(spacing).all() else None})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the figure, on the first process."""
        rows = gather_rows(self.rows, key=("id",))
        scores = cast(Any, pl_module).patient_scores["test"].rows()
        self.rows = []
        if rows and trainer.is_global_zero:
            datamodule = getattr(trainer, "datamodule", None)
            phantom = isinstance(datamodule, BaseDataModule) and datamodule.is_phantom
            self._draw(rows, scores, classes=cast(Any, pl_module).classes, phantom=phantom)

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
                title=f"{ranked[i]['id']}: {_told(dice, ranked[i]['id'])}",
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


def _told(dice: dict[str, dict[str, float | None]], volume: str) -> str:
    """Dice of a volume and of its classes."""
    from seewhy.figures.labels import NONE

    mean, *parts = [
        f"{name or 'Dice'} {NONE if own.get(volume) is None else format(own[volume], '.3f')}"
        for name, own in dice.items()
    ]
    return f"{mean} ({', '.join(parts)})"
