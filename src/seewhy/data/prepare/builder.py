"""Build a slice data set from source cases: check all cases, then normalise, cut and write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.data.prepare.folder import DatasetFolder
from seewhy.data.prepare.source_case import SlicePlane, SourceCase
from seewhy.data.slices.cutting import LabelRule, cut_slices
from seewhy.data.uniformity import find_turned
from seewhy.errors import ConfigError, DataError
from seewhy.options import check_choice
from seewhy.sharing.pool import map_in_processes

__all__ = [
    "DTYPES",
    "WINDOWS",
    "Builder",
    "Summary",
]

WINDOWS = ("minmax", "percentile", "none")
DTYPES = ("float32", "float16", "uint8", "source")
ACROSS = str.maketrans("LPI", "RAS")
"""Both directions of an axis as one."""


@dataclass
class Summary:
    """Counts of a prepared data set.

    Attributes:
        destination: the data set's folder.
        written: patients written by this call.
        kept: patients that were complete before.
        left_out: patient → reason why the patient is not in the data set.
        slices: slices of the whole data set.
        positive: slices with label 1.
        automatic: patients whose masks were made by software.
        labels: which label values count as lesion; empty where any value above 0 does.
        negative_with_lesion: slices with lesion pixels that the label rule labels 0.
    """

    destination: Path
    written: int = 0
    kept: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    slices: int = 0
    positive: int = 0
    negative_with_lesion: int = 0
    automatic: list[str] = field(default_factory=list)
    labels: str = ""

    @property
    def patients(self) -> int:
        """Patients in the data set."""
        return self.written + self.kept

    def count(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add the manifest rows of a patient to the counts of slices."""
        self.slices += len(rows)
        self.positive += sum(row["label"] for row in rows)
        self.negative_with_lesion += sum(row["label"] == 0 and row["area"] > 0 for row in rows)


class Builder:
    """Cut cases into slices and write them as one data set.

    Args:
        name: name of the data set, e.g. `BraTS`.
        prefix: start of every file name, e.g. `BRATS_`.
        modalities: in the order of the channels; joined by `+` in the manifest.
        window: see `seewhy.data.slices.cutting.cut_slices`.
        dtype: see there.
        rule: rule that turns a lesion area into a label.
        every: keep slices 0, n, 2n … of the volume.
        tissue_only: leave out slices in which less than 1 % of the pixels differ from the background.
        source: the folder to read, recorded in dataset.json.
        options: further settings of this kind of source, recorded in dataset.json.
    """

    def __init__(
        self,
        *,
        name: str,
        prefix: str,
        modalities: Sequence[str],
        window: str,
        dtype: str,
        rule: LabelRule,
        every: int,
        tissue_only: bool,
        source: Path,
        options: dict[str, Any],
    ) -> None:
        _check_window(window, dtype)
        if every < 1:
            raise ConfigError(f"every={every}; expected 1 (all slices) or more")
        self.prefix, self.modality, self.window, self.dtype = prefix, "+".join(modalities), window, dtype
        self.rule, self.every, self.tissue_only = rule, every, tissue_only
        self.settings: dict[str, Any] = {
            "name": name,
            "phantom": False,
            "modality": self.modality,
            **({"modalities": list(modalities)} if len(modalities) > 1 else {}),
            "source": str(source.resolve()),
            "window": window,
            "dtype": dtype,
            **rule.record(),
            "every": every,
            "tissue_only": tissue_only,
            **options,
        }

    def build(
        self,
        cases: Sequence[SourceCase],
        destination: str | Path,
        *,
        left_out: dict[str, str],
        overwrite: bool,
        progress: bool,
        jobs: int = 1,
    ) -> Summary:
        """Check every case that is not written yet, then write it.

        Args:
            cases: the patients of the source.
            destination: the data set's folder.
            left_out: patient → reason, for the summary.
            overwrite: replace a data set that was made with other settings.
            progress: show a bar on stderr.
            jobs: processes that check and write cases.

        Raises:
            DataError: all problems of all cases, before anything is written.
        """
        folder = DatasetFolder(destination, self.settings, overwrite=overwrite)
        labels = str(self.settings.get("labels", ""))
        summary = Summary(destination=folder.destination, left_out=dict(left_out), labels=labels)
        waiting = self._list_waiting(cases, folder, summary)
        self._check(waiting, jobs=jobs, shown=progress)
        folder.open()
        for rows in map_in_processes(
            lambda case: self._write(folder, case), waiting, "writing", jobs=jobs, shown=progress
        ):
            summary.count(rows)
            summary.written += 1
        summary.automatic = folder.finish(summary.left_out)
        return summary

    def _list_waiting(self, cases: Sequence[SourceCase], folder: DatasetFolder, summary: Summary) -> list[SourceCase]:
        """List the cases that are not complete yet, and count the complete ones in the summary."""
        now = {case.patient for case in cases}
        for patient in folder.list_patients():
            if patient not in now:  # prepared before, removed from the source since then
                summary.kept += 1
                summary.count(folder.read_record(patient)["rows"])
        waiting, problems = [], []
        for case in cases:
            try:
                rows = folder.read_rows(case.patient, case.fingerprint())
            except DataError as error:
                problems += error.problems
                continue
            if rows is None:
                waiting.append(case)
            else:
                summary.kept += 1
                summary.count(rows)
        if problems:
            raise DataError(problems, where=f"{folder.destination} (nothing was written)")
        return waiting

    def _check(self, cases: Sequence[SourceCase], *, jobs: int, shown: bool) -> None:
        """Read every case once and collect the problems of all."""
        problems: list[str] = []
        codes: dict[str, str | None] = {}
        checked = map_in_processes(self._check_case, cases, "checking", jobs=jobs, shown=shown)
        for case, (code, found) in zip(cases, checked, strict=True):
            codes |= {} if found else {case.patient: code}
            problems += [f"{case.patient}: {problem}" for problem in found]
        # Mirrored volumes are recorded with their display; slices of another plane of the body cannot be.
        turned = find_turned({patient: code and code[2].translate(ACROSS) for patient, code in codes.items()})
        problems += [
            f"{patient} is stored as {codes[patient]}, so that its slices show another plane of the body than most "
            "others; store all in one orientation, e.g. with nibabel.as_closest_canonical"
            for patient in turned
        ]
        if problems:
            raise DataError(problems, where=f"{self.settings['source']} (nothing was written)")

    def _check_case(self, case: SourceCase) -> tuple[str | None, list[str]]:
        """Directions of the volume's axes, and all problems of a case."""
        try:
            return self._cut_case(case)[0][0].codes, []
        except DataError as error:
            return None, error.problems

    def _cut_case(self, case: SourceCase) -> list[tuple[SlicePlane, NDArray[Any]]]:
        """Return the slices of a case to keep, with their intensities as stored."""
        planes = {plane.index: plane for plane in case.load()}
        cut = cut_slices(
            {number: plane.image for number, plane in planes.items()},
            window=self.window,
            dtype=self.dtype,
            every=self.every,
            tissue_only=self.tissue_only,
        )
        return [(planes[number], image) for number, image in cut.items()]

    def _write(self, folder: DatasetFolder, case: SourceCase) -> list[dict[str, Any]]:
        slices = self._cut_case(case)
        rows = [self._make_row(case.patient, plane) for plane, _ in slices]
        folder.add(
            case.patient,
            case.fingerprint(),
            rows,
            [(image, plane.mask.astype(np.uint8)) for plane, image in slices],
            automatic_mask=case.automatic_mask,
            display=slices[0][0].display,
        )
        return rows

    def _make_row(self, patient: str, plane: SlicePlane) -> dict[str, Any]:
        area = int(plane.mask.sum())
        label = self.rule.label(area, plane.mask.size)
        row, column, depth = (None if np.isnan(size) else round(size, 6) for size in plane.spacing)
        return {
            "file": f"{self.prefix}{patient}_{plane.index}_{label}.npy",
            "patient": patient,
            "slice": plane.index,
            "label": label,
            "area": area,
            "modality": self.modality,
            "source": str(plane.source.resolve()),
            "spacing_row": row,
            "spacing_col": column,
            "spacing_slice": depth,
        }


def _check_window(window: str, dtype: str) -> None:
    """Check that window and dtype exist and fit together.

    Raises:
        ConfigError: with the nearest valid names.
    """
    check_choice(window, WINDOWS, "window")
    check_choice(dtype, DTYPES, "dtype")
    if dtype == "source" and window != "none":
        raise ConfigError(
            f"dtype='source' keeps the values unchanged, but window={window!r} changes them; use window='none'"
        )
