"""From intensities, differences and maps to colours: one scale for all cells of a figure that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import Colormap, ListedColormap, Normalize
from numpy.typing import NDArray

from seewhy.figures.colours import DIVERGING, colour_table

__all__ = ["ColourScale", "greyscale", "percentile_scale", "signed_scale"]

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ColourScale:
    """From values to colours, the same for all cells that share it.

    Attributes:
        low: value of the first colour.
        high: of the last one.
        colormap: `gray`, one of `seewhy.figures.colours.COLORMAPS`, or `DIVERGING`.
        name: what the numbers are, for the colour bar.
        beyond: whether values may lie beyond either end; they are drawn in its colour, and the bar says so.
    """

    low: float
    high: float
    colormap: str
    name: str
    beyond: bool = True

    @property
    def colours(self) -> Colormap:
        """As matplotlib has it; what is no number stays white."""
        table = np.linspace(0, 255, 256)[:, None].repeat(3, 1) if self.colormap == "gray" else None
        found = ListedColormap((colour_table(self.colormap) if table is None else table) / 255)
        return found.with_extremes(bad=(1, 1, 1, 0))

    @property
    def norm(self) -> Normalize:
        """Linear between the ends."""
        return Normalize(self.low, self.high, clip=True)


def greyscale(values: Sequence[Array], *, name: str) -> ColourScale:
    """One window for slices of one modality: percentiles .5 and 99.5 of all their tissue together."""
    return percentile_scale(values, colormap="gray", name=name, percentiles=(0.5, 99.5))


def percentile_scale(
    values: Sequence[Array], *, colormap: str, name: str, percentiles: tuple[float, float] = (0.0, 100.0)
) -> ColourScale:
    """A scale between percentiles of values of several cells; a range of 1 where all are the same."""
    every = np.concatenate([np.asarray(one, np.float64).ravel() for one in values])
    every = every[np.isfinite(every)]
    low, high = (float(end) for end in np.percentile(every, percentiles)) if every.size else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5, low + 0.5
    return ColourScale(low=low, high=high, colormap=colormap, name=name, beyond=percentiles != (0.0, 100.0))


def signed_scale(values: Sequence[Array], *, name: str) -> ColourScale:
    """A scale from -a to a, white at 0: a is the 99.5th percentile of all magnitudes, or 1 where all are 0."""
    every = np.abs(np.concatenate([np.asarray(one, np.float64).ravel() for one in values]))
    every = every[np.isfinite(every)]
    end = float(np.percentile(every, 99.5)) if every.size else 0.0
    end = end or (float(every.max()) if every.size else 0.0) or 1.0
    return ColourScale(low=-end, high=end, colormap=DIVERGING, name=name)
