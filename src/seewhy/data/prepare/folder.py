"""Data set folder under construction: filled patient by patient, and renamed when it is complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from seewhy.errors import DataError
from seewhy.io.atomic import TEMPORARY_PREFIX, write_csv, write_json
from seewhy.io.documents import read_json
from seewhy.io.geometry import Display
from seewhy.io.slices import IMAGES, MANIFEST_COLUMNS, MASKS, natural_key

__all__ = ["DatasetFolder"]

MAKER = "seewhy prepare"
CASES = ".cases"


class PatientRecord(TypedDict):
    """Record of a complete patient."""

    inputs: list[list[Any]]
    rows: list[dict[str, Any]]
    automatic_mask: bool
    display: NotRequired[dict[str, bool | str] | None]


class DatasetFolder:
    """A data set that is being prepared.

    A new one is built in `<destination>.partial` and renamed when it is complete, so that a killed preparation never
    looks like a data set; the next call continues it. Patients added later are written to the finished folder, each
    through a temporary folder, and to the manifest at the end.

    Attributes:
        destination: the data set's folder.
        work: the folder in which it is built.
    """

    def __init__(self, destination: str | Path, settings: dict[str, Any], *, overwrite: bool) -> None:
        self.destination = Path(destination)
        self.settings = {"made_by": MAKER, **settings}
        self._replace = overwrite
        partial = self.destination.with_name(self.destination.name + ".partial")
        _refuse_foreign(self.destination)
        _refuse_foreign(partial)
        finished = (self.destination / "dataset.json").is_file()
        self.work = self.destination if finished and not overwrite else partial
        if not overwrite:
            self._refuse_other_settings(self.work)

    def open(self) -> None:
        """Create the folders; call this after the source was checked."""
        with _explain_write_errors(self.work):
            if self._replace and self.work.exists():
                shutil.rmtree(self.work)
            self._replace = False
            if not (self.work / "dataset.json").is_file():
                write_json(self.work / "dataset.json", self.settings)
            for part in (IMAGES, MASKS, CASES):
                (self.work / part).mkdir(exist_ok=True)
            for stale in self.work.glob(f"{TEMPORARY_PREFIX}*"):
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()

    def list_patients(self) -> list[str]:
        """List the complete patients in natural order; empty if the data set will be replaced."""
        if self._replace:
            return []
        return sorted((path.stem for path in (self.work / CASES).glob("[!.]*.json")), key=natural_key)

    def read_record(self, patient: str) -> dict[str, Any]:
        """Read inputs and manifest rows of a complete patient."""
        record: dict[str, Any] = read_json(self.work / CASES / f"{patient}.json", PatientRecord)
        return record

    def read_rows(self, patient: str, inputs: list[list[Any]]) -> list[dict[str, Any]] | None:
        """Read the manifest rows of a patient; None if files are missing, so that it must be written.

        Args:
            patient: the patient's id.
            inputs: current `SourceCase.fingerprint()`.

        Raises:
            DataError: the source has changed since the patient was written.
        """
        if self._replace or not (self.work / CASES / f"{patient}.json").is_file():
            return None
        record = self.read_record(patient)
        if record["inputs"] != inputs:
            raise DataError(
                f"the source files of {patient} have changed since {self.work} was prepared; "
                "prepare it again with overwrite (--overwrite), or choose another destination"
            )
        rows: list[dict[str, Any]] = record["rows"]
        parts = [self.work / IMAGES, self.work / MASKS]
        return rows if all((part / row["file"]).is_file() for row in rows for part in parts) else None

    def add(
        self,
        patient: str,
        inputs: list[list[Any]],
        rows: Sequence[dict[str, Any]],
        slices: Sequence[tuple[NDArray[Any], NDArray[np.uint8]]],
        *,
        automatic_mask: bool,
        display: Display | None,
    ) -> None:
        """Write the slices of a patient to a temporary folder, rename each, and write the patient's record.

        Args:
            patient: the patient's id.
            inputs: `SourceCase.fingerprint()`.
            rows: manifest rows.
            slices: (image, mask) for each row.
            automatic_mask: whether software made the masks.
            display: how to turn pictures upright; None if unknown.
        """
        staged = self.work / f"{TEMPORARY_PREFIX}{patient}"
        with _explain_write_errors(self.work):
            for part in (IMAGES, MASKS):
                (staged / part).mkdir(parents=True, exist_ok=True)
            for row, (image, mask) in zip(rows, slices, strict=True):
                np.save(staged / IMAGES / row["file"], image, allow_pickle=False)
                np.save(staged / MASKS / row["file"], mask, allow_pickle=False)
            for part in (MASKS, IMAGES):  # masks first, so that an image always has its mask
                for row in rows:
                    os.replace(staged / part / row["file"], self.work / part / row["file"])
            record = {"inputs": inputs, "automatic_mask": automatic_mask, "rows": list(rows)}
            record["display"] = None if display is None else display.record()
            write_json(self.work / CASES / f"{patient}.json", record)
            shutil.rmtree(staged)

    def finish(self, left_out: dict[str, str]) -> list[str]:
        """Write manifest.csv and dataset.json, and rename the folder to its destination.

        Args:
            left_out: patient → reason, recorded in dataset.json.

        Returns:
            Patients whose masks were made by software, also recorded in dataset.json.
        """
        with _explain_write_errors(self.work):
            automatic = self._write_description(left_out)
            self._move_to_destination()
        return automatic

    def _write_description(self, left_out: dict[str, str]) -> list[str]:
        records = {patient: self.read_record(patient) for patient in self.list_patients()}
        automatic = [patient for patient, record in records.items() if record["automatic_mask"]]
        rows = (row for record in records.values() for row in record["rows"])
        write_csv(self.work / "manifest.csv", rows, columns=MANIFEST_COLUMNS)
        facts = {
            "patients": len(records), "automatic_masks": automatic, "left_out": left_out, **_collect_displays(records),
        }  # fmt: skip
        write_json(self.work / "dataset.json", {**self.settings, **facts})
        return automatic

    def _move_to_destination(self) -> None:
        """Rename the finished folder to its destination, then remove the folder that it replaces."""
        old = self.destination.with_name(f"{TEMPORARY_PREFIX}old-{self.destination.name}")
        shutil.rmtree(old, ignore_errors=True)  # also of a call that was killed after it had renamed
        if self.work == self.destination:
            return
        if self.destination.exists():
            os.rename(self.destination, old)
        os.rename(self.work, self.destination)
        shutil.rmtree(old, ignore_errors=True)

    def _refuse_other_settings(self, folder: Path) -> None:
        """Raise `DataError` with every setting in which an existing data set differs from the requested one."""
        record = folder / "dataset.json"
        if not record.is_file():
            return
        stored = read_json(record)
        differing = [
            f"{key} is {stored.get(key)!r} there, requested is {value!r}"
            for key, value in self.settings.items()
            if stored.get(key) != value
        ]
        if differing:
            raise DataError(
                f"{folder} was prepared with other settings: {'; '.join(differing)}; "
                "prepare it again with overwrite (--overwrite), or choose another destination"
            )


def _collect_displays(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Collect how pictures are turned upright: the most frequent way, and the patients that differ from it."""
    displays = {patient: record["display"] for patient, record in records.items() if record.get("display")}
    if not displays:
        return {}
    usual = max(displays.values(), key=list(displays.values()).count)
    exceptions = {patient: display for patient, display in displays.items() if display != usual}
    return {"display": usual, **({"display_exceptions": exceptions} if exceptions else {})}


def _refuse_foreign(folder: Path) -> None:
    """Raise `DataError` for a path that holds other files, which would be mixed up or, when replaced, lost."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; choose a folder as destination")
    if all(path.name.startswith(TEMPORARY_PREFIX) for path in folder.iterdir()):
        return
    record = folder / "dataset.json"
    try:
        maker = read_json(record).get("made_by")
    except DataError:
        maker = None
    if maker != MAKER:
        raise DataError(
            f"{folder} holds files that `{MAKER}` did not write (no dataset.json written by it); "
            "choose another destination, or empty the folder yourself"
        )


@contextmanager
def _explain_write_errors(folder: Path) -> Iterator[None]:
    """Turn errors of a full disk or missing permissions into a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {folder} ({error}); free space or change its permissions, then run the same command again: "
            "complete patients are kept"
        ) from error
