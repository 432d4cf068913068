"""Read prepared subjects of two domains from disk, as memory maps, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypedDict

from seewhy.batch import MODALITIES
from seewhy.data.domains.subjects import find_patient
from seewhy.errors import DataError
from seewhy.io.documents import read_json
from seewhy.io.geometry import Display, Geometry
from seewhy.io.npy import read_npy

__all__ = [
    "COUNTERPARTS",
    "DOMAINS",
    "RECORD",
    "STORE",
    "VERSION",
    "DomainStore",
    "PreparedSubject",
    "is_store",
    "open_store",
    "read_subject",
]

DOMAINS = ("a", "b")
COUNTERPARTS = "counterparts"
"""Folder of the same subjects as scanned by the other domain's scanner: `counterparts/a/<subject>` for domain a."""
STORE = "domains.json"
"""List of all subjects in the store's folder, written when the store is complete."""
RECORD = "subject.json"
VERSION = 2
"""Raised whenever the same files are prepared differently, so that older folders are prepared again."""
Three = Annotated[list[int], Field(min_length=3, max_length=3)]


class SubjectRecord(TypedDict):
    """Contents of `subject.json`."""

    version: int
    id: str
    name: str
    patient: str
    modalities: NotRequired[list[str]]
    files: dict[str, str]
    segmentation: str | None
    shape: Three
    affine: Annotated[
        list[Annotated[list[float], Field(min_length=4, max_length=4)]], Field(min_length=4, max_length=4)
    ]
    box: Annotated[list[Annotated[list[int], Field(min_length=2, max_length=2)]], Field(min_length=3, max_length=3)]
    content: list[int]
    spacing: Annotated[list[float], Field(min_length=3, max_length=3)]
    codes: str | None
    display: dict[str, bool | str]


class StoreRecord(TypedDict):
    """Contents of `domains.json`: the ids of each part's subjects."""

    parts: dict[str, list[str]]
    phantom: NotRequired[bool]


@dataclass(frozen=True)
class PreparedSubject:
    """A subject's record; its arrays are opened on access and not kept.

    Axes are those of the slices: number, row, column. In the source files they are the third, first and second axis.

    Attributes:
        folder: folder of its arrays.
        domain: `a` or `b`.
        record: content of `subject.json`.
    """

    folder: Path
    domain: str
    record: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Id, unique within the domain."""
        return str(self.record["id"])

    @property
    def name(self) -> str:
        """Name in the source files, to which patterns for patients are applied."""
        return str(self.record["name"])

    @property
    def patient(self) -> str:
        """Patient of the scan."""
        return str(self.record["patient"])

    @property
    def files(self) -> dict[str, str]:
        """Modality → source file."""
        return dict(self.record["files"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the source along its three axes, as stored."""
        x, y, z = self.record["shape"]
        return int(x), int(y), int(z)

    @cached_property
    def box(self) -> tuple[tuple[int, int], ...]:
        """First voxel with tissue and the one after the last: of slices, rows, columns."""
        return tuple((int(start), int(stop)) for start, stop in self.record["box"])

    @property
    def content(self) -> list[int]:
        """Voxels of tissue in each slice of the box."""
        return [int(count) for count in self.record["content"]]

    @property
    def spacing(self) -> tuple[float, float]:
        """Millimetres between rows and between columns."""
        row, column, _ = self.record["spacing"]
        return float(row), float(column)

    @property
    def codes(self) -> str | None:
        """Orientation of the source's axes, e.g. `LPS`; None if unknown."""
        codes = self.record["codes"]
        return None if codes is None else str(codes)

    @property
    def geometry(self) -> Geometry:
        """Position of the source's voxels in the scanner's space."""
        return Geometry(self.shape, np.asarray(self.record["affine"], np.float64), oriented=self.codes is not None)

    @property
    def display(self) -> Display:
        """How to turn slices upright."""
        plane = {"plane": "axial"} if self.codes is not None else {}  # slices lie across the third axis, S or I
        return Display.from_record({**plane, **self.record["display"]}, where=str(self.folder / RECORD))

    @property
    def volume(self) -> NDArray[Any]:
        """[D, M, h, w] intensities of the box, memory-mapped."""
        return self._map("volume.npy")

    @property
    def body(self) -> NDArray[Any]:
        """[D, h, w] bool, the tissue in the box, memory-mapped."""
        return self._map("body.npy")

    @property
    def mask(self) -> NDArray[Any] | None:
        """[D, h, w] uint8 annotation in the box, memory-mapped; None if the subject is not annotated."""
        return self._map("mask.npy") if self.record["segmentation"] else None

    @cached_property
    def intensities(self) -> dict[tuple[float, float], NDArray[np.float32]]:
        """Percentiles → intensities [M, 2] of them, as they are measured."""
        return {}

    @property
    def quantiles(self) -> NDArray[Any]:
        """[M, 1001] float32, percentiles 0 to 100 of each modality's tissue."""
        return read_npy(self.folder / "quantiles.npy")

    @cached_property
    def _layouts(self) -> dict[str, dict[str, Any]]:
        """File name → type, shape and place of the values in the file, of the arrays that were read."""
        return {}

    def _map(self, name: str) -> NDArray[Any]:
        """Map an array into memory; checking its file and its header costs ten times as much, so it is done once."""
        path, layout = self.folder / name, self._layouts.get(name)
        if layout is not None:
            try:
                return np.memmap(path, mode="r", **layout)
            except (OSError, ValueError):  # read_npy knows what to tell
                pass
        array = read_npy(path, mmap=True)
        if isinstance(array, np.memmap) and array.flags.c_contiguous:
            self._layouts[name] = {"dtype": array.dtype, "shape": array.shape, "offset": array.offset}
        return array


def read_subject(folder: Path, domain: str) -> PreparedSubject:
    """Read the record of a prepared subject.

    Raises:
        DataError: the record is missing, invalid or of another version.
    """
    path = folder / RECORD
    remedy = "prepare the subjects again: python -m seewhy prepare domains SRC DST"
    try:
        record = read_json(path, SubjectRecord)
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from error
    if record["version"] != VERSION or record.get("modalities") != list(MODALITIES):
        raise DataError(f"{path} is of version {record['version']}, expected {VERSION}; {remedy}")
    return PreparedSubject(folder, domain, record)


@dataclass(frozen=True)
class DomainStore:
    """Prepared subjects of both domains, and their counterparts where these exist.

    Attributes:
        root: the store's folder.
        subjects: subjects of domain a, then of b, each in the order of their names.
        counterparts: (domain, id) → the same subject as scanned by the other domain's scanner.
        is_phantom: whether the subjects are synthetic.
        written: number of subjects that `prepare_domains` wrote.
    """

    root: Path
    subjects: list[PreparedSubject]
    counterparts: dict[tuple[str, str], PreparedSubject] = field(default_factory=dict)
    is_phantom: bool = False
    written: int = 0

    def list_domain(self, domain: str) -> list[PreparedSubject]:
        """List the subjects of one domain."""
        return [subject for subject in self.subjects if subject.domain == domain]

    def assign_patients(self, pattern: str) -> DomainStore:
        """Return the store with patients taken from the subjects' names, see `find_patient`."""
        subjects = [
            replace(subject, record={**subject.record, "patient": find_patient(subject.name, pattern)})
            for subject in self.subjects
        ]
        return replace(self, subjects=subjects)


def is_store(root: Path) -> bool:
    """Return whether a folder holds prepared subjects."""
    return (root / STORE).is_file()


def open_store(root: Path) -> DomainStore:
    """Open prepared subjects; their source files are not needed.

    Raises:
        DataError: the folder is not a store, or records cannot be read; all problems at once.
    """
    try:
        record = read_json(root / STORE, StoreRecord)
    except DataError as error:
        raise DataError(f"{root / STORE} is not a valid list of subjects ({error}); prepare them again") from error
    ids, phantom = record["parts"], record.get("phantom", False)
    subjects: list[PreparedSubject] = []
    counterparts: dict[tuple[str, str], PreparedSubject] = {}
    problems: list[str] = []
    for part, names in ids.items():
        domain = part.rsplit("/", 1)[-1]
        for name in names:
            try:
                subject = read_subject(root / part / name, domain)
            except DataError as error:
                problems += error.problems
                continue
            if part in DOMAINS:
                subjects.append(subject)
            else:
                counterparts[domain, name] = subject
    if problems:
        raise DataError(problems, where=str(root))
    return DomainStore(root, subjects, counterparts, phantom)
