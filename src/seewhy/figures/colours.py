"""From numbers to colours: colour maps that can be trusted, and one scale for all pictures of a run.

From intensities, differences and maps to colours: one scale for all cells of a figure that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, ListedColormap, Normalize
from numpy.typing import NDArray

from seewhy.errors import ConfigError, nearest

__all__ = [
    "COLORMAPS",
    "DIVERGING",
    "NOTHING",
    "RGB",
    "ColourScale",
    "apply_colormap",
    "colour_table",
    "greyscale",
    "levels",
    "percentile_scale",
    "run_scale",
    "signed_scale",
]

RGB = NDArray[np.uint8]

COLORMAPS = ("inferno", "magma", "plasma", "viridis", "cividis")
"""Evenly stepped maps that stay readable to the colour-blind and in print."""
DIVERGING = "blue_white_red"
"""For signed maps: blue below zero, white at zero, red above; see `_diverging`."""
NOTHING = (200, 204, 209)
"""Colour of a value that is not a number."""
SAMPLED = 65_536
"""Values of one map that count towards the scale of a run, evenly spaced over it."""


def run_scale(
    maps: Iterable[NDArray[np.generic]], *, signed: bool, percentile: float = 99.5
) -> tuple[tuple[float, float], str]:
    """Find the one scale for all pictures of a run, which a few extreme values do not stretch.

    Args:
        maps: every map of one method, of any shapes; read one at a time, so that a generator over files does.
        signed: whether values below zero are shown too; the scale is then symmetric about zero.
        percentile: of the magnitudes; above it lies what is drawn in full colour.

    Returns:
        The scale, and what to say of it beside the colour bar. Where more than the percentile of all values are
        zero, the largest magnitude takes its place; where all are, the scale ends at 1.
    """
    parts, count = [], 0
    for values in maps:
        flat = np.asarray(values).reshape(-1)
        sample = np.abs(flat[:: max(1, math.ceil(flat.size / SAMPLED))].astype(np.float32))
        parts.append(sample[np.isfinite(sample)])
        count += 1
    magnitudes = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    high, rule = 0.0, f"{percentile:g}th percentile of |value|"
    if magnitudes.size:
        high = float(np.percentile(magnitudes, percentile))
        if high <= 0.0:
            high, rule = float(magnitudes.max()), "largest |value|"
    several = f"{count} map{'' if count == 1 else 's'} of the run"
    if high <= 0.0:
        return (-1.0 if signed else 0.0, 1.0), f"all of {several} are zero"
    return (-high if signed else 0.0, high), f"full colour: {rule}, {several}"


def levels(values: NDArray[np.generic], scale: tuple[float, float], *, signed: bool = False) -> NDArray[np.float32]:
    """Place of every value between the ends of the scale, clipped to 0 … 1; NaN stays NaN.

    Args:
        values: any shape.
        scale: its two ends.
        signed: the scale must then be symmetric, so that equal colours on both sides are equal strengths.
    """
    low, high = scale
    if not high > low:
        raise ValueError(f"scale={scale} must increase")
    if signed and not math.isclose(-low, high, rel_tol=1e-6):
        raise ValueError(f"scale={scale} of a signed map must be symmetric about zero")
    return np.clip((np.asarray(values, np.float32) - low) / (high - low), 0.0, 1.0)


def apply_colormap(values: NDArray[np.generic], *, scale: tuple[float, float], colormap: str = "inferno") -> RGB:
    """The map itself in opaque colours.

    Args:
        values: [H, W]; NaN is drawn in `NOTHING`.
        scale: values of the first and the last colour; from -a to a for `DIVERGING`.
        colormap: one of `COLORMAPS`, or `DIVERGING`.

    Returns:
        [H, W, 3] uint8.
    """
    table = colour_table(colormap)
    level = levels(values, scale, signed=colormap == DIVERGING)
    missing = np.isnan(level)
    colours = table[(np.where(missing, 0.0, level) * (len(table) - 1) + 0.5).astype(np.intp)]
    picture = (colours + 0.5).astype(np.uint8)
    picture[missing] = NOTHING
    return picture


@lru_cache(maxsize=len(COLORMAPS) + 1)
def colour_table(name: str) -> NDArray[np.float32]:
    """Colours of a map from its bottom to its top.

    Args:
        name: one of `COLORMAPS` (256 colours), or `DIVERGING` (257, so that zero has one of its own).

    Returns:
        [256 or 257, 3] from 0 to 255; not to be written to.
    """
    if name == DIVERGING:
        shares = _diverging(128)
    elif name in COLORMAPS:
        shares = matplotlib.colormaps[name](np.linspace(0.0, 1.0, 256))[:, :3]
    else:
        raise ConfigError(f"colormap={name!r} is not one of ours; {nearest(name, (*COLORMAPS, DIVERGING))}")
    table = np.asarray(shares * 255, dtype=np.float32)
    table.setflags(write=False)
    return table


def _diverging(steps: int) -> NDArray[np.float64]:
    """Two straight arms in OKLab (Ottosson 2020), which is nearly uniform to the eye.

    Both arms end at the same lightness and chroma, so that +x and -x look equally strong, and equal steps of
    value are equal steps of colour. Blue against red is told apart by all common kinds of colour-blindness.
    """
    arms = []
    for hue in (260.0, 27.0):
        end = np.array([0.46, 0.185 * math.cos(math.radians(hue)), 0.185 * math.sin(math.radians(hue))])
        share = np.linspace(0.0, 1.0, steps + 1)[:, None]
        arms.append(_srgb(np.array([1.0, 0.0, 0.0]) * (1 - share) + end * share))
    return np.concatenate([arms[0][:0:-1], arms[1]])


def _srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """OKLab [n, 3] to sRGB between 0 and 1; the matrices are those of Ottosson 2020."""
    cone = lab @ np.array(
        [[1.0, 1.0, 1.0], [0.3963377774, -0.1055613458, -0.0894841775], [0.2158037573, -0.0638541728, -1.2914855480]]
    )
    linear = cone**3 @ np.array(
        [
            [4.0767416621, -1.2684380046, -0.0041960863],
            [-3.3077115913, 2.6097574011, -0.7034186147],
            [0.2309699292, -0.3413193965, 1.7076147010],
        ]
    )
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


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
