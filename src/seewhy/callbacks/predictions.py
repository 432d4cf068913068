"""Prediction files: a table of all samples, volumes in the scanner's space, and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pydoc import locate
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, cast

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.batch import Batch, Prediction
from seewhy.data.base import BaseDataModule, find_datamodule
from seewhy.errors import ConfigError
from seewhy.io.atomic import list_files, write_csv
from seewhy.io.documents import read_csv
from seewhy.io.names import safe_name
from seewhy.io.npy import write_npz
from seewhy.metrics.classification.cases import make_case_row
from seewhy.metrics.gather import gather_rows
from seewhy.models.protocols import NamesClasses, NamesPredictionWriter
from seewhy.options import check_fields
from seewhy.sharing.parts import check_written

__all__ = [
    "PredictionOptions",
    "PredictionWriter",
    "SampleWriter",
    "WritePredictions",
    "WrittenFiles",
    "make_writer",
]

Units: TypeAlias = Literal["target", "source", "normalized"]
StoredType: TypeAlias = Literal["float32", "source"]


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """Files to write; see `WritePredictions`.

    Raises:
        ConfigError: unknown units or data type, or normalised units as whole numbers.
    """

    folder: Path
    volumes: bool = True
    npz: bool = False
    units: Units = "target"
    dtype: StoredType = "float32"

    def __post_init__(self) -> None:
        """Check the choices."""
        check_fields(self, "callbacks.predictions")
        if self.units == "normalized" and self.dtype == "source":
            raise ConfigError("callbacks.predictions: units=normalized are fractions; they need dtype=float32")


@dataclass(kw_only=True)
class WrittenFiles:
    """Result of writing predictions.

    Attributes:
        rows: of `predictions.csv`.
        volumes: NIfTI files.
        others: files of arrays, and folders of zarr stores.
        without_source: patients without NIfTI files, because their source volume is unknown or has moved.
        skipped: patients that the model gives no prediction for.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    without_source: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)

    def to_part(self) -> dict[str, Any]:
        """Plain data for another process."""
        return {
            "rows": self.rows, "volumes": list(map(str, self.volumes)), "others": list(map(str, self.others)),
            "in_stores": [str(file) for path in self.others if path.is_dir() for file in list_files(path, "**/*")],
            "without_source": sorted(self.without_source), "skipped": sorted(self.skipped),
        }  # fmt: skip

    @classmethod
    def from_part(cls, part: Mapping[str, Any]) -> WrittenFiles:
        """Read what `to_part` has made in another process.

        Raises:
            DataError: a file has been removed since.
        """
        volumes, others, in_stores = (list(map(Path, part[key])) for key in ("volumes", "others", "in_stores"))
        check_written([*volumes, *others, *in_stores])
        names = {key: set(part[key]) for key in ("without_source", "skipped")}
        return cls(rows=part["rows"], volumes=volumes, others=others, **names)

    def add(self, other: WrittenFiles) -> None:
        """Append the result of another batch."""
        self.rows += other.rows
        self.volumes += other.volumes
        self.others += other.others
        self.without_source |= other.without_source
        self.skipped |= other.skipped


class PredictionWriter(Protocol):
    """Writes the predictions of one kind of model; made anew for each run of `trainer.predict`."""

    skip_reason: ClassVar[str]
    """Explanation of `WrittenFiles.skipped` for the user, after "<n> patients "."""

    def __init__(self, options: PredictionOptions, datamodule: BaseDataModule | None) -> None: ...

    def write(self, prediction: Prediction, batch: Batch, module: LightningModule) -> WrittenFiles:
        """Write the files of one batch and return its rows."""


class WritePredictions(Callback):
    """Writes `predictions.csv` and the files of each prediction.

    The files depend on the model: a model with `prediction_writer` chooses the `PredictionWriter`, for the others it
    is `SampleWriter`.

    Args:
        folder: folder of the files.
        volumes: write NIfTI volumes on the grid of their source.
        npz: also write the arrays of each patient as `<patient>.npz`.
        units: intensities of written scans: `target` (of the scanner that they are translated to), `source` (of the
            scan itself) or `normalized` (-1 to 1). Maps have no units.
        dtype: type of written scans: `float32`, or `source` for the source's type of numbers.
    """

    def __init__(
        self,
        *,
        folder: str,
        volumes: bool = True,
        npz: bool = False,
        units: Units = "target",
        dtype: StoredType = "float32",
    ) -> None:
        self.options = PredictionOptions(folder=Path(folder), volumes=volumes, npz=npz, units=units, dtype=dtype)
        self.folder = self.options.folder
        self.written = WrittenFiles()
        self._writer: PredictionWriter | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an empty table and make the model's writer."""
        self.written = WrittenFiles()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._writer = make_writer(pl_module, self.options, find_datamodule(trainer))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the files of a batch and keep its rows."""
        if self._writer is None:
            raise RuntimeError("WritePredictions.on_predict_start must run before on_predict_batch_end")
        self.written.add(self._writer.write(outputs, batch, pl_module))

    def take_part(self) -> Any:
        """What was written since the last call; see `seewhy.callbacks.sharing.SharesWork`."""
        part, self.written = self.written.to_part(), WrittenFiles()
        return part

    def join_parts(self, parts: Sequence[Any]) -> None:
        """Take over what all processes have written; see `seewhy.callbacks.sharing.SharesWork`."""
        for part in parts:
            self.written.add(WrittenFiles.from_part(part))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the rows of each process; the first process joins them into one table, sorted by id."""
        write_csv(self.folder / f"predictions.rank{trainer.global_rank}.csv", self.written.rows)
        self.written.volumes = [Path(name) for name in _gather_names(map(str, self.written.volumes))]
        self.written.without_source = set(_gather_names(self.written.without_source))
        self.written.skipped = set(_gather_names(self.written.skipped))
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            parts = [self.folder / f"predictions.rank{rank}.csv" for rank in range(trainer.world_size)]
            # Some ranks predict samples again that another rank has; the first row of each counts.
            rows = {row["id"]: row for path in reversed(parts) for row in reversed(read_csv(path).rows)}
            write_csv(self.folder / "predictions.csv", [rows[name] for name in sorted(rows)])
            for path in parts:
                path.unlink()

    def summary(self) -> list[str]:
        """Lines for the user about the written files; complete on the first process."""
        written = self.written
        lines = [f"predictions: {self.folder / 'predictions.csv'}"]
        if written.volumes:
            lines.append(f"volumes: {len(written.volumes)} NIfTI files in {self.folder}")
        if written.skipped and self._writer is not None:
            lines.append(f"{len(written.skipped)} patients {self._writer.skip_reason}")
        if written.without_source:
            names = ", ".join(sorted(written.without_source)[:3])
            lines.append(
                f"no volumes for {len(written.without_source)} patients ({names} …): the data set's manifest "
                "names no source volume, or it has moved; callbacks.predictions.npz=true keeps their maps as arrays"
            )
        return lines


def make_writer(
    module: LightningModule, options: PredictionOptions, datamodule: BaseDataModule | None
) -> PredictionWriter:
    """Make the writer that the model chooses.

    Args:
        module: the model.
        options: files to write.
        datamodule: of the predicted data; None for cases that are in no data set.
    """
    name = module.prediction_writer if isinstance(module, NamesPredictionWriter) else None
    writer = SampleWriter if name is None else cast(type[PredictionWriter], locate(name))
    return writer(options, datamodule)


def _gather_names(names: Iterable[str]) -> list[str]:
    """Names of all processes without duplicates; every process must call this."""
    return [row["name"] for row in gather_rows([{"name": name} for name in names], key=("name",))]


class SampleWriter:
    """Writes predictions of slices and of whole cases.

    Slices have one row each: id, patient, index, source, one column of probability per class, and the label where
    known. Their maps become `<patient>_<map>.nii.gz`, and the final mask `<patient>_mask.nii.gz`, stacked at the
    slices' positions in the source volume with its affine, where the source is known and exists. With `npz`,
    `<patient>.npz` has every map ([S, K, H, W]) and the slice numbers.

    Cases of a classifier, which have no maps, have the columns of `seewhy.metrics.classification.cases` and no files.

    Args:
        options: files to write.
        datamodule: not used.
    """

    skip_reason: ClassVar[str] = "have no prediction"

    def __init__(self, options: PredictionOptions, datamodule: BaseDataModule | None = None) -> None:
        self.options = options

    def write(self, prediction: Prediction, batch: Batch, module: LightningModule) -> WrittenFiles:
        """Write the maps of one patient, or make rows of some cases."""
        if "maps" not in prediction:
            return WrittenFiles(rows=_case_rows(prediction, module))
        written = WrittenFiles(rows=_slice_rows(prediction))
        arrays = {name: maps.float().cpu().numpy() for name, maps in prediction["maps"].items()}
        if self.options.volumes:
            written.volumes = self._write_stacks(prediction, arrays)
            if not written.volumes:
                written.without_source.add(prediction["patient"][0])
        if self.options.npz:
            path = self.options.folder / f"{safe_name(prediction['patient'][0])}.npz"
            write_npz(path, {"index": np.asarray(prediction["index"]), **arrays})
            written.others.append(path)
        return written

    def _write_stacks(self, prediction: Prediction, arrays: dict[str, np.ndarray[Any, Any]]) -> list[Path]:
        """NIfTI files of a patient's maps; none where the source volume is unknown or has moved."""
        from seewhy.io.scans.scan import is_scan
        from seewhy.io.slices import stack_to_nifti

        source = Path(prediction["source"][0])
        if not is_scan(source) or not source.is_file() or min(prediction["index"]) < 0:
            return []
        volumes = {name: array.max(1).astype(np.float32) for name, array in arrays.items()}
        if "refined" in arrays:
            refined = arrays["refined"]
            volumes["mask"] = ((refined > 0.5).any(1) * (refined.argmax(1) + 1)).astype(np.uint8)
        patient = safe_name(prediction["patient"][0])
        paths = {name: self.options.folder / f"{patient}_{name}.nii.gz" for name in volumes}
        for name, volume in volumes.items():
            stack_to_nifti(dict(zip(prediction["index"], volume, strict=True)), source, path_out=paths[name])
        return list(paths.values())


def _slice_rows(prediction: Prediction) -> list[dict[str, Any]]:
    """One row per slice."""
    probability = prediction["probability"].float().cpu().numpy()
    rows = []
    for i in range(len(prediction["id"])):
        row: dict[str, Any] = {
            "id": prediction["id"][i],
            "patient": prediction["patient"][i],
            "index": prediction["index"][i],
            "source": prediction["source"][i],
        }
        row |= {f"probability_{k + 1}": float(value) for k, value in enumerate(probability[i])}
        if "label" in prediction:
            row |= {f"label_{k + 1}": float(value) for k, value in enumerate(prediction["label"][i].cpu())}
        rows.append(row)
    return rows


def _case_rows(prediction: Prediction, module: LightningModule) -> list[dict[str, Any]]:
    """One row per case of a classifier."""
    if not isinstance(module, NamesClasses):
        raise ConfigError(
            f"{type(module).__name__} gives neither maps nor class names, so its predictions cannot be written; "
            "give it `classes` or `prediction_writer`"
        )
    label = prediction["label"].tolist() if "label" in prediction else [None] * len(prediction["id"])
    return [
        make_case_row(
            name=name,
            patient=prediction["patient"][i],
            source=prediction["source"][i],
            label=label[i],
            probability=prediction["probability"][i].tolist(),
            logits=prediction["logits"][i].tolist(),
            classes=module.classes,
            ordinal=bool(module.hparams.get("ordinal", False)),
        )
        for i, name in enumerate(prediction["id"])
    ]
