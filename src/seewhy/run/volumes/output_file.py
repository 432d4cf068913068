"""Results as one NIfTI, NRRD or MetaImage: predicted into a hidden zarr store next to it, converted at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError
from seewhy.io.nifti import is_nifti
from seewhy.io.scans.scan import HEADERED_SUFFIXES, WRITTEN_SUFFIXES, write_scan
from seewhy.io.zarr.existing import read_mark, remove
from seewhy.io.zarr.ome import length_in_mm
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.sink import VolumeSink
from seewhy.io.zarr.store import is_remote, local_folder
from seewhy.volumes.output_format import OutputFormat

__all__ = ["OutputFile", "choose_output"]

LONGEST = 32767
"""Maximum voxels of NIfTI along an axis."""
UNITS = {"millimeter": "mm", "micrometer": "micron", "meter": "meter"}
"""UDUNITS name → name in nibabel."""


@dataclass(frozen=True)
class OutputFile:
    """Where a prediction is stored, and the file that is made of it.

    Attributes:
        store: path of the zarr store.
        path: the file to write; None if the store is the result.
    """

    store: str
    path: Path | None = None

    @property
    def picture(self) -> Path | None:
        """Path of the preview next to the result; None if the result is not local."""
        if self.path is not None:
            return self.path.with_name(f"{_stem(self.path.name)}.png")
        folder = local_folder(self.store)
        return None if folder is None else folder.with_suffix(".png")

    def check(
        self, output_format: OutputFormat, volume: tuple[int, ...], *, memory_budget: int, parts: int = 1
    ) -> None:
        """Refuse a file that could not be written, before anything is computed.

        Args:
            output_format: of the values.
            volume: shape ZYX.
            memory_budget: bytes; the volume must fit in memory as stored and as written.
            parts: processes of a job array.

        Raises:
            ConfigError: logits, several parts, or too many voxels.
        """
        if self.path is None:
            return
        if output_format.stored == "logits":
            raise ConfigError(f"{self.path}: it cannot hold logits (float16); choose a name that ends in .zarr")
        if parts > 1:
            raise ConfigError(f"{self.path}: several parts can only share a store; choose a name that ends in .zarr")
        if is_nifti(self.path) and max(volume) > LONGEST:
            raise ConfigError(f"{self.path}: NIfTI has at most {LONGEST} voxels along an axis, not {max(volume)}")
        written = output_format.dtype if output_format.labels else np.dtype(np.float32)
        needed = math.prod(output_format.shape(volume)) * (output_format.dtype.itemsize + written.itemsize)
        if needed > memory_budget:
            raise ConfigError(
                f"{self.path} would take {needed / 1e9:.3g} GB of memory, more than the budget of "
                f"{memory_budget / 1e9:.3g} GB; choose a name that ends in .zarr, or raise memory_budget"
            )

    def export(self, sink: VolumeSink, output_format: OutputFormat) -> None:
        """Write the finished store as one file and remove the store; nothing is done if the store is the result.

        Class numbers keep their type, all others become probabilities (float32). Axes are (X, Y, Z[, class]).

        Raises:
            DataError: the file cannot be written; the store is kept, and the same command goes on from it.
        """
        if self.path is None:
            return
        source = open_source(sink.image, level=0)
        values = source.read_all()
        array = values[0].T if len(sink.shape) == 3 else values.T
        if not output_format.labels:
            array = array / np.float32(output_format.scale)
        affine, header = _find_grid(sink, source.shape[:0:-1])
        oriented = sink.attributes.get("affine") is not None
        if oriented and not is_nifti(self.path):  # NRRD and MetaImage are in millimetres
            affine[:3] *= length_in_mm(sink.layout.unit) or 1.0
        write_scan(self.path, array, affine=affine, header=header, oriented=oriented)
        remove(sink.path, None)


def choose_output(path: str, *, option: str = "volume.output", overwrite: bool = False) -> OutputFile:
    """Choose the format of a result by its name: a zarr store, NIfTI, NRRD or MetaImage.

    Args:
        path: as given; a name without suffix is a store.
        option: name of the option in error messages.
        overwrite: whether an existing file is replaced.

    Raises:
        ConfigError: a name of another format, a file that exists or that is not local.

    Example:
        >>> choose_output("out/pred.nii.gz").store
        'out/.pred.nii.gz.zarr'
    """
    name = path.split("?")[0].rstrip("/").rpartition("/")[2]
    suffix = Path(name).suffix.lower()
    if suffix in ("", ".zarr"):
        return OutputFile(path)
    local = local_folder(path)
    if not name.lower().endswith(WRITTEN_SUFFIXES):
        two = " (two files)" if suffix in HEADERED_SUFFIXES else ""
        raise ConfigError(
            f"{option}={path}: seewhy does not write {suffix}{two}; choose a name that ends in .zarr, or in "
            f"{', '.join(WRITTEN_SUFFIXES)} for a volume that fits in memory"
        )
    if local is None or is_remote(path):
        raise ConfigError(
            f"{option}={path}: {suffix} is written to local folders only; choose a name that ends in .zarr"
        )
    store = local.with_name(f".{local.name}.zarr")
    if local.exists() and (local.is_dir() or not overwrite):
        _remove_exported(store, local)
        raise ConfigError(f"{option}={path} already exists; choose another path, or set volume.overwrite=true")
    return OutputFile(str(store), local)


def _remove_exported(store: Path, path: Path) -> None:
    """Remove a finished store whose file was written after it, by a process that was killed before it removed it."""
    mark = read_mark(str(store), None) if store.is_dir() and path.is_file() else None
    if mark is None or not mark.get("finished"):
        return
    written = max(file.stat().st_mtime_ns for file in store.iterdir() if file.is_file())
    if path.stat().st_mtime_ns >= written:
        remove(str(store), None)


def _stem(name: str) -> str:
    """Name of a file without its suffix."""
    return next((name[: -len(suffix)] for suffix in WRITTEN_SUFFIXES if name.lower().endswith(suffix)), name)


def _find_grid(sink: VolumeSink, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], nib.Nifti1Header]:
    """Affine and header of a result: those of an input with a grid, otherwise the voxel size without orientation."""
    header = nib.Nifti1Header()
    affine, unit = sink.attributes.get("affine"), sink.layout.unit
    if affine is not None:
        header.set_xyzt_units(UNITS.get(str(unit), "mm"))
        return np.asarray(affine, np.float64), header
    factor = length_in_mm(unit)
    header.set_xyzt_units("unknown" if sink.layout.spacing is None or factor is None else "mm")
    spacing = sink.layout.spacing or (1.0, 1.0, 1.0)
    header.set_data_shape(shape)
    header.set_zooms([size * (factor or 1.0) for size in reversed(spacing)])
    return np.asarray(header.get_base_affine(), np.float64), header
