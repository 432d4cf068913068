"""Sheet of images with their maps below, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.figures.colours import DIVERGING, run_scale
from seewhy.figures.labels import join_title, method_label
from seewhy.figures.overlay import draw_annotation, grey, overlay, resize_to_width
from seewhy.figures.page import Page
from seewhy.figures.sheet import Cell, sheet

__all__ = ["map_sheet"]

SIDE = 130
"""Width of a picture in pixels."""


def map_sheet(
    images: Mapping[str, NDArray[Any]],
    maps: Mapping[str, Sequence[NDArray[Any]]] | None = None,
    *,
    masks: Sequence[NDArray[Any] | None] | None = None,
    notes: Sequence[str] = (),
    title: str = "",
    phantom: bool = False,
    failed: Mapping[str, str] | None = None,
    window: tuple[float, float] | None = None,
) -> Page:
    """Draw images in a row and their maps below, a row for each method.

    Methods have different units, so each row has a scale of its own, which is printed above it: full colour is the
    99.5th percentile of the row's magnitudes. Rows with negative values are signed: red is evidence for the target,
    blue is evidence against it.

    Args:
        images: name → [H, W] or [H, W, 3].
        maps: method → its maps [H, W], in the order of the images.
        masks: annotations [H, W] in the order of the images, whose outlines are drawn; None where there is none.
        notes: text below the name of each image, e.g. the prediction.
        title: title of the sheet.
        phantom: whether the images are synthetic, which the title then states.
        failed: method → check that it failed; its pictures get a hatched frame, and the check is a warning.
        window: values drawn black and white, the same for all images; None chooses them for each image.

    Returns:
        A page, which a notebook shows where it is the value of a cell.

    Raises:
        ValueError: another number of maps, masks or notes than of images.

    Example:
        >>> import numpy as np
        >>> image = np.random.default_rng(0).random((8, 8))
        >>> page = map_sheet({"P1": image, "P2": image}, {"grad_cam": [image, 2 * image]}, notes=["p .9", "p .8"])
        >>> page.width > 2 * 130
        True
    """
    _check_counts(images, maps or {}, masks, notes)
    outlines = list(masks) if masks is not None else [None] * len(images)
    notes = [*notes, *[""] * (len(images) - len(notes))]
    pictures = [resize_to_width(grey(image, window=window), SIDE) for image in images.values()]
    rows = [
        [
            Cell(picture=draw_annotation(picture, outline), name=name, note=note)
            for picture, name, note, outline in zip(pictures, images, notes, outlines, strict=True)
        ]
    ]
    for method, heats in (maps or {}).items():
        rows.append(_draw_method(method, heats, pictures, outlines, marked=method in (failed or {})))
    drawn = any(outline is not None and np.any(outline) for outline in outlines)
    return sheet(
        rows,
        title=join_title(title, phantom=phantom),
        warnings=[f"{method_label(method)}: {text}" for method, text in (failed or {}).items()],
        foot="cyan: annotation" * drawn,
    )


def _check_counts(
    images: Mapping[str, Any], maps: Mapping[str, Sequence[Any]], masks: Sequence[Any] | None, notes: Sequence[str]
) -> None:
    counts = {f"maps of {method}": len(heats) for method, heats in maps.items()}
    counts |= {"masks": len(images) if masks is None else len(masks), "notes": len(notes) or len(images)}
    wrong = [f"{count} {name}" for name, count in counts.items() if count != len(images)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} for {len(images)} images; expected one for each image")


def _draw_method(
    method: str,
    heats: Sequence[NDArray[Any]],
    pictures: Sequence[NDArray[Any]],
    outlines: Sequence[NDArray[Any] | None],
    *,
    marked: bool,
) -> list[Cell]:
    """Cells of the row of a method; the first one has its name and scale."""
    signed = any(bool(np.any(np.asarray(heat) < 0)) for heat in heats)
    scale, _ = run_scale(heats, signed=signed)
    cells = []
    for picture, heat, outline in zip(pictures, heats, outlines, strict=True):
        large = resize_to_width(np.asarray(heat, np.float32), picture.shape[1])
        drawn = overlay(picture, large, scale=scale, colormap=DIVERGING if signed else "inferno")
        cells.append(Cell(picture=draw_annotation(drawn, outline), marked=marked))
    note = f"full colour: {'±' if signed else ''}{scale[1]:.2g}"
    return [replace(cells[0], name=method_label(method), note=note), *cells[1:]] if cells else []
