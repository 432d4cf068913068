"""Read a volume for sliding windows, normalised per channel, and write its segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seewhy_run.arrays.intensity import make_scale
from seewhy_run.errors import RunError
from seewhy_run.files import Scan, atomic_path, open_scan, read_npy, write_nifti
from seewhy_run.graphs import Graph
from seewhy_run.steps.base import State
from seewhy_run.stores import Store, is_store, open_store, write_store

__all__ = ["ReadVolume", "WriteVolume"]

SAME_SPACING = 0.1
"""Largest relative difference of voxel sizes that count as the same."""
SCHEMES = ("none", "ct", "zscore", "rescale", "percentile", "scale", "patch_zscore")


@dataclass(frozen=True, kw_only=True)
class ReadVolume:
    """Makes `image` [C, Z, Y, X] as stored, and the `scale` of each channel; reads NIfTI, NPY, zarr and OME-Zarr.

    Attributes:
        channels: of the volumes.
        normalization: per channel, `scheme` and its numbers, see `seewhy.volumes.normalization`.
        spacing: millimetres along Z, Y and X that the network was trained at; None where unknown, NaN for any.
        check_spacing: refuse volumes whose voxels differ by more than 10 %.
    """

    channels: int
    normalization: tuple[dict[str, Any], ...]
    spacing: tuple[float | None, float | None, float | None] | None
    check_spacing: bool = True

    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ("image", "normalize", "source")

    def __post_init__(self) -> None:
        unknown = [scheme for scheme in self.normalization if scheme.get("scheme") not in SCHEMES]
        if unknown or len(self.normalization) != self.channels:
            raise RunError(f"read_volume: normalization {unknown or self.normalization} is none for each channel")

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Read the volume of a case."""
        path = next((path for path in state.files.values() if path is not None), None)
        if path is None:
            raise RunError(f"case {state.id} has no file")
        source, image, spacing = _read(path)
        if len(image) != self.channels:
            raise RunError(f"{path} has {len(image)} channels, the network takes {self.channels}")
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise RunError(f"{path} holds values that are not finite (NaN or infinite); replace them with a number")
        self._check(path, spacing)
        normalize = [_bind(scheme, image, channel) for channel, scheme in enumerate(map(dict, self.normalization))]
        state.values |= {"image": image, "normalize": normalize, "source": source}

    def _check(self, path: Path, spacing: Sequence[float] | None) -> None:
        if not self.check_spacing or self.spacing is None or spacing is None:
            return
        apart = [abs(own / trained - 1) for own, trained in zip(spacing, self.spacing, strict=True) if trained]
        if max(apart, default=0) > SAME_SPACING:
            own, trained = (" x ".join(f"{size or 0:.3g}" for size in sizes) for sizes in (spacing, self.spacing))
            raise RunError(f"{path} has voxels of {own} mm, the network was trained at {trained} mm; resample it")


@dataclass(frozen=True)
class _Normalizer:
    """Normalises patches of one channel with the numbers of the whole volume."""

    scheme: str
    numbers: dict[str, float]
    nonzero: bool

    def __call__(self, patch: NDArray[Any], channel: int) -> NDArray[np.float32]:
        """[z, y, x] float32 of a patch [C, z, y, x]."""
        values = patch[channel].astype(np.float32)
        if self.scheme == "patch_zscore":
            numbers = {"mean": float(values.mean(dtype=np.float64)), "std": float(values.std(dtype=np.float64))}
            make_scale("zscore", numbers).apply(values)
        else:
            make_scale(self.scheme, self.numbers).apply(values)
        if self.nonzero:
            values[~(patch != 0).any(0)] = 0
        return values


def _bind(scheme: dict[str, Any], image: NDArray[Any], channel: int) -> _Normalizer:
    """Measure what the normalisation of a channel needs of the whole volume."""
    name, nonzero = scheme["scheme"], scheme.get("nonzero", False)
    numbers = {key: float(value) for key, value in scheme.items() if isinstance(value, int | float)}
    if name in ("zscore", "rescale", "percentile"):
        values = _select(image, channel, nonzero)
        if not values.size:
            raise RunError(f"all voxels of channel {channel} are 0")
        if name == "zscore":
            numbers = {"mean": float(values.mean(dtype=np.float64)), "std": float(values.std(dtype=np.float64))}
        elif name == "rescale":
            numbers = {"low": float(values.min()), "high": float(values.max())}
        else:
            low, high = np.percentile(values.astype(np.float32), (scheme.get("low", 0.5), scheme.get("high", 99.5)))
            numbers = {"low": float(low), "high": float(high)}
    return _Normalizer(name, numbers, nonzero is True)


def _select(image: NDArray[Any], channel: int, nonzero: Any) -> NDArray[Any]:
    """Values that count: all, those where any channel is not 0, or their bounding box (`box`)."""
    if not nonzero:
        return image[channel]
    counted = (image != 0).any(0)
    if nonzero != "box":
        return image[channel][counted]
    if not counted.any():
        return image[channel][counted]
    spans = (np.flatnonzero(counted.any(axis=tuple(o for o in range(3) if o != axis))) for axis in range(3))
    return image[channel][tuple(slice(span[0], span[-1] + 1) for span in spans)]


def _read(path: Path) -> tuple[Scan | Store | None, NDArray[Any], Sequence[float] | None]:
    """The source, its values [C, Z, Y, X], and millimetres along Z, Y and X where known."""
    if is_store(path):
        store = open_store(path)
        return store, store.values, store.millimetres
    if path.name.lower().endswith(".npy"):
        array = read_npy(path)
        if array.ndim not in (3, 4):
            raise RunError(f"{path} has shape {array.shape}; expected [Z, Y, X] or [C, Z, Y, X]")
        return None, array if array.ndim == 4 else array[None], None
    scan = open_scan(path)
    values = scan.values.T if scan.values.ndim == 4 else scan.values.T[None]
    return scan, values, scan.spacing[::-1]


@dataclass(frozen=True, kw_only=True)
class WriteVolume:
    """Writes `<id>_labels` and `<id>_probability`: NIfTI for NIfTI, zarr for zarr, NPY for NPY.

    Attributes:
        classes: stored label → name.
        probability: also write probabilities, float32.
    """

    classes: dict[str, str]
    probability: bool = True

    needs: ClassVar[tuple[str, ...]] = ("labels", "probability", "source")
    gives: ClassVar[tuple[str, ...]] = ()

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Write the results of a case, and a row with the voxels of each label."""
        labels = state.values["labels"]
        results = {"labels": labels}
        if self.probability:
            results["probability"] = state.values["probability"]
        source = state.values["source"]
        for name, array in results.items():
            path = state.folder / f"{state.id}_{name}"
            if isinstance(source, Store):
                state.written.append(write_store(path.with_name(f"{path.name}.zarr"), array, source))
            elif source is None:
                state.written.append(_write_npy(path.with_name(f"{path.name}.npy"), array))
            else:
                state.written.append(write_nifti(path.with_name(f"{path.name}.nii.gz"), array.T, source))
        row = {"id": state.id, "source": next(str(path) for path in state.files.values() if path is not None)}
        counts = {name: int((labels == int(value)).sum()) for value, name in self.classes.items() if value != "0"}
        state.rows.append(row | {f"voxels_{name}": count for name, count in counts.items()})


def _write_npy(path: Path, array: NDArray[Any]) -> Path:
    with atomic_path(path) as temporary:
        np.save(temporary, array)
    return path
