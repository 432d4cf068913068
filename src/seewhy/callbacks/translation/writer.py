"""Translated scans: each on the grid of its source, under the source's file name and in its format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch import LightningModule
from numpy.typing import NDArray

from seewhy.batch import MODALITIES, Batch, Prediction
from seewhy.callbacks.predictions import PredictionOptions, WrittenFiles
from seewhy.data.base import BaseDataModule
from seewhy.data.prepare.msd_files import MSDTask, is_msd
from seewhy.errors import ConfigError
from seewhy.io.names import safe_name
from seewhy.io.nifti import NiftiFile
from seewhy.io.npy import write_npz
from seewhy.io.placement import Placement
from seewhy.io.scans.scan import WRITTEN_SUFFIXES, open_scan, write_scan
from seewhy.metrics.translation.similarity import DIRECTIONS, subject_name
from seewhy.models.protocols import TranslatesScans

__all__ = ["TranslationWriter"]

Array = NDArray[Any]


class TranslationWriter:
    """Writes `<folder>/<subject>/<name of the source file>` for every modality of a translated subject.

    Shape, affine, codes, units and voxel sizes are the source's. Tissue is translated, in all slices that have any;
    all other voxels get the source's background: the median of its voxels outside the tissue, or -1 with
    `normalized` units. Modalities that are channels of one file (MSD) stay channels of one file; other channels of
    that file are copied. A subject that exists in both domains is written to `<domain>_<subject>`.

    `predictions.csv` has one row per subject. With `npz`, `<folder>/<subject>.npz` has `translated` and, where the
    model translates back, `reconstructed` [S, M, H, W] in [-1, 1] on the model's grid, `body` [S, H, W], `index` [S]
    and `modalities`.

    Args:
        options: files to write. With `units=target`, -1 and 1 become the typical intensities of the other domain's
            scanner (`typical_intensity` of the model), with `source` those of this scan, and with `normalized` values
            stay in [-1, 1]. With `dtype=source`, values are rounded to the source's type and clipped to its range.
        datamodule: gives the ids of both domains' samples.
    """

    skip_reason: ClassVar[str] = (
        "are of the domain that this model does not translate; leave them out with data.domain=a or data.domain=b"
    )

    def __init__(self, options: PredictionOptions, datamodule: BaseDataModule | None) -> None:
        self.options = options
        # The ids of all samples, not only of the predicted ones: a later call may predict the other domain into the
        # same folder.
        ids = () if datamodule is None else datamodule.sample_ids("all")
        subjects = {(name[0], subject_name(name, name[0])) for name in ids if name[:1] in DIRECTIONS}
        counts = Counter(subject for _, subject in subjects)
        self.shared = {subject for subject, count in counts.items() if count > 1}
        """Subjects of both domains."""

    def write(self, prediction: Prediction, batch: Batch, module: LightningModule) -> WrittenFiles:
        """Write one subject.

        Args:
            prediction: with `translated` [S, M, H, W], all slices of the subject in order; without it, the subject
                is skipped.
            batch: the input, with `body`, `placement`, `intensity` and `files`.
            module: the model; `typical_intensity` of it is used.

        Raises:
            ConfigError: `target` units, but the model has not measured the other domain's intensities.
        """
        if "translated" not in prediction:  # a model of one direction
            return WrittenFiles(skipped={prediction["patient"][0]})
        domain, sample = batch["domain"][0], batch["id"][0]
        subject = subject_name(sample, domain)
        name = safe_name(f"{domain}_{subject}" if subject in self.shared else subject)
        folder, files = self.options.folder, batch["files"][0]
        translated = prediction["translated"].float().cpu().numpy()
        body = batch["body"].cpu().numpy()
        placement = batch["placement"][0]
        written: list[Path] = []
        if self.options.volumes and placement is not None and all(Path(file).is_file() for file in files.values()):
            window = self._intensity_window(batch, module)
            written = self._write_volumes(folder / name, translated, body, placement, files, window)
        others: list[Path] = []
        if self.options.npz:
            others.append(_write_arrays(folder / f"{name}.npz", prediction, translated, body))
        row = {
            "id": name,
            "patient": batch["patient"][0],
            "domain": domain,
            "direction": DIRECTIONS[domain],
            "slices": len(translated),
            "first_slice": min(batch["index"]),
            "last_slice": max(batch["index"]),
            "units": self.options.units if written else "",
            "files": ";".join(path.relative_to(folder).as_posix() for path in written),
            "source": batch["source"][0],
        }
        missing = {batch["patient"][0]} if self.options.volumes and not written else set()
        return WrittenFiles(rows=[row], volumes=written, others=others, without_source=missing)

    def _intensity_window(self, batch: Batch, module: LightningModule) -> Array | None:
        """Intensities [M, 2] that -1 and 1 become; None keeps values in [-1, 1]."""
        if self.options.units == "normalized":
            return None
        if self.options.units == "source":
            return np.asarray(batch["intensity"][0].float().cpu().numpy())
        other = next(name for name in DIRECTIONS if name != batch["domain"][0])
        window = None
        if isinstance(module, TranslatesScans):
            window = module.typical_intensity(other).float().cpu().numpy()
        if window is None or not np.isfinite(window).all() or (window[:, 1] <= window[:, 0]).any():
            raise ConfigError(
                f"the model does not know the intensities of domain {other}'s scanner (it measures them in training); "
                "write those of the scan itself: callbacks.predictions.units=source"
            )
        return np.asarray(window)

    def _write_volumes(
        self,
        folder: Path,
        translated: Array,
        body: Array,
        placement: Placement,
        files: Mapping[str, str],
        window: Array | None,
    ) -> list[Path]:
        """Write one volume per source file."""
        inside = placement.restore(body, order=0, fill=False)
        channels = _channel_numbers(files)
        written = []
        for path in dict.fromkeys(files.values()):
            file = open_scan(path)
            values = file.read()
            # float32 where the source's header scales its numbers.
            integers = file.dtype.kind in "iu" and values.dtype == file.dtype
            dtype = file.dtype if self.options.dtype == "source" and integers else np.dtype(np.float32)
            result = values.astype(np.float32)
            for number, modality in enumerate(MODALITIES):
                if files[modality] != path:
                    continue
                volume = result if channels[modality] is None else result[..., channels[modality]]
                tissue = placement.restore(translated[:, number], order=0)[inside]
                if window is None:
                    volume[~inside] = -1
                else:
                    background = volume[~inside]
                    volume[~inside] = float(np.median(background)) if background.size else 0.0
                    low, high = window[number]
                    tissue = low + (tissue + 1) * (high - low) / 2
                volume[inside] = tissue
            target = folder / Path(path).name
            if not target.name.lower().endswith(WRITTEN_SUFFIXES):  # formats of two files
                target = target.with_suffix(".nrrd" if target.suffix.lower() == ".nhdr" else ".mha")
            header, grid = file.header if isinstance(file, NiftiFile) else None, file.geometry
            volume = _cast_clipped(result, dtype)
            written.append(write_scan(target, volume, affine=grid.affine, header=header, oriented=grid.oriented))
        return written


def _write_arrays(path: Path, prediction: Prediction, translated: Array, body: Array) -> Path:
    """Write one subject as npz."""
    arrays: dict[str, Array] = {"translated": translated, "body": body}
    if "reconstructed" in prediction:
        arrays["reconstructed"] = prediction["reconstructed"].float().cpu().numpy()
    arrays |= {"index": np.asarray(prediction["index"]), "modalities": np.asarray(MODALITIES)}
    write_npz(path, arrays)
    return path


def _channel_numbers(files: Mapping[str, str]) -> dict[str, int | None]:
    """Channel of each modality in its file; None where each modality has its own file."""
    paths = set(files.values())
    if len(paths) == len(files):
        return dict.fromkeys(files)
    first = next(iter(paths))
    task = Path(first).parent.parent
    if not is_msd(task):
        raise ConfigError(f"{first} holds several modalities, but no dataset.json above it names their channels")
    return {name: MSDTask(task).find_channel(name) for name in files}


def _cast_clipped(values: Array, dtype: np.dtype[Any]) -> Array:
    """Values of a type; rounded and clipped for whole numbers."""
    if dtype.kind not in "iu":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
