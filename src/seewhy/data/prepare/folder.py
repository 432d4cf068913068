"""The folder a data set is built in: claimed once, filled patient by patient, shown when it is whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.atomic import TEMPORARY_PREFIX, write_csv, write_json
from seewhy.io.geometry import Display
from seewhy.io.layout import IMAGES, MANIFEST_COLUMNS, MASKS, natural_key

__all__ = ["DatasetFolder"]

MAKER = "seewhy prepare"
CASES = ".cases"


class DatasetFolder:
    """A data set that is being prepared.

    A new one is built in `<destination>.partial` and renamed when it is whole, so that a killed preparation never
    looks like a data set; the next call continues it. Patients added later go into the finished folder, each
    through a temporary folder and into the manifest at the end.

    Attributes:
        destination: where the data set is to be.
        work: where it is built now.
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
        """Make the folders; called once nothing is known to be wrong with the source."""
        with _writing(self.work):
            if self._replace and self.work.exists():
                shutil.rmtree(self.work)
            self._replace = False
            if not (self.work / "dataset.json").is_file():
                write_json(self.work / "dataset.json", self.settings)
            for part in (IMAGES, MASKS, CASES):
                (self.work / part).mkdir(exist_ok=True)
            for stale in self.work.glob(f"{TEMPORARY_PREFIX}*"):
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()

    def recorded(self) -> list[str]:
        """Ids of the patients that are complete, in natural order; none while all is to be replaced."""
        if self._replace:
            return []
        return sorted((path.stem for path in (self.work / CASES).glob("[!.]*.json")), key=natural_key)

    def record(self, patient: str) -> dict[str, Any]:
        """Inputs and manifest rows of a complete patient."""
        text = (self.work / CASES / f"{patient}.json").read_text(encoding="utf-8")
        record: dict[str, Any] = json.loads(text)
        return record

    def rows(self, patient: str, inputs: list[list[Any]]) -> list[dict[str, Any]] | None:
        """Manifest rows of a patient whose files are all there, or None where it must be written.

        Args:
            patient: its id.
            inputs: `Case.fingerprint()` now.

        Raises:
            DataError: the source has changed since the patient was written.
        """
        if self._replace or not (self.work / CASES / f"{patient}.json").is_file():
            return None
        found = self.record(patient)
        if found["inputs"] != inputs:
            raise DataError(
                f"the source files of {patient} have changed since {self.work} was prepared; "
                "prepare it anew with overwrite (--overwrite), or give another destination"
            )
        rows: list[dict[str, Any]] = found["rows"]
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
        """Write the slices of a patient: all into a temporary folder, then each renamed, then its record.

        Args:
            patient: its id.
            inputs: `Case.fingerprint()`.
            rows: manifest rows.
            slices: (image, mask) for each row.
            automatic_mask: whether software made the masks.
            display: how pictures are turned upright; None where the source does not say.
        """
        staged = self.work / f"{TEMPORARY_PREFIX}{patient}"
        with _writing(self.work):
            for part in (IMAGES, MASKS):
                (staged / part).mkdir(parents=True, exist_ok=True)
            for row, (image, mask) in zip(rows, slices, strict=True):
                np.save(staged / IMAGES / row["file"], image, allow_pickle=False)
                np.save(staged / MASKS / row["file"], mask, allow_pickle=False)
            for part in (MASKS, IMAGES):  # masks first: an image never lacks its mask
                for row in rows:
                    os.replace(staged / part / row["file"], self.work / part / row["file"])
            record = {"inputs": inputs, "automatic_mask": automatic_mask, "rows": list(rows)}
            record["display"] = None if display is None else display.record()
            write_json(self.work / CASES / f"{patient}.json", record)
            shutil.rmtree(staged)

    def finish(self, left_out: dict[str, str]) -> list[str]:
        """Write manifest.csv and dataset.json, and put the folder in its place.

        Args:
            left_out: patient → reason, kept in dataset.json.

        Returns:
            Patients whose masks were made by software, kept in dataset.json too.
        """
        with _writing(self.work):
            automatic = self._describe(left_out)
            self._show()
        return automatic

    def _describe(self, left_out: dict[str, str]) -> list[str]:
        records = {patient: self.record(patient) for patient in self.recorded()}
        automatic = [patient for patient, record in records.items() if record["automatic_mask"]]
        rows = (row for record in records.values() for row in record["rows"])
        write_csv(self.work / "manifest.csv", rows, columns=MANIFEST_COLUMNS)
        known = {"patients": len(records), "automatic_masks": automatic, "left_out": left_out, **_displays(records)}
        write_json(self.work / "dataset.json", {**self.settings, **known})
        return automatic

    def _show(self) -> None:
        """Rename the finished folder to its destination; what it replaces is removed only after that."""
        if self.work == self.destination:
            return
        old = self.destination.with_name(f"{TEMPORARY_PREFIX}old-{self.destination.name}")
        shutil.rmtree(old, ignore_errors=True)
        if self.destination.exists():
            os.rename(self.destination, old)
        os.rename(self.work, self.destination)
        shutil.rmtree(old, ignore_errors=True)

    def _refuse_other_settings(self, folder: Path) -> None:
        """Name every setting in which an existing data set differs from what is asked for."""
        record = folder / "dataset.json"
        if not record.is_file():
            return
        found = json.loads(record.read_text(encoding="utf-8"))
        differing = [
            f"{key} is {found.get(key)!r} there, {value!r} asked for"
            for key, value in self.settings.items()
            if found.get(key) != value
        ]
        if differing:
            raise DataError(
                f"{folder} was prepared with other settings: {'; '.join(differing)}; "
                "prepare it anew with overwrite (--overwrite), or give another destination"
            )


def _displays(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How pictures are turned upright: as most patients are stored, and the patients that are stored otherwise."""
    known = {patient: record["display"] for patient, record in records.items() if record.get("display")}
    if not known:
        return {}
    usual = max(known.values(), key=list(known.values()).count)
    exceptions = {patient: display for patient, display in known.items() if display != usual}
    return {"display": usual, **({"display_exceptions": exceptions} if exceptions else {})}


def _refuse_foreign(folder: Path) -> None:
    """Refuse a path that holds anything but a data set made by us: it would be mixed up or, replaced, be lost."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; give a folder as destination")
    if all(path.name.startswith(TEMPORARY_PREFIX) for path in folder.iterdir()):
        return
    record = folder / "dataset.json"
    try:
        maker = json.loads(record.read_text(encoding="utf-8")).get("made_by")
    except (OSError, ValueError, AttributeError):
        maker = None
    if maker != MAKER:
        raise DataError(
            f"{folder} holds files that `{MAKER}` did not write (no dataset.json of ours); "
            "give another destination, or empty it yourself"
        )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or missing rights into one sentence."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error}); free space or rights, then run the same command again: "
            "complete patients are kept"
        ) from error
