"""Segment one uploaded volume, out of core as `predict.py` does, and draw what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ExplanationError
from seewhy.figures.labels import method_label
from seewhy.figures.report.cases import BrowserCase, PictureLayer
from seewhy.figures.report.pictures import ArrayLayer, draw_planes, measure_window
from seewhy.io.geometry import Display
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.source import VolumeSource, millimetres
from seewhy.reporting.cases.batches import CasePictures
from seewhy.run.loaded.given_cases import name_case
from seewhy.run.loaded.model import MOST_VOXELS, LoadedModel
from seewhy.run.serving.uploads import SentCase

__all__ = ["segment"]

Array = NDArray[Any]
INPUT = "image"
BRIGHT = 99.5
"""Percentile of a map that is drawn with the full colour."""


def segment(model: LoadedModel, case: SentCase, folder: Path, pictures: CasePictures) -> dict[str, Any]:
    """Segment a volume into `<folder>/predictions/<id>.nii.gz`, and explain a class if a method is given.

    Args:
        model: the run.
        case: one volume.
        folder: for results.
        pictures: size of what is drawn.

    Returns:
        Fields of an `Examination`, without its folder and verdict.

    Raises:
        SeewhyError: a volume that cannot be read, or that does not fit the run.
    """
    [path] = case.files[INPUT]
    name = case.name or name_case(path)
    output = folder / "predictions" / f"{name}.nii.gz"
    output.parent.mkdir(parents=True)
    model.predict_volume(path, output, preview=False, store={"dtype": "labels"})
    source = open_source(path)
    image, labels = _read(source)[0], _read(open_source(output))[0]
    layers = [ArrayLayer(PictureLayer(kind="image", input=INPUT, name="image"), image, measure_window(image))]
    heat, target, notes = _explain(model, case, path, labels)
    if heat is not None and case.method is not None:
        layers.append(_draw_heat(heat, f"{method_label(case.method)}, {target}"))
    found = {own: labels == number for number, own in enumerate(model.classes, start=1)}
    layers += [ArrayLayer(PictureLayer(kind="prediction", input=INPUT, name=own), mask) for own, mask in found.items()]
    drawn, planes = draw_planes(
        layers, numbers=list(range(labels.shape[0])), spacing=source.spacing, display=Display(),
        max_slices=pictures.max_slices, side=pictures.side, three=True,
    )  # fmt: skip
    predicted = ", ".join(own for own, mask in found.items() if mask.any()) or "none"
    return {
        "id": name,
        "predicted": predicted,
        "values": _measure(found, source),
        "about": "size of what was found",
        "cases": [BrowserCase(id=name, patient=name, prediction=predicted, layers=drawn, planes=planes)],
        "method": None if heat is None else case.method,
        "target": target,
        "notes": notes,
    }


def _read(source: VolumeSource) -> Array:
    """All values [C, Z, Y, X]."""
    z, y, x = source.shape[1:]
    return np.asarray(source.read((slice(0, z), slice(0, y), slice(0, x))))


def _measure(found: dict[str, Array], source: VolumeSource) -> list[dict[str, Any]]:
    """Size of each class, in millilitres where the voxel size is known."""
    spacing = millimetres(source)
    unit = "voxels" if spacing is None else "ml"
    factor = 1.0 if spacing is None else float(np.prod(spacing)) / 1000
    return [{"name": name, "value": float(mask.sum()) * factor, "unit": unit} for name, mask in found.items()]


def _explain(model: LoadedModel, case: SentCase, path: Path, labels: Array) -> tuple[Array | None, str, Sequence[str]]:
    """Map of a class over the whole volume, the class, and why there is none."""
    if case.method is None:
        return None, "", []
    title = method_label(case.method)
    if labels.size > MOST_VOXELS:
        found = f"the volume has {labels.size} voxels, and at most {MOST_VOXELS} are explained at once"
        return None, "", [f"No map by {title}: {found}; explain.py volume.input=… explain.roi=… explains a region."]
    counts = {name: int((labels == number).sum()) for number, name in enumerate(model.classes, start=1)}
    target = case.target or max(counts, key=lambda name: counts[name])
    if not counts[target]:
        what = "nothing was found" if case.target is None else f"no voxel is predicted as {target}"
        return None, "", [f"No map by {title}: {what}."]
    try:
        [sample] = model.explain(path, method=case.method, target=target, names=case.name)
    except ExplanationError as error:
        return None, "", [f"No map by {title}: {error}"]
    return sample.heatmaps[INPUT], target, []


def _draw_heat(heat: Array, name: str) -> ArrayLayer:
    """A map in shares of its own brightest values."""
    signed = bool((heat < 0).any())
    strengths = np.abs(heat[heat != 0])
    top = float(np.percentile(strengths, BRIGHT)) if strengths.size else 1.0
    return ArrayLayer(PictureLayer(kind="map", input=INPUT, name=name, signed=signed), np.clip(heat / top, -1, 1))
