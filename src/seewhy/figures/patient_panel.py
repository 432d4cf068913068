"""Panel of cases: image, annotation and all maps, one row per case, with one colour scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seewhy.figures.labels import join_title, label_of
from seewhy.figures.overlay import grey, overlay
from seewhy.figures.page import to_hex
from seewhy.figures.style import INK, TRUTH, blank_figure

__all__ = ["PanelCase", "panel"]

CELL = 1.75
"""Side of a cell in inches."""
THRESHOLD = 0.5
"""Value of a map at its outline."""


@dataclass(frozen=True, kw_only=True)
class PanelCase:
    """Image with its predictions."""

    name: str
    """Id of the case."""
    image: NDArray[np.generic]
    """[H, W] or [H, W, 3]."""
    maps: Mapping[str, NDArray[np.generic]]
    """Name → [H, W], in the order of the columns."""
    mask: NDArray[np.generic] | None = None
    """[H, W] annotation, if there is one; non-zero is annotated."""
    probability: float | None = None
    """Predicted probability of the class."""
    label: str = ""
    """Label of the image in words, if known."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Map → Dice on this image."""


def panel(cases: Sequence[PanelCase], *, title: str = "", phantom: bool = False) -> Figure:
    """Draw one row per case: image | truth | every map, with the predicted outline in white and the true one in cyan.

    Cells are cropped to the visible part of the image; maps keep their position and scale.

    Args:
        cases: at least one; the columns are the maps of all cases in order of their first occurrence.
        title: title of the figure.
        phantom: whether the images are synthetic, which the title then states.
    """
    if not cases:
        raise ValueError("no cases to draw")
    names = list(dict.fromkeys(name for case in cases for name in case.maps))
    truth = any(case.mask is not None for case in cases)
    columns = 1 + truth + len(names)
    cases = [_crop(case) for case in cases]
    heights = [CELL * case.image.shape[0] / case.image.shape[1] for case in cases]
    figure = blank_figure(CELL * columns + 0.9, sum(heights) + 0.22 * len(cases) + 0.85)
    grid = figure.subplots(len(cases), columns, squeeze=False, height_ratios=heights)
    for axes, case in zip(grid, cases, strict=True):
        _draw_image(axes[0], case)
        if truth:
            _draw_truth(axes[1], case)
        for cell, name in zip(axes[1 + truth :], names, strict=True):
            _draw_map(cell, case, name)
    for cell, name in zip(grid[0], ["image", *["truth"] * truth, *map(label_of, names)], strict=True):
        cell.set_title(name, fontsize=10, color=INK, fontweight="bold", pad=5)
    heat = ScalarMappable(Normalize(0.0, 1.0), "inferno")
    bar = figure.colorbar(heat, ax=grid, shrink=min(0.8, 2.6 / sum(heights)), aspect=18, pad=0.01)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    _head(figure, title, phantom=phantom)
    _foot(figure, ["cyan: annotation"] * truth + [f"white: map above {THRESHOLD:g}"])
    return figure


def _crop(case: PanelCase) -> PanelCase:
    """Crop the constant margins of the image (the air around a head), except for a small rest."""
    image = np.asarray(case.image)
    grey_levels = image.mean(axis=2) if image.ndim == 3 else image
    # Air is not always the darkest value: in normalised images some tissue may be darker.
    edge = np.concatenate([grey_levels[0], grey_levels[-1], grey_levels[:, 0], grey_levels[:, -1]])
    values, counts = np.unique(edge, return_counts=True)
    seen = grey_levels != values[counts.argmax()]
    if case.mask is not None:
        seen = seen | (np.asarray(case.mask) > 0)
    if not seen.any():
        return case
    window = []
    for size, places in zip(seen.shape, (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0)), strict=True):
        margin = max(2, size // 40)
        window.append(slice(max(0, int(places[0]) - margin), int(places[-1]) + 1 + margin))
    rows, columns = window
    return replace(
        case,
        image=image[rows, columns],
        maps={name: np.asarray(heat)[rows, columns] for name, heat in case.maps.items()},
        mask=None if case.mask is None else np.asarray(case.mask)[rows, columns],
    )


def _head(figure: Figure, title: str, *, phantom: bool) -> None:
    text = join_title(title, phantom=phantom)
    if text:
        figure.suptitle(text, fontsize=11, color=INK, x=0.01, ha="left")


def _foot(figure: Figure, notes: Sequence[str]) -> None:
    """Write the meaning of the outlines below the cells."""
    line = 0.2 / figure.get_size_inches()[1]
    figure.set_layout_engine("constrained", rect=(0, line, 1, 1 - line))
    figure.text(0.01, 0.3 * line, "   ".join(notes), fontsize=8, color=INK)


def _draw_image(axes: Axes, case: PanelCase) -> None:
    axes.imshow(grey(case.image), interpolation="nearest")
    facts = [f"p = {case.probability:.2f}"] if case.probability is not None else []
    if case.label:
        facts.append(case.label)
    _finish(axes, " · ".join(facts))
    axes.set_ylabel(case.name, fontsize=8, color=INK)


def _draw_truth(axes: Axes, case: PanelCase) -> None:
    axes.imshow(grey(case.image), interpolation="nearest")
    _outline(axes, case.mask, colour=to_hex(TRUTH))
    share = "no mask" if case.mask is None else f"{int((np.asarray(case.mask) > 0).sum())} px"
    _finish(axes, share)


def _draw_map(axes: Axes, case: PanelCase, name: str) -> None:
    if name not in case.maps:
        axes.set_axis_off()
        return
    heat = np.asarray(case.maps[name])
    axes.imshow(overlay(case.image, heat), interpolation="nearest")
    _outline(axes, case.mask, colour=to_hex(TRUTH))
    _outline(axes, heat > THRESHOLD, colour="white")
    _finish(axes, f"Dice {case.scores[name]:.2f}" if name in case.scores else "")


def _outline(axes: Axes, mask: NDArray[np.generic] | None, *, colour: str) -> None:
    if mask is not None and np.any(mask) and not np.all(mask):
        axes.contour(np.asarray(mask, dtype=np.float32) > 0, levels=[0.5], colors=[colour], linewidths=0.9)


def _finish(axes: Axes, text: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(text, fontsize=8, color=INK, labelpad=3)
