"""Where cases come from: a CSV file or several, the labels in them, and what the folder says about itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from seewhy.data.cases import Case, Columns, Files, list_cases
from seewhy.data.class_labels import ClassLabels
from seewhy.data.dataset_info import read_displays, read_info
from seewhy.data.table import Row, Table, read_table
from seewhy.errors import DataError
from seewhy.io.orientation import Display

__all__ = ["CaseSource"]


class CaseSource:
    """Tables of cases, read when asked and once.

    Args:
        table: the CSV file; a relative path starts from `root` where that is given.
        root: folder that the paths in the tables start from; None is the table's folder.
        more_tables: part of the split → the CSV file of its cases, or None; relative paths start from the root.
        columns: where the tables say what.
        labels: what their labels mean, as far as it is given.
        max_patients: use the first so many patients only.
    """

    def __init__(
        self,
        table: str,
        *,
        root: str | None,
        more_tables: Mapping[str, str | None],
        columns: Columns,
        labels: ClassLabels,
        max_patients: int | None,
    ) -> None:
        self.path = Path(table) if root is None else Path(root) / table
        self.root = self.path.parent if root is None else Path(root)
        self.more_tables = more_tables
        self.columns = columns
        self.given_labels = labels
        self.max_patients = max_patients

    @cached_property
    def tables(self) -> list[tuple[Table, str | None]]:
        """The tables, each with the part of the split that it stands for."""
        more = [(self.root / path, part) for part, path in self.more_tables.items() if path]
        return [(read_table(path), part) for path, part in [(self.path, None), *more]]

    @cached_property
    def labels(self) -> ClassLabels:
        """What the labels of the tables mean."""
        column = self.columns.label
        if column is None:
            return self.given_labels
        return self.given_labels.settle(row.cells.get(column, "") for table, _ in self.tables for row in table.rows)

    def cases(self, locate: Callable[[Row], Files], *, needed: list[tuple[str, str]]) -> list[Case]:
        """All cases in the order of the tables.

        Args:
            locate: finds the files of a row.
            needed: pairs (option, column) of the columns that it reads.

        Raises:
            DataError: columns that are missing; else everything that is wrong with any row.
        """
        wanted = [*self.columns.named(), *needed]
        problems = [problem for table, _ in self.tables for problem in table.lacks(wanted)]
        if self.columns.patient is None and self.columns.patient_pattern is None:
            problems += self._patients_of_some()
        if problems:
            raise DataError(problems, where=str(self.path.parent))
        cases = list_cases(self.tables, self.columns, self.labels, locate)
        chosen = set(list(dict.fromkeys(case.patient for case in cases))[: self.max_patients])
        return [case for case in cases if case.patient in chosen]

    def _patients_of_some(self) -> list[str]:
        """Tables without a column of patients beside others that have one: the same patient would go unnoticed."""
        without = [table.path.name for table, _ in self.tables if "patient" not in table.columns]
        if len(without) in (0, len(self.tables)):
            return []
        return [
            f"{name} has no column 'patient', other tables have; add it, or set data.patient_pattern"
            for name in without
        ]

    def path_of(self, row: Row, text: str) -> Path:
        """The file that a cell names.

        Args:
            row: that the cell is in.
            text: a path; relative ones start from the root, or else from the table's folder.
        """
        path = self.root / text
        beside = row.table.parent / text
        return beside if not path.exists() and beside.exists() else path

    @cached_property
    def info(self) -> dict[str, Any]:
        """Contents of `dataset.json` in the root, or an empty dict."""
        return read_info(self.root / "dataset.json")

    @cached_property
    def _displays(self) -> dict[str | None, Display]:
        return read_displays(self.info, self.root / "dataset.json")

    def display_of(self, patient: str) -> Display:
        """How pictures of a patient are turned upright, as `dataset.json` says; not at all where it says nothing."""
        return self._displays.get(patient, self._displays[None])

    @staticmethod
    def fingerprint(cases: list[Case]) -> str:
        """SHA-256 over ids, patients, labels, and names and sizes of all files; masks are not looked at."""
        digest = hashlib.sha256()
        for case in sorted(cases, key=lambda case: case.id):
            digest.update(f"{case.id}\0{case.patient}\0{case.label}".encode())
            for name, path in case.files.items():
                told = "-" if path is None else f"{path.name}\0{path.stat().st_size}"
                digest.update(f"\0{name}\0{told}".encode())
            digest.update(b"\n")
        return digest.hexdigest()
