"""Pictures of finished explanations on one colour scale per method, also for the experiment trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from PIL import Image

from seewhy.errors import DataError
from seewhy.io.geometry import Display
from seewhy.io.names import safe_name
from seewhy.reporting.store import ExplanationStore, Place
from seewhy.tracking.media import find_step, log_image, log_table, takes_images, takes_tables

__all__ = [
    "choose_look",
    "draw_method",
    "draw_sample",
    "draw_summary",
    "find_main_picture",
    "format_title",
    "format_truth",
    "has_picture",
    "log_explanations",
]

Record = Mapping[str, Any]
Array = NDArray[Any]
ROWS = 20
"""Planar samples in the summary."""
WITHOUT_ZERO = ("attention", "attention_rollout", "gates", "self_attention")
"""Methods whose values are above zero everywhere, so that a scale from zero would tint whole pictures."""
SPREAD = 7
"""Slices drawn of a volume without `key_slices`."""
PANELS = 4
"""Samples of each method whose pictures are sent to the trackers."""
TABLE_ROWS = 200
"""Rows of the trackers' table."""


def draw_method(
    store: ExplanationStore,
    place: Place,
    records: Sequence[Record],
    *,
    key_slices: Sequence[int] | None,
    limit: int | None = None,
    phantom: bool,
) -> dict[str, list[str]]:
    """Draw the samples of one method and target, and a summary of planar samples.

    Args:
        store: has the arrays; pictures are written to its folder.
        place: method and target.
        records: of the samples, in the order of the summary.
        key_slices: numbers in the scan of the slices that are drawn of volumes; None spreads 7 over each volume.
        limit: number of samples that are drawn, the first ones; None draws all, and 0 no summary either.
        phantom: whether the data are synthetic.

    Returns:
        Sample → files written, relative to the store's folder.
    """
    look = choose_look(store, place, records, phantom=phantom)
    shown = records[:limit]
    written = {record["id"]: draw_sample(store, place, record, look, key_slices=key_slices) for record in shown}
    if limit != 0:
        draw_summary(store, place, records, look)
    return written


def choose_look(store: ExplanationStore, place: Place, records: Sequence[Record], *, phantom: bool) -> dict[str, Any]:
    """Choose the colour scale of one method and target, which all its pictures share, as plain data.

    Args:
        store: has the arrays.
        place: method and target.
        records: of all samples.
        phantom: whether the data are synthetic.
    """
    from seewhy.figures.colours import run_scale
    from seewhy.figures.labels import method_label

    signed = any(record["signed"] for record in records)
    relative = place.method in WITHOUT_ZERO
    scale, unit = run_scale(_all_maps(store, place, records), signed=signed, from_median=relative)
    return {"scale": scale, "signed": signed, "unit": f"{method_label(place.method)}; {unit}", "phantom": phantom}


def draw_sample(
    store: ExplanationStore,
    place: Place,
    record: Record,
    look: Mapping[str, Any],
    *,
    key_slices: Sequence[int] | None,
) -> list[str]:
    """Draw one sample.

    Args:
        store: has the arrays; pictures are written to its folder.
        place: method and target.
        record: of the sample, with its warnings.
        look: of `choose_look`.
        key_slices: numbers in the scan of the slices that are drawn of volumes; None spreads 7 over each volume.

    Returns:
        Files written, relative to the store's folder.
    """
    maps = store.arrays(place, record["id"])
    if _is_volume(record):
        files = _draw_volume(store, place, record, maps, key_slices, look)
    else:
        files = _draw_planar(store, place, record, maps, look)
    return [file.relative_to(store.folder).as_posix() for file in files]


def draw_summary(store: ExplanationStore, place: Place, records: Sequence[Record], look: Mapping[str, Any]) -> None:
    """Draw the first planar samples of one method and target in one picture; nothing without any."""
    from seewhy.figures.explanations.heatmaps import PlanarSample, write_planar_summary

    planar = [record for record in records if not _is_volume(record)]
    if not planar:
        return
    shown = [_upright_sample(store, place, record) for record in planar[:ROWS]]
    shown += [PlanarSample(id=safe_name(record["id"]), images={}, maps={}) for record in planar[ROWS:]]  # only counted
    path = store.folder / place.path / "summary_visualization.png"
    write_planar_summary(path, shown, method=place.method, limit=ROWS, **look)


def _is_volume(record: Record) -> bool:
    """Whether the maps of a record have three dimensions."""
    return str(next(iter(record["statistics"].values()))["shape"]).count("x") == 2


def format_title(record: Record) -> str:
    """Prediction, truth and target in one line."""
    from seewhy.figures.explanations.heatmaps import headline

    if record.get("measures"):
        return f"explained: {record['measures']} {record['target_name']}, {record['probability']:.2f} of its range"
    return headline(
        prediction=record["predicted_name"],
        probability=record["confidence"],
        truth=format_truth(record),
        target=record["target_name"],
    )


def format_truth(record: Record) -> str | None:
    """True class of a record as text; None if it is unknown."""
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
    region = store.region(place, record["id"])
    folder = store.subject_folder(place, record["id"], volume=True)
    files: list[Path] = []
    for name, heat in maps.items():
        image = images[name]
        if image is None:
            continue
        subject = safe_name(record["id"]) + ("" if len(maps) == 1 else f"_{safe_name(name)}")
        flat = any("all slices" in note for note in record["notes"])
        numbers: list[int] = record["slice_numbers"]
        files += write_slices(
            folder,
            subject,
            place.method,
            image,
            heat[0] if flat else heat,
            slices=_choose_slices(numbers, key_slices),
            title=format_title(record),
            display=Display(**record["display"]),
            spacing=tuple(record["spacing"]) if len(record["spacing"] or ()) == 3 else None,
            warnings=record["warnings"],
            mask=masks.get(name),
            region=region.get(name),
            region_note=_describe_region(record),
            **look,
        )
    return files


def _choose_slices(numbers: Sequence[int], wanted: Sequence[int] | None) -> list[tuple[int, int]]:
    """(position, number in the scan) of the slices to draw."""
    if wanted is not None:
        return [(int(np.argmin(np.abs(np.asarray(numbers) - number))), number) for number in wanted]
    positions = np.linspace(0, len(numbers) - 1, min(SPREAD + 2, len(numbers))).round().astype(int)
    inner = positions[1:-1] if len(positions) > 2 else positions  # the outermost slices rarely show anything
    return [(int(position), numbers[position]) for position in dict.fromkeys(inner)]


def _draw_planar(
    store: ExplanationStore, place: Place, record: Record, maps: Mapping[str, Array], look: Mapping[str, Any]
) -> list[Path]:
    from seewhy.figures.explanations.heatmaps import write_planar

    sample = _upright_sample(store, place, record, maps=maps)
    return write_planar(
        store.folder / place.path,
        safe_name(record["id"]),
        sample.images,
        sample.maps,
        method=place.method,
        title=sample.title,
        shares=sample.shares,
        warnings=sample.warnings,
        masks=sample.masks,
        marks=sample.marks,
        names=sample.names,
        region=sample.region,
        region_note=sample.region_note,
        **look,
    )


def _upright_sample(
    store: ExplanationStore, place: Place, record: Record, *, maps: Mapping[str, Array] | None = None
) -> Any:
    """A planar sample turned upright."""
    from seewhy.figures.explanations.heatmaps import PlanarSample
    from seewhy.figures.style import turn_upright

    display = Display(**record["display"])
    images, masks = store.view(record["id"])
    heats = store.arrays(place, record["id"]) if maps is None else maps
    return PlanarSample(
        id=safe_name(record["id"]),
        images={name: None if image is None else turn_upright(image, display) for name, image in images.items()},
        maps={name: turn_upright(heat, display) for name, heat in heats.items()},
        names=dict.fromkeys(heats, str(record["shown_as"])) if record.get("shown_as") else {},
        title=format_title(record),
        shares=_select_shares(record) if len(heats) > 1 else {},
        warnings=record["warnings"],
        masks={name: turn_upright(mask, display) for name, mask in masks.items()},
        marks=_make_marks(record, display, images),
        region={name: turn_upright(mask, display) for name, mask in store.region(place, record["id"]).items()},
        region_note=_describe_region(record),
    )


def _describe_region(record: Record) -> str:
    """Size of the region of a sample, and whether it keeps the prediction; empty without one."""
    judged = record.get("judged", {})
    if judged.get("region_kept") is None:
        return ""
    result = "the prediction stays" if judged["region_kept"] else "the prediction CHANGES"
    return f"region of {judged['region_size']:.1%} of all pixels; with all others blurred {result}"


def _make_marks(record: Record, display: Display, images: Mapping[str, Array | None]) -> Any:
    """Marks of a planar sample, from the spacing of its rows and columns."""
    from seewhy.figures.marks import make_marks

    shape = next((image.shape[:2] for image in images.values() if image is not None), (0, 0))
    spacing = list(record["spacing"] or ())
    return make_marks(display, shape, spacing[:2] if len(spacing) >= 2 else None)


def _select_shares(record: Record) -> dict[str, float]:
    """The shares to print: those of Shapley values with their sign, if a method gives them, else of the evidence."""
    found = record.get("contributions")
    return {n: s for n, s in found["shares"].items() if s is not None} if found else dict(record["shares"])


def log_explanations(trainer: Trainer, folder: Path, records: Sequence[Record], *, name: str) -> None:
    """Send pictures and a table of maps to the loggers that show them.

    Args:
        trainer: has the loggers and the step.
        folder: folder of the explanations.
        records: with their `pictures`; those without any are left out.
        name: prefix of the panels' names, e.g. `explanations`.
    """
    records = [record for record in records if has_picture(record)]
    if takes_images(trainer.loggers):
        for method in dict.fromkeys(record["method"] for record in records):
            shown = [record for record in records if record["method"] == method][:PANELS]
            for number, record in enumerate(shown):
                picture = _read_main_picture(folder, record)
                caption = f"{record['id']}, {method}: {format_title(record)}"
                log_image(trainer.loggers, f"{name}/{method}/{number}", picture, find_step(trainer), caption=caption)
    if takes_tables(trainer.loggers):
        rows = [_table_row(folder, record) for record in records[:TABLE_ROWS]]
        log_table(trainer.loggers, name, rows, step=find_step(trainer))


def _table_row(folder: Path, record: Record) -> dict[str, Any]:
    scores = {key: value for key, value in record.get("judged", {}).items() if isinstance(value, (int, float))}
    row = {
        "id": record["id"],
        "method": record["method"],
        "image and map": _read_main_picture(folder, record),
        "prediction": record["predicted_name"],
        "probability": record["confidence"],
        "truth": format_truth(record),
        "explained": record["target_name"],
        "probability of the explained class": record["probability"],
        "title": format_title(record),
        "warnings": "; ".join(record["warnings"]),
    }
    return row | {key: value for key, value in scores.items() if key not in row}


def has_picture(record: Record) -> bool:
    """Return whether a sample was drawn by this method; see `explain.pictures`."""
    return bool(record["pictures"])


def find_main_picture(record: Record) -> str:
    """The picture with everything about a sample, relative to the folder: its visualization or its slices' summary."""
    names = [name for name in record["pictures"] if name.endswith(("_visualization.png", "_summary.png"))]
    if not names:
        raise DataError(f"{record['id']} has no picture of {record['method']}; make it again by explain.py")
    return str(names[0])


def _read_main_picture(folder: Path, record: Record) -> np.ndarray[Any, Any]:
    with Image.open(folder / find_main_picture(record)) as picture:
        return np.asarray(picture.convert("RGB"))
