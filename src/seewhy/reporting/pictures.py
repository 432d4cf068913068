"""Pictures of finished explanations, all of one method on one colour scale.

Explanations for the trackers: panels of pictures, and a table of maps with their scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from PIL import Image

from seewhy.io.geometry import Display
from seewhy.reporting.store import ExplanationStore, Place
from seewhy.tracking import log_image, log_table, takes_images, takes_tables

__all__ = ["draw_method", "log_explanations", "title_of"]

Record = Mapping[str, Any]
Array = NDArray[Any]
ROWS = 20
"""Samples in the summary of planar ones."""
SPREAD = 7
"""Slices that are drawn of a volume when none are named."""


def draw_method(
    store: ExplanationStore, place: Place, records: Sequence[Record], *, key_slices: Sequence[int] | None, phantom: bool
) -> dict[str, list[str]]:
    """Draw every sample of one method and target, and a summary of planar samples.

    Args:
        store: where arrays are and pictures go.
        place: method and target.
        records: of the samples, in the order of the summary.
        key_slices: numbers in the scan of the slices that are drawn of volumes; None takes some spread over each.
        phantom: whether the data are synthetic.

    Returns:
        Sample → files written, relative to the store's folder.
    """
    from seewhy.figures.colours import run_scale
    from seewhy.figures.explanations.heatmaps import PlanarSample, write_planar_summary
    from seewhy.figures.labels import method_label

    signed = any(record["signed"] for record in records)
    scale, unit = run_scale(_all_maps(store, place, records), signed=signed)
    look = {"scale": scale, "signed": signed, "unit": f"{method_label(place.method)}; {unit}", "phantom": phantom}
    written: dict[str, list[str]] = {}
    planar = []
    for record in records:
        maps = store.arrays(place, record["id"])
        if next(iter(maps.values())).ndim == 3:
            files = _draw_volume(store, place, record, maps, key_slices, look)
        else:
            files = _draw_planar(store, place, record, maps, look)
            planar.append(record)
        written[record["id"]] = [file.relative_to(store.folder).as_posix() for file in files]
    if planar:
        shown = [_sample(store, place, record) for record in planar[:ROWS]]
        shown += [PlanarSample(id=record["id"], images={}, maps={}) for record in planar[ROWS:]]  # only counted
        path = store.folder / place.path / "summary_visualization.png"
        write_planar_summary(path, shown, method=place.method, limit=ROWS, **look)  # type: ignore[arg-type]
    return written


def title_of(record: Record) -> str:
    """Prediction, truth and target in one line."""
    from seewhy.figures.explanations.heatmaps import headline

    return headline(
        prediction=record["predicted_name"],
        probability=record["confidence"],
        truth=_truth(record),
        target=record["target_name"],
    )


def _truth(record: Record) -> str | None:
    label, names = record["label"], record["classes"]
    if label is None:
        return None
    if isinstance(label, list):
        if len(label) == 1:
            return str(int(label[0] > 0.5))
        return "/".join(f"{value:g}" for value in label)
    return str(names[label]) if label < len(names) else str(label)


def _all_maps(store: ExplanationStore, place: Place, records: Sequence[Record]) -> Any:
    for record in records:
        yield from store.arrays(place, record["id"]).values()


def _draw_volume(
    store: ExplanationStore,
    place: Place,
    record: Record,
    maps: Mapping[str, Array],
    key_slices: Sequence[int] | None,
    look: Mapping[str, Any],
) -> list[Path]:
    from seewhy.figures.volumes.maps import write_slices

    images, masks = store.view(record["id"])
    folder = store.subject_folder(place, record["id"], volume=True)
    files: list[Path] = []
    for name, heat in maps.items():
        image = images[name]
        if image is None:
            continue
        subject = record["id"] if len(maps) == 1 else f"{record['id']}_{name}"
        flat = any("all slices" in note for note in record["notes"])
        numbers: list[int] = record["slice_numbers"]
        files += write_slices(
            folder,
            subject,
            place.method,
            image,
            heat[0] if flat else heat,
            slices=_slices(numbers, key_slices),
            title=title_of(record),
            display=Display(**record["display"]),
            spacing=tuple(record["spacing"]) if len(record["spacing"] or ()) == 3 else None,
            warnings=record["warnings"],
            mask=masks.get(name),
            **look,
        )
    return files


def _slices(numbers: Sequence[int], wanted: Sequence[int] | None) -> list[tuple[int, int]]:
    """(position, number in the scan) of the slices to draw."""
    if wanted is not None:
        return [(int(np.argmin(np.abs(np.asarray(numbers) - number))), number) for number in wanted]
    places = np.linspace(0, len(numbers) - 1, min(SPREAD + 2, len(numbers))).round().astype(int)
    inner = places[1:-1] if len(places) > 2 else places  # the outermost slices rarely show anything
    return [(int(place), numbers[place]) for place in dict.fromkeys(inner)]


def _draw_planar(
    store: ExplanationStore, place: Place, record: Record, maps: Mapping[str, Array], look: Mapping[str, Any]
) -> list[Path]:
    from seewhy.figures.explanations.heatmaps import write_planar

    sample = _sample(store, place, record, maps=maps)
    return write_planar(
        store.folder / place.path,
        record["id"],
        sample.images,
        sample.maps,
        method=place.method,
        title=sample.title,
        shares=sample.shares,
        warnings=sample.warnings,
        masks=sample.masks,
        **look,
    )


def _sample(store: ExplanationStore, place: Place, record: Record, *, maps: Mapping[str, Array] | None = None) -> Any:
    """A planar sample turned upright."""
    from seewhy.figures.explanations.heatmaps import PlanarSample
    from seewhy.figures.style import turn_upright

    display = Display(**record["display"])
    images, masks = store.view(record["id"])
    heats = store.arrays(place, record["id"]) if maps is None else maps
    return PlanarSample(
        id=record["id"],
        images={name: None if image is None else turn_upright(image, display) for name, image in images.items()},
        maps={name: turn_upright(heat, display) for name, heat in heats.items()},
        title=title_of(record),
        shares=record["shares"] if len(heats) > 1 else {},
        warnings=record["warnings"],
        masks={name: turn_upright(mask, display) for name, mask in masks.items()},
    )


PANELS = 4
"""Samples of each method whose pictures go to the trackers."""
ROWS_panels = 200
"""Rows of the table."""


def log_explanations(trainer: Trainer, folder: Path, records: Sequence[Record], *, name: str) -> None:
    """Send what was drawn to the loggers that show pictures and tables; others hold numbers only.

    Args:
        trainer: has the loggers and knows the step.
        folder: of the explanations.
        records: with their `pictures`.
        name: first part of the panels' names, e.g. `explanations`.
    """
    if takes_images(trainer.loggers):
        for method in dict.fromkeys(record["method"] for record in records):
            own = [record for record in records if record["method"] == method]
            for place, record in enumerate(own[:PANELS]):
                picture = _picture(folder, record)
                log_image(trainer.loggers, f"{name}/{method}/{place}", picture, trainer.global_step)
    if takes_tables(trainer.loggers):
        log_table(trainer.loggers, name, [_row(folder, record) for record in records[:ROWS_panels]])


def _row(folder: Path, record: Record) -> dict[str, Any]:
    scores = {key: value for key, value in record.get("judged", {}).items() if isinstance(value, (int, float))}
    return {
        "id": record["id"],
        "method": record["method"],
        "image and map": _picture(folder, record),
        "prediction": record["predicted_name"],
        "probability": record["confidence"],
        "truth": None if record["label"] is None else str(record["label"]),
        "explained": record["target_name"],
        "said": title_of(record),
        "warnings": "; ".join(record["warnings"]),
        **scores,
    }


def _picture(folder: Path, record: Record) -> np.ndarray[Any, Any]:
    """The picture that shows most of a sample: its visualization, or the summary of its slices."""
    named = [name for name in record["pictures"] if name.endswith(("_visualization.png", "_summary.png"))]
    with Image.open(folder / named[0]) as picture:
        return np.asarray(picture.convert("RGB"))
