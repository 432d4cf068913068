"""Previews of volumes: three orthogonal planes in true proportions, with predictions laid over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from seewhy.figures.colours import DIVERGING, colour_table
from seewhy.figures.labels import join_title
from seewhy.figures.overlay import grey, overlay
from seewhy.figures.style import GREY, INK, TRUTH, add_captions, blank_figure
from seewhy.figures.volumes.planes import Planes

__all__ = ["CLASS_COLOURS", "Kind", "PreviewVolume", "volume_preview", "volume_rows"]

Kind = Literal["labels", "probability", "attribution", "evidence"]
"""Overlay: labels, probabilities, signed attributions, or evidence, which is never negative."""
CLASS_COLOURS = ("#e69f00", "#cc79a7", "#009e73", "#d55e00", "#b8ac00", "#0072b2")
"""Colours of classes 1, 2, …; distinct for the colour-blind, and not similar to the cyan of true outlines."""
OPACITY = 0.55
AMBER = "#ffc400"
NAMES = ("axial", "coronal", "sagittal")
WIDTH = 9.0
"""Width of a figure in inches."""


@dataclass(frozen=True, kw_only=True)
class PreviewVolume:
    """Planes of a volume, or of a region of it.

    Attributes:
        image: grey values.
        overlay: labels, probabilities or attributions over the image; None for the image alone.
        truth: labels whose outlines are drawn.
        spacing: spacing of Z, Y and X; None draws voxels as cubes.
        title: title above the planes.
        origin: number of the first voxel along Z, Y and X, for the numbers of the planes.
    """

    image: Planes
    overlay: Planes | None = None
    truth: Planes | None = None
    spacing: tuple[float, float, float] | None = None
    title: str = ""
    origin: tuple[int, int, int] = (0, 0, 0)


def volume_preview(
    image_planes: Planes,
    overlay_planes: Planes | None = None,
    *,
    kind: Kind = "labels",
    truth_planes: Planes | None = None,
    truth_name: str = "true outline",
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    classes: Sequence[str] = (),
    scale: tuple[float, float] = (0.0, 1.0),
    scale_name: str = "probability",
    origin: tuple[int, int, int] = (0, 0, 0),
    title: str = "",
    note: str = "",
    warnings: Sequence[str] = (),
    phantom: bool = False,
) -> Figure:
    """Draw one volume as three planes, in the true proportions of its voxels.

    Args:
        image_planes: planes of the image.
        overlay_planes: labels, probabilities or attributions of the same planes.
        kind: kind of the overlay.
        truth_planes: labels whose outlines are drawn.
        truth_name: name of the outlines in the legend.
        spacing: spacing of Z, Y and X.
        unit: UDUNITS name of the unit of the spacing.
        classes: names of the labels 1, 2, …
        scale: probabilities or attributions at zero and at full colour.
        scale_name: label of the colour bar.
        origin: number of the first voxel along Z, Y and X.
        title: title of the figure.
        note: small print.
        warnings: reasons not to trust the picture, printed below the title; the planes get a hatched frame.
        phantom: whether the volume is synthetic, which the figure then states.
    """
    z, y, x = (float(step) for step in spacing) if spacing is not None else (1.0, 1.0, 1.0)
    view = PreviewVolume(
        image=image_planes, overlay=overlay_planes, truth=truth_planes, origin=origin,
        spacing=(z, y, x) if spacing is not None else None,
    )  # fmt: skip
    return volume_rows(
        [view], kind=kind, unit=unit, classes=classes, truth_name=truth_name, scale=scale, scale_name=scale_name,
        title=title, note=note, warnings=warnings, phantom=phantom,
    )  # fmt: skip


def volume_rows(
    views: Sequence[PreviewVolume],
    *,
    kind: Kind = "labels",
    unit: str | None = None,
    classes: Sequence[str] = (),
    truth_name: str = "true outline",
    scale: tuple[float, float] = (0.0, 1.0),
    scale_name: str = "probability",
    title: str = "",
    note: str = "",
    warnings: Sequence[str] = (),
    phantom: bool = False,
) -> Figure:
    """Draw several volumes, one row of planes each; the arguments are those of `volume_preview`."""
    if not views:
        raise ValueError("no volumes to draw")
    sizes = [_extents(view) for view in views]
    widest = max(sum(width for width, _ in size) for size in sizes)
    room = WIDTH - (1.0 if kind != "labels" else 0.2)
    heights = [room / widest * max(height for _, height in size) + 0.45 for size in sizes]
    figure = blank_figure(WIDTH, sum(heights) + 0.6)
    rows = figure.subfigures(len(views), 1, height_ratios=heights, squeeze=False)[:, 0]
    drawn: list[Axes] = []
    for row, view, size in zip(rows, views, sizes, strict=True):
        axes = row.subplots(1, 3, width_ratios=[width for width, _ in size])
        _draw(axes, view, size, kind, scale, unit)
        if view.title:
            row.suptitle(view.title, fontsize=9, color=INK, x=0.01, ha="left")
        drawn += list(axes)
        if kind != "labels":
            bar = row.colorbar(ScalarMappable(Normalize(*scale), _colormap(kind)), ax=list(axes), shrink=0.85, pad=0.01)
            bar.ax.tick_params(labelsize=7, colors=INK)
            bar.set_label(scale_name, fontsize=8, color=INK)
    _draw_legend(figure, views, kind, classes, truth_name)
    for axes in drawn if warnings else ():
        _draw_striped_frame(axes)
    head = "\n".join([join_title(title, phantom=phantom), *(f"⚠ {warning}" for warning in warnings)])
    foot = "; ".join(part for part in (note, "PHANTOM data, not patients" if phantom else "") if part)
    return add_captions(figure, head=head, foot=foot)


def _extents(view: PreviewVolume) -> list[tuple[float, float]]:
    """Width and height of each plane in units of the spacing."""
    depth, rows = view.image.sagittal.shape
    columns = view.image.axial.shape[1]
    dz, dy, dx = view.spacing or (1.0, 1.0, 1.0)
    Z, Y, X = depth * dz, rows * dy, columns * dx
    return [(X, Y), (X, Z), (Y, Z)]


def _draw(
    axes: Sequence[Axes],
    view: PreviewVolume,
    sizes: Sequence[tuple[float, float]],
    kind: Kind,
    scale: tuple[float, float],
    unit: str | None,
) -> None:
    """Draw the three planes at the same scale."""
    window = _window(view.image)
    tallest = max(height for _, height in sizes)
    dz, dy, dx = view.spacing or (1.0, 1.0, 1.0)
    z, y, x = (
        (place + 0.5) * step for place, step in zip(view.image.point, (dz, dy, dx), strict=True)
    )  # fmt: skip
    crossing = [(x, y), (x, z), (y, z)]
    planes = zip(view.image, view.overlay or (None,) * 3, view.truth or (None,) * 3, strict=True)
    for number, (image, over, truth) in enumerate(planes):
        plane, (width, height) = axes[number], sizes[number]
        picture = _picture(image, over, kind, scale, window)
        plane.imshow(picture, extent=(0, width, height, 0), interpolation="nearest", aspect="equal")
        _draw_outlines(plane, over if kind == "labels" else None, truth, (width, height))
        _draw_ticks(plane, crossing[number], (width, height))
        plane.set_xlim(0, width)
        plane.set_ylim((height + tallest) / 2, (height - tallest) / 2)
        axis, place = "zyx"[number], view.image.point[number] + view.origin[number]
        plane.set_title(f"{NAMES[number]}, {axis} = {place}", fontsize=8, color=GREY, pad=6)
        plane.axis("off")
    _draw_scale_bar(axes[0], sizes[0], unit if view.spacing else None)


def _picture(
    image: NDArray[Any],
    over: NDArray[Any] | None,
    kind: Kind,
    scale: tuple[float, float],
    window: tuple[float, float],
) -> NDArray[np.uint8]:
    """Picture of a plane with its overlay."""
    base = grey(image, window=window)
    if over is None:
        return base
    if kind != "labels":
        return overlay(base, over, scale=scale, colormap=DIVERGING if kind == "attribution" else "inferno")
    picture = base.astype(np.float32)
    for value in np.unique(over[over > 0]):
        colour = np.array([int(_colour(int(value))[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
        where = over == value
        picture[where] = picture[where] * (1 - OPACITY) + colour * OPACITY
    return np.asarray(picture + 0.5, np.uint8)


def _draw_outlines(
    axes: Axes, over: NDArray[Any] | None, truth: NDArray[Any] | None, size: tuple[float, float]
) -> None:
    """Draw outlines of the predicted classes in their colours and of the true ones in cyan, smooth at any size."""
    for labels, width in ((over, 0.8), (truth, 1.1)):
        if labels is None:
            continue
        rows, columns = labels.shape
        # Padded, so that outlines are closed at the border of the plane.
        across = (np.arange(-1, columns + 1) + 0.5) * size[0] / columns
        down = (np.arange(-1, rows + 1) + 0.5) * size[1] / rows
        for value in np.unique(labels[labels > 0]):
            colour = _colour(int(value)) if labels is over else [channel / 255 for channel in TRUTH]
            mask = np.pad((labels == value).astype(np.float32), 1)
            axes.contour(across, down, mask, levels=[0.5], colors=[colour], linewidths=width)


def _draw_ticks(axes: Axes, place: tuple[float, float], size: tuple[float, float]) -> None:
    """Draw short marks at the borders where the other two planes cross this one."""
    x, y = place
    long = 0.05 * min(size)
    effect = [withStroke(linewidth=2.0, foreground="black")]
    vertical = [([x, x], [0, long]), ([x, x], [size[1] - long, size[1]])]
    horizontal = [([0, long], [y, y]), ([size[0] - long, size[0]], [y, y])]
    for across, down in vertical + horizontal:
        axes.plot(across, down, color="white", linewidth=1.0, path_effects=effect)


def _draw_scale_bar(axes: Axes, size: tuple[float, float], unit: str | None) -> None:
    """Draw a scale bar of a round length in a lower corner."""
    width, height = size
    target = width / 4
    power = 10 ** math.floor(math.log10(target))
    length = max((step * power for step in (1, 2, 5) if step * power <= target), default=power)
    left, bottom = 0.05 * width, 0.94 * height
    stroke = [withStroke(linewidth=2.5, foreground="black")]
    axes.plot([left, left + length], [bottom, bottom], color="white", linewidth=2.2, solid_capstyle="butt",
              path_effects=[withStroke(linewidth=4.2, foreground="black")])  # fmt: skip
    text = f"{length:g} {_short(unit) if unit else 'voxels'}"
    axes.text(left + length / 2, bottom - 0.025 * height, text, color="white", fontsize=7.5, ha="center", va="bottom",
              path_effects=stroke)  # fmt: skip


def _draw_striped_frame(axes: Axes) -> None:
    """Draw a frame in black and amber, the sign of a map that failed a check."""
    for colour, style in ((INK, "solid"), (AMBER, (0, (1, 1)))):
        frame = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, clip_on=False, zorder=5)
        frame.set(edgecolor=colour, linestyle=style, linewidth=5)
        axes.add_patch(frame)


def _draw_legend(
    figure: Figure, views: Sequence[PreviewVolume], kind: Kind, classes: Sequence[str], truth: str
) -> None:
    """Draw a legend of the colours."""
    entries = []
    if kind == "labels" and any(view.overlay is not None for view in views):
        entries += [Patch(color=_colour(number + 1), label=name) for number, name in enumerate(classes)]
    if any(view.truth is not None for view in views):
        cyan = (TRUTH[0] / 255, TRUTH[1] / 255, TRUTH[2] / 255)
        entries.append(Patch(facecolor="none", edgecolor=cyan, linewidth=1.5, label=truth))
    if entries:
        legend = figure.legend(
            handles=entries, loc="outside upper right", ncols=len(entries), fontsize=8, frameon=False, handlelength=1.2
        )
        for text in legend.get_texts():
            text.set_color(INK)


def _colour(value: int) -> str:
    return CLASS_COLOURS[(value - 1) % len(CLASS_COLOURS)]


def _colormap(kind: Kind) -> LinearSegmentedColormap:
    table = colour_table(DIVERGING if kind == "attribution" else "inferno") / 255
    return LinearSegmentedColormap.from_list(kind, table, N=len(table))


def _window(planes: Planes) -> tuple[float, float]:
    """Percentiles 1 and 99.5 of all three planes together."""
    values = np.concatenate([np.asarray(plane, np.float32).ravel() for plane in planes])
    values = values[np.isfinite(values)]
    low, high = (float(end) for end in np.percentile(values, (1, 99.5))) if values.size else (0.0, 1.0)
    return low, high if high > low else low + 1.0


def _short(unit: str) -> str:
    names = {"millimeter": "mm", "micrometer": "µm", "nanometer": "nm", "centimeter": "cm", "meter": "m"}
    return names.get(unit, unit)
