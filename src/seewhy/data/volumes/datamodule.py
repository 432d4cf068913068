"""Volumes of any size with labels, as zarr or in other stores: patches in training, whole cases in evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from seewhy.data.base import BaseDataModule
from seewhy.data.cases.dataset import collate_cases
from seewhy.data.dataset_info import read_info
from seewhy.data.loaders import EpochSampler, PatientSampler, ranks_of, worker_options
from seewhy.data.splits import PARTS, Split
from seewhy.data.transforms.augmentation import build_augmentation
from seewhy.data.transforms.patch_augmentation import PatchAugmentation
from seewhy.data.validation import check_numbers, check_predict_on
from seewhy.data.volumes.boxes import cut_cases, parse_gap, split_volumes
from seewhy.data.volumes.cases import VolumeCase, find_cases
from seewhy.data.volumes.normalization import adopted, check_scheme, scales_of, schemes_of
from seewhy.data.volumes.patches import (
    EvaluationDataset,
    PatchDataset,
    PatchLocator,
    VolumeReader,
    check_patches,
    check_sizes,
)
from seewhy.data.volumes.survey import Survey, SurveyCache, check_surveys, list_volume_files
from seewhy.errors import ConfigError

__all__ = ["VolumesDataModule"]


class VolumesDataModule(BaseDataModule):
    """Volumes with labels of the same grid, split by patient or by boxes of one volume.

    Stores are read where they lie, box by box; no volume is in memory but those of validation and test, one at a
    time. Before the first run each volume is surveyed once, block by block: where the classes are, how bright it is,
    and what is wrong with it; what was found is kept in `cache_dir`. Batches: `image` [B, C, Z, Y, X] float32 and
    `mask` [B, Z, Y, X] uint8, in evaluation with B = 1.

    Args:
        root: the data set's folder.
        classes: names of the labels 0, 1, 2 …; the first is the background.
        patch: voxels of a training patch along Z, Y and X.
        images: folder of the images below `root`.
        labels: folder of the labels, under the same names.
        volumes: name → `{image: …, label: …}`, for stores that lie elsewhere; in place of the two folders.
        level: of a pyramid; None is the finest.
        ignore_label: label of voxels that say nothing; they count in neither loss nor scores.
        patient_pattern: regular expression that finds the patient in a volume's name; None: one volume each.
        normalization: a scheme of `seewhy.data.volumes.normalization.schemes_of`, or a mapping with its numbers.
        augmentation: options of `seewhy.data.transforms.patch_augmentation.PatchAugmentation`; None switches it off.
        foreground: share of training patches that are centred on a class, the classes in turn.
        batch_size: patches per step and device.
        batches_per_epoch: patches have no natural end, so that an epoch is so many batches.
        seed: of places, order and augmentation.
        fractions: shares of train, val and test.
        split_seed: of fractions and folds; apart from `seed`, so that repeated runs are tested on the same volumes.
        train_patients: named training patients; None means all that are named nowhere else.
        val_patients: named validation patients.
        test_patients: named test patients.
        fold: which of `num_folds` folds is tested; the next one chooses the checkpoint.
        num_folds: number of folds.
        split_file: `split.json` of an earlier run.
        boxes: parts of volumes, as `[{part: train, box: [z0, z1, y0, y1, x0, x1], volume: name}, …]`.
        cut: `z`, `y` or `x`: cut every volume along it by `fractions` instead.
        gap: voxels between boxes of different parts; None is the patch, so that no patch sees two parts.
        evaluation_gib: GiB that one case of validation or test may take in memory.
        cache_dir: where surveys are kept; None is `.survey` in `root`.
        num_workers: processes that read.
        pin_memory: None means yes where there is CUDA.
        predict_on: `test`, `val`, `train` or `all`.

    Raises:
        ConfigError: options that do not exist or do not fit together.
    """

    def __init__(
        self,
        *,
        root: str,
        classes: Sequence[str],
        patch: Sequence[int],
        images: str = "images",
        labels: str | None = "labels",
        volumes: Mapping[str, Mapping[str, str]] | None = None,
        level: str | None = None,
        ignore_label: int | None = None,
        patient_pattern: str | None = None,
        normalization: str | Mapping[str, Any] = "ct",
        augmentation: Mapping[str, Any] | None = None,
        foreground: float = 0.5,
        batch_size: int = 2,
        batches_per_epoch: int = 250,
        seed: int = 0,
        fractions: Sequence[float] = (0.6, 0.15, 0.25),
        split_seed: int = 0,
        train_patients: Sequence[str] | None = None,
        val_patients: Sequence[str] | None = None,
        test_patients: Sequence[str] | None = None,
        fold: int | None = None,
        num_folds: int | None = None,
        split_file: str | None = None,
        boxes: Sequence[Mapping[str, Any]] | None = None,
        cut: str | None = None,
        gap: int | Sequence[int] | None = None,
        evaluation_gib: float = 8.0,
        cache_dir: str | None = None,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        predict_on: str = "test",
    ) -> None:
        super().__init__()
        check_numbers(batch_size=batch_size, batches_per_epoch=batches_per_epoch)
        check_predict_on(predict_on)
        check_patches(patch, foreground, classes, ignore_label)
        check_scheme(normalization)
        self.root, self.classes, self.patch = Path(root), list(classes), [int(n) for n in patch]
        self.ignore_label, self.asked_normalization = ignore_label, normalization
        self.augmentation = build_augmentation(PatchAugmentation, augmentation)
        self.foreground, self.batch_size, self.batches_per_epoch = foreground, batch_size, batches_per_epoch
        self.seed, self.num_workers, self.predict_on = seed, num_workers, predict_on
        self.evaluation_gib = evaluation_gib
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.gap = list(self.patch) if gap is None else parse_gap(gap)
        self.stores = {
            "images": images, "labels": labels, "volumes": volumes, "level": level, "patient_pattern": patient_pattern,
        }  # fmt: skip
        self.box_options: dict[str, Any] = {"boxes": boxes, "cut": cut, "fractions": fractions, "gap": self.gap}
        self.split_options: dict[str, Any] = {
            "fractions": fractions, "seed": split_seed, "train_patients": train_patients, "val_patients": val_patients,
            "test_patients": test_patients, "fold": fold, "num_folds": num_folds, "split_file": split_file,
        }  # fmt: skip
        self._surveyed = SurveyCache(self.root / ".survey" if cache_dir is None else Path(cache_dir))
        self._surveys: dict[str, Survey] = {}
        self._trained: list[Mapping[str, Any]] | None = None

    # -- what there is ----------------------------------------------------------------------------------------

    @cached_property
    def cases(self) -> list[VolumeCase]:
        """All volumes in natural order, or the boxes of them that were named."""
        whole = find_cases(self.root, **self.stores)  # type: ignore[arg-type]
        return cut_cases(whole, **self.box_options)

    @cached_property
    def split(self) -> Split:
        """Who trains, validates and tests: patients, or ids of boxes."""
        made = {"by": "boxes", "cut": self.box_options["cut"], "gap": self.gap}
        return split_volumes(self.cases, self.split_options, made)

    def cases_of(self, part: str) -> list[VolumeCase]:
        """Cases of `train`, `val`, `test` or `all`; for `predict` those of `predict_on`."""
        own = self.predict_on if part == "predict" else part
        if own == "all":
            return self.cases
        chosen = set(self.split.part(own))
        return [case for case in self.cases if (case.id if case.part else case.patient) in chosen]

    def survey_of(self, case: VolumeCase) -> Survey:
        """What is known of a case, from the cache or by one pass over it."""
        if case.id not in self._surveys:
            self._surveys[case.id] = self._surveyed(case, ignore=self.ignore_label)
        return self._surveys[case.id]

    @cached_property
    def normalization(self) -> list[dict[str, Any]]:
        """Of each channel, as plain data: the trained model's, or measured in training cases only."""
        if self._trained is not None:
            return adopted(self.asked_normalization, self._trained, channels=self.channels)
        return schemes_of(self.asked_normalization, [self.survey_of(case) for case in self.cases_of("train")])

    @property
    def spacing(self) -> list[float] | None:
        """Millimetres along Z, Y and X, the median of the training volumes'; None where any does not say them."""
        known = [case.spacing for case in self.cases_of("train")]
        if any(one is None for one in known):
            return None
        middle = torch.tensor(known, dtype=torch.float64).median(dim=0).values
        return [float(value) for value in middle]

    @property
    def channels(self) -> int:
        """C of an image."""
        return self.cases[0].channels

    @property
    def is_phantom(self) -> bool:
        """Whether the volumes are synthetic, as `dataset.json` says."""
        return bool(read_info(self.root / "dataset.json").get("phantom", False))

    def split_record(self) -> dict[str, Any]:
        """The split with its hash, how it was made and what it holds, for `split.json`."""
        counts: dict[str, dict[str, int]] = {}
        for part in PARTS:
            own = self.cases_of(part)
            voxels = [self.survey_of(case).counts for case in own]
            counts[part] = {"cases": len(own), "patients": len({case.patient for case in own})}
            counts[part] |= {
                f"voxels_{name}": sum(one.get(label, 0) for one in voxels) for label, name in enumerate(self.classes)
            }
        return {**self.split.to_dict(), "counts": counts, "classes": self.classes}

    def fingerprint(self) -> str:
        """SHA-256 over volumes, patients, and names and sizes of their files."""
        digest = hashlib.sha256()
        for case in self.cases:
            digest.update(json.dumps([case.id, case.patient, case.ends, list_volume_files(case)]).encode())
        return digest.hexdigest()

    def adopt(self, hyperparameters: Mapping[str, Any]) -> None:
        """Take over the normalisation of a trained model: other data, or another split, must not change its input."""
        found = hyperparameters.get("normalization")
        self._trained = None if found is None else [dict(scheme) for scheme in found]
        self.__dict__.pop("normalization", None)

    # -- Lightning's hooks ------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """List, split and survey the volumes that the stage reads.

        Raises:
            DataError: everything that is wrong with any of them.
        """
        parts = {"fit": PARTS, "validate": ("val",), "test": ("test",), "predict": (self.predict_on,)}[stage]
        cases = {case.id: case for part in parts for case in self.cases_of(part)}
        evaluated = [case for part in parts if part != "train" for case in self.cases_of(part)]
        check_sizes(evaluated, classes=len(self.classes), gib=self.evaluation_gib, where=self.root)
        check_surveys(
            {case.id: self.survey_of(case) for case in cases.values()}, classes=self.classes,
            ignore=self.ignore_label, train=[case.id for case in self.cases_of("train")] if stage == "fit" else [],
            labelled=stage != "predict", where=self.root,
        )  # fmt: skip

    def train_dataloader(self) -> DataLoader[Any]:
        """Patches in the order of `EpochSampler`."""
        cases = self.cases_of("train")
        positions = [
            {label: at for label, at in self.survey_of(case).positions.items() if label != self.ignore_label}
            for case in cases
        ]
        places = PatchLocator(cases, positions, patch=self.patch, foreground=self.foreground, seed=self.seed)
        dataset = PatchDataset(places, self._reader(cases), self.augmentation)
        sampler = EpochSampler(
            len(dataset), batch_size=self.batch_size, batches_per_epoch=self.batches_per_epoch, seed=self.seed,
            **ranks_of(self.trainer),
        )  # fmt: skip
        sampler.set_epoch(self.first_epoch)
        return DataLoader(
            dataset, batch_size=self.batch_size, sampler=sampler, collate_fn=collate_cases, **self._workers()
        )

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Validation cases, one at a time; every rank gets the same number of them."""
        return self._evaluation(self.cases_of("val"), pad=True)

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Test cases, each exactly once; the first ones again for ranks that would have none."""
        return self._evaluation(self.cases_of("test"), pad=False)

    def predict_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The cases of `predict_on`, dealt as test cases are."""
        cases = self.cases_of("predict")
        if not cases:
            raise ConfigError(f"data.predict_on={self.predict_on}: that part of the split is empty; try predict_on=all")
        return self._evaluation([case for case in cases if self.only is None or case.id in self.only], pad=False)

    def sample_ids(self, part: str) -> list[str]:
        """See `BaseDataModule.sample_ids`."""
        return [case.id for case in self.cases_of(part)]

    def loader_of(self, ids: Collection[str], part: str) -> DataLoader[Any] | list[Any]:
        """See `BaseDataModule.loader_of`."""
        return self._evaluation([case for case in self.cases_of(part) if case.id in ids], pad=False)

    def _evaluation(self, cases: Sequence[VolumeCase], *, pad: bool) -> DataLoader[Any] | list[Any]:
        if not cases:
            return []
        dataset = EvaluationDataset(cases, self._reader(cases))
        ranks = ranks_of(self.trainer)
        # Lightning leaves a rank without batches out of the loop, and the others would wait for its scores forever.
        sampler = PatientSampler(len(dataset), pad=pad or len(dataset) < ranks["num_replicas"], **ranks)
        return DataLoader(dataset, batch_size=1, sampler=sampler, collate_fn=collate_cases, **self._workers())

    def _reader(self, cases: Sequence[VolumeCase]) -> VolumeReader:
        return VolumeReader({case.id: scales_of(self.normalization, self.survey_of(case)) for case in cases})

    def _workers(self) -> dict[str, Any]:
        return worker_options(num_workers=self.num_workers, pin_memory=self.pin_memory)
