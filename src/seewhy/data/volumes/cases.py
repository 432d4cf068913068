"""Finding volumes and their labels, and dealing them, or boxes of them, to train, val and test."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seewhy.data.splits import Split, choose_split, split_from_file
from seewhy.data.volumes.boxes import AXES, Ends, check_gaps, cut_volume, part_boxes
from seewhy.errors import ConfigError, DataError, SeewhyError
from seewhy.io.layout import natural_key
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.source import Box, VolumeSource, millimetres

__all__ = ["VolumeCase", "boxed", "find_cases", "split_volumes"]

SUFFIXES = (".ome.zarr", ".zarr", ".nii.gz", ".nii", ".npy", ".ome.tiff", ".ome.tif", ".tiff", ".tif")


@dataclass(frozen=True)
class VolumeCase:
    """A volume, or a box of it, with its labels.

    Attributes:
        id: unique and safe as a file name.
        patient: whose it is.
        volume: its name.
        image: where the image is stored.
        label: where the labels are; None where there are none.
        level: of a pyramid, for both; None is the finest.
        channels: C of the image.
        ends: first voxel and the one after the last along Z, Y and X.
        spacing: millimetres along Z, Y and X; None where the file does not say them, or not their unit.
        part: of the split, where the box says it.
    """

    id: str
    patient: str
    volume: str
    image: str
    label: str | None
    level: str | None
    channels: int
    ends: Ends
    spacing: tuple[float, float, float] | None
    part: str | None = None

    @property
    def box(self) -> Box:
        """Its voxels in the volume."""
        z0, z1, y0, y1, x0, x1 = self.ends
        return slice(z0, z1), slice(y0, y1), slice(x0, x1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along Z, Y and X."""
        z0, z1, y0, y1, x0, x1 = self.ends
        return z1 - z0, y1 - y0, x1 - x0

    def open(self) -> tuple[VolumeSource, VolumeSource | None]:
        """Image and labels, to be read in boxes."""
        return _opened(self.image, self.level), None if self.label is None else _opened(self.label, self.level)


def find_cases(
    root: str | Path,
    *,
    images: str,
    labels: str | None,
    volumes: Mapping[str, Mapping[str, str]] | None,
    level: str | None,
    patient_pattern: str | None,
) -> list[VolumeCase]:
    """All volumes in natural order of their names.

    Args:
        root: the data set's folder.
        images: folder of the images below it.
        labels: folder of the labels, under the same names; None for volumes without.
        volumes: name → `{image: …, label: …}` for stores that lie elsewhere, e.g. on a web server; in place of both
            folders. Paths without a scheme start from `root`.
        level: of a pyramid.
        patient_pattern: regular expression that finds the patient in a volume's name.

    Raises:
        ConfigError: a pattern that is no regular expression.
        DataError: every volume that cannot be opened, has no labels or labels of another shape.
    """
    try:
        re.compile(patient_pattern or "")
    except re.error as error:
        raise ConfigError(f"data.patient_pattern={patient_pattern!r} is no regular expression ({error})") from error
    pairs = _listed(Path(root), volumes) if volumes else _found(Path(root), images, labels)
    cases, problems = [], []
    for name, (image, label) in pairs.items():
        try:
            cases.append(_case(name, image, label, level, patient_pattern))
        except SeewhyError as error:
            problems.append(f"{name}: {error}")
    channels = sorted({case.channels for case in cases})
    if len(channels) > 1:
        told = "; ".join(f"{n}: {next(case.volume for case in cases if case.channels == n)} …" for n in channels)
        problems.append(f"volumes with different numbers of channels ({told}) cannot form batches")
    if problems:
        raise DataError(problems, where=str(root))
    return cases


def boxed(
    cases: Sequence[VolumeCase],
    *,
    boxes: Sequence[Mapping[str, Any]] | None,
    cut: str | None,
    fractions: Sequence[float],
    gap: Sequence[int],
) -> list[VolumeCase]:
    """The boxes that `data.boxes` or `data.cut` make of volumes, each as a case with its part; else the volumes.

    Raises:
        ConfigError: both ways at once, or a box that does not fit.
        DataError: boxes of different parts closer than the gap.
    """
    if boxes is None and cut is None:
        return list(cases)
    if boxes is not None and cut is not None:
        raise ConfigError("data.boxes and data.cut are two ways to split a volume; keep one")
    whole = {case.volume: case for case in cases}
    shapes = {name: case.shape for name, case in whole.items()}
    if boxes is not None:
        made = part_boxes(boxes, shapes)
    else:
        made = [
            box
            for name, shape in shapes.items()
            for box in cut_volume(name, shape, axis=str(cut), fractions=fractions, gap=gap)
        ]
    check_gaps(made, gap)
    return [
        replace(whole[box.volume], id=_box_name(box.volume, box.ends), ends=box.ends, part=box.part) for box in made
    ]


def split_volumes(cases: Sequence[VolumeCase], options: Mapping[str, Any], made: Mapping[str, Any]) -> Split:
    """Who trains, validates and tests: patients, or boxes where these say it.

    Args:
        cases: all of them.
        options: of `seewhy.data.splits.choose_split`.
        made: how boxes were made, for the record.
    """
    if not any(case.part for case in cases):
        return choose_split(list(dict.fromkeys(case.patient for case in cases)), **options)
    others = [key for key, value in options.items() if value is not None and key not in ("fractions", "seed")]
    if others == ["split_file"]:  # the same boxes again: their names and hash are compared
        return split_from_file([case.id for case in cases], options["split_file"])
    if others:
        raise ConfigError(f"data.boxes or data.cut and data.{others[0]} are two ways to split; keep one")
    parts = [tuple(case.id for case in cases if case.part == part) for part in ("train", "val", "test")]
    return Split(parts[0], parts[1], parts[2], dict(made))


def _opened(path: str, level: str | None) -> VolumeSource:
    source: VolumeSource = open_source(path, level=level)
    return source


def _case(name: str, image: str, label: str | None, level: str | None, pattern: str | None) -> VolumeCase:
    source = _opened(image, level)
    channels, *shape = source.shape
    if label is not None:
        mask = _opened(label, level)
        if mask.shape != (1, *shape):
            raise DataError(
                f"the image has {shape} voxels and the labels {list(mask.shape[1:])} in {mask.shape[0]} channel(s); "
                "labels are one channel on the image's grid"
            )
        if mask.dtype.kind not in "bui":
            raise DataError(f"labels are stored as {mask.dtype}; expected whole numbers")
    z, y, x = shape
    return VolumeCase(
        id=name, patient=_patient(name, pattern), volume=name, image=image, label=label, level=level,
        channels=channels, ends=(0, z, 0, y, 0, x), spacing=millimetres(source),
    )  # fmt: skip


def _found(root: Path, images: str, labels: str | None) -> dict[str, tuple[str, str | None]]:
    """Name → stores of the two folders."""
    folder = root / images
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; expected a folder of volumes there (data.root, data.images)")
    stores = _stores(folder)
    if not stores:
        raise DataError(f"{folder} holds no volume; expected names that end in {', '.join(SUFFIXES)}")
    masks = _stores(root / labels) if labels is not None else {}
    missing = [name for name in stores if labels is not None and name not in masks]
    if missing:
        raise DataError(
            [f"{name}: no labels in {root / str(labels)}; expected {name}.zarr there" for name in missing],
            where=str(root),
        )
    return {name: (stores[name], masks.get(name)) for name in sorted(stores, key=natural_key)}


def _stores(folder: Path) -> dict[str, str]:
    """Name without its ending → path."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = next((one for one in SUFFIXES if path.name.endswith(one)), None)
        if suffix is not None and not path.name.startswith("."):
            found[path.name.removesuffix(suffix)] = str(path)
    return found


def _listed(root: Path, volumes: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, str | None]]:
    """Name → stores of `data.volumes`."""
    pairs = {}
    for name, entry in volumes.items():
        if "image" not in entry or set(entry) - {"image", "label"}:
            raise ConfigError(f"data.volumes.{name}={dict(entry)} must hold image and, where known, label")
        stores = [_absolute(root, entry[key]) if key in entry else None for key in ("image", "label")]
        pairs[str(name)] = (str(stores[0]), stores[1])
    return pairs


def _absolute(root: Path, path: str) -> str:
    return path if "://" in path else str(root / path)


def _patient(name: str, pattern: str | None) -> str:
    if pattern is None:
        return name
    found = re.search(pattern, name)
    if found is None:
        raise DataError(f"data.patient_pattern={pattern!r} finds no patient in the name {name!r}")
    return found.group(found.lastindex or 0)


def _box_name(volume: str, ends: Ends) -> str:
    spans = zip(AXES, ends[::2], ends[1::2], strict=True)
    return "_".join([volume, *(f"{axis}{a}-{b}" for axis, a, b in spans)])
