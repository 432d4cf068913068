"""Translated scans as files: each on the voxels of its source, under the source's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule
from numpy.typing import NDArray

from seewhy.batch import MODALITIES, Batch, Prediction
from seewhy.data.prepare.brats import is_msd, read_msd_channels
from seewhy.errors import ConfigError, nearest
from seewhy.io.atomic import atomic_path
from seewhy.io.nifti import NiftiFile, write_nifti
from seewhy.io.placement import Placement
from seewhy.metrics.translation.similarity import DIRECTIONS, subject_name

__all__ = ["DTYPES", "UNITS", "TranslationWriter"]

Array = NDArray[Any]
UNITS = ("target", "source", "normalized")
DTYPES = ("float32", "source")


class TranslationWriter:
    """Writes `<folder>/<subject>/<name of the source file>` for every modality of a translated subject.

    Shape, affine, codes, units and voxel sizes are the source's. Tissue is translated, in all slices that have any;
    everywhere else stands the source's own background: the median of its voxels outside the tissue, or -1 with
    `normalized` units. Modalities that are channels of one file (MSD) stay channels of one file; what else that file
    holds is copied. A subject that both domains have is kept in `<domain>_<subject>`.

    Args:
        folder: where the subjects' folders go.
        units: `target`: -1 and 1 become what they typically stand for on the other domain's scanner
            (`typical_intensity` of the model); `source`: what they stand for in this very scan; `normalized`: values
            stay in [-1, 1].
        dtype: `float32`, or `source`: the source's own whole numbers, rounded and held within their range.
        npz: also write `<folder>/<subject>.npz` with `translated` and, where there is a way back, `reconstructed`
            [S, M, H, W] in [-1, 1] on the model's grid, `body` [S, H, W], `index` [S] and `modalities`.

    Raises:
        ConfigError: a choice that does not exist.
    """

    def __init__(self, *, folder: Path, units: str = "target", dtype: str = "float32", npz: bool = False) -> None:
        for name, value, known in (("units", units, UNITS), ("dtype", dtype, DTYPES)):
            if value not in known:
                raise ConfigError(f"callbacks.predictions.{name}={value!r} is unknown; {nearest(value, known)}")
        if units == "normalized" and dtype == "source":
            raise ConfigError("callbacks.predictions: units=normalized are fractions; they need dtype=float32")
        self.folder, self.units, self.dtype, self.npz = folder, units, dtype, npz
        self._shared: set[str] = set()

    def begin(self, ids: Iterable[str]) -> None:
        """Find the subjects that both domains have.

        Args:
            ids: of all samples of both domains.
        """
        subjects = {(name[0], subject_name(name, name[0])) for name in ids if name[:1] in DIRECTIONS}
        counts = Counter(subject for _, subject in subjects)
        self._shared = {subject for subject, count in counts.items() if count > 1}

    def write(
        self, prediction: Prediction, batch: Batch, module: LightningModule, *, volumes: bool = True
    ) -> tuple[dict[str, Any], list[Path]]:
        """Write one subject.

        Args:
            prediction: with `translated` [S, M, H, W], all slices of the subject in order.
            batch: what was predicted, with `body`, `placement`, `intensity` and `files`.
            module: the model, asked for `typical_intensity`.
            volumes: write NIfTI files.

        Returns:
            A row for `predictions.csv`, and the files.

        Raises:
            ConfigError: `target` units that the model does not know.
        """
        domain, sample = batch["domain"][0], batch["id"][0]
        subject = subject_name(sample, domain)
        name = f"{domain}_{subject}" if subject in self._shared else subject
        files = batch["files"][0]
        translated = prediction["translated"].float().cpu().numpy()
        body = batch["body"].cpu().numpy()
        placement = batch["placement"][0]
        written: list[Path] = []
        there = all(Path(file).is_file() for file in files.values())
        if volumes and placement is not None and there:
            window = self._window(batch, module)
            written = self._volumes(self.folder / name, translated, body, placement, files, window)
        if self.npz:
            self._arrays(self.folder / f"{name}.npz", prediction, translated, body)
        row = {
            "id": name,
            "patient": batch["patient"][0],
            "domain": domain,
            "direction": DIRECTIONS[domain],
            "slices": len(translated),
            "first_slice": min(batch["index"]),
            "last_slice": max(batch["index"]),
            "units": self.units if written else "",
            "files": ";".join(path.relative_to(self.folder).as_posix() for path in written),
            "source": batch["source"][0],
        }
        return row, written

    def _window(self, batch: Batch, module: LightningModule) -> Array | None:
        """[M, 2] what -1 and 1 stand for in the files; None where they stand for themselves."""
        if self.units == "normalized":
            return None
        if self.units == "source":
            return np.asarray(batch["intensity"][0].float().cpu().numpy())
        domain = batch["domain"][0]
        other = next(one for one in DIRECTIONS if one != domain)
        asked = getattr(module, "typical_intensity", None)
        window = None if asked is None else asked(other).float().cpu().numpy()
        if window is None or not np.isfinite(window).all() or (window[:, 1] <= window[:, 0]).any():
            raise ConfigError(
                f"the model does not know the intensities of domain {other}'s scanner (it measures them in training); "
                "write those of the scan itself: callbacks.predictions.units=source"
            )
        return np.asarray(window)

    def _volumes(
        self,
        folder: Path,
        translated: Array,
        body: Array,
        placement: Placement,
        files: Mapping[str, str],
        window: Array | None,
    ) -> list[Path]:
        inside = placement.restore(body, order=0, fill=False)
        channels = _channels(files)
        written = []
        for path in dict.fromkeys(files.values()):
            file = NiftiFile(path)
            values = file.read()
            dtype = _stored(file, values) if self.dtype == "source" else np.dtype(np.float32)
            result = values.astype(np.float32)
            for number, modality in enumerate(MODALITIES):
                if files[modality] != path:
                    continue
                plane = result if channels[modality] is None else result[..., channels[modality]]
                own = placement.restore(translated[:, number], order=0)[inside]
                if window is None:
                    plane[~inside] = -1
                else:
                    plane[~inside] = _background(plane[~inside])
                    low, high = window[number]
                    own = low + (own + 1) * (high - low) / 2
                plane[inside] = own
            target = folder / Path(path).name
            header, affine = file.header, file.geometry.affine
            written.append(write_nifti(target, _as(result, dtype), affine=affine, header=header))
        return written

    def _arrays(self, path: Path, prediction: Prediction, translated: Array, body: Array) -> None:
        arrays: dict[str, Array] = {"translated": translated, "body": body}
        if "reconstructed" in prediction:
            arrays["reconstructed"] = prediction["reconstructed"].float().cpu().numpy()
        arrays |= {"index": np.asarray(prediction["index"]), "modalities": np.asarray(MODALITIES)}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _background(outside: Array) -> float:
    """The value of voxels without tissue, of which there may be none."""
    return float(np.median(outside)) if outside.size else 0.0


def _channels(files: Mapping[str, str]) -> dict[str, int | None]:
    """Channel of each modality in its file; None where it has a file for itself."""
    paths = set(files.values())
    if len(paths) == len(files):
        return dict.fromkeys(files)
    task = Path(next(iter(paths))).parent.parent
    if not is_msd(task):
        raise ConfigError(f"{next(iter(paths))} holds several modalities, and no dataset.json above it says where")
    return {**read_msd_channels(task, list(files))}


def _stored(file: NiftiFile, values: Array) -> np.dtype[Any]:
    """The type of the source's numbers; float32 where its header scales them."""
    return file.dtype if file.dtype.kind in "iu" and values.dtype == file.dtype else np.dtype(np.float32)


def _as(values: Array, dtype: np.dtype[Any]) -> Array:
    """Values as whole numbers of a type, or as they are."""
    if dtype.kind not in "iu":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
