"""From cases to a data set on disk: check all, then write all.

What a preparation did, in numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seewhy.data.prepare.folder import DatasetFolder
from seewhy.data.prepare.intensity import background_value, check_window, stored, tissue_fraction, value_range
from seewhy.data.prepare.source_case import SlicePlane, SourceCase
from seewhy.data.slices.label_rule import LabelRule
from seewhy.errors import ConfigError, DataError

__all__ = ["Builder", "Summary"]


@dataclass
class Summary:
    """Counts of a prepared data set.

    Attributes:
        destination: the data set.
        written: patients written by this call.
        kept: patients that were complete before.
        left_out: patient → why it is not in the data set.
        slices: slices of the whole data set.
        positive: those with label 1.
        automatic: patients whose masks were made by software.
        negative_with_lesion: slices with some lesion that the label rule calls negative.
    """

    destination: Path
    written: int = 0
    kept: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    slices: int = 0
    positive: int = 0
    negative_with_lesion: int = 0
    automatic: list[str] = field(default_factory=list)

    @property
    def patients(self) -> int:
        """Patients in the data set."""
        return self.written + self.kept


MINIMUM_TISSUE = 0.01
"""A slice with a smaller share of tissue is a tip of the body or air."""


class Builder:
    """Cuts cases into slices and writes them as one data set.

    Args:
        name: of the data set, e.g. `BraTS`.
        prefix: start of every file name, e.g. `BRATS_`.
        modality: told in the manifest.
        window: see `prepare.window`.
        dtype: see `prepare.window`.
        rule: from lesion area to label.
        every: keep slices 0, n, 2n … of the volume.
        tissue_only: leave out slices in which less than 1 % of the pixels differ from the background.
        source: the folder that is read, kept in dataset.json.
        options: further settings of this kind of source, kept in dataset.json.
    """

    def __init__(
        self,
        *,
        name: str,
        prefix: str,
        modality: str,
        window: str,
        dtype: str,
        rule: LabelRule,
        every: int,
        tissue_only: bool,
        source: Path,
        options: dict[str, Any],
    ) -> None:
        check_window(window, dtype)
        if every < 1:
            raise ConfigError(f"every={every}; expected 1 (all slices) or more")
        self.prefix, self.modality, self.window, self.dtype = prefix, modality, window, dtype
        self.rule, self.every, self.tissue_only = rule, every, tissue_only
        self.settings: dict[str, Any] = {
            "name": name,
            "phantom": False,
            "modality": modality,
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
    ) -> Summary:
        """Check every case that is not there yet, then write it.

        Args:
            cases: the patients of the source.
            destination: the data set's folder.
            left_out: patient → reason, for the summary.
            overwrite: replace a data set that was made with other settings.
            progress: show a bar on stderr.

        Raises:
            DataError: all problems of all cases; nothing has been written then.
        """
        folder = DatasetFolder(destination, self.settings, overwrite=overwrite)
        summary = Summary(destination=folder.destination, left_out=dict(left_out))
        waiting = self._waiting(cases, folder, summary)
        with _bar(progress and bool(waiting)) as bar:
            self._check(bar.track(waiting, description="checking"))
            folder.open()
            for case in bar.track(waiting, description="writing"):
                _count(summary, self._write(folder, case))
                summary.written += 1
        summary.automatic = folder.finish(summary.left_out)
        return summary

    def _waiting(self, cases: Sequence[SourceCase], folder: DatasetFolder, summary: Summary) -> list[SourceCase]:
        """The cases that are not complete yet; complete ones are counted."""
        now = {case.patient for case in cases}
        for patient in folder.recorded():
            if patient not in now:  # prepared before, gone from the source since
                summary.kept += 1
                _count(summary, folder.record(patient)["rows"])
        waiting, problems = [], []
        for case in cases:
            try:
                rows = folder.rows(case.patient, case.fingerprint())
            except DataError as error:
                problems += error.problems
                continue
            if rows is None:
                waiting.append(case)
            else:
                summary.kept += 1
                _count(summary, rows)
        if problems:
            raise DataError(problems, where=f"{folder.destination} (nothing was written)")
        return waiting

    def _check(self, cases: Iterable[SourceCase]) -> None:
        problems: list[str] = []
        for case in cases:
            try:
                self._cut(case)
            except DataError as error:
                problems += [f"{case.patient}: {problem}" for problem in error.problems]
        if problems:
            raise DataError(problems, where=f"{self.settings['source']} (nothing was written)")

    def _cut(self, case: SourceCase) -> list[tuple[SlicePlane, NDArray[Any]]]:
        """The slices of a case that are kept, with their stored intensities."""
        planes = case.load()
        images = [plane.image for plane in planes]
        background = background_value(images)
        kept = [
            position
            for position, plane in enumerate(planes)
            if plane.index % self.every == 0
            and (not self.tissue_only or tissue_fraction(plane.image, background) >= MINIMUM_TISSUE)
        ]
        if not kept:
            raise DataError("no slice holds tissue; the volume is empty or `every` is larger than it")
        limits = value_range(images, window=self.window, background=background)
        return [(planes[position], stored(images[position], limits, self.dtype)) for position in kept]

    def _write(self, folder: DatasetFolder, case: SourceCase) -> list[dict[str, Any]]:
        slices = self._cut(case)
        rows = [self._row(case.patient, plane) for plane, _ in slices]
        folder.add(
            case.patient,
            case.fingerprint(),
            rows,
            [(image, plane.mask.astype(np.uint8)) for plane, image in slices],
            automatic_mask=case.automatic_mask,
            display=slices[0][0].display,
        )
        return rows

    def _row(self, patient: str, plane: SlicePlane) -> dict[str, Any]:
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


def _count(summary: Summary, rows: Sequence[dict[str, Any]]) -> None:
    summary.slices += len(rows)
    summary.positive += sum(row["label"] for row in rows)
    summary.negative_with_lesion += sum(row["label"] == 0 and row["area"] > 0 for row in rows)


@contextmanager
def _bar(shown: bool) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        yield progress
