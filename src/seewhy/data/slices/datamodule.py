"""The DataModule of sliced volumes: single slices to train on, whole patients to evaluate."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader

from seewhy.data.base import BaseDataModule
from seewhy.data.loaders import EpochSampler, PatientSampler, ranks_of, worker_options
from seewhy.data.slices.dataset import PatientDataset, SliceReader, TrainingDataset, collate_slices
from seewhy.data.slices.files import Naming, SliceFolder, SliceRecord, list_slices
from seewhy.data.splits import Split, choose_split
from seewhy.data.transforms.augmentation import Augmentation, build_augmentation
from seewhy.data.transforms.normalization import IntensityNormalization
from seewhy.data.validation import check_choices, check_numbers, check_readable, check_trainable
from seewhy.errors import ConfigError
from seewhy.io.geometry import Display

__all__ = ["SliceDataModule"]


class SliceDataModule(BaseDataModule):
    """Slices as `.npy` files in one folder, labels in their names, annotations (if any) for evaluation only.

    Training batches hold slices of many patients, normalised and augmented, and never a mask. Validation,
    test and predict batches hold all slices of one patient in order and at their own size. Intensities are
    normalised by the same numbers in both.

    Args:
        root: the data set's folder, which has `imageSlice/` and perhaps `maskSlice/` and `manifest.csv`.
        pattern: regular expression of the file names with the groups `patient`, `label` and perhaps `slice`;
            None takes the data set's own.
        channels: 1, or 3 for networks that were trained on colour images.
        num_classes: number of classes with the background.
        batch_size: training slices per step and device.
        batches_per_epoch: None means about one pass over the training slices.
        crop_size: side of the training square in pixels; None trains on whole slices.
        normalize: `robust`, `zscore`, `window` or `imagenet`, see
        `seewhy.data.transforms.normalization.IntensityNormalization`.
        normalize_over: `patient` or `slice`.
        percentiles: ends of the window over the body's pixels.
        augmentation: options of `seewhy.data.transforms.augmentation.Augmentation`; None switches it off.
        seed: of order and augmentation.
        fractions: shares of train, val and test patients.
        split_seed: of fractions and folds; apart from `seed`, so that repeated runs are tested on the same patients.
        slice_split: the reference's split by two positions in the list of files; refused where it cuts a patient.
        train_patients: named training patients; None means all that are named nowhere else.
        val_patients: named validation patients.
        test_patients: named test patients.
        fold: which of `num_folds` folds is tested.
        num_folds: number of folds for cross-validation.
        split_file: `split.json` of an earlier run.
        num_workers: processes that read.
        pin_memory: None means yes where there is CUDA.
        predict_on: `test`, `val`, `train` or `all`.
        max_patients: use the first so many patients only.

    Raises:
        ConfigError: options that do not exist or do not fit together.
    """

    naming: ClassVar[Naming] = Naming(r"(?P<patient>.+)_(?P<slice>\d+)_(?P<label>\d+)\.npy", "patient7_12_0.npy")

    def __init__(
        self,
        *,
        root: str,
        pattern: str | None = None,
        channels: int = 1,
        num_classes: int = 2,
        batch_size: int = 8,
        batches_per_epoch: int | None = None,
        crop_size: int | None = None,
        normalize: str = "zscore",
        normalize_over: str = "patient",
        percentiles: Sequence[float] = (0.5, 99.5),
        augmentation: Mapping[str, Any] | None = None,
        seed: int = 0,
        fractions: Sequence[float] = (0.6, 0.15, 0.25),
        split_seed: int = 0,
        slice_split: Sequence[int] | None = None,
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
            batch_size=batch_size, batches_per_epoch=batches_per_epoch, crop_size=crop_size, max_patients=max_patients
        )
        check_choices(channels, num_classes, normalize, predict_on)
        self.root = Path(root)
        if pattern is not None:
            self.naming = Naming(pattern, f"one that matches {pattern}")  # type: ignore[misc]
        self.channels, self.num_classes = channels, num_classes
        self.batch_size, self.batches_per_epoch, self.crop_size = batch_size, batches_per_epoch, crop_size
        low, high = percentiles
        self.reader = SliceReader(
            channels=channels,
            normalization=IntensityNormalization(normalize, normalize_over, (float(low), float(high))),
            num_classes=num_classes,
        )
        self.augmentation = build_augmentation(Augmentation, augmentation)
        self.seed, self.num_workers, self.predict_on = seed, num_workers, predict_on
        self.max_patients = max_patients
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.split_options: dict[str, Any] = {
            "fractions": fractions, "seed": split_seed, "slice_split": slice_split, "train_patients": train_patients,
            "val_patients": val_patients, "test_patients": test_patients, "fold": fold, "num_folds": num_folds,
            "split_file": split_file,
        }  # fmt: skip

    # -- what there is ---------------------------------------------------------------------------------------

    @cached_property
    def folder(self) -> SliceFolder:
        """The list of slices, read once."""
        folder = list_slices(self.root, self.naming, num_classes=self.num_classes)
        return folder.first_patients(self.max_patients) if self.max_patients else folder

    @cached_property
    def split(self) -> Split:
        """Who trains, validates and tests."""
        owner = {record.path.name: record.patient for record in self.folder.records}
        return choose_split(self.folder.patients, patient_of_file=owner, **self.split_options)

    @property
    def is_phantom(self) -> bool:
        """Whether the patients are synthetic, as `dataset.json` says."""
        return bool(self.folder.info.get("phantom", False))

    def display_of(self, patient: str) -> Display:
        """How pictures of a patient are turned upright, as `dataset.json` says."""
        return self.folder.display_of(patient)

    def split_record(self) -> dict[str, Any]:
        """The split with its hash, how it was made and what it holds, for `split.json`."""
        return {**self.split.to_dict(), "counts": self.description()}

    def description(self) -> dict[str, dict[str, int]]:
        """Numbers of patients, slices and slices per foreground class of every part of the split."""
        parts = {}
        for part in ("train", "val", "test"):
            records = self.folder.of_patients(self.split.part(part))
            parts[part] = {"patients": len(self.split.part(part)), "slices": len(records)}
            for label in range(1, self.num_classes):
                parts[part][f"class_{label}"] = sum(record.label == label for record in records)
        return parts

    def fingerprint(self) -> str:
        """SHA-256 over names (which hold the labels) and sizes of all image files."""
        digest = hashlib.sha256()
        for record in sorted(self.folder.records, key=lambda record: record.path.name):
            digest.update(f"{record.path.name}\0{record.path.stat().st_size}\0{record.label}\n".encode())
        return digest.hexdigest()

    # -- Lightning's hooks -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """List, split and look at the files, and measure the training patients (kept: a few numbers each)."""
        if stage != "fit":
            return
        records = self.folder.of_patients(self.split.train)
        check_trainable(records, self.num_classes, self.folder.images)
        scored = self.folder.of_patients([*self.split.val, *self.split.test])
        check_readable(records, scored, self.folder.images)
        if self.reader.normalization.over == "patient":
            groups = self._by_patient(self.split.train)
            # A bar only for data sets that take a while.
            quiet = len(groups) < 50
            console = Console(stderr=True)
            for group in track(groups, "measuring intensities", transient=True, disable=quiet, console=console):
                self.reader.measure_patient(group[0].patient, group)

    def train_dataloader(self) -> DataLoader[Any]:
        """Single slices in the order of `EpochSampler`."""
        dataset = TrainingDataset(
            self.folder.of_patients(self.split.train),
            self.reader,
            augmentation=self.augmentation,
            crop_size=self.crop_size,
            seed=self.seed,
        )
        sampler = EpochSampler(
            len(dataset),
            batch_size=self.batch_size,
            batches_per_epoch=self.batches_per_epoch,
            seed=self.seed,
            **self._ranks(),
        )
        sampler.set_epoch(self.first_epoch)
        return DataLoader(
            dataset, batch_size=self.batch_size, sampler=sampler, collate_fn=collate_slices, **self._workers()
        )

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Validation patients; every rank gets the same number of them."""
        return self._patients(self.split.val, pad=True)

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Test patients, each exactly once; the first ones again for ranks that would have none."""
        return self._patients(self.split.test, pad=False)

    def predict_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The patients of `predict_on`, dealt as test patients are."""
        patients = self._part("predict")
        if not patients:
            raise ConfigError(f"data.predict_on={self.predict_on}: that part of the split is empty; try predict_on=all")
        return self._patients(patients if self.only is None else self._with(self.only, patients), pad=False)

    def sample_ids(self, part: str) -> list[str]:
        """See `BaseDataModule.sample_ids`."""
        return [record.id for group in self._by_patient(self._part(part)) for record in group]

    def loader_of(self, ids: Collection[str], part: str) -> DataLoader[Any] | list[Any]:
        """See `BaseDataModule.loader_of`."""
        return self._patients(self._with(ids, self._part(part)), pad=False)

    def _part(self, part: str) -> Sequence[str]:
        part = self.predict_on if part == "predict" else part
        return self.folder.patients if part == "all" else self.split.part(part)

    def _with(self, ids: Collection[str], patients: Sequence[str]) -> list[str]:
        """Patients that have a sample of one of these ids."""
        return [own[0].patient for own in self._by_patient(patients) if any(record.id in ids for record in own)]

    def _patients(self, patients: Sequence[str], *, pad: bool) -> DataLoader[Any] | list[Any]:
        if not patients:
            return []
        dataset = PatientDataset(self._by_patient(patients), self.reader, masks=self.folder.has_masks)
        ranks = self._ranks()
        # Lightning leaves a rank without batches out of the loop, and the others would wait for its scores forever.
        sampler = PatientSampler(len(dataset), pad=pad or len(dataset) < ranks["num_replicas"], **ranks)
        return DataLoader(dataset, batch_size=None, sampler=sampler, **self._workers())

    def _by_patient(self, patients: Sequence[str]) -> list[list[SliceRecord]]:
        groups: dict[str, list[SliceRecord]] = {patient: [] for patient in patients}
        for record in self.folder.of_patients(patients):
            groups[record.patient].append(record)
        return list(groups.values())

    def _ranks(self) -> dict[str, int]:
        return ranks_of(self.trainer)

    def _workers(self) -> dict[str, Any]:
        return worker_options(num_workers=self.num_workers, pin_memory=self.pin_memory)
