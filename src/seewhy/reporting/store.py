"""Store of explanations on disk: arrays, cached data for pictures, and records, whose types are checked on reading."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from seewhy.errors import DataError
from seewhy.explain.maps import Maps
from seewhy.io.atomic import atomic_path, write_json
from seewhy.io.documents import read_json
from seewhy.io.names import safe_name
from seewhy.io.nifti import NiftiFile, write_nifti
from seewhy.io.npy import read_npy, read_npz, write_npz
from seewhy.io.scans.scan import is_scan, open_scan
from seewhy.reporting.sample import SampleView

__all__ = [
    "ExplanationRecord",
    "ExplanationStore",
    "FloorsRecord",
    "Place",
    "VerdictRecord",
    "fingerprint",
    "read_record",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class Place:
    """Folder of the explanations of one method and target.

    Attributes:
        method: name of the explainer.
        target: folder of the target, empty for a single target.
    """

    method: str
    target: str = ""

    @property
    def path(self) -> Path:
        """Path relative to the folder of all explanations."""
        return Path(self.method) / self.target

    @property
    def title(self) -> str:
        """For tables, e.g. `grad_cam` or `grad_cam/target_2`."""
        return self.path.as_posix()


class ExplanationStore:
    """A folder of explanations; a sample is finished when its record, which is written last, exists.

    Args:
        folder: folder of all explanations, e.g. `<run>/explanations`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def remove(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- samples ---------------------------------------------------------------------------------------------

    def finished(self, place: Place, sample: str, key: str) -> bool:
        """Whether this sample was explained by the same weights, method and options, and all its files are there."""
        record = self.record(place, sample)
        if record is None or record["key"] != key or record["id"] != sample:
            return False
        if not all((self.folder / name).is_file() for name in record["files"]):
            return False
        try:
            names = self.arrays(place, sample).keys()
        except DataError:  # missing or damaged
            return False
        return names == record["statistics"].keys()

    def write(self, place: Place, view: SampleView, maps: Maps, facts: Mapping[str, Any], *, nifti: bool) -> None:
        """Write the maps of one sample.

        Args:
            place: method and target.
            view: the sample.
            maps: a batch of one sample.
            facts: `key` and further entries of the record.
            nifti: also write the map on the grid of the source, where the source is a scan with a grid.
        """
        raw = {name: values[0].cpu().numpy() for name, values in maps.maps.items()}
        # Signed maps are drawn with their sign where the method gives it a meaning, else their evidence is drawn.
        signed = maps.strength is None and maps.reading == "positive" and maps.signed
        shown = raw if signed else {name: values[0].float().cpu().numpy() for name, values in maps.evidence().items()}
        files = [self._write_array(place, view, name, array, alone=len(raw) == 1) for name, array in raw.items()]
        if nifti:
            files += self._write_nifti(place, view, raw)
        with atomic_path(self._cache_path(place, view.id)) as temporary, temporary.open("wb") as file:
            np.savez(file, **{name: array.astype(np.float32) for name, array in shown.items()})  # type: ignore[arg-type]
        completeness = None if maps.completeness is None else float(maps.completeness[0])
        record = {
            "id": view.id,
            "patient": view.patient,
            "source": view.source,
            "method": place.method,
            "target": int(maps.target[0]),
            "probability": float(maps.probability[0]),
            "scores": [float(value) for value in maps.scores[0]],
            "label": view.label,
            "layers": dict(maps.layers),
            "baseline": maps.baseline,
            "seed": maps.seed,
            "signed": signed,
            "completeness": completeness if completeness is not None and math.isfinite(completeness) else None,
            "notes": list(maps.notes),
            "shares": {name: float(share[0]) for name, share in maps.shares().items()},
            "contributions": None if maps.contributions is None else maps.contributions.record(),
            "placement": None if view.placement is None else view.placement.record(),
            "statistics": {name: _compute_statistics(array) for name, array in raw.items()},
            "files": files,
            **facts,
        }
        write_json(self._record_path(place, view.id), record)

    def record(self, place: Place, sample: str) -> dict[str, Any] | None:
        """The record of one sample, or None."""
        return read_record(self._record_path(place, sample), ExplanationRecord)

    def arrays(self, place: Place, sample: str) -> dict[str, Array]:
        """Input → map as it is drawn.

        Raises:
            DataError: the file is missing, damaged, or was not written by `write`.
        """
        path = self._cache_path(place, sample)
        arrays = read_npz(path)
        if not arrays or any(array.dtype.kind != "f" or array.ndim < 2 or not array.size for array in arrays.values()):
            raise DataError(f"{path} holds no maps; delete it, and make it again by explain.py")
        return arrays

    def write_region(self, place: Place, sample: str, masks: Mapping[str, Array]) -> None:
        """Write the region of one sample that keeps the prediction, input → bool array, for pictures."""
        write_npz(self._region_path(place, sample), masks)

    def has_region(self, place: Place, sample: str) -> bool:
        """Whether the region of a sample is stored."""
        return self._region_path(place, sample).is_file()

    def region(self, place: Place, sample: str) -> dict[str, Array]:
        """Input → region of one sample, bool; empty without one."""
        path = self._region_path(place, sample)
        return read_npz(path) if path.is_file() else {}

    def raw(self, record: Mapping[str, Any]) -> dict[str, Array]:
        """Input → the raw signed map of a record."""
        names = [file for file in record["files"] if file.endswith(".npy")]
        arrays = [read_npy(self.folder / name) for name in names]
        return dict(zip(record["statistics"], arrays, strict=True))

    # -- judgements ------------------------------------------------------------------------------------------

    def write_verdict(self, place: Place, key: str, verdict: Mapping[str, Any]) -> None:
        """Write the verdict of all samples on a method."""
        write_json(self._verdict_path(place), {"key": key, **verdict})

    def verdict(self, place: Place, key: str) -> dict[str, Any] | None:
        """The verdict on a method by the same weights and options, or None."""
        record = read_record(self._verdict_path(place), VerdictRecord)
        return record if record is not None and record["key"] == key else None

    def write_floors(self, sample: str, key: str, rows: list[dict[str, Any]]) -> None:
        """Write the scores of the floors on a sample."""
        write_json(self._floors_path(sample), {"key": key, "rows": rows})

    def has_floors(self, sample: str, key: str) -> bool:
        """Whether the floors were scored on a sample by the same weights and options."""
        record = read_record(self._floors_path(sample), FloorsRecord)
        return record is not None and record["key"] == key

    def floors(self, sample: str) -> list[dict[str, Any]]:
        """Scores of the floors on a sample, one row per floor."""
        record = read_record(self._floors_path(sample), FloorsRecord)
        return [] if record is None else record["rows"]

    def _floors_path(self, sample: str) -> Path:
        return self.folder / "records" / "floors" / f"{safe_name(sample)}.json"

    def _verdict_path(self, place: Place) -> Path:
        return self.folder / "records" / f"{place.title.replace('/', '.')}.verdict.json"

    # -- images ----------------------------------------------------------------------------------------------

    def write_view(self, view: SampleView) -> None:
        """Write the images and masks of a sample for pictures, as 8 bit."""
        arrays: dict[str, Array] = {}
        for name, image in view.images.items():
            arrays[f"image {name}"] = np.zeros(0, np.uint8) if image is None else _to_grey(image)
        arrays |= {f"mask {name}": mask for name, mask in view.masks.items()}
        write_npz(self._view_path(view.id), arrays)

    def has_view(self, sample: str) -> bool:
        """Whether the images of a sample are stored."""
        return self._view_path(sample).is_file()

    def view(self, sample: str) -> tuple[dict[str, Array | None], dict[str, Array]]:
        """Images (None for a missing input) and masks, by input."""
        arrays = read_npz(self._view_path(sample))
        images = {key[6:]: array if array.size else None for key, array in arrays.items() if key.startswith("image ")}
        return images, {key[5:]: array for key, array in arrays.items() if key.startswith("mask ")}

    # -- files -----------------------------------------------------------------------------------------------

    def list_written(self, places: Sequence[Place], samples: Sequence[str]) -> list[str]:
        """List the files of some samples, and of the verdicts on their methods, relative to the folder."""
        paths = [self._verdict_path(place) for place in places]
        for sample in samples:
            paths += [self._view_path(sample), self._floors_path(sample)]
            for place in places:
                makers = (self._record_path, self._cache_path, self._region_path)
                paths += [make(place, sample) for make in makers]
                record = self.record(place, sample)
                paths += [] if record is None else [self.folder / name for name in record["files"]]
        return [path.relative_to(self.folder).as_posix() for path in paths if path.is_file()]

    def subject_folder(self, place: Place, sample: str, *, volume: bool) -> Path:
        """Folder of a sample: one per volume; planar samples share the folder of the method."""
        return self.folder / place.path / safe_name(sample) if volume else self.folder / place.path

    def _write_array(self, place: Place, view: SampleView, name: str, array: Array, *, alone: bool) -> str:
        folder, stem = self.subject_folder(place, view.id, volume=view.is_volume), safe_name(view.id)
        if view.is_volume:
            path = folder / f"{stem}_{place.method}_{'' if alone else safe_name(name) + '_'}attributions.npy"
        else:
            path = folder / f"{stem}_heatmaps" / f"{stem}_{safe_name(name)}_attributions.npy"
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, array.astype(np.float32), allow_pickle=False)
        return path.relative_to(self.folder).as_posix()

    def _write_nifti(self, place: Place, view: SampleView, raw: Mapping[str, Array]) -> list[str]:
        """Write maps of a volume on the grid of its source."""
        placement = view.placement
        if placement is None or not view.is_volume:
            return []
        if not is_scan(placement.source) or not Path(placement.source).is_file():
            return []
        written = []
        scan = open_scan(placement.source)
        header, affine = scan.header if isinstance(scan, NiftiFile) else None, scan.geometry.affine
        for name, array in raw.items():
            suffix = "" if len(raw) == 1 else f"_{safe_name(name)}"
            folder = self.subject_folder(place, view.id, volume=True)
            path = folder / f"{safe_name(view.id)}_{place.method}{suffix}.nii.gz"
            write_nifti(path, placement.restore(array.astype(np.float32)), affine=affine, header=header)
            written.append(path.relative_to(self.folder).as_posix())
        return written

    def _view_path(self, sample: str) -> Path:
        return self.folder / "cache" / f"{safe_name(sample)}.npz"

    def _cache_path(self, place: Place, sample: str) -> Path:
        return self.folder / "cache" / place.path / f"{safe_name(sample)}.npz"

    def _region_path(self, place: Place, sample: str) -> Path:
        return self.folder / "cache" / "regions" / place.path / f"{safe_name(sample)}.npz"

    def _record_path(self, place: Place, sample: str) -> Path:
        return self.folder / "records" / place.path / f"{safe_name(sample)}.json"


def fingerprint(facts: Mapping[str, Any]) -> str:
    """A short hash of everything that a map depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _compute_statistics(array: Array) -> dict[str, Any]:
    """Statistics of a map under the names of the reference system's table."""
    values = array.astype(np.float64)
    return {
        "shape": "x".join(map(str, array.shape)),
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "abs_mean": float(np.abs(values).mean()),
        "positive_ratio": float((values > 0).mean()),
        "negative_ratio": float((values < 0).mean()),
    }


def _to_grey(image: Array) -> NDArray[np.uint8]:
    """8 bit image, scaled between the percentiles 0.5 and 99.5 of the sample."""
    low, high = np.percentile(image, (0.5, 99.5))
    if not high > low:
        low, high = float(image.min()), float(image.max())
    scaled = (image - low) / max(float(high - low), 1e-12)
    return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


class ExplanationRecord(TypedDict):
    """One sample, method and target."""

    key: str
    id: str
    patient: str
    method: str
    target: int
    target_name: str
    probability: float
    predicted_name: str
    confidence: float
    label: int | list[float] | None
    classes: list[str]
    signed: bool
    completeness: float | None
    notes: list[str]
    shares: dict[str, float]
    statistics: dict[str, dict[str, str | float | None]]
    files: list[str]
    display: dict[str, bool | str]
    spacing: list[float] | None
    slice_numbers: list[int]
    judged: dict[str, str | float | bool | None]
    measures: NotRequired[str]
    shown_as: NotRequired[str]
    contributions: NotRequired[dict[str, Any] | None]
    parts: NotRequired[dict[str, dict[str, Any]]]


class VerdictRecord(TypedDict):
    """The verdict on a method over all samples."""

    key: str
    failures: list[str]
    doubts: list[str]
    samples: NotRequired[int]


class FloorsRecord(TypedDict):
    """Scores of the floors on one sample."""

    key: str
    rows: list[dict[str, Any]]


def read_record(path: Path, kind: type) -> dict[str, Any] | None:
    """Read a record; None if it is missing, damaged or of other types, so that it is made again.

    Args:
        path: the file.
        kind: one of the types of this module.
    """
    try:
        record: dict[str, Any] = read_json(path, kind)
    except DataError:
        return None
    return record
