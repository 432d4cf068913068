"""Read planar images of any format, scale their intensities, and combine the registered images of a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.data.cases.case_list import Case
from seewhy.data.cases.dataset import Sample
from seewhy.data.prepare.picture_masks import measure_brightness
from seewhy.data.transforms.augmentation import Augmentation
from seewhy.data.transforms.normalization import channels_first
from seewhy.errors import ConfigError, DataError
from seewhy.io.checks.read_errors import describe
from seewhy.io.image import PICTURE_SUFFIXES, check_lossless, image_shape, read_image
from seewhy.io.npy import npy_shape, read_npy
from seewhy.io.placement import Placement
from seewhy.io.scans.scan import SCAN_SUFFIXES, is_scan, open_scan
from seewhy.options import check_choice
from seewhy_run.arrays.intensity import full_scale, scale_percentiles
from seewhy_run.arrays.planes import reduce_to_grey, take_plane

__all__ = ["PLANE_SUFFIXES", "PlanarImage", "PlaneReader", "PlaneScaling", "plane_size", "read_plane"]

PLANE_SUFFIXES = (*PICTURE_SUFFIXES, ".npy", *SCAN_SUFFIXES)

FloatArray = NDArray[np.float32]
Rule = tuple[str, float]


@dataclass(frozen=True)
class PlanarImage:
    """One planar image.

    Attributes:
        values: [C, H, W] float32, as stored; rows of a scan are its second axis, so that it lies like a PNG.
        dtype: of the file.
        path: the file.
    """

    values: FloatArray
    dtype: np.dtype[Any]
    path: Path


def read_plane(path: Path, *, channels: int = 1) -> PlanarImage:
    """Read a planar image: a picture, an NPY, or a scan (NIfTI, NRRD, MetaImage) of one plane or of three as colours.

    All have one orientation, that of pictures: rows, then columns. The first axis of a scan is x, the columns of a
    picture; its affine does not turn it further.

    Args:
        path: the file.
        channels: 1 takes grey images, also ones stored as three equal channels; 3 takes colour too.

    Raises:
        DataError: the file cannot be read, is not a planar image, or has colours where grey is expected.
    """
    array = _read_array(path)
    shape = array.shape
    # Palettes and screenshots have an opacity channel, which can be dropped if it is constant.
    if array.ndim == 3 and shape[2] == 4 and path.name.lower().endswith(PICTURE_SUFFIXES):
        if (array[..., 3] != array[0, 0, 3]).any():
            raise DataError(f"{path} is transparent in places; save it without transparency")
        array = array[..., :3]
    if channels == 1:
        grey = reduce_to_grey(array)
        if grey is None:
            raise DataError(f"{path} is a colour picture; convert it to grey, or set data.channels=3")
        array = grey
    return PlanarImage(channels_first(array, channels=channels, where=str(path)), array.dtype, path)


def plane_size(path: Path, *, channels: int = 1) -> tuple[int, int]:
    """Height and width, from the header if that is enough.

    Raises:
        DataError: as `read_plane`, as far as the header shows it.
    """
    name = path.name.lower()
    if name.endswith((*PICTURE_SUFFIXES, ".npy")):
        shape = npy_shape(path) if name.endswith(".npy") else image_shape(path)
        if len(shape) == 2:
            return shape[0], shape[1]
    # Only the values show whether three channels are colours or one grey channel repeated.
    values = read_plane(path, channels=channels).values
    return values.shape[1], values.shape[2]


def _read_array(path: Path) -> NDArray[Any]:
    name = path.name.lower()
    if name.endswith(PICTURE_SUFFIXES):
        return read_image(path)
    if name.endswith(".npy"):
        return read_npy(path)
    if not is_scan(path):
        raise DataError(f"{path} has an unknown format{describe(path)}; expected {', '.join(PLANE_SUFFIXES)}")
    array = open_scan(path).read()
    plane = take_plane(array)
    if plane is None:
        raise DataError(f"{path} has shape {array.shape}; expected one plane (X, Y, 1), or three of colours (X, Y, 3)")
    return plane


@dataclass(frozen=True)
class PlaneScaling:
    """Scales the values of planar images.

    - `oct`: divided by the full scale of the file's type (255 for 8 bits, 65535 for 16); floats must lie in 0..1.
    - `bio`: maps of biomarkers with one rule each: `mnv` as in `oct`, `fluid` 1 where above 5, `ga` divided by 2,
      `drusen` 1 where above 0.
    - `robust`: the image's 0.5th and 99.5th percentiles become 0 and 1, and values outside are clipped.
    - `none`: as stored.

    Attributes:
        name: one of these.
        inputs: names of the images, for which `bio` must have a rule.
    """

    name: str
    inputs: tuple[str, ...]

    def __post_init__(self) -> None:
        check_choice(self.name, SCALINGS, "data.normalize")
        unknown = [name for name in self.inputs if name not in BIOMARKERS]
        if self.name == "bio" and unknown:
            raise ConfigError(
                f"data.normalize=bio has no rule for {', '.join(map(repr, unknown))}; it knows "
                f"{', '.join(BIOMARKERS)}; choose oct, robust or none for others"
            )

    def rule_of(self, name: str) -> Rule:
        """The rule of an input and its number."""
        return BIOMARKERS[name] if self.name == "bio" else SCALINGS[self.name]

    def __call__(self, plane: PlanarImage, name: str) -> FloatArray:
        """Return scaled values [C, H, W] float32.

        Args:
            plane: the image.
            name: of the input.

        Raises:
            DataError: values outside the range of the file's type.
        """
        rule, number = self.rule_of(name)
        values = plane.values
        if rule == "full scale":
            return _divide_by_full_scale(plane)
        if rule == "above":
            return (values > number).astype(np.float32)
        if rule == "by":
            return values / np.float32(number)
        return scale_percentiles(values, number) if rule == "percentile" else values


SCALINGS: dict[str, Rule] = {
    "oct": ("full scale", 0), "bio": ("by input", 0), "robust": ("percentile", 0.5), "none": ("as stored", 0),
}  # fmt: skip
BIOMARKERS: dict[str, Rule] = {"mnv": ("full scale", 0), "fluid": ("above", 5), "ga": ("by", 2), "drusen": ("above", 0)}


def _divide_by_full_scale(plane: PlanarImage) -> FloatArray:
    low, high = float(plane.values.min()), float(plane.values.max())
    top = full_scale(plane.dtype)
    if low < 0 or high > top:
        raise DataError(
            f"{plane.path} holds {plane.dtype} values from {low:g} to {high:g}; data.normalize=oct takes 0 to {top:g} "
            "in such a file; set data.normalize=robust or none, or save it with 8 or 16 bits"
        )
    return plane.values / np.float32(top)


Size = tuple[int, int]


class PlaneReader:
    """Turns the images of a case into one sample; a missing image becomes zeros and is marked as not present.

    Args:
        inputs: names of the images, in the order of `present`.
        channels: 1, or 3 for colour.
        scaling: of the values.
        image_size: height and width to resize to, after scaling; None keeps the files' size, which must then be
            the same for all.
        augmentation: one draw for all images of a case, since they show the same region; None switches it off.
        masks: whether there are annotations.

    Attributes:
        mask_level: brightness above which a pixel of an annotation belongs to the lesion.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[str],
        channels: int,
        scaling: PlaneScaling,
        image_size: Size | None,
        augmentation: Augmentation | None,
        masks: bool,
    ) -> None:
        self.inputs = tuple(inputs)
        self.channels = channels
        self.scaling = scaling
        self.image_size = image_size
        self.augmentation = augmentation
        self.masks = masks
        self.mask_level = 0.0

    def read_case(self, case: Case, *, masks: bool) -> Sample:
        """Read one case.

        Args:
            case: the case to read.
            masks: whether to read the annotation.

        Returns:
            `image`: input → [C, H, W] float32, and `present` [inputs] bool; `placement` from the first file, on
            whose grid the others lie; if asked for and available, `mask`: input → [H, W] uint8, 1 inside.

        Raises:
            DataError: a file that cannot be read, or different sizes without resizing.
        """
        images: dict[str, NDArray[np.float32]] = {}
        placement: Placement | None = None
        for name in self.inputs:
            path = case.files.get(name)
            if path is None:
                continue
            values = self.scaling(read_plane(path, channels=self.channels), name)
            target, on_grid = self._place(path, values)
            placement = placement or target
            if target.grid != placement.grid:
                raise DataError(
                    f"{case.where}: {path.name} is {_sides(target.shape)}, others are {_sides(placement.shape)}"
                )
            images[name] = on_grid
        if placement is None:
            raise DataError(f"{case.where}: none of its inputs exists")
        height, width = placement.grid
        blank = np.zeros((self.channels, height, width), np.float32)
        image = {name: torch.from_numpy(images.get(name, blank).copy()) for name in self.inputs}
        image["present"] = torch.tensor([name in images for name in self.inputs])
        sample: Sample = {"image": image, "placement": placement}
        if masks and self.masks:
            sample["mask"] = {name: self._mask(case, name, (height, width)) for name in self.inputs}
        return sample

    def augment(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Change all images of a case in the same way; missing ones stay zero."""
        if self.augmentation is None:
            return sample
        image: dict[str, Tensor] = sample["image"]
        stack = np.concatenate([image[name].numpy() for name in self.inputs])
        padding = stack.min(axis=(1, 2), keepdims=True)
        stack = self.augmentation(stack, rng, size=None, padding=padding)
        changed = np.split(stack, len(self.inputs))
        present = image["present"]
        image = {
            name: torch.from_numpy(np.ascontiguousarray(values)) * present[place]
            for place, (name, values) in enumerate(zip(self.inputs, changed, strict=True))
        }
        return {**sample, "image": {**image, "present": present}}

    def problems(self, cases: Sequence[Case]) -> list[str]:
        """Files that are damaged, of another kind or of another size, each with its row."""
        problems: list[str] = []
        sizes: list[tuple[Case, str, Size]] = []
        for case in cases:
            files = {name: path for name, path in case.files.items() if path is not None}
            for name, path in files.items():
                try:
                    sizes.append((case, name, plane_size(path, channels=self.channels)))
                    problems += self._check_mask(case, name, sizes[-1][2])
                except DataError as error:
                    problems += [f"{case.where}: {problem}" for problem in error.problems]
        return problems if self.image_size is not None else problems + _find_other_sizes(sizes)

    def describe_files(self, cases: Sequence[Case]) -> dict[str, list[str]]:
        """Size and format of each case's first image."""
        paths = [next(path for path in case.files.values() if path is not None) for case in cases]
        return {
            "image size": [_sides(plane_size(path, channels=self.channels)) for path in paths],
            "file format": [path.suffix.lower() for path in paths],
        }

    def _check_mask(self, case: Case, name: str, size: Size) -> list[str]:
        """Report an annotation that does not lie on its image: of other sides, or with resizing of another shape."""
        path = case.masks.get(name)
        if path is None or not self.masks:
            return []
        try:
            check_lossless(path)
        except DataError as error:
            return [f"{case.where}: {error}"]
        own = plane_size(path)
        if own == size or (self.image_size is not None and own[0] * size[1] == own[1] * size[0]):
            return []
        return [f"{case.where}: {path} is {_sides(own)}, its image {_sides(size)}"]

    def _place(self, path: Path, values: NDArray[Any]) -> tuple[Placement, NDArray[np.float32]]:
        """Placement of a plane in its file, and the plane [C, H, W] on the model's grid."""
        turned = is_scan(path)  # the placement turns the stored axes
        stored = values.swapaxes(1, 2) if turned else values
        placement = Placement(
            source=str(path),
            shape=(stored.shape[1], stored.shape[2]),
            axis=1 if turned else None,
            size=self.image_size or (),
        )
        return placement, np.stack([placement.apply(channel) for channel in stored])

    def _mask(self, case: Case, name: str, size: Size) -> Tensor:
        """[H, W] uint8; empty where the case has no annotation of that input."""
        path = case.masks.get(name)
        if path is None:
            return torch.zeros(size, dtype=torch.uint8)
        values = measure_brightness(read_image(path))[None] > self.mask_level
        placement, on_grid = self._place(path, values)
        if placement.grid != size:
            raise DataError(f"{case.where}: {path} is {_sides(values.shape[1:])}, its image {_sides(size)}")
        # A pixel of the smaller grid belongs to the lesion where at least half of it does.
        return torch.from_numpy((on_grid[0] >= 0.5).astype(np.uint8))


def _find_other_sizes(sizes: Sequence[tuple[Case, str, Size]]) -> list[str]:
    """Problems of images whose size is not that of most."""
    values = [size for _, _, size in sizes]
    if len(set(values)) < 2:
        return []
    usual = max(dict.fromkeys(values), key=values.count)
    return [
        f"{case.where}: {name} is {_sides(size)}, most are {_sides(usual)}; set data.image_size to resize all"
        for case, name, size in sizes
        if size != usual
    ]


def _sides(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
