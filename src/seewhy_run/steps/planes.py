"""Read the planar images of a case, such as en-face images of an eye, scaled and resized as in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seewhy_run.arrays.intensity import channels_first, full_scale, scale_percentiles
from seewhy_run.arrays.planes import reduce_to_grey, take_plane
from seewhy_run.arrays.resizing import resize
from seewhy_run.errors import RunError
from seewhy_run.files import PICTURE_SUFFIXES, is_scan, open_scan, read_npy, read_picture
from seewhy_run.graphs import Graph
from seewhy_run.steps.base import State

__all__ = ["ReadPlanes"]

RULES = ("full scale", "above", "by", "percentile", "as stored")


@dataclass(frozen=True, kw_only=True)
class ReadPlanes:
    """Makes `image` [1, inputs, C, H, W] and `present` [1, inputs]; a missing image is zero and not present.

    Attributes:
        inputs: names of the images, in order.
        channels: 1, or 3 for colour.
        rules: per input how values are scaled: `full scale` divides by white, `above` is 1 where a value is above the
            number, `by` divides by it, `percentile` scales this percentile and 100 minus it to 0 and 1.
        numbers: per input the number of its rule.
        size: rows and columns to resize to, after scaling; None keeps those of the files.
    """

    inputs: tuple[str, ...]
    channels: int
    rules: tuple[str, ...]
    numbers: tuple[float, ...]
    size: tuple[int, int] | None

    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ("image", "present")

    def __post_init__(self) -> None:
        if not len(self.inputs) == len(self.rules) == len(self.numbers) or not set(self.rules) <= set(RULES):
            raise RunError(f"read_planes: expected one rule of {', '.join(RULES)} and one number for each input")

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Read the images of a case."""
        planes: dict[str, NDArray[np.float32]] = {}
        for name, rule, number in zip(self.inputs, self.rules, self.numbers, strict=True):
            path = state.files.get(name)
            if path is not None:
                planes[name] = self._read(path, rule, number)
        if not planes:
            raise RunError(f"case {state.id}: none of its inputs was given; expected {', '.join(self.inputs)}")
        sizes = {plane.shape[1:] for plane in planes.values()}
        if len(sizes) > 1:
            raise RunError(
                f"case {state.id}: images of different sizes {sorted(sizes)}; images of a case have one size"
            )
        blank = np.zeros((self.channels, *sizes.pop()), np.float32)
        state.values["image"] = np.stack([planes.get(name, blank) for name in self.inputs])[None]
        state.values["present"] = np.array([[name in planes for name in self.inputs]])

    def _read(self, path: Path, rule: str, number: float) -> NDArray[np.float32]:
        """[C, H, W] of one file."""
        array = _read_array(path)
        if self.channels == 1:
            grey = reduce_to_grey(array)
            if grey is None:
                raise RunError(f"{path} is a colour picture; the network was trained on grey ones, so convert it")
            array = grey
        values = channels_first(array, channels=self.channels, where=str(path))
        if rule == "full scale":
            low, high, top = float(values.min()), float(values.max()), full_scale(array.dtype)
            if low < 0 or high > top:
                raise RunError(f"{path} holds {array.dtype} values from {low:g} to {high:g}; expected 0 to {top:g}")
            values = values / np.float32(top)
        elif rule == "above":
            values = (values > number).astype(np.float32)
        elif rule == "by":
            values = values / np.float32(number)
        elif rule == "percentile":
            values = scale_percentiles(values, number)
        return values if self.size is None else np.stack([resize(channel, self.size) for channel in values])


def _read_array(path: Path) -> NDArray[Any]:
    """Read the stored values, rows first."""
    if path.name.lower().endswith(PICTURE_SUFFIXES):
        return read_picture(path)
    if path.name.lower().endswith(".npy"):
        return read_npy(path)
    if not is_scan(path):
        raise RunError(f"{path} is not a format of the runner; expected {', '.join(PICTURE_SUFFIXES)}, .npy or NIfTI")
    array = open_scan(path).values
    plane = take_plane(array)
    if plane is None:
        raise RunError(f"{path} has shape {array.shape}; expected one plane (X, Y, 1), or three of colours (X, Y, 3)")
    return plane
