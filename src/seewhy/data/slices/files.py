"""List a folder of slices: file names, patients, slice numbers, labels and the manifest."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seewhy.data.dataset_info import read_displays, read_info
from seewhy.data.listing import summarize_names
from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import TEMPORARY_PREFIX
from seewhy.io.documents import read_csv
from seewhy.io.geometry import Display
from seewhy.io.names import find_name_clashes, safe_name
from seewhy.io.slices import IMAGES, MASKS, natural_key

__all__ = [
    "BRATS",
    "LASC",
    "Naming",
    "SliceFolder",
    "SliceRecord",
    "list_slices",
    "npy_names",
    "read_slice_info",
]


@dataclass(frozen=True)
class Naming:
    """Naming pattern of the files of a data set.

    Attributes:
        pattern: regular expression for the whole file name with the groups `patient` and `label`, and
            `slice` if the name has it.
        example: a good name, for messages.
    """

    pattern: str
    example: str

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise ConfigError(f"data.pattern={self.pattern!r} is not a regular expression: {error}") from error
        missing = [name for name in ("patient", "label") if name not in groups]
        if missing:
            raise ConfigError(
                f"data.pattern={self.pattern!r} needs the group(s) {', '.join(missing)}; "
                "name them as in (?P<patient>.+)_(?P<slice>\\d+)_(?P<label>\\d+)\\.npy"
            )


BRATS = Naming(r"BRATS_(?P<patient>.+)_(?P<slice>\d+)_(?P<label>\d+)\.npy", "BRATS_001_77_1.npy")
"""`BRATS_<id>_<slice>_<label>.npy`; the id may contain underscores."""
LASC = Naming(r"(?P<patient>.+?)(?:_(?P<slice>\d+))?_(?P<label>\d+)\.npy", "patient7_012_1.npy")
"""`<name>_<label>.npy`, where a number at the end of the name is the slice number."""


UNKNOWN = float("nan")


@dataclass(frozen=True)
class SliceRecord:
    """One slice, as known without reading it.

    Attributes:
        path: of the image.
        mask: of the annotation, or None.
        patient: the patient of the slice.
        slice: its number in the volume, or -1 if unknown.
        label: foreground class of the slice, or 0 for background only.
        source: the volume it was cut from, or an empty string.
        spacing: mm between rows, columns and slices; NaN where unknown.
    """

    path: Path
    mask: Path | None
    patient: str
    slice: int
    label: int
    source: str = ""
    spacing: tuple[float, float, float] = (UNKNOWN, UNKNOWN, UNKNOWN)

    @property
    def id(self) -> str:
        """The file's name without its ending; unique in its data set, and safe as a file name."""
        return safe_name(self.path.stem)


@dataclass(frozen=True)
class SliceFolder:
    """All slices of a data set in natural order of patient and slice.

    Attributes:
        root: folder of the data set.
        images: folder of the image files.
        records: the slices.
        has_masks: whether there is a folder of annotations.
        info: contents of `dataset.json`, or an empty dict.
        displays: how pictures are turned upright, by patient; the key None is for all others.
    """

    root: Path
    images: Path
    records: tuple[SliceRecord, ...]
    has_masks: bool
    info: dict[str, Any] = field(default_factory=dict)
    displays: dict[str | None, Display] = field(default_factory=dict)

    @property
    def patients(self) -> list[str]:
        """Every patient once, in natural order."""
        return list(dict.fromkeys(record.patient for record in self.records))

    def of_patients(self, patients: Sequence[str]) -> list[SliceRecord]:
        """The slices of some patients, in the folder's order."""
        chosen = set(patients)
        return [record for record in self.records if record.patient in chosen]

    def display_of(self, patient: str) -> Display:
        """How pictures of a patient are turned upright, from `dataset.json`; unchanged where it has no entry."""
        return self.displays.get(patient, self.displays.get(None, Display()))

    def first_patients(self, count: int) -> SliceFolder:
        """The same folder with its first patients only."""
        return replace(self, records=tuple(self.of_patients(self.patients[:count])))


def list_slices(root: str | Path, naming: Naming, *, num_classes: int) -> SliceFolder:
    """List a data set without reading its images.

    Args:
        root: the data set's folder, or its `imageSlice` folder.
        naming: how its files are named.
        num_classes: number of classes with the background; labels must be smaller.

    Returns:
        The folder's records; if `manifest.csv` exists, patient, slice, source and spacing are taken from it.

    Raises:
        DataError: no folder, no slices, or files whose name, label, mask or row of the manifest is wrong;
            all of them are reported at once.
    """
    home, images = _find_images(Path(root))
    names = npy_names(images)
    if not names:
        raise DataError(f"{images} holds no .npy files; expected names like {naming.example}; check data.root")
    masks = _mask_folder(home)
    mask_names = set(npy_names(masks)) if masks else set()
    rows, problems = _read_manifest(home / "manifest.csv")
    records = []
    for name in names:
        mask = masks / name if masks and name in mask_names else None
        try:
            record = _record(images / name, mask, naming, rows.get(name, {}), num_classes)
        except DataError as error:
            problems += error.problems
            continue
        records.append(record)
        if masks and record.label and mask is None:
            problems.append(f"{name} shows class {record.label} but {masks} has no file of that name")
    problems += find_name_clashes((record.path.stem for record in records), "slices")
    problems += find_name_clashes((record.patient for record in records), "patients")
    problems += [f"{name} is in manifest.csv but not in the folder" for name in sorted(rows.keys() - set(names))]
    problems += _find_half_renamed(records, naming, rows)
    if problems:
        raise DataError(problems, where=str(images))
    if images.name == IMAGES:
        _warn_of_others([images, *([masks] if masks else [])])
    records.sort(key=lambda record: (natural_key(record.patient), record.slice, natural_key(record.path.name)))
    info = read_info(home / "dataset.json")
    return SliceFolder(
        home, images, tuple(records), masks is not None, info, read_displays(info, home / "dataset.json")
    )


def read_slice_info(root: str | Path) -> dict[str, Any]:
    """Read `dataset.json` of a data set of slices without listing them; an empty dict if it has none.

    Raises:
        DataError: no such data set.
    """
    return read_info(_find_images(Path(root))[0] / "dataset.json")


def _warn_of_others(folders: Sequence[Path]) -> None:
    """Warn of files that are not read because of their endings."""
    for folder in folders:
        hidden = (TEMPORARY_PREFIX, ".")
        others = sorted(path.name for path in folder.iterdir() if path.suffix != ".npy" or path.name.startswith("._"))
        others = [name for name in others if name.startswith("._") or not name.startswith(hidden)]
        if others:
            from lightning.pytorch.utilities import rank_zero_warn  # `seewhy check` runs without torch

            rank_zero_warn(f"{folder}: {summarize_names(others)} left out; slices end in .npy (lower case)")


def _find_half_renamed(records: Sequence[SliceRecord], naming: Naming, rows: Mapping[str, Any]) -> list[str]:
    """Problems of a manifest that gives only some slices of a patient another name, which makes two patients of one."""
    named = {record.path.name: str(re.fullmatch(naming.pattern, record.path.name)["patient"]) for record in records}  # type: ignore[index]
    renamed = {
        named[record.path.name]: record.patient for record in records if record.patient != named[record.path.name]
    }
    return [
        f"{file} has no patient in manifest.csv, where other files of {patient!r} have the patient {renamed[patient]!r}"
        for file, patient in named.items()
        if patient in renamed and not rows.get(file, {}).get("patient")
    ]


def _find_images(root: Path) -> tuple[Path, Path]:
    """The data set's folder and the folder of its images."""
    if not root.exists():
        near = _nearest_existing(root)
        raise DataError(
            f"{root} does not exist (the nearest folder that does is {near}); "
            f"set data.root to the folder that contains {IMAGES}/"
        )
    if not root.is_dir():
        raise DataError(f"{root} is a file; set data.root to the folder that contains {IMAGES}/")
    if root.name == IMAGES:
        return root.parent, root
    if (root / IMAGES).is_dir():
        return root, root / IMAGES
    return root, root


def _nearest_existing(path: Path) -> Path:
    absolute = path.absolute()
    return next(parent for parent in absolute.parents if parent.exists())


def npy_names(folder: Path) -> list[str]:
    """Names of the finished `.npy` files of a folder, sorted as the reference sorts them (by character).

    Args:
        folder: if it does not exist, there are no files.
    """
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.endswith(".npy") and not entry.name.startswith((TEMPORARY_PREFIX, "."))
        )


def _mask_folder(home: Path) -> Path | None:
    folder = home / MASKS
    return folder if folder.is_dir() else None


def _record(path: Path, mask: Path | None, naming: Naming, row: dict[str, str], num_classes: int) -> SliceRecord:
    """One record from a file's name and its row of the manifest."""
    name = path.name
    match = re.fullmatch(naming.pattern, name)
    if match is None:
        raise DataError(_bad_name(name, naming))
    parts = match.groupdict()
    try:
        label = int(parts["label"])
        number = int(row.get("slice") or parts.get("slice") or -1)
        spacing = tuple(float(row.get(f"spacing_{axis}") or UNKNOWN) for axis in ("row", "col", "slice"))
        if not all(math.isnan(size) or 0 < size < math.inf for size in spacing):
            raise ValueError(f"spacing {spacing}; expected millimetres above 0")
    except ValueError as error:
        raise DataError(f"{name}: {error} (in its name or in its row of manifest.csv)") from error
    if not 0 <= label < num_classes:
        raise DataError(f"{name} has label {label}, but data.num_classes={num_classes} allows 0 to {num_classes - 1}")
    if row.get("label") and row["label"] != str(label):
        raise DataError(f"{name} has label {label} in its name but {row['label']} in manifest.csv")
    patient = row.get("patient") or parts["patient"]
    return SliceRecord(path, mask, patient, number, label, row.get("source") or "", spacing)  # type: ignore[arg-type]


def _bad_name(name: str, naming: Naming) -> str:
    last = name.removesuffix(".npy").rsplit("_", 1)[-1]
    if "_" in name and not last.isdigit():
        return f"{name}: the label {last!r} after the last _ is not an integer; expected a name like {naming.example}"
    return f"{name} does not match data.pattern={naming.pattern!r}; expected a name like {naming.example}"


def _read_manifest(path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Rows of the manifest by file name, and its problems; both empty if there is no manifest."""
    if not path.exists():
        return {}, []
    try:
        table = read_csv(path)
    except DataError as error:
        return {}, error.problems
    if "file" not in table.columns:
        return {}, [f"{path} has no column 'file'; its columns are {', '.join(table.columns or ['none'])}"]
    if not table.rows:
        return {}, [f"{path} lists no file; prepare the data set again, or delete the manifest to do without one"]
    rows: dict[str, dict[str, str]] = {}
    problems = []
    for line, row in zip(table.numbers, table.rows, strict=True):
        if row["file"] in rows:
            problems.append(f"{path}, line {line}: {row['file']} is listed twice")
        rows[row["file"]] = row
    return rows, problems
