"""Planar images of any format as arrays, and the ways to bring them to a common scale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.data.intensity import channels_first
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.image import IMAGE_SUFFIXES, image_shape, read_image
from seewhy.io.nifti import NIFTI_SUFFIXES, NiftiFile
from seewhy.io.npy import npy_shape, read_npy

__all__ = ["PLANE_SUFFIXES", "Plane", "PlaneScaling", "is_nifti", "plane_size", "read_plane"]

PLANE_SUFFIXES = (*IMAGE_SUFFIXES, ".npy", *NIFTI_SUFFIXES)

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Plane:
    """One planar image.

    Attributes:
        values: [C, H, W] float32, as stored.
        dtype: of the file.
        path: the file.
    """

    values: FloatArray
    dtype: np.dtype[Any]
    path: Path


def is_nifti(path: Path) -> bool:
    """Whether a file is a NIfTI by its name; rows and columns of a NIfTI are stored the other way round."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def read_plane(path: Path, *, channels: int = 1) -> Plane:
    """Read a planar image: PNG, TIFF, NPY, or a NIfTI of one plane or of three as colours.

    Args:
        path: the file.
        channels: 1 takes grey images, also ones stored as three equal channels; 3 takes colour too.

    Raises:
        DataError: the file cannot be read, is no planar image, or has colours where grey is expected.
    """
    array = _stored(path)
    shape = array.shape
    # Palettes and screenshots come with an opacity, which says nothing where it is the same everywhere.
    if array.ndim == 3 and shape[2] == 4 and path.name.lower().endswith(IMAGE_SUFFIXES):
        if (array[..., 3] != array[0, 0, 3]).any():
            raise DataError(f"{path} is transparent in places; save it without transparency")
        array = array[..., :3]
    if channels == 1:
        array = _grey(array, path)
    return Plane(channels_first(array, channels=channels, where=str(path)), array.dtype, path)


def plane_size(path: Path, *, channels: int = 1) -> tuple[int, int]:
    """Height and width, from the header where that tells enough.

    Raises:
        DataError: as `read_plane`, as far as it can be told.
    """
    name = path.name.lower()
    if name.endswith(IMAGE_SUFFIXES):
        shape = image_shape(path)
    elif name.endswith(".npy"):
        shape = npy_shape(path)
    else:
        shape = NiftiFile(path).shape
    if len(shape) == 2:
        return shape[0], shape[1]
    # Only the values tell colours from grey stored three times.
    values = read_plane(path, channels=channels).values
    return values.shape[1], values.shape[2]


def _stored(path: Path) -> NDArray[Any]:
    name = path.name.lower()
    if name.endswith(IMAGE_SUFFIXES):
        return read_image(path)
    if name.endswith(".npy"):
        return read_npy(path)
    if not name.endswith(NIFTI_SUFFIXES):
        raise DataError(f"{path} is of an unknown kind; expected {', '.join(PLANE_SUFFIXES)}")
    array = NiftiFile(path).read()
    return array[:, :, 0, 0] if array.ndim == 4 and array.shape[2:] == (1, 1) else array


def _grey(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """The one channel of three equal ones."""
    if array.ndim != 3 or 3 not in (array.shape[0], array.shape[2]):
        return array
    axis = 0 if array.shape[0] == 3 else 2
    channels = np.moveaxis(array, axis, 0)
    if not (np.array_equal(channels[0], channels[1]) and np.array_equal(channels[0], channels[2])):
        raise DataError(f"{path} is a colour picture; convert it to grey, or set data.channels=3")
    return np.asarray(channels[0])


@dataclass(frozen=True)
class PlaneScaling:
    """How the values of planar images are brought to a common scale.

    - `oct`: by the full scale of the file's type (255 for 8 bits, 65535 for 16) to 0..1; floats must lie there.
    - `bio`: the maps of biomarkers, each in its own way: `mnv` as in `oct`, `fluid` 1 where above 5, `ga` by 2,
      `drusen` 1 where above 0.
    - `robust`: the image's 0.5th and 99.5th percentiles to 0 and 1, and no further.
    - `none`: as stored.

    Attributes:
        name: one of those.
        inputs: names of the images, which `bio` must know.
    """

    name: str
    inputs: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.name not in SCALINGS:
            raise ConfigError(f"data.normalize={self.name!r} is unknown; {nearest(self.name, SCALINGS)}")
        strangers = [name for name in self.inputs if name not in BIOMARKERS]
        if self.name == "bio" and strangers:
            raise ConfigError(
                f"data.normalize=bio has no rule for {', '.join(map(repr, strangers))}; it knows "
                f"{', '.join(BIOMARKERS)}; choose oct, robust or none for others"
            )

    def __call__(self, plane: Plane, name: str) -> FloatArray:
        """Scaled values [C, H, W] float32.

        Args:
            plane: the image.
            name: of the input.

        Raises:
            DataError: values outside of what the file's type and the rule allow.
        """
        rule, number = BIOMARKERS[name] if self.name == "bio" else SCALINGS[self.name]
        values = plane.values
        if rule == "full scale":
            return _by_full_scale(plane)
        if rule == "above":
            return (values > number).astype(np.float32)
        if rule == "by":
            return values / np.float32(number)
        return _by_percentiles(values, number) if rule == "percentile" else values


Rule = tuple[str, float]
SCALINGS: dict[str, Rule] = {
    "oct": ("full scale", 0), "bio": ("by input", 0), "robust": ("percentile", 0.5), "none": ("as stored", 0),
}  # fmt: skip
BIOMARKERS: dict[str, Rule] = {"mnv": ("full scale", 0), "fluid": ("above", 5), "ga": ("by", 2), "drusen": ("above", 0)}


def _by_full_scale(plane: Plane) -> FloatArray:
    low, high = float(plane.values.min()), float(plane.values.max())
    whole = plane.dtype.kind in "ui"
    top = 65535.0 if plane.dtype == np.uint16 else 255.0 if whole else 1.0
    if low < 0 or high > top:
        raise DataError(
            f"{plane.path} holds {plane.dtype} values from {low:g} to {high:g}; data.normalize=oct takes 0 to {top:g} "
            "in such a file; set data.normalize=robust or none, or save it with 8 or 16 bits"
        )
    return plane.values / np.float32(top)


def _by_percentiles(values: FloatArray, share: float) -> FloatArray:
    low, high = np.percentile(values, [share, 100 - share])
    if high <= low:  # nearly all of one value; what is left is told by the extremes
        low, high = values.min(), values.max()
    if high <= low:
        return np.zeros_like(values)
    return np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
