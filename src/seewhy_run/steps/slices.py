"""Read the slices of a patient, from a volume or a folder of slices, and write maps; needs scipy."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seewhy_run.arrays.body import body_mask
from seewhy_run.arrays.intensity import channels_first, normalize_intensity
from seewhy_run.arrays.slicing import cut_volumes
from seewhy_run.arrays.statistics import evenly_spaced, measure
from seewhy_run.errors import RunError
from seewhy_run.files import Scan, atomic_path, is_scan, open_scan, read_npy, write_nifti
from seewhy_run.graphs import Graph
from seewhy_run.names import natural_key, unprotect_cell
from seewhy_run.steps.base import State

__all__ = ["ReadSlices", "SliceReading", "WriteMaps"]

IMAGES = "imageSlice"
KINDS = ("robust", "zscore", "window", "imagenet")


@dataclass(frozen=True, kw_only=True)
class SliceReading:
    """Options by which the slices of a patient are cut from volumes and normalised.

    Attributes:
        kind: normalisation, see `seewhy_run.arrays.intensity.normalize_intensity`.
        over: its statistics are those of the whole `patient` or of each `slice`.
        percentiles: ends of the window over the body's pixels.
        window: how a volume's intensities were scaled before it was cut: `minmax`, `percentile` or `none`.
        dtype: type of the slices' files: `float32`, `float16`, `uint8` or `source`.
        every: slices 0, n, 2n … of a volume are taken.
        tissue_only: leave out slices of a volume in which nearly all pixels are background, in all modalities.
    """

    kind: str
    over: str
    percentiles: tuple[float, float]
    window: str = "none"
    dtype: str = "source"
    every: int = 1
    tissue_only: bool = False

    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ("image", "body", "index", "source")
    kinds: ClassVar[tuple[str, ...]] = KINDS

    def __post_init__(self) -> None:
        if self.kind not in self.kinds or self.over not in ("patient", "slice") or self.every < 1:
            raise RunError(f"reading slices: kind={self.kind!r}, over={self.over!r} or every={self.every} is unknown")

    def cut(self, volumes: Sequence[Sequence[NDArray[Any]]], where: str) -> tuple[list[int], list[list[NDArray[Any]]]]:
        """Cut volumes on one grid, one per modality, as `seewhy prepare` would store them.

        Args:
            volumes: planes of each volume.
            where: names them in messages.

        Returns:
            Numbers of the slices, and the slices of each volume.

        Raises:
            RunError: no slice is left, or values that do not fit the type of the files.
        """
        options = {"window": self.window, "dtype": self.dtype, "every": self.every, "tissue_only": self.tissue_only}
        try:
            return cut_volumes(volumes, **options)  # type: ignore[arg-type]
        except RunError as error:
            raise RunError(f"{where}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class ReadSlices(SliceReading):
    """Makes `image` [S, C, H, W] and `body` [S, H, W] of a patient, with its `index` and `source`.

    A case is a NIfTI volume, cut along its third axis as `seewhy prepare` does, or a folder of NPY slices, of one
    patient or as `<folder>#<patient>`.

    Attributes:
        pattern: regular expression of the slices' names with the groups `patient` and `label`, and perhaps `slice`.
        channels: 1 or 3.
    """

    pattern: str
    channels: int

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise RunError(f"read_slices: pattern is not a regular expression ({error})") from error

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Read the slices of a case."""
        path = next((path for path in state.files.values() if path is not None), None)
        if path is None:
            raise RunError(f"case {state.id} has no file")
        source = open_scan(path) if is_scan(path) else None
        numbers, arrays = self._cut(source) if source is not None else self._list(path)
        raw = [channels_first(array, channels=self.channels, where=str(path)) for array in arrays]
        sizes = {image.shape for image in raw}
        if len(sizes) > 1:
            raise RunError(f"{path}: slices of different sizes {sorted(sizes)}; slices of a patient have one size")
        whole = measure([raw[place] for place in evenly_spaced(len(raw))], percentiles=self.percentiles)
        each = [measure([image], percentiles=self.percentiles) if self.over == "slice" else whole for image in raw]
        images = [normalize_intensity(image, own, self.kind) for image, own in zip(raw, each, strict=True)]
        state.values |= {"image": np.stack(images), "body": np.stack([body_mask(image, whole) for image in raw])}
        state.values |= {"index": numbers, "source": source, "path": path}

    def _cut(self, scan: Scan) -> tuple[list[int], list[NDArray[Any]]]:
        """Numbers and intensities of a volume's slices, as `seewhy prepare` would store them."""
        if scan.values.ndim != 3:
            raise RunError(f"{scan.path} has {scan.values.shape[3]} channels; give a volume of the trained modality")
        planes = [scan.values[:, :, number] for number in range(scan.values.shape[2])]
        kept, [cut] = self.cut([planes], str(scan.path))
        return kept, cut

    def _list(self, path: Path) -> tuple[list[int], list[NDArray[Any]]]:
        """Numbers and values of the slices of a folder."""
        name, _, patient = path.name.partition("#")
        folder = path.with_name(name) if name else path.parent
        folder = folder / IMAGES if (folder / IMAGES).is_dir() else folder
        if not folder.is_dir():
            raise RunError(f"{folder} is neither a NIfTI volume nor a folder of NPY slices")
        listed = _read_manifest(folder.parent / "manifest.csv" if folder.name == IMAGES else folder / "manifest.csv")
        found: dict[str, list[tuple[int, Path]]] = {}
        for file in folder.iterdir():
            if not file.name.endswith(".npy") or file.name.startswith("."):
                continue
            match = re.fullmatch(self.pattern, file.name)
            if match is None:
                raise RunError(f"{file} does not match the pattern of slices {self.pattern!r}")
            parts, row = match.groupdict(), listed.get(file.name, {})
            owner = row.get("patient") or str(parts["patient"])
            found.setdefault(owner, []).append((int(row.get("slice") or parts.get("slice") or -1), file))
        own = found.get(patient, []) if patient else next(iter(found.values()), []) if len(found) == 1 else []
        if not own:
            names = ", ".join(sorted(found, key=natural_key)[:5])
            raise RunError(f"{folder} holds {len(found)} patients ({names}); choose one with {name or folder}#PATIENT")
        own.sort(key=lambda item: (item[0], natural_key(item[1].name)))
        return [number for number, _ in own], [read_npy(file) for _, file in own]


def _read_manifest(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a data set's manifest by file name."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [{key: unprotect_cell(value or "") for key, value in row.items()} for row in reader]
        if "file" not in (reader.fieldnames or ()):
            raise RunError(f"{path} has no column file; it is not a manifest of a data set")
        return {row["file"]: row for row in rows}
    except (OSError, UnicodeError, csv.Error, KeyError, AttributeError) as error:
        raise RunError(f"{path} cannot be read as a manifest ({error!r})") from error


@dataclass(frozen=True, kw_only=True)
class WriteMaps:
    """Writes the maps of a patient: `<id>_<map>.nii.gz` on the grid of its volume, else `<id>.npz`, and its rows.

    Attributes:
        classes: foreground classes.
    """

    classes: int

    needs: ClassVar[tuple[str, ...]] = ("maps", "probability", "index", "source")
    gives: ClassVar[tuple[str, ...]] = ()

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Write the maps of a case, and one row per slice."""
        values, maps = state.values, state.values["maps"]
        made = values["probability"].shape[1]
        if made != self.classes:
            raise RunError(f"write_maps: classes={self.classes}, but the network gives {made}; export again")
        if values["source"] is None:
            path = state.folder / f"{state.id}.npz"
            with atomic_path(path) as temporary:
                np.savez_compressed(temporary, index=np.asarray(values["index"]), **maps)
            state.written.append(path)
        else:
            volumes = {name: array.max(1).astype(np.float32) for name, array in maps.items()}
            if "refined" in maps:
                refined = maps["refined"]
                volumes["mask"] = ((refined > 0.5).any(1) * (refined.argmax(1) + 1)).astype(np.uint8)
            for name, volume in volumes.items():
                stacked = _stack(volume, values["index"], values["source"])
                path = state.folder / f"{state.id}_{name}.nii.gz"
                state.written.append(write_nifti(path, stacked, values["source"]))
        for number, probability in zip(values["index"], values["probability"], strict=True):
            row = {"id": f"{state.id}_{number}", "patient": state.id, "index": number, "source": str(values["path"])}
            state.rows.append(row | {f"probability_{k + 1}": float(p) for k, p in enumerate(probability)})


def _stack(volume: NDArray[Any], index: Sequence[int], source: Scan) -> NDArray[Any]:
    """Slices at their positions along the third axis; missing ones are zero."""
    result = np.zeros(source.values.shape[:3], volume.dtype)
    for number, plane in zip(index, volume, strict=True):
        result[:, :, number] = plane
    return result
