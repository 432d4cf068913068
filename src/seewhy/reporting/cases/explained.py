"""Make cases of the report's browser from stored explanations, each with its image, annotation and maps."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.figures.labels import method_label
from seewhy.figures.report.cases import BrowserCase, PictureLayer
from seewhy.figures.report.pictures import ArrayLayer, draw_planes
from seewhy.io.atomic import list_files
from seewhy.io.geometry import Display
from seewhy.reporting.pictures import choose_look, format_truth
from seewhy.reporting.store import ExplanationRecord, ExplanationStore, Place, VerdictRecord, read_record

__all__ = ["add_explanations", "read_explained_cases"]

LOGGER = logging.getLogger(__name__)

Record = dict[str, Any]
Array = NDArray[Any]
MAX_SLICES, SIDE = 24, 160
"""Slices of a volume, and the longest side of a picture in pixels."""
FLAT = "all slices"
"""Words in the notes of a record whose map is the same for all slices."""


def read_explained_cases(folder: Path) -> list[BrowserCase]:
    """Read the samples of a folder of explanations; a sample with damaged files is skipped with a warning.

    Args:
        folder: of explanations, e.g. `<run>/explanations`; may be missing.

    Returns:
        One case per sample, with one map per method, target and input. Nothing in the folder is unpickled or built.
    """
    store = ExplanationStore(folder)
    looks: dict[Place, dict[str, Any]] = {}
    by_sample: dict[str, list[tuple[Place, Record]]] = {}
    for place, records in _read_places(folder).items():
        try:
            looks[place] = choose_look(store, place, records, phantom=False)
        except DataError as error:
            LOGGER.warning("maps of %s are left out of the page: %s", place.title, error)
            continue
        for record in records:
            by_sample.setdefault(record["id"], []).append((place, record))
    targets: dict[str, set[str]] = {}
    for places in by_sample.values():
        for place, _ in places:
            targets.setdefault(place.method, set()).add(place.target)
    cases = []
    for places in by_sample.values():
        try:
            cases.append(_make_case(store, places, looks, several={m for m, own in targets.items() if len(own) > 1}))
        except (DataError, ValueError, KeyError) as error:
            LOGGER.warning("explanations of %s are left out of the page: %s", places[0][1]["id"], error)
    return cases


def add_explanations(cases: Iterable[BrowserCase], explained: Sequence[BrowserCase]) -> list[BrowserCase]:
    """Add the pictures of explained samples to the cases of a page.

    A sample of the same id replaces the pictures of its case; the maps of single slices become layers of their patient;
    other samples are appended.

    Args:
        cases: of a test or prediction.
        explained: of `read_explained_cases`.
    """
    known = {case.id: case for case in explained}
    merged = []
    for case in cases:
        own = known.pop(case.id, None)
        if own is not None:
            merged.append(replace(case, layers=own.layers, planes=own.planes))
            continue
        slices = [one for one in known.values() if one.patient == case.id and _is_slice_of(one, case)]
        merged.append(_add_slices(case, slices) if slices else case)
        for one in slices:
            del known[one.id]
    return merged + list(known.values())


def _is_slice_of(one: BrowserCase, patient: BrowserCase) -> bool:
    """Whether a sample is one slice of a patient whose pictures are slices of one image, and one of these."""
    inputs = {layer.input for layer in patient.layers if layer.kind == "image"}
    if len(one.planes) != 1 or len(one.planes[0].slices) != 1 or len(patient.planes) != 1 or len(inputs) != 1:
        return False
    return one.planes[0].slices[0].number in {item.number for item in patient.planes[0].slices}


def _add_slices(patient: BrowserCase, slices: Sequence[BrowserCase]) -> BrowserCase:
    """Append the maps of explained slices to the layers of their patient; other slices have none there."""
    image = next(layer.input for layer in patient.layers if layer.kind == "image")
    added: dict[PictureLayer, dict[int, str | None]] = {}
    for one in slices:
        item = one.planes[0].slices[0]
        for layer, picture in zip(one.layers, item.pictures, strict=True):
            if layer.kind == "map":
                name = f"{layer.name} (single slices)"
                added.setdefault(replace(layer, input=image, name=name), {})[item.number] = picture
    plane = patient.planes[0]
    pictures = [
        replace(item, pictures=[*item.pictures, *(own.get(item.number) for own in added.values())])
        for item in plane.slices
    ]
    numbers = ", ".join(str(number) for number in sorted(one.planes[0].slices[0].number for one in slices))
    return replace(
        patient, layers=[*patient.layers, *added], planes=[replace(plane, slices=pictures)],
        facts={**patient.facts, "explained slices": numbers},
    )  # fmt: skip


def _read_places(folder: Path) -> dict[Place, list[Record]]:
    """Records by method and target, as the folders of the store have them."""
    root = folder / "records"
    found: dict[Place, list[Record]] = {}
    for path in list_files(root, "*/*.json") + list_files(root, "*/*/*.json"):
        parts = path.relative_to(root).parts[:-1]
        record = read_record(path, ExplanationRecord)
        if record is not None and parts[0] != "floors":
            found.setdefault(Place(parts[0], parts[1] if len(parts) > 1 else ""), []).append(record)
    return found


def _make_case(
    store: ExplanationStore, places: Sequence[tuple[Place, Record]], looks: dict[Place, Any], *, several: set[str]
) -> BrowserCase:
    record = places[0][1]
    images, masks = store.view(record["id"])
    layers: list[ArrayLayer] = []
    for name, image in images.items():
        if image is None:
            continue
        title = name if len(images) > 1 else record.get("shown_as") or "image"
        layers.append(ArrayLayer(PictureLayer(kind="image", input=name, name=title), _stack(image), (0.0, 255.0)))
        if name in masks:
            layers.append(ArrayLayer(PictureLayer(kind="truth", input=name), _stack(masks[name])))
    shape = layers[0].values.shape
    for place, own in places:
        layers += _map_layers(store, place, own, looks[place], shape, named=place.method in several)
    depth = shape[0]
    numbers = record["slice_numbers"] if len(record["slice_numbers"]) == depth else list(range(depth))
    layers = [item for item in layers if item.values.shape == shape]
    chosen, planes = draw_planes(
        layers, numbers=numbers, spacing=(record["spacing"] or [])[: 3 if depth > 1 else 2],
        display=Display(**record["display"]),
        max_slices=MAX_SLICES, side=SIDE,
    )  # fmt: skip
    truth, answer = format_truth(record) or "", "" if record.get("measures") else record["predicted_name"]
    return BrowserCase(
        id=record["id"], patient=record["patient"], label=truth, prediction=answer,
        right=answer == truth if truth and answer and isinstance(record["label"], int) else None,
        probability=record["confidence"], layers=chosen, planes=planes, facts={"explained": record["target_name"]},
    )  # fmt: skip


def _map_layers(
    store: ExplanationStore, place: Place, record: Record, look: Any, shape: tuple[int, ...], *, named: bool
) -> list[ArrayLayer]:
    """A layer per input, in shares of the full colour of the method's maps."""
    verdict = read_record(store.folder / "records" / f"{place.title.replace('/', '.')}.verdict.json", VerdictRecord)
    notes = [f"{method_label(place.method)} failed a test: {line}" for line in (verdict or {}).get("failures", [])]
    low, high = look["scale"]
    signed = bool(look["signed"])
    name = method_label(place.method) + (f", {record['target_name']}" if named else "")
    layers = []
    for input_name, values in store.arrays(place, record["id"]).items():
        heat = values[0] if values.ndim == 3 and any(FLAT in note for note in record["notes"]) else values
        stack = np.broadcast_to(_stack(heat), shape) if heat.shape == shape[1:] else _stack(heat)
        shares = stack / high if signed else np.clip((stack - low) / (high - low), 0, None)
        layer = PictureLayer(kind="map", input=input_name, name=name, signed=signed, note=" ".join(notes))
        layers.append(ArrayLayer(layer, shares))
    return layers


def _stack(values: Array) -> Array:
    """[S, H, W] of an image or a volume."""
    return values if values.ndim == 3 else values[None]
