"""What `predict` leaves on disk: one table of all samples, volumes in the scanner's space, arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.batch import Batch, Prediction
from seewhy.callbacks.translation.writer import TranslationWriter
from seewhy.data.base import BaseDataModule
from seewhy.io.atomic import atomic_path
from seewhy.metrics.classification.cases import make_case_row
from seewhy.metrics.gather import gather_rows

__all__ = ["WritePredictions"]


WITH_GRID = (".nii", ".nii.gz", ".nrrd", ".nhdr")
"""Endings of sources that have a place in the scanner's space; pictures have none."""
VOLUMES = 5
"""Axes of maps of whole volumes."""


class WritePredictions(Callback):
    """Writes `predictions.csv`, and each patient's maps as NIfTI volumes and, by choice, as one npz.

    `predictions.csv` has one row per sample: id, patient, index, source, probability (one column per class),
    label where known; of classifiers of whole cases the columns of `seewhy.metrics.classification.cases`, and no
    other file.
    `<patient>_<map>.nii.gz` holds a map, and `<patient>_mask.nii.gz` the final mask, stacked
    at the slices' places in the source volume with its affine; only where the source is known and still there.
    Of segmented volumes there is one `<id>.zarr` each, see `seewhy.callbacks.volumes.segmentations`.
    Of translated scans it has one row per subject, and their files are those of `TranslationWriter`.

    Args:
        folder: where the files go.
        volumes: stack maps, or translated slices, back into NIfTI.
        npz: write `<patient>.npz` with every map ([S, K, H, W]) and the slice numbers.
        units: of translated volumes, see `TranslationWriter`.
        dtype: of translated volumes, see `TranslationWriter`.
    """

    def __init__(
        self, *, folder: str, volumes: bool = True, npz: bool = False, units: str = "target", dtype: str = "float32"
    ) -> None:
        self.folder = Path(folder)
        self.volumes = volumes
        self.npz = npz
        self.translations = TranslationWriter(folder=self.folder, units=units, dtype=dtype, npz=npz)
        self.rows: list[dict[str, Any]] = []
        self.stacked: list[Path] = []
        self.without_source: set[str] = set()
        self.untranslated: set[str] = set()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a fresh table."""
        self.rows, self.stacked = [], []
        self.without_source, self.untranslated = set(), set()
        self.folder.mkdir(parents=True, exist_ok=True)
        datamodule = getattr(trainer, "datamodule", None)
        # Of all, not only of those to be predicted: another call may predict the other domain into this folder.
        self.translations.begin(datamodule.sample_ids("all") if isinstance(datamodule, BaseDataModule) else ())

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add one patient's rows and write its maps."""
        if "domain" in outputs:
            self._translated(outputs, batch, pl_module)
            return
        if "maps" not in outputs:
            self.rows += _case_rows(outputs, pl_module)
            return
        if any(maps.ndim == VOLUMES for maps in outputs["maps"].values()):
            from seewhy.callbacks.volumes.segmentations import write_segmentations

            files = write_segmentations(self.folder, trainer, pl_module, outputs)
            told = {key: outputs[key] for key in ("id", "patient", "source")} | {"segmentation": files}
            self.rows += [dict(zip(told, row, strict=True)) for row in zip(*told.values(), strict=True)]
            return
        self.rows += _rows(outputs)
        arrays = {name: maps.float().cpu().numpy() for name, maps in outputs["maps"].items()}
        if self.volumes:
            self._stack(outputs, arrays)
        if self.npz:
            path = self.folder / f"{outputs['patient'][0]}.npz"
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, index=np.asarray(outputs["index"]), **arrays)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Every process writes its part; the first joins them into one table, sorted by id."""
        import pandas as pd

        part = self.folder / f"predictions.rank{trainer.global_rank}.csv"
        pd.DataFrame(self.rows).to_csv(part, index=False)
        self.stacked = [Path(name) for name in _gathered(map(str, self.stacked))]
        self.without_source = set(_gathered(self.without_source))
        self.untranslated = set(_gathered(self.untranslated))
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            parts = [self.folder / f"predictions.rank{rank}.csv" for rank in range(trainer.world_size)]
            frames = [pd.read_csv(path, dtype={"id": str, "patient": str}) for path in parts if path.stat().st_size > 1]
            table = pd.concat(frames).drop_duplicates("id").sort_values("id") if frames else pd.DataFrame()
            with atomic_path(self.folder / "predictions.csv") as temporary:
                table.to_csv(temporary, index=False)
            for path in parts:
                path.unlink()

    def _translated(self, prediction: Prediction, batch: Batch, module: LightningModule) -> None:
        if "translated" not in prediction:  # a model of one direction
            self.untranslated.add(prediction["patient"][0])
            return
        row, written = self.translations.write(prediction, batch, module, volumes=self.volumes)
        self.rows.append(row)
        self.stacked += written
        if self.volumes and not written:
            self.without_source.add(row["patient"])

    def _stack(self, prediction: Prediction, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        from seewhy.io.slices import stack_to_nifti

        source = Path(prediction["source"][0])
        patient = prediction["patient"][0]
        if not source.name.endswith(WITH_GRID) or not source.is_file() or min(prediction["index"]) < 0:
            self.without_source.add(patient)
            return
        volumes = {name: array.max(1).astype(np.float32) for name, array in arrays.items()}
        if "refined" in arrays:
            refined = arrays["refined"]
            volumes["mask"] = ((refined > 0.5).any(1) * (refined.argmax(1) + 1)).astype(np.uint8)
        for name, volume in volumes.items():
            path = self.folder / f"{patient}_{name}.nii.gz"
            stack_to_nifti(dict(zip(prediction["index"], volume, strict=True)), source, path_out=path)
            self.stacked.append(path)


def _gathered(names: Iterable[str]) -> list[str]:
    """Names of all processes, each once; every process must call this."""
    return [row["name"] for row in gather_rows([{"name": name} for name in names], key=("name",))]


def _rows(prediction: Prediction) -> list[dict[str, Any]]:
    """One row per sample of a prediction."""
    probability = prediction["probability"].float().cpu().numpy()
    rows = []
    for i, sample in enumerate(prediction["id"]):
        row: dict[str, Any] = {
            "id": sample,
            "patient": prediction["patient"][i],
            "index": prediction["index"][i],
        }
        row["source"] = prediction["source"][i]
        row |= {f"probability_{k + 1}": float(value) for k, value in enumerate(probability[i])}
        if "label" in prediction:
            row |= {f"label_{k + 1}": float(value) for k, value in enumerate(prediction["label"][i].cpu())}
        rows.append(row)
    return rows


def _case_rows(prediction: Prediction, module: LightningModule) -> list[dict[str, Any]]:
    """One row per case of a classifier's prediction."""
    classes, ordinal = cast("Sequence[str]", module.classes), bool(module.hparams.get("ordinal", False))
    label = prediction["label"].tolist() if "label" in prediction else [None] * len(prediction["id"])
    return [
        make_case_row(
            name=name,
            patient=prediction["patient"][i],
            source=prediction["source"][i],
            label=label[i],
            probability=prediction["probability"][i].tolist(),
            logits=prediction["logits"][i].tolist(),
            classes=classes,
            ordinal=ordinal,
        )
        for i, name in enumerate(prediction["id"])
    ]
