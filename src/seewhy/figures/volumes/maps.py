"""Pictures of maps of volumes: slice, map and overlay per slice, and a summary of all slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.figures.colours import DIVERGING, RGB, apply_colormap, own_scale
from seewhy.figures.labels import format_factor, join_title, method_label
from seewhy.figures.marks import Marks, draw_marks, make_marks
from seewhy.figures.overlay import draw_annotation, draw_region, find_window, grey, overlay, resize_to_width
from seewhy.figures.sheet import Bar, Cell, sheet, write_sheet
from seewhy.figures.style import turn_upright
from seewhy.io.geometry import Display

__all__ = ["write_slices"]

Array = NDArray[Any]
SIDE, SMALL = 256, 150
"""Width of a slice in its picture and in the summary, in pixels."""
WEAK = 2.0
"""See `seewhy.figures.explanations.heatmaps.WEAK`."""
ACROSS = 8
"""Largest number of slices in a row of the summary."""


def write_slices(
    folder: str | Path,
    subject: str,
    method: str,
    volume: Array,
    maps: Array,
    *,
    slices: Sequence[tuple[int, int]],
    scale: tuple[float, float],
    signed: bool = False,
    title: str = "",
    display: Display | None = None,
    spacing: tuple[float, float, float] | None = None,
    warnings: Sequence[str] = (),
    mask: Array | None = None,
    phantom: bool = False,
    unit: str = "attribution",
    region: Array | None = None,
    region_note: str = "",
) -> list[Path]:
    """Write slice | map | overlay for each of the given slices, and a summary with slices above and overlays below.

    Where the scale leaves the map of this volume hardly visible, the overlay is drawn once more with its own contrast.

    Files are `<subject>_<method>_slice_<number>.png` and `<subject>_<method>_summary.png`. The grey window and
    the colour scale are the same in all of them.

    Args:
        folder: folder of this subject and method.
        subject: name, safe as a file name.
        method: name of the explainer, e.g. "integrated_gradients".
        volume: [D, H, W].
        maps: [D, H, W], or [H, W] for one map of all slices, which the pictures then state.
        slices: position along D and number in the scan of the slices to draw, at least one.
        scale: values at zero and at full colour, one scale for the whole run (`seewhy.figures.colours.run_scale`).
        signed: draw negative values too; requires a symmetric scale.
        title: prediction and truth, see `seewhy.figures.explanations.heatmaps.headline`.
        display: display orientation of slices [H, W]; None for the orientation in memory.
        spacing: of D, H and W in mm, for the proportions of pixels that are not square.
        warnings: checks that the map failed; its pictures are then marked.
        mask: [D, H, W] annotation, if there is one.
        phantom: whether the volume is synthetic, which the title then states.
        unit: meaning of the numbers and origin of the scale.
        region: [D, H, W] bool, region that should keep the prediction; drawn beside the overlay.
        region_note: its size, and whether it keeps the prediction; below the pictures.

    Returns:
        The files written, the summary last.

    Raises:
        ValueError: different shapes, slices outside the volume, or an invalid scale.
    """
    flat = np.ndim(maps) == 2
    whole = np.broadcast_to(np.asarray(maps), volume.shape) if flat else np.asarray(maps)
    _check(subject, volume, whole, mask, slices)
    bar = Bar(scale=scale, colormap=DIVERGING if signed else "inferno", unit=unit)
    views = _Views(
        volume=np.asarray(volume),
        maps=whole,
        mask=mask,
        region=region,
        display=display or Display(),
        spacing=spacing,
        bar=bar,
    )
    heading = join_title(subject, method_label(method), title, phantom=phantom)
    own, factor = own_scale([whole], scale)
    weak = factor >= WEAK
    alone = replace(views, bar=replace(bar, scale=own)) if weak else views
    boost = f"× {format_factor(factor)} of the run's scale"  # noqa: RUF001
    notes: dict[str, Any] = {"flat": flat, "phantom": phantom, "plane": views.display.plane, "own": weak}
    notes["region"] = region_note if region is not None else ""
    shares = None if flat else _shares(whole)
    marked, written = bool(warnings), []
    for position, number in slices:
        row = [
            Cell(picture=views.slice(position, SIDE), name=f"slice {number}"),
            Cell(picture=views.map(position, SIDE), name="map", note=_share(shares, position), marked=marked),
            Cell(picture=views.overlay(position, SIDE), name="overlay", marked=marked),
        ]
        if weak:
            row.append(Cell(picture=alone.overlay(position, SIDE), name="own contrast", note=boost, marked=marked))
        if region is not None:
            row.append(Cell(picture=views.region_of(position, SIDE), name="region", note=_inside(region, position)))
        foot = _foot(**notes, mask=views.is_annotated([position]))
        page = sheet([row], title=heading, warnings=warnings, bar=bar, foot=foot)
        written.append(write_sheet(Path(folder) / f"{subject}_{method}_slice_{number}.png", page))
    rows = []
    for start in range(0, len(slices), ACROSS):
        block = slices[start : start + ACROSS]
        rows.append([Cell(picture=views.slice(position, SMALL), name=f"slice {number}") for position, number in block])
        rows.append([Cell(picture=views.overlay(p, SMALL), note=_share(shares, p), marked=marked) for p, _ in block])
        if weak:
            pictures = [alone.overlay(position, SMALL) for position, _ in block]
            rows.append(
                [
                    Cell(picture=item, name="own contrast" * (i == 0), note=boost * (i == 0), marked=marked)
                    for i, item in enumerate(pictures)
                ]
            )
        if region is not None:
            rows.append(
                [Cell(picture=views.region_of(p, SMALL), name="region", note=_inside(region, p)) for p, _ in block]
            )
    foot = _foot(**notes, mask=views.is_annotated([position for position, _ in slices]))
    page = sheet(rows, title=heading, warnings=warnings, bar=replace(bar, row=0), foot=foot)
    return [*written, write_sheet(Path(folder) / f"{subject}_{method}_summary.png", page)]


@dataclass(frozen=True, kw_only=True)
class _Views:
    """Pictures of the slices of one case, with one grey window and one colour scale."""

    volume: Array
    maps: Array
    mask: Array | None
    region: Array | None
    display: Display
    spacing: tuple[float, float, float] | None
    bar: Bar

    @cached_property
    def aspect(self) -> float:
        """Height of a pixel in pixel widths, upright."""
        _, rows, columns = self.spacing or (1.0, 1.0, 1.0)
        return columns / rows if self.display.transpose else rows / columns

    @cached_property
    def window(self) -> tuple[float, float]:
        """Grey window of all slices."""
        return _window(self.volume)

    @cached_property
    def marks(self) -> Marks:
        """Sides of the body and size of a pixel."""
        known = None if self.spacing is None else self.spacing[1:]
        return make_marks(self.display, self.volume.shape[1:], known)

    def is_annotated(self, positions: Sequence[int]) -> bool:
        """Whether an outline of the annotation is drawn on one of these slices."""
        return self.mask is not None and any(bool(np.any(self.mask[position])) for position in positions)

    def slice(self, position: int, side: int) -> RGB:
        return self._annotate(self._base(position, side), position)

    def map(self, position: int, side: int) -> RGB:
        heat = self._display(np.asarray(self.maps[position], np.float32), side)
        return apply_colormap(heat, scale=self.bar.scale, colormap=self.bar.colormap)

    def overlay(self, position: int, side: int) -> RGB:
        heat = self._display(np.asarray(self.maps[position], np.float32), side)
        base = self._base(position, side)
        return self._annotate(overlay(base, heat, scale=self.bar.scale, colormap=self.bar.colormap), position)

    def region_of(self, position: int, side: int) -> RGB:
        base = self._base(position, side)
        inside = np.zeros(self.volume.shape[1:], bool) if self.region is None else np.asarray(self.region[position]) > 0
        return draw_marks(draw_region(base, turn_upright(inside, self.display)), self.marks)

    def _base(self, position: int, side: int) -> RGB:
        return np.asarray(self._display(grey(self.volume[position], window=self.window), side), np.uint8)

    def _display(self, array: Array, side: int) -> Array:
        return resize_to_width(turn_upright(array, self.display), side, aspect=self.aspect)

    def _annotate(self, picture: RGB, position: int) -> RGB:
        mask = None if self.mask is None else turn_upright(self.mask[position], self.display)
        return draw_marks(draw_annotation(picture, mask), self.marks)


def _window(volume: Array) -> tuple[float, float]:
    """Grey window of the whole volume, percentiles .5 and 99.5, so that slices can be compared."""
    sample = np.asarray(volume).reshape(-1)[:: max(1, np.size(volume) // 500_000)].astype(np.float32)
    return find_window(sample)


def _shares(maps: Array) -> NDArray[np.float64]:
    """[D] share of |attribution| in each slice."""
    sums = np.array([np.nansum(np.abs(part), dtype=np.float64) for part in maps])
    return sums / max(float(sums.sum()), 1e-300)


def _share(shares: NDArray[np.float64] | None, position: int) -> str:
    return "" if shares is None else f"{100 * shares[position]:.1f} % of attribution"


def _inside(region: Array, position: int) -> str:
    return f"{100 * np.mean(np.asarray(region[position]) > 0):.1f} % of the slice"


def _foot(*, flat: bool, mask: bool, phantom: bool, plane: str, own: bool, region: str) -> str:
    notes = ["one colour scale for the whole run" + (", except for own contrast" if own else "")]
    notes += [f"{plane} slices, numbered as in the scan"] if plane else []
    notes += ["one map for all slices: the layer has no slice axis"] if flat else []
    notes += ["cyan: annotation"] if mask else []
    notes += [f"orange: {region}"] if region else []
    notes += ["phantom data, not patients"] if phantom else []
    return " · ".join(notes)


def _check(subject: str, volume: Array, maps: Array, mask: Array | None, slices: Sequence[tuple[int, int]]) -> None:
    problems = []
    if Path(subject).name != subject:
        problems.append(f"subject {subject!r} is not safe as a file name; expected a name without folders")
    if np.ndim(volume) != 3:
        problems.append(f"volume of shape {np.shape(volume)}; expected [D, H, W]")
    for name, array in (("maps", maps), ("mask", mask)):
        if array is not None and np.shape(array) != np.shape(volume):
            problems.append(f"{name} of shape {np.shape(array)} on a volume of {np.shape(volume)}")
    outside = [f"{number} (position {position})" for position, number in slices if not 0 <= position < len(volume)]
    if outside:
        problems.append(f"slices {', '.join(outside)} are outside the volume's {len(volume)} slices")
    if not slices:
        problems.append("no slices to draw; expected at least one (position, number)")
    if problems:
        raise ValueError(f"{subject}: " + "; ".join(problems))
