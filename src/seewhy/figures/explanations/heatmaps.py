"""Pictures of heat maps of 2D samples with named inputs: per sample, per input and per run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.figures.colours import DIVERGING, own_scale
from seewhy.figures.labels import format_factor, join_title, method_label
from seewhy.figures.marks import Marks, draw_marks
from seewhy.figures.overlay import draw_annotation, draw_region, enlarge, grey, overlay, resize_to_width
from seewhy.figures.sheet import Bar, Cell, empty_picture, sheet, write_sheet
from seewhy.io.names import safe_name

__all__ = ["PlanarSample", "headline", "write_planar", "write_planar_summary"]

Array = NDArray[Any]
SIDE = 230
"""Width of a picture on the sheet of a sample, in pixels."""
SMALL = 120
"""Width of a picture in the summary of a run, in pixels."""
WEAK = 2.0
"""A map whose own contrast is at least so many times that of the run's scale is drawn a second time with its own."""
LEAST = 256
"""The picture of a single input is enlarged by an integer factor to about this shorter side in pixels."""


@dataclass(frozen=True, kw_only=True)
class PlanarSample:
    """Sample with its maps."""

    id: str
    images: Mapping[str, Array | None]
    """Input → [H, W] or [H, W, 3]; None if missing."""
    maps: Mapping[str, Array]
    """Input → [H, W] of the size of the image."""
    title: str = ""
    """Prediction and truth, see `headline`."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Input → share of the total attribution, 0 to 1."""
    warnings: Sequence[str] = ()
    masks: Mapping[str, Array] = field(default_factory=dict)
    """Input → [H, W] annotation, non-zero is annotated."""
    marks: Marks | None = None
    """Sides of the body and size of a pixel, where known."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Input → printed name, where it is not the input's own."""
    region: Mapping[str, Array] = field(default_factory=dict)
    """Input → [H, W] bool, region that should keep the prediction."""
    region_note: str = ""
    """Size of the region, and whether it keeps the prediction."""


def headline(*, prediction: str, probability: float | None = None, truth: str | None = None, target: str = "") -> str:
    """Prediction and truth in one line, e.g. "pred 2 intermediate (p 0.83) · truth 3 advanced".

    Args:
        prediction: number and name of the predicted class.
        probability: probability of this class.
        truth: true class; None if unknown.
        target: explained class, if it is not the predicted one.

    Example:
        >>> headline(prediction="2 intermediate", probability=0.83, truth="3 advanced")
        'pred 2 intermediate (p 0.83) · truth 3 advanced'
    """
    parts = [f"pred {prediction}" + ("" if probability is None else f" (p {probability:.2f})")]
    parts.append(f"truth {truth}" if truth is not None else "truth unknown")
    if target and target != prediction:
        parts.append(f"explained: {target}")
    return " · ".join(parts)


def write_planar(
    folder: str | Path,
    sample_id: str,
    images: Mapping[str, Array | None],
    maps: Mapping[str, Array],
    *,
    method: str,
    scale: tuple[float, float],
    signed: bool = False,
    title: str = "",
    shares: Mapping[str, float] | None = None,
    warnings: Sequence[str] = (),
    masks: Mapping[str, Array] | None = None,
    phantom: bool = False,
    unit: str = "attribution",
    scope: str = "run",
    marks: Marks | None = None,
    names: Mapping[str, str] | None = None,
    region: Mapping[str, Array] | None = None,
    region_note: str = "",
) -> list[Path]:
    """Write the sheet of a sample (inputs above, heat maps on them below) and one file per input.

    Where the scale leaves a map hardly visible, a third row shows each map with its own contrast, and how much that is.

    Args:
        folder: folder of the method; files are `<id>_gradcam_visualization.png` for `grad_cam`, else
            `<id>_<method>_visualization.png`, and `<id>_heatmaps/<id>_<input>.png`.
        sample_id: id, safe as a file name.
        images: input → [H, W] or [H, W, 3], or None if missing, drawn as "not given".
        maps: input → [H, W] of the size of the image.
        method: name of the explainer, e.g. "grad_cam".
        scale: values at zero and at full opacity, one scale for the whole run (`seewhy.figures.colours.run_scale`).
        signed: draw negative values too; requires a symmetric scale.
        title: prediction and truth, see `headline`.
        shares: input → share of the total attribution, 0 to 1.
        warnings: checks that the maps failed; the maps are then marked.
        masks: input → [H, W] annotation, where there is one.
        phantom: whether the images are synthetic, which the title then states.
        unit: meaning of the numbers and origin of the scale.
        scope: what shares the scale, `run` or `call`, for the small print.
        marks: sides of the body and size of a pixel, where known.
        names: input → printed name, where it is not the input's own.
        region: input → [H, W] bool, region that should keep the prediction; drawn in a row of its own.
        region_note: its size, and whether it keeps the prediction; below the pictures.

    Returns:
        The files written, the sheet of the sample first.

    Raises:
        ValueError: a map without an image or of another size, an invalid scale, or an unsafe id.
    """
    sample = PlanarSample(
        id=sample_id,
        images=images,
        maps=maps,
        title=title,
        shares=shares or {},
        warnings=warnings,
        masks=masks or {},
        marks=marks,
        names=names or {},
        region=region or {},
        region_note=region_note,
    )
    _check(sample)
    bar = Bar(scale=scale, colormap=DIVERGING if signed else "inferno", unit=unit, row=1)
    named = method if method != "grad_cam" else "gradcam"
    heading = join_title(sample_id, method_label(method), title, phantom=phantom)
    above = [_image_cell(sample, name, SIDE) for name in images]
    below = [_map_cell(sample, name, SIDE, bar) for name in images]
    rows = [above, below, *_own_contrast_row(sample, SIDE, bar, scope)]
    foot = _foot(sample, list(images), scope=scope, phantom=phantom, own=len(rows) > 2)
    if sample.region:
        rows.append([_region_cell(sample, name, SIDE) for name in images])
        foot += f" · orange: {region_note}" * bool(region_note)
    page = sheet(rows, title=heading, warnings=warnings, bar=bar, foot=foot)
    written = [write_sheet(Path(folder) / f"{sample_id}_{named}_visualization.png", page)]
    for name in maps:
        image = images[name]
        if image is None:
            continue
        foot = _foot(sample, [name], scope=scope, phantom=phantom, own=False)
        page = sheet(
            [[_single(sample, name, bar)]],
            title=f"{name} · {heading}",
            warnings=warnings,
            bar=replace(bar, row=0),
            foot=foot,
        )
        written.append(write_sheet(Path(folder) / f"{sample_id}_heatmaps" / f"{sample_id}_{safe_name(name)}.png", page))
    return written


def write_planar_summary(
    path: str | Path,
    samples: Sequence[PlanarSample],
    *,
    method: str,
    scale: tuple[float, float],
    signed: bool = False,
    phantom: bool = False,
    unit: str = "attribution",
    limit: int = 20,
) -> Path:
    """Write a summary with one row per sample: every input with its heat map, prediction, truth and confidence.

    Args:
        path: e.g. `<method>/summary_visualization.png`.
        samples: at least one; the number of those beyond the limit is printed at the bottom.
        method: name of the explainer.
        scale: see `write_planar`; the same for all samples.
        signed: see `write_planar`.
        phantom: see `write_planar`.
        unit: see `write_planar`.
        limit: largest number of rows.
    """
    if not samples:
        raise ValueError("no samples to summarise")
    for sample in samples:
        _check(sample)
    bar = Bar(scale=scale, colormap=DIVERGING if signed else "inferno", unit=unit, row=0)
    names = list(dict.fromkeys(name for sample in samples for name in sample.images))
    shown = samples[:limit]
    rows, labels = [], []
    for sample in shown:
        pairs = ((_image_cell(sample, name, SMALL), _map_cell(sample, name, SMALL, bar)) for name in names)
        rows.append([cell for pair in pairs for cell in pair])
        factor = own_scale(list(sample.maps.values()), scale)[1] if sample.maps else 1.0
        weak = [f"weak: shown at 1/{format_factor(factor)} of its own contrast"] if factor >= WEAK else []
        lines = [sample.id, *sample.title.split(" · "), *weak, *(f"⚠ {text}" for text in sample.warnings)]
        labels.append("\n".join(lines))
    heading = join_title(method_label(method), f"{len(samples)} samples", phantom=phantom)
    rest = len(samples) - len(shown)
    foot = "one colour scale for all rows" + (f" · {rest} more samples in separate files" if rest else "")
    foot += " · cyan: annotation" * any(_is_annotated(sample, sample.images) for sample in shown)
    return write_sheet(path, sheet(rows, title=heading, labels=labels, bar=bar, foot=foot))


def _check(sample: PlanarSample) -> None:
    if Path(sample.id).name != sample.id:
        raise ValueError(f"sample id {sample.id!r} is not safe as a file name; expected a name without folders")
    problems = []
    for name, heat in sample.maps.items():
        image = sample.images.get(name)
        if name not in sample.images:
            problems.append(f"map {name!r} has no image; images: {', '.join(sample.images) or 'none'}")
        elif image is not None and np.shape(heat) != np.shape(image)[:2]:
            problems.append(f"map {name!r} of shape {np.shape(heat)} on an image of {np.shape(image)[:2]}")
    if problems:
        raise ValueError(f"{sample.id}: " + "; ".join(problems))


def _image_cell(sample: PlanarSample, name: str, side: int) -> Cell:
    image = sample.images.get(name)
    share = sample.shares.get(name)
    note = "" if share is None else _format_share(share, sample)
    if image is None:
        return Cell(
            picture=empty_picture(side, "not given"),
            name=sample.names.get(name, name),
            note="" if share is None else "no share",
        )
    picture = resize_to_width(grey(image), side)
    picture = draw_annotation(picture, sample.masks.get(name))
    return Cell(picture=draw_marks(picture, sample.marks), name=sample.names.get(name, name), note=note)


def _own_contrast_row(sample: PlanarSample, side: int, bar: Bar, scope: str) -> list[list[Cell]]:
    """A row of the maps with their own contrast, if the shared scale leaves one of them hardly visible."""
    cells, weak = [], False
    common = list(sample.maps.values()) if _is_flat(sample) else None  # each image alone would always be at full colour
    for name, image in sample.images.items():
        heat = sample.maps.get(name)
        if image is None or heat is None or not np.any(np.asarray(heat)):
            cells.append(Cell(picture=empty_picture(side, "no evidence"), name="own contrast"))
            continue
        own, factor = own_scale(common or [heat], bar.scale)
        weak |= factor >= WEAK
        cell = _map_cell(sample, name, side, replace(bar, scale=own))
        cells.append(replace(cell, name="own contrast", note=f"× {format_factor(factor)} of the {scope}'s scale"))  # noqa: RUF001
    return [cells] if weak else []


def _map_cell(sample: PlanarSample, name: str, side: int, bar: Bar) -> Cell:
    image, heat = sample.images.get(name), sample.maps.get(name)
    if image is None or heat is None:
        return Cell(picture=empty_picture(side, "not given" if image is None else "no map"))
    shown = overlay(
        resize_to_width(grey(image), side),
        resize_to_width(np.asarray(heat, np.float32), side),
        scale=bar.scale,
        colormap=bar.colormap,
    )
    shown = draw_annotation(shown, sample.masks.get(name))
    return Cell(picture=draw_marks(shown, sample.marks), marked=bool(sample.warnings))


def _region_cell(sample: PlanarSample, name: str, side: int) -> Cell:
    image, mask = sample.images.get(name), sample.region.get(name)
    if image is None or mask is None:
        return Cell(picture=empty_picture(side, "not given" if image is None else "no region"))
    picture = draw_region(resize_to_width(grey(image), side), mask)
    inside = f"{100 * np.mean(np.asarray(mask) > 0):.1f} % of the image"
    return Cell(picture=draw_marks(picture, sample.marks), name="region", note=inside)


def _single(sample: PlanarSample, name: str, bar: Bar) -> Cell:
    """Heat map on its image, at the size of the image or an integer multiple of it."""
    image = grey(np.asarray(sample.images[name]))
    factor = max(1, round(LEAST / min(image.shape[:2])))
    heat = enlarge(np.asarray(sample.maps[name], np.float32), factor)
    shown = overlay(enlarge(image, factor), heat, scale=bar.scale, colormap=bar.colormap)
    share = sample.shares.get(name)
    note = "" if share is None else _format_share(share, sample)
    shown = draw_marks(draw_annotation(shown, sample.masks.get(name)), sample.marks)
    return Cell(picture=shown, note=note, marked=bool(sample.warnings))


def _is_flat(sample: PlanarSample) -> bool:
    """Whether each of several images has one value, as methods for whole inputs give it."""
    return len(sample.maps) > 1 and all(np.ptp(np.asarray(heat)) == 0 for heat in sample.maps.values())


def _format_share(share: float, sample: PlanarSample) -> str:
    """A share in percent, never -0; of the score where each image has one value with a sign."""
    return f"{round(100 * share) + 0:d} % of " + ("the score" if _is_flat(sample) else "attribution")


def _is_annotated(sample: PlanarSample, names: Iterable[str]) -> bool:
    """Whether an outline of an annotation is drawn on one of the images."""
    return any(
        sample.images.get(name) is not None and name in sample.masks and bool(np.any(sample.masks[name]))
        for name in names
    )


def _foot(sample: PlanarSample, names: Sequence[str], *, scope: str, phantom: bool, own: bool) -> str:
    notes = [f"one colour scale for the whole {scope}" + (", except for own contrast" if own else "")]
    notes += ["one value for each image, spread over its pixels"] if _is_flat(sample) else []
    notes += [f"{sample.marks.plane} slice"] if sample.marks is not None and sample.marks.plane else []
    notes += ["cyan: annotation"] if _is_annotated(sample, names) else []
    notes += ["phantom data, not patients"] if phantom else []
    return " · ".join(notes)
