"""Maps that a model predicts: pictures, plain arrays with a JSON, and a table of implausible maps."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.batch import Batch, Prediction
from seewhy.data.base import find_datamodule
from seewhy.errors import ConfigError, nearest
from seewhy.io.atomic import atomic_path, file_sha256, write_csv
from seewhy.io.names import safe_name
from seewhy.io.npy import write_npy, write_npz
from seewhy.metrics.gather import Row, gather_rows
from seewhy.metrics.segmentation.plausibility import measure_plausibility
from seewhy.models.protocols import GivesAttentionMaps, NamesMaps
from seewhy.option_types import NonNegativeInt
from seewhy.reporting.sample import is_phantom, view_prediction

__all__ = ["ImplausibleMapsWriter", "WriteMaps", "find_doubts"]


class WriteMaps(Callback):
    """Writes the maps of tested or predicted samples, from the same predictions that are scored.

    Files, for each sample: `attention_maps/<id>_<score>.png` (image | maps, upright, on one fixed scale 0–1),
    `cam_npy/<id>.npy` (the first map, [K, H, W] float32), `cam_npy/<id>_<map>.npy` for the others, and
    `cam_npy/<id>.json` with probability, label, checkpoint and scale. No image is scaled separately.

    Args:
        folder: the run folder.
        maps: names of the maps of a prediction; the first becomes `<id>.npy`.
        max_samples: samples of all processes together, spread evenly over patients and slices; 0 is all.
        npy: also write arrays and JSON.
        attention: also write `attention_npy/<id>.npz`, the raw attention of the encoder's last blocks.

    Attributes:
        checkpoint: file of the weights, where the Trainer has not loaded it.
        written: number of samples written by this process.
    """

    def __init__(
        self,
        *,
        folder: str,
        maps: list[str],
        max_samples: NonNegativeInt = 0,
        npy: bool = True,
        attention: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.maps = list(maps)
        self.max_samples = max_samples
        self.npy = npy
        self.attention = attention
        self.written = 0
        self.checkpoint: Path | None = None
        self._facts: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the model has the maps, and attention where it is asked for."""
        if isinstance(pl_module, NamesMaps):
            _check_maps(self.maps, pl_module.map_names, "the map writer's maps")
        if self.attention and not isinstance(pl_module, GivesAttentionMaps):
            raise ConfigError(f"{type(pl_module).__name__} has no attention; set the map writer's attention=false")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the checkpoint of the maps."""
        self._start(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the checkpoint of the maps."""
        self._start(trainer)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the maps of one patient."""
        self._write_patient(trainer, pl_module, outputs, batch, _count_patients(trainer, "test"))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the maps of one patient."""
        self._write_patient(trainer, pl_module, outputs, batch, _count_patients(trainer, "predict"))

    def _start(self, trainer: Trainer) -> None:
        self.written = 0
        path = Path(str(trainer.ckpt_path)) if trainer.ckpt_path else self.checkpoint
        self._facts = {"checkpoint": path.name, "sha256": file_sha256(path)} if path else {"checkpoint": None}

    def _write_patient(
        self, trainer: Trainer, module: LightningModule, prediction: Prediction, batch: Batch, patients: int
    ) -> None:
        _check_maps(self.maps, prediction["maps"], "the map writer's maps")
        count = len(prediction["id"])
        per_patient = math.ceil(self.max_samples / max(patients, 1)) if self.max_samples else count
        chosen = np.unique(np.linspace(0, count - 1, min(per_patient, count)).round().astype(int))
        rows = {name: find_doubts(prediction, batch, name) for name in self.maps}
        doubts = {name: [row["doubts"] for row in own if row["doubts"]] for name, own in rows.items()}
        for position in chosen:
            self._write_sample(trainer, prediction, batch, int(position), doubts)
            if self.attention:
                self._write_attention(module, batch, int(position))
        self.written += len(chosen)

    def _write_sample(
        self,
        trainer: Trainer,
        prediction: Prediction,
        batch: Batch,
        position: int,
        doubts: Mapping[str, Sequence[str]],
    ) -> None:
        from seewhy.figures.overlay import write_strip

        sample = prediction["id"][position]
        probability = prediction["probability"][position].float().cpu().numpy()
        maps = {name: prediction["maps"][name][position].float().cpu().numpy() for name in self.maps}
        label = batch["label"][position].cpu().numpy() if "label" in batch else None
        picture = self.folder / "attention_maps" / f"{safe_name(sample)}_{float(probability.max()):.3f}.png"
        suffix = "" if label is None else f" · slice label {'/'.join(f'{value:g}' for value in label)}"
        title = f"{sample} · probability {'/'.join(f'{value:.2f}' for value in probability)}{suffix}"
        view = view_prediction(trainer, prediction, batch, position, maps=self.maps)
        phantom = is_phantom(trainer)
        write_strip(picture, view.image, view.maps, mask=view.mask, title=title, doubts=doubts, phantom=phantom)
        if self.npy:
            facts = {
                "id": sample,
                "patient": prediction["patient"][position],
                "index": prediction["index"][position],
                "source": prediction["source"][position],
                "probability": [float(value) for value in probability],
                "label": None if label is None else [float(value) for value in label],
                "scale": [0.0, 1.0],
                **self._facts,
            }
            self._write_arrays(sample, maps, facts)

    def _write_arrays(self, sample: str, maps: dict[str, np.ndarray[Any, Any]], facts: dict[str, Any]) -> None:
        folder, stem = self.folder / "cam_npy", safe_name(sample)
        names = {name: f"{stem}.npy" if i == 0 else f"{stem}_{name}.npy" for i, name in enumerate(maps)}
        for name, array in maps.items():
            write_npy(folder / names[name], array.astype(np.float32))
        with atomic_path(folder / f"{stem}.json") as temporary:
            temporary.write_text(json.dumps({**facts, "arrays": names}, indent=1) + "\n")

    def _write_attention(self, module: LightningModule, batch: Batch, position: int) -> None:
        image = batch["image"][position : position + 1]  # type: ignore[index]
        with torch.no_grad():
            layers = cast(GivesAttentionMaps, module).attention_maps(image.to(module.device))
        arrays: dict[str, Any] = {f"attn_layer_{i}": layer[0].float().cpu().numpy() for i, layer in enumerate(layers)}
        if not arrays:
            raise ConfigError("this encoder has no attention; set the map writer's attention=false")
        write_npz(self.folder / "attention_npy" / f"{safe_name(batch['id'][position])}.npz", arrays)


def _check_maps(maps: Sequence[str], known: Collection[str], option: str) -> None:
    """Refuse maps that the model does not make."""
    unknown = [name for name in maps if name not in known]
    if unknown:
        names = ", ".join(repr(name) for name in unknown)
        raise ConfigError(f"{option}={list(maps)}: this model makes no map {names}; {nearest(unknown[0], known)}")


def _count_patients(trainer: Trainer, part: Literal["test", "predict"]) -> int:
    """Count the patients of all processes, one batch each; those that several processes repeat count once."""
    batches: Any = trainer.num_test_batches if part == "test" else trainer.num_predict_batches
    own = int(sum(batches)) if isinstance(batches, (list, tuple)) else int(batches)
    datamodule = find_datamodule(trainer)
    known = [] if datamodule is None else [len(datamodule.items_of(part))]
    return min([own * trainer.world_size, *known])


LOGGER = logging.getLogger(__name__)


def find_doubts(prediction: Prediction, batch: Batch, name: str) -> list[Row]:
    """Rows of `doubts.csv` for the slices of one patient, one per class.

    Args:
        prediction: of the batch.
        batch: with `body` where it is known.
        name: of the map that chooses the lesion.

    Returns:
        Nothing without that map or without tissue; see `ImplausibleMapsWriter` for the columns.
    """
    maps = prediction.get("maps", {}).get(name)
    if maps is None or "body" not in batch or not bool(batch["body"].any()):
        return []
    rows = []
    for k in range(maps.shape[1]):
        signs = measure_plausibility(maps[:, k], batch["body"], prediction["probability"][:, k])
        overlap = None if math.isnan(signs.overlap) else signs.overlap
        row: Row = {"patient": prediction["patient"][0], "class": k + 1, "map": name, "peak": signs.peak}
        row |= {"cover": signs.cover, "overlap": overlap, "area_correlation": signs.area_correlation}
        row["doubts"] = "; ".join(signs.doubts())
        rows.append(row)
    return rows


class ImplausibleMapsWriter(Callback):
    """Writes `doubts.csv`: signs, found without masks, that a patient's map follows something other than a lesion.

    One row per tested or predicted patient and class: `peak`, `cover`, `overlap`, `area_correlation` (see
    `seewhy.metrics.segmentation.plausibility`), and `doubts` as text, which is empty for a plausible map. The number
    of implausible maps is logged, and the report lists them.

    Args:
        folder: the run folder.
        map: name of the map that chooses the lesion.
    """

    def __init__(self, *, folder: str, map: str = "cam") -> None:  # noqa: A002
        self.folder = Path(folder)
        self.map = map
        self.rows: list[Row] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the model has the map."""
        if isinstance(pl_module, NamesMaps):
            _check_maps([self.map], pl_module.map_names, "callbacks.doubts.map")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an empty table."""
        self.rows = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an empty table."""
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
        """Check the map of one patient."""
        self._check_patient(outputs, batch)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Check the map of one patient."""
        self._check_patient(outputs, batch)

    def take_part(self) -> Any:
        """Rows since the last call; see `seewhy.callbacks.sharing.SharesWork`."""
        rows, self.rows = self.rows, []
        return rows

    def join_parts(self, parts: Sequence[Any]) -> None:
        """Take over the rows of all processes; see `seewhy.callbacks.sharing.SharesWork`."""
        self.rows = [row for rows in parts for row in rows]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table of all ranks."""
        self._write_table(trainer)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table of all ranks."""
        self._write_table(trainer)

    def _check_patient(self, prediction: Any, batch: Any) -> None:
        self.rows += find_doubts(prediction, batch, self.map)

    def _write_table(self, trainer: Trainer) -> None:
        rows = gather_rows(self.rows, key=("patient", "class"))
        if not rows or not trainer.is_global_zero:
            return
        path = write_csv(self.folder / "doubts.csv", rows)
        doubted = sum(bool(row["doubts"]) for row in rows)
        if doubted:
            LOGGER.warning("%d of %d maps look implausible; reasons: %s", doubted, len(rows), path)
