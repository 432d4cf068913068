"""Decide for a whole data set which pixels of its mask pictures belong to the region."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seewhy.errors import DataError
from seewhy.io.image import read_image

__all__ = ["find_mask_level", "measure_brightness"]

Area: TypeAlias = tuple[float, ...]
"""Grey value, or red, green and blue, of pixels that fill an area."""
FEW = 32
"""Below this brightness, different values are class indices; interpolated edges need more steps."""
REMEDY = "it is unclear which of them is the region; store 0 and one value, e.g. 255"
NEAR = 0.1
"""Share of the brightest value that counts as the same brightness, because lossy formats change values a little."""


def measure_brightness(values: NDArray[Any]) -> NDArray[Any]:
    """Brightest of red, green and blue of each pixel [H, W]; the pixel itself without colours."""
    return np.asarray(values[..., :3].max(axis=-1)) if values.ndim == 3 else values


def find_mask_level(paths: Iterable[Path]) -> float:
    """Find the brightness above which a pixel belongs to the region, from all masks of a data set.

    With one value above 0, or 1 in some files and the type's largest value in others, it is 0. With interpolated edges
    it is half of the range, where the outline was drawn.

    Args:
        paths: the masks; unreadable ones are skipped, because reading the slice reports them.

    Raises:
        DataError: several classes, masks without background or of another range than the others; all of them.
    """
    masks: dict[Path, _MaskValues] = {}
    for path in paths:
        try:
            masks[path] = _MaskValues(read_image(path))
        except DataError:
            continue
    values = sorted({value for mask in masks.values() for value in mask.levels if value > 0})
    problems = [f"{path}: all corners belong to the region; is it inverted?" for path, m in masks.items() if m.inverted]
    problems += _find_colours(masks)
    if _is_binary(values, masks.values()):
        level = 0.0
    else:
        level = values[-1] / 2
        problems += _find_classes(masks, values)
    if problems:
        raise DataError(problems)
    return level


class _MaskValues:
    """Values of one mask: all levels of brightness, and the colours that fill an area of 3 x 3 pixels."""

    def __init__(self, values: NDArray[Any]) -> None:
        brightness = measure_brightness(values)
        self.levels: set[float] = set(_list_levels(brightness))
        if values.ndim == 2 and len(self.levels) < 3:  # quick for most masks
            self.areas: set[Area] = {(level,) for level in self.levels}
        else:
            colours = values[..., :3].reshape(-1, 3) if values.ndim == 3 else values.reshape(-1, 1)
            found, codes = np.unique(colours, axis=0, return_inverse=True)
            codes = codes.reshape(brightness.shape)
            flat = codes[ndimage.minimum_filter(codes, 3) == ndimage.maximum_filter(codes, 3)]
            self.areas = {tuple(found[code].tolist()) for code in np.unique(flat)}
        corners = brightness[[0, 0, -1, -1], [0, -1, 0, -1]]
        self.inverted = bool((corners > max(self.levels) / 2).all())


def _list_levels(brightness: NDArray[Any]) -> list[float]:
    """Values of a picture; those of the usual type are counted, which is many times faster than sorting."""
    levels = np.flatnonzero(np.bincount(brightness.ravel())) if brightness.dtype == np.uint8 else np.unique(brightness)
    return [float(level) for level in levels]


def _is_binary(values: list[float], masks: Iterable[_MaskValues]) -> bool:
    """Whether all masks have one value above 0: the same, or 1 in some files and 255 (65535) in others."""
    if len(values) < 2:
        return True
    apart = all(len(mask.levels - {0}) < 2 for mask in masks)
    return apart and len(values) == 2 and values[0] == 1 and values[1] in (255, 65535)


def _find_colours(masks: Mapping[Path, _MaskValues]) -> list[str]:
    """Report areas of different colours and one brightness, which are classes too."""
    first: dict[float, Area] = {}
    for path, mask in masks.items():
        for area in sorted(mask.areas):
            usual = first.setdefault(max(area), area)
            if np.abs(np.subtract(area, usual)).max() > 2 * NEAR * max(area):
                return [f"the masks hold the colours {usual} and {area}, e.g. {path.name}; {REMEDY}"]
    return []


def _find_classes(masks: Mapping[Path, _MaskValues], values: Sequence[float]) -> list[str]:
    """Report values that are classes instead of interpolated edges, with one of the files that hold them."""
    top = values[-1]
    example: dict[float, Path] = {}
    for path, mask in masks.items():
        range_differs = max(mask.levels) <= NEAR * top  # such a mask would become empty
        for area in mask.areas:
            if max(area) > 0 and (range_differs or NEAR * top < max(area) <= (1 - NEAR) * top):
                example.setdefault(max(area), path)
    if top >= FEW and not example:
        return []
    path = next(iter(example.values()), next(iter(masks)))
    listed = ", ".join(f"{value:g}" for value in sorted({*example, top} if example else values)[:6])
    return [f"the masks hold the values 0, {listed}, e.g. {path.name}; {REMEDY}"]
