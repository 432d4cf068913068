"""DataModule of cases: one row of a CSV file is one labelled case."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from seewhy.batch import Batch
from seewhy.data.base import BaseDataModule, check_counts
from seewhy.data.case_files import CaseFiles
from seewhy.data.cases.case_list import Case, Columns, Files, list_cases, split_cases
from seewhy.data.cases.dataset import CaseDataset, CaseReader, collate_cases
from seewhy.data.dataset_info import read_displays, read_info
from seewhy.data.splits import PARTS, Split
from seewhy.data.table import ClassLabels, Row, missing_columns, read_table
from seewhy.data.uniformity import report_mixtures, report_shortcuts
from seewhy.errors import ConfigError, DataError
from seewhy.io.geometry import Display
from seewhy.option_types import BatchSize, PositiveInt
from seewhy.options import check_choice

__all__ = ["CaseDataModule"]


class CaseDataModule(BaseDataModule):
    r"""Cases listed in a CSV file, one class each, split by patient.

    A kind of data is a subclass that finds the files of a row (`locate`) and reads them (`reader`).

    Args:
        table: the CSV file; a relative path starts from `root` if that is given.
        root: folder that the paths in the table start from; None is the table's folder.
        val_table: a second CSV file whose patients validate.
        test_table: one whose patients are tested. Parts without a table are taken from `table` by `fractions`.
        id_column: column of the case's name.
        label_column: column of its class; None for data without labels, which can be predicted only.
        patient_column: column of its patient; None takes `patient` if there is such a column.
        patient_pattern: regular expression that finds the patient in the case's name, e.g. `^P\d+`; without it
            and without a column every case counts as a patient.
        fold_column: column of its fold, for given folds.
        split_column: column that holds `train`, `val` or `test`.
        labels: text → class index; None takes integers as they are, else names in alphabetical order.
        classes: names of the classes in the order of their indices; a table may use them as labels.
        num_classes: number of classes; None means as many as there are.
        eval_batch_size: cases per batch of validation, test and prediction.
        stratify: split each class by the same shares, so that rare classes are in every part.
        shortcuts: `error` refuses training cases whose class a property of their files decides, e.g. all ill at 1 mm
            and all healthy at 5 mm; `allow` warns.
        max_patients: use the first so many patients only.
        shared: the options of `seewhy.data.base.BaseDataModule`.

    Raises:
        ConfigError: options that do not exist or do not fit together.
    """

    collate = staticmethod(collate_cases)

    def __init__(
        self,
        *,
        table: str,
        root: str | None = None,
        val_table: str | None = None,
        test_table: str | None = None,
        id_column: str | None = None,
        label_column: str | None = None,
        patient_column: str | None = None,
        patient_pattern: str | None = None,
        fold_column: str | None = None,
        split_column: str | None = None,
        labels: Mapping[Any, int] | None = None,
        classes: Sequence[str] | None = None,
        num_classes: PositiveInt | None = None,
        eval_batch_size: BatchSize = 8,
        stratify: bool = True,
        shortcuts: str = "error",
        max_patients: PositiveInt | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        check_counts(eval_batch_size=eval_batch_size, max_patients=max_patients)
        if split_column is not None and (val_table or test_table):
            raise ConfigError("data.split_column and data.val_table, test_table are two ways to split; keep one")
        check_choice(shortcuts, ("error", "allow"), "data.shortcuts")
        self.shortcuts = shortcuts
        self.table = Path(table) if root is None else Path(root) / table
        self.root = self.table.parent if root is None else Path(root)
        self.more_tables = {"val": val_table, "test": test_table}
        self.columns = Columns(id_column, label_column, patient_column, patient_pattern, fold_column, split_column)
        self.given_labels = ClassLabels(labels, num_classes, classes)
        self.eval_batch_size, self.stratify, self.max_patients = eval_batch_size, stratify, max_patients
        self._checked: set[str] = set()

    # -- defined by a kind of data --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def reader(self) -> CaseReader:
        """Turns the files of a case into tensors."""

    @abstractmethod
    def locate(self, row: Row) -> Files:
        """Find the files of a row; problems are listed in `Files.problems`, not raised."""

    def needed_columns(self) -> list[tuple[str, str]]:
        """Pairs (option, column) of columns that `locate` reads in addition to the shared ones."""
        return []

    # -- tables and cases -----------------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> list[Row]:
        """Rows of all tables, in order, read once."""
        more = [(self.root / path, part) for part, path in self.more_tables.items() if path]
        return [row for path, part in [(self.table, None), *more] for row in read_table(path, part=part)]

    @cached_property
    def labels(self) -> ClassLabels:
        """Class indices of the labels in the tables."""
        column = self.columns.label
        if column is None:
            return self.given_labels
        return self.given_labels.resolve(row.cells.get(column, "") for row in self.rows)

    @cached_property
    def cases(self) -> list[Case]:
        """All cases in the order of the tables, listed once.

        Raises:
            DataError: columns that are missing; else all problems of all rows.
        """
        problems = missing_columns(self.rows, [*self.columns.required(), *self.needed_columns()])
        if self.columns.patient is None and self.columns.patient_pattern is None:
            # Without the column in one of several tables, a patient in two of them would stay unnoticed.
            tables = {row.table: "patient" in row.cells for row in self.rows}
            problems += [
                f"{table.name} has no column 'patient', other tables have; add it, or set data.patient_pattern"
                for table, has_patients in tables.items()
                if not has_patients and any(tables.values())
            ]
        if problems:
            raise DataError(problems, where=str(self.table.parent))
        cases = list_cases(self.rows, self.columns, self.labels, self.locate)
        chosen = set(list(dict.fromkeys(case.patient for case in cases))[: self.max_patients])
        return [case for case in cases if case.patient in chosen]

    def path_of(self, row: Row, text: str) -> Path:
        """The file that a cell names; a relative path starts from the root, or else from the table's folder."""
        path, by_table = self.root / text, row.table.parent / text
        return by_table if not path.exists() and by_table.exists() else path

    @cached_property
    def split(self) -> Split:
        """Patients of train, val and test."""
        return split_cases(self.cases, stratify=self.stratify, options=self.split_options)

    def items_of(self, part: str) -> list[Case]:
        """Cases of `train`, `val`, `test` or `all`; for `predict` those of `predict_on`."""
        part = self.predict_on if part == "predict" else part
        if part == "all":
            return self.cases
        chosen = set(self.split.part(part))
        return [case for case in self.cases if case.patient in chosen]

    def ids_of(self, item: Case) -> list[str]:
        """The case's id."""
        return [item.id]

    @property
    def num_classes(self) -> int:
        """Number of classes, from the options or the tables."""
        return self.labels.num_classes or 0

    def class_counts(self, part: str = "train") -> list[int]:
        """Number of cases of each class in a part of the split."""
        labels = [case.label for case in self.items_of(part)]
        return [labels.count(label) for label in range(self.num_classes)]

    # -- what a run records ---------------------------------------------------------------------------------------

    @cached_property
    def info(self) -> dict[str, Any]:
        """Contents of `dataset.json` in the root, or an empty dict."""
        return read_info(self.root / "dataset.json")

    @property
    def is_phantom(self) -> bool:
        """Whether the patients are synthetic, from `dataset.json`."""
        return bool(self.info.get("phantom", False))

    @cached_property
    def _displays(self) -> dict[str | None, Display]:
        return read_displays(self.info, self.root / "dataset.json")

    def display_of(self, patient: str) -> Display:
        """How pictures of a patient are turned upright, from `dataset.json`; unchanged where it has no entry."""
        return self._displays.get(patient, self._displays[None])

    def split_record(self) -> dict[str, Any]:
        """The split with its hash, how it was made, its numbers of cases, and the class indices of labels."""
        counts = {}
        for part in PARTS:
            counts[part] = {"patients": len(self.split.part(part)), "cases": len(self.items_of(part))}
            counts[part] |= {f"class_{label}": count for label, count in enumerate(self.class_counts(part))}
        return {**self.split.to_dict(), "counts": counts, "labels": self.labels.to_dict()}

    def fingerprint(self) -> str:
        """SHA-256 over ids, patients, labels, and names and sizes of all files; masks do not count."""
        digest = hashlib.sha256()
        for case in sorted(self.cases, key=lambda case: case.id):
            digest.update(f"{case.id}\0{case.patient}\0{case.label}".encode())
            for name, path in case.files.items():
                text = "-" if path is None else f"{path.name}\0{path.stat().st_size}"
                digest.update(f"\0{name}\0{text}".encode())
            digest.update(b"\n")
        return digest.hexdigest()

    # -- loaders --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """List, split and check the files that the stage reads; headers only, each once.

        Raises:
            DataError: every file that is damaged or of another size, or too few labels to train with.
        """
        if stage != "predict" and self.columns.label is None:
            raise ConfigError(f"stage {stage} needs labels; set data.label_column to the column that holds them")
        if stage == "fit":
            _check_classes(self.class_counts(), self.table)
        cases = [case for part in self.parts_of(stage) for case in self.items_of(part) if case.id not in self._checked]
        problems = self.reader.problems(cases)
        if problems:
            raise DataError(problems, where=str(self.root))
        self._checked |= {case.id for case in cases}
        if stage == "fit":
            self._check_shortcuts()

    def _check_shortcuts(self) -> None:
        """Warn of properties in which the files of the training cases differ; refuse those that decide the class."""
        cases = self.items_of("train")
        names = {index: text for text, index in (self.labels.to_dict() or {}).items()}
        classes = [names.get(case.label or 0, f"class {case.label}") for case in cases]
        traits = self.reader.describe_files(cases)
        found = report_shortcuts(traits, classes)
        remedy = "a model may learn this instead of the disease: make the files alike, or add cases of both kinds"
        if found and self.shortcuts == "error":
            accept = "data.shortcuts=allow trains nevertheless"
            raise DataError([f"{text}; {remedy}; {accept}" for text in found], where=str(self.table))
        for text in report_mixtures(traits, classes):
            rank_zero_warn(f"{self.table}: {text}; {remedy}")

    def training_data(self) -> CaseDataset:
        """Training cases, augmented."""
        return CaseDataset(self.items_of("train"), self.reader, seed=self.seed)

    def evaluation_data(self, items: Sequence[Case]) -> CaseDataset:
        """Cases with their masks, if any."""
        return CaseDataset(items, self.reader)

    def read_files(self, case: CaseFiles, scratch: Path) -> Batch:
        """See `BaseDataModule.read_files`; an input without a file is missing."""
        files = {name: case.only_file(name) if case.files.get(name) else None for name in self.input_names}
        row = Case(case.id, case.id, None, files, row=0)
        problems = self.reader.problems([row])
        if problems:
            raise DataError(problems, where=case.id)
        sample = {"id": row.id, "patient": row.patient, "source": row.source}
        return collate_cases([{**sample, **self.reader.read_case(row, masks=False)}])


def _check_classes(counts: Sequence[int], where: Path) -> None:
    """Refuse training cases that are all of one class, and warn of classes without training cases.

    Args:
        counts: number of training cases of each class.
        where: the table, for the message.

    Raises:
        DataError: there are fewer than two classes.
    """
    if sum(count > 0 for count in counts) < 2:
        raise DataError(
            f"the {sum(counts)} training cases are all of one class (cases per class: {list(counts)}), so nothing can "
            "be learned; add cases of another class or choose other training patients",
            where=str(where),
        )
    for label, count in enumerate(counts):
        if not count:
            rank_zero_warn(f"{where}: no training case is of class {label}; it will not be learned")
