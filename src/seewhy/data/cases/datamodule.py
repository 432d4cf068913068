"""The DataModule of cases: a table in, batches of labelled images out.

Where cases come from: a CSV file or several, the labels in them, and what the folder says about itself.
"""

from __future__ import annotations

import hashlib
import inspect
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from seewhy.data.base import BaseDataModule
from seewhy.data.cases.case_list import Case, Columns, Files, list_cases, split_cases
from seewhy.data.cases.dataset import CaseDataset, CaseReader, collate_cases
from seewhy.data.dataset_info import read_displays, read_info
from seewhy.data.loaders import EpochSampler, PatientSampler, ranks_of, worker_options
from seewhy.data.splits import PARTS, Split
from seewhy.data.table import ClassLabels, Row, missing_columns, read_table
from seewhy.data.validation import check_classes, check_numbers, check_predict_on
from seewhy.errors import ConfigError, DataError
from seewhy.io.geometry import Display

__all__ = ["CaseDataModule", "CaseSource"]


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
    def rows(self) -> list[Row]:
        """Rows of all tables, in order."""
        more = [(self.root / path, part) for part, path in self.more_tables.items() if path]
        return [row for path, part in [(self.path, None), *more] for row in read_table(path, part=part)]

    @cached_property
    def labels(self) -> ClassLabels:
        """What the labels of the tables mean."""
        column = self.columns.label
        if column is None:
            return self.given_labels
        return self.given_labels.resolve(row.cells.get(column, "") for row in self.rows)

    def cases(self, locate: Callable[[Row], Files], *, needed: list[tuple[str, str]]) -> list[Case]:
        """All cases in the order of the tables.

        Args:
            locate: finds the files of a row.
            needed: pairs (option, column) of the columns that it reads.

        Raises:
            DataError: columns that are missing; else everything that is wrong with any row.
        """
        problems = missing_columns(self.rows, [*self.columns.required(), *needed])
        if self.columns.patient is None and self.columns.patient_pattern is None:
            problems += self._patients_of_some()
        if problems:
            raise DataError(problems, where=str(self.path.parent))
        cases = list_cases(self.rows, self.columns, self.labels, locate)
        chosen = set(list(dict.fromkeys(case.patient for case in cases))[: self.max_patients])
        return [case for case in cases if case.patient in chosen]

    def _patients_of_some(self) -> list[str]:
        """Problems of tables without a column of patients where others have one: it would hide a shared patient."""
        known = {row.table: "patient" in row.cells for row in self.rows}
        without = [table.name for table, has_patients in known.items() if not has_patients]
        if len(without) in (0, len(known)):
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


class CaseDataModule(BaseDataModule):
    r"""Cases listed in a CSV file, one class each, split by patient.

    A kind of data is a subclass that says where the files of a row are (`locate`) and how they become tensors
    (`reader`). Its constructor takes its own options and hands all others on as `**shared`; its signature lists
    both, so that a mistyped option is named.

    Args:
        table: the CSV file; a relative path starts from `root` where that is given.
        root: folder that the paths in the table start from; None is the table's folder.
        val_table: a second CSV file whose patients validate.
        test_table: one whose patients are tested. Parts without a table are dealt from `table` by `fractions`.
        id_column: column of the case's name.
        label_column: column of its class; None for data without labels, which can be predicted only.
        patient_column: column of its patient; None takes `patient` where there is such a column.
        patient_pattern: regular expression that finds the patient in the case's name, e.g. `^P\d+`; without it
            and without a column every case is a patient of its own.
        fold_column: column of its fold, for folds that somebody else dealt.
        split_column: column that says `train`, `val` or `test`.
        labels: text → class index; None takes whole numbers as they are, else names in alphabetical order.
        classes: names of the classes in the order of their indices; a table may use them as labels.
        num_classes: number of classes; None means as many as there are.
        batch_size: training cases per step and device.
        eval_batch_size: cases per batch of validation, test and prediction.
        batches_per_epoch: None means about one pass over the training cases.
        seed: of order and augmentation.
        fractions: shares of train, val and test patients.
        split_seed: of fractions and folds; apart from `seed`, so that repeated runs are tested on the same patients.
        stratify: deal patients class by class, so that rare classes are in every part.
        train_patients: named training patients; None means all that are named nowhere else.
        val_patients: named validation patients.
        test_patients: named test patients.
        fold: which fold is tested; the next one chooses the checkpoint.
        num_folds: number of folds to deal; not needed with `fold_column`.
        split_file: `split.json` of an earlier run.
        num_workers: processes that read.
        pin_memory: None means yes where there is CUDA.
        predict_on: `test`, `val`, `train` or `all`.
        max_patients: use the first so many patients only.

    Raises:
        ConfigError: options that do not exist or do not fit together.
    """

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
        num_classes: int | None = None,
        batch_size: int = 8,
        eval_batch_size: int = 8,
        batches_per_epoch: int | None = None,
        seed: int = 0,
        fractions: Sequence[float] = (0.6, 0.15, 0.25),
        split_seed: int = 0,
        stratify: bool = True,
        train_patients: Sequence[str] | None = None,
        val_patients: Sequence[str] | None = None,
        test_patients: Sequence[str] | None = None,
        fold: int | None = None,
        num_folds: int | None = None,
        split_file: str | None = None,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        predict_on: str = "test",
        max_patients: int | None = None,
    ) -> None:
        super().__init__()
        check_numbers(
            batch_size=batch_size, eval_batch_size=eval_batch_size, batches_per_epoch=batches_per_epoch,
            max_patients=max_patients,
        )  # fmt: skip
        check_predict_on(predict_on)
        if split_column is not None and (val_table or test_table):
            raise ConfigError("data.split_column and data.val_table, test_table are two ways to split; keep one")
        self.source = CaseSource(
            table,
            root=root,
            more_tables={"val": val_table, "test": test_table},
            columns=Columns(id_column, label_column, patient_column, patient_pattern, fold_column, split_column),
            labels=ClassLabels(labels, num_classes, classes),
            max_patients=max_patients,
        )
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.batches_per_epoch = batches_per_epoch
        self.seed, self.num_workers, self.predict_on = seed, num_workers, predict_on
        self.stratify = stratify
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.split_options: dict[str, Any] = {
            "fractions": fractions, "seed": split_seed, "train_patients": train_patients, "val_patients": val_patients,
            "test_patients": test_patients, "fold": fold, "num_folds": num_folds, "split_file": split_file,
        }  # fmt: skip
        self._checked: set[str] = set()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give the subclass a signature with the shared options in place of `**shared`."""
        super().__init_subclass__(**kwargs)
        own = inspect.signature(cls.__init__).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            shared = inspect.signature(CaseDataModule.__init__).parameters
            merged = {**shared, **{p.name: p for p in own if p.kind is not p.VAR_KEYWORD}}
            cls.__signature__ = inspect.Signature([p for name, p in merged.items() if name != "self"])  # type: ignore[attr-defined]

    # -- what a kind of data says -----------------------------------------------------------------------------

    @property
    @abstractmethod
    def reader(self) -> CaseReader:
        """Turns the files of a case into tensors."""

    @abstractmethod
    def locate(self, row: Row) -> Files:
        """Find the files of a row; what is missing is told in `Files.problems`, not raised."""

    def needed_columns(self) -> list[tuple[str, str]]:
        """Pairs (option, column) of columns that `locate` reads besides the shared ones."""
        return []

    # -- what there is ----------------------------------------------------------------------------------------

    @cached_property
    def cases(self) -> list[Case]:
        """All cases in the order of the tables, listed once."""
        return self.source.cases(self.locate, needed=self.needed_columns())

    @cached_property
    def split(self) -> Split:
        """Who trains, validates and tests."""
        return split_cases(self.cases, stratify=self.stratify, options=self.split_options)

    def cases_of(self, part: str) -> list[Case]:
        """Cases of `train`, `val`, `test` or `all`."""
        if part == "all":
            return self.cases
        chosen = set(self.split.part(part))
        return [case for case in self.cases if case.patient in chosen]

    @property
    def num_classes(self) -> int:
        """Number of classes, as the options or the tables say."""
        return self.source.labels.num_classes or 0

    def class_counts(self, part: str = "train") -> list[int]:
        """Number of cases of each class.

        Args:
            part: of the split.
        """
        labels = [case.label for case in self.cases_of(part)]
        return [labels.count(label) for label in range(self.num_classes)]

    @property
    def is_phantom(self) -> bool:
        """Whether the patients are synthetic, as `dataset.json` says."""
        return bool(self.source.info.get("phantom", False))

    def display_of(self, patient: str) -> Display:
        """How pictures of a patient are turned upright, as `dataset.json` says."""
        return self.source.display_of(patient)

    def split_record(self) -> dict[str, Any]:
        """The split with its hash, how it was made, what it holds and what labels mean, for `split.json`."""
        counts = {}
        for part in PARTS:
            counts[part] = {"patients": len(self.split.part(part)), "cases": len(self.cases_of(part))}
            counts[part] |= {f"class_{label}": count for label, count in enumerate(self.class_counts(part))}
        return {**self.split.to_dict(), "counts": counts, "labels": self.source.labels.to_dict()}

    def fingerprint(self) -> str:
        """SHA-256 over ids, patients, labels, and names and sizes of all files."""
        return self.source.fingerprint(self.cases)

    # -- Lightning's hooks ------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """List, split and look at the files that the stage reads; headers only, each once.

        Raises:
            DataError: every file that is damaged or of another size, or too few labels to train with.
        """
        parts = {"fit": PARTS, "validate": ("val",), "test": ("test",), "predict": (self.predict_on,)}[stage]
        if stage != "predict" and self.source.columns.label is None:
            raise ConfigError(f"stage {stage} needs labels; set data.label_column to the column that holds them")
        if stage == "fit":
            check_classes(self.class_counts(), self.source.path)
        cases = [case for part in parts for case in self.cases_of(part) if case.id not in self._checked]
        problems = self.reader.problems(cases)
        if problems:
            raise DataError(problems, where=str(self.source.root))
        self._checked |= {case.id for case in cases}

    def train_dataloader(self) -> DataLoader[Any]:
        """Training cases in the order of `EpochSampler`, augmented."""
        dataset = CaseDataset(self.cases_of("train"), self.reader, seed=self.seed)
        sampler = EpochSampler(
            len(dataset), batch_size=self.batch_size, batches_per_epoch=self.batches_per_epoch, seed=self.seed,
            **ranks_of(self.trainer),
        )  # fmt: skip
        sampler.set_epoch(self.first_epoch)
        return self._loader(dataset, sampler, self.batch_size)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Validation cases; every rank gets the same number of them."""
        return self._evaluation(self.cases_of("val"), pad=True)

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Test cases, each exactly once; the first ones again for ranks that would have none."""
        return self._evaluation(self.cases_of("test"), pad=False)

    def predict_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The cases of `predict_on`, dealt as test cases are."""
        cases = self.cases_of(self.predict_on)
        if not cases:
            raise ConfigError(f"data.predict_on={self.predict_on}: that part of the split is empty; try predict_on=all")
        return self._evaluation([case for case in cases if self.only is None or case.id in self.only], pad=False)

    def sample_ids(self, part: str) -> list[str]:
        """See `BaseDataModule.sample_ids`."""
        return [case.id for case in self.cases_of(self.predict_on if part == "predict" else part)]

    def loader_of(self, ids: Collection[str], part: str) -> DataLoader[Any] | list[Any]:
        """See `BaseDataModule.loader_of`."""
        cases = self.cases_of(self.predict_on if part == "predict" else part)
        return self._evaluation([case for case in cases if case.id in ids], pad=False)

    def _evaluation(self, cases: Sequence[Case], *, pad: bool) -> DataLoader[Any] | list[Any]:
        if not cases:
            return []
        dataset = CaseDataset(cases, self.reader)
        ranks = ranks_of(self.trainer)
        # Lightning leaves a rank without batches out of the loop, and the others would wait for its scores forever.
        sampler = PatientSampler(len(dataset), pad=pad or len(dataset) < ranks["num_replicas"], **ranks)
        return self._loader(dataset, sampler, self.eval_batch_size)

    def _loader(self, dataset: CaseDataset, sampler: Any, batch_size: int) -> DataLoader[Any]:
        workers = worker_options(num_workers=self.num_workers, pin_memory=self.pin_memory)
        return DataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=collate_cases, **workers)
