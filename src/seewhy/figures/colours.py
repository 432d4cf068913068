"""Colour maps and colour scales: perceptually uniform maps, and one scale for all pictures of a run or figure."""

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
    "own_scale",
    "percentile_scale",
    "run_scale",
    "signed_scale",
]

RGB = NDArray[np.uint8]

COLORMAPS = ("inferno", "magma", "plasma", "viridis", "cividis")
"""Perceptually uniform maps, also readable for the colour-blind and in print."""
DIVERGING = "blue_white_red"
"""Map of signed values: blue below zero, white at zero, red above; see `_diverging`."""
NOTHING = (200, 204, 209)
"""Colour of NaN."""
SAMPLED = 65_536
"""Largest number of values, evenly spaced over a map, that are used for the scale of a run."""


def run_scale(
    maps: Iterable[NDArray[np.generic]], *, signed: bool, from_median: bool = False
) -> tuple[tuple[float, float], str]:
    """Colour scale for all pictures of a run, robust to a few extreme values.

    Args:
        maps: all maps of one method, of any shapes; read one at a time, so a generator over files works.
        signed: whether negative values are shown; the scale is then symmetric about zero.
        from_median: begin at the median, for maps without a meaningful zero, which would tint whole pictures.

    Returns:
        The scale, which ends at the 99.5th percentile of the magnitudes, and its description for the colour bar. If
        the percentile is zero, the largest magnitude is used instead; if all values are zero, the scale ends at 1.

    Example:
        >>> maps = [np.array([[0.0, 1.0], [-1.0, 1.0]]), np.ones((2, 2))]
        >>> run_scale(maps, signed=False)
        ((0.0, 1.0), 'full colour: 99.5th percentile of |value|, 2 maps of the run')
        >>> run_scale(maps, signed=True)[0]
        (-1.0, 1.0)
    """
    parts, count = [], 0
    for values in maps:
        flat = np.asarray(values).reshape(-1)
        sample = np.abs(flat[:: max(1, math.ceil(flat.size / SAMPLED))].astype(np.float32))
        parts.append(sample[np.isfinite(sample)])
        count += 1
    magnitudes = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    high, rule = 0.0, "99.5th percentile of |value|"
    if magnitudes.size:
        high = float(np.percentile(magnitudes, 99.5))
        if high <= 0.0:
            high, rule = float(magnitudes.max()), "largest |value|"
    several = f"{count} map{'' if count == 1 else 's'} of the run"
    if high <= 0.0:
        return (-1.0 if signed else 0.0, 1.0), f"all of {several} are zero"
    if from_median and not signed and (middle := float(np.median(magnitudes))) < high:
        return (middle, high), f"colour from the median, full colour: {rule}, {several}"
    return (-high if signed else 0.0, high), f"full colour: {rule}, {several}"


def own_scale(maps: Sequence[NDArray[np.generic]], scale: tuple[float, float]) -> tuple[tuple[float, float], float]:
    """Scale of one sample, and the factor by which it enlarges the contrast of the shared scale.

    Args:
        maps: maps that share the sample's scale.
        scale: the shared scale, from 0 or from -a.

    Returns:
        The scale, which ends at the maps' 99.5th percentile of |value|, and the factor; factor 1 and the shared scale
        where all values are zero.

    Example:
        >>> own_scale([np.full(4, 0.125)], (0.0, 1.0))
        ((0.0, 0.125), 8.0)
    """
    if scale[0] > 0:  # a scale from the median, of maps without a meaningful zero
        return scale, 1.0
    flat = np.abs(np.concatenate([np.asarray(values, np.float32).reshape(-1) for values in maps]))
    flat = flat[np.isfinite(flat)]
    high = float(np.percentile(flat, 99.5)) if flat.size else 0.0
    high = round(high or (float(flat.max()) if flat.size else 0.0), 12)
    if high <= 0.0:
        return scale, 1.0
    return (-high if scale[0] < 0 else 0.0, high), scale[1] / high


def levels(values: NDArray[np.generic], scale: tuple[float, float], *, signed: bool = False) -> NDArray[np.float32]:
    """Relative position of values on the scale, clipped to 0 … 1; NaN stays NaN.

    Args:
        values: any shape.
        scale: values at 0 and at 1.
        signed: requires a symmetric scale, so that equal magnitudes have equally strong colours.
    """
    low, high = scale
    if not high > low:
        raise ValueError(f"scale={scale} must increase")
    if signed and not math.isclose(-low, high, rel_tol=1e-6):
        raise ValueError(f"scale={scale} of a signed map must be symmetric about zero")
    return np.clip((np.asarray(values, np.float32) - low) / (high - low), 0.0, 1.0)


def apply_colormap(values: NDArray[np.generic], *, scale: tuple[float, float], colormap: str = "inferno") -> RGB:
    """Draw a map in opaque colours.

    Args:
        values: [H, W]; NaN is drawn in `NOTHING`.
        scale: values of the first and last colour; from -a to a for `DIVERGING`.
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
    """Colours of a colour map, from lowest to highest.

    Args:
        name: one of `COLORMAPS` (256 colours), or `DIVERGING` (257, with white for exactly zero).

    Returns:
        [256 or 257, 3] from 0 to 255, read-only.
    """
    if name == DIVERGING:
        shares = _diverging(128)
    elif name in COLORMAPS:
        shares = matplotlib.colormaps[name](np.linspace(0.0, 1.0, 256))[:, :3]
    else:
        raise ConfigError(f"unknown colormap={name!r}; {nearest(name, (*COLORMAPS, DIVERGING))}")
    table = np.asarray(shares * 255, dtype=np.float32)
    table.setflags(write=False)
    return table


def _diverging(steps: int) -> NDArray[np.float64]:
    """Two straight lines from white in OKLab (Ottosson 2020), which is nearly perceptually uniform.

    Both end at the same lightness and chroma, so that +x and -x look equally strong, and equal steps of value are equal
    steps of colour. Blue and red can be distinguished with all common kinds of colour-blindness.
    """
    arms = []
    for hue in (260.0, 27.0):
        end = np.array([0.46, 0.185 * math.cos(math.radians(hue)), 0.185 * math.sin(math.radians(hue))])
        share = np.linspace(0.0, 1.0, steps + 1)[:, None]
        arms.append(_srgb(np.array([1.0, 0.0, 0.0]) * (1 - share) + end * share))
    return np.concatenate([arms[0][:0:-1], arms[1]])


def _srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """OKLab [n, 3] to sRGB between 0 and 1, with the matrices of Ottosson 2020."""
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
    """Mapping from values to colours, shared by the cells of a figure.

    Attributes:
        low: value of the first colour.
        high: value of the last colour.
        colormap: `gray`, one of `seewhy.figures.colours.COLORMAPS`, or `DIVERGING`.
        name: label of the colour bar.
        beyond: whether values may lie outside the scale; they have the colour of its end, and the
            bar shows ≤ and ≥.
    """

    low: float
    high: float
    colormap: str
    name: str
    beyond: bool = True

    @property
    def colours(self) -> Colormap:
        """Colour map for matplotlib; NaN is transparent."""
        table = np.linspace(0, 255, 256)[:, None].repeat(3, 1) if self.colormap == "gray" else None
        colormap = ListedColormap((colour_table(self.colormap) if table is None else table) / 255)
        return colormap.with_extremes(bad=(1, 1, 1, 0))

    @property
    def norm(self) -> Normalize:
        """Linear normalisation for matplotlib."""
        return Normalize(self.low, self.high, clip=True)


def greyscale(values: Sequence[Array], *, name: str) -> ColourScale:
    """Grey window for slices of one modality: percentiles .5 and 99.5 of all their values together."""
    return percentile_scale(values, colormap="gray", name=name, percentiles=(0.5, 99.5))


def percentile_scale(
    values: Sequence[Array], *, colormap: str, name: str, percentiles: tuple[float, float] = (0.0, 100.0)
) -> ColourScale:
    """Scale between percentiles of the values of several cells; a range of 1 if all are equal."""
    flat = np.concatenate([np.asarray(part, np.float64).ravel() for part in values])
    flat = flat[np.isfinite(flat)]
    low, high = (float(end) for end in np.percentile(flat, percentiles)) if flat.size else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5, low + 0.5
    return ColourScale(low=low, high=high, colormap=colormap, name=name, beyond=percentiles != (0.0, 100.0))


def signed_scale(values: Sequence[Array], *, name: str) -> ColourScale:
    """Scale from -a to a, white at 0; a is the 99.5th percentile of all magnitudes, or 1 if all are 0."""
    flat = np.abs(np.concatenate([np.asarray(part, np.float64).ravel() for part in values]))
    flat = flat[np.isfinite(flat)]
    end = float(np.percentile(flat, 99.5)) if flat.size else 0.0
    end = end or (float(flat.max()) if flat.size else 0.0) or 1.0
    return ColourScale(low=-end, high=end, colormap=DIVERGING, name=name)
