"""Prepared subjects on disk: memory-mapped arrays, so that memory stays flat however many there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.batch import MODALITIES
from seewhy.data.domains.measurement import AXIS, Measured
from seewhy.data.domains.subjects import Subject
from seewhy.errors import DataError
from seewhy.io.atomic import write_json
from seewhy.io.geometry import Display, Geometry, display_of_plane
from seewhy.io.npy import read_npy, write_npy

__all__ = ["COUNTERPARTS", "DOMAINS", "RECORD", "VERSION", "PreparedSubject", "read_subject", "write_subject"]

DOMAINS = ("a", "b")
COUNTERPARTS = "counterparts"
"""Folder of the same subjects as the other domain's scanner saw them: `counterparts/a/<subject>` is of domain a."""
RECORD = "subject.json"
VERSION = 2
"""Raised whenever the same files would be prepared otherwise, so that old folders are made anew."""
FIELDS = (
    "version", "id", "name", "patient", "files", "segmentation", "shape", "affine", "box", "content", "spacing",
    "codes", "display",
)  # fmt: skip


@dataclass(frozen=True)
class PreparedSubject:
    """A subject's record; its arrays are opened when they are asked for and never kept.

    Axes are those of the slices: number, row, column; as stored they are the file's third, first and second.

    Attributes:
        folder: where its arrays are.
        domain: `a` or `b`.
        record: what `subject.json` holds.
    """

    folder: Path
    domain: str
    record: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Unique within the domain."""
        return str(self.record["id"])

    @property
    def name(self) -> str:
        """As the source files have it, which is what patterns for patients are written for."""
        return str(self.record["name"])

    @property
    def patient(self) -> str:
        """Whose scan it is."""
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
        """Where the source's axes point to, e.g. `LPS`; None where it does not say."""
        codes = self.record["codes"]
        return None if codes is None else str(codes)

    @property
    def geometry(self) -> Geometry:
        """Where the source's voxels lie in the scanner's space."""
        return Geometry(self.shape, np.asarray(self.record["affine"], np.float64), oriented=self.codes is not None)

    @property
    def display(self) -> Display:
        """How slices are turned upright."""
        return Display.from_record(self.record["display"], where=str(self.folder / RECORD))

    @property
    def volume(self) -> NDArray[Any]:
        """[D, M, h, w] intensities of the box, mapped."""
        return read_npy(self.folder / "volume.npy", mmap=True)

    @property
    def body(self) -> NDArray[Any]:
        """[D, h, w] bool, the tissue in the box, mapped."""
        return read_npy(self.folder / "body.npy", mmap=True)

    @property
    def mask(self) -> NDArray[Any] | None:
        """[D, h, w] uint8 annotation in the box, mapped; None where there is none."""
        return read_npy(self.folder / "mask.npy", mmap=True) if self.record["segmentation"] else None

    @property
    def quantiles(self) -> NDArray[Any]:
        """[M, 1001] float32, percentiles 0 to 100 of each modality's tissue."""
        return read_npy(self.folder / "quantiles.npy")


def write_subject(folder: Path, subject: Subject, measured: Measured) -> None:
    """Write a measured subject into an empty folder."""
    geometry = measured.geometry
    write_npy(folder / "volume.npy", measured.volume)
    write_npy(folder / "body.npy", measured.body)
    write_npy(folder / "quantiles.npy", measured.quantiles)
    if measured.mask is not None:
        write_npy(folder / "mask.npy", measured.mask)
    display = display_of_plane(geometry, axis=AXIS) if geometry.oriented else Display()
    record = {
        "version": VERSION,
        "id": subject.id,
        "name": subject.name,
        "patient": subject.patient,
        "modalities": list(MODALITIES),
        "files": {name: str(path) for name, path in subject.files.items()},
        "segmentation": None if subject.segmentation is None else str(subject.segmentation),
        "shape": list(geometry.shape),
        "affine": geometry.affine.tolist(),
        "box": [list(ends) for ends in measured.box],
        "content": np.count_nonzero(measured.body, axis=(1, 2)).tolist(),
        "spacing": list(geometry.spacing),
        "codes": "".join(geometry.axis_codes) if geometry.oriented else None,
        "display": display.record(),
        "sources": subject.fingerprint(),
    }
    write_json(folder / RECORD, record)


def read_subject(folder: Path, domain: str) -> PreparedSubject:
    """Read the record of a prepared subject.

    Raises:
        DataError: it is none of ours, or of another version.
    """
    path = folder / RECORD
    remedy = "prepare the subjects anew: python -m seewhy prepare domains SRC DST"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy}") from error
    missing = [field for field in FIELDS if not isinstance(record, dict) or field not in record]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; {remedy}")
    if record["version"] != VERSION or record.get("modalities") != list(MODALITIES):
        raise DataError(f"{path} is of version {record['version']}, expected {VERSION}; {remedy}")
    return PreparedSubject(folder, domain, record)
