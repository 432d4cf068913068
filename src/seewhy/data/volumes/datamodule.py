"""Volumes of any size with labels, as zarr or in other stores: patches in training, whole cases in evaluation."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from seewhy.batch import Batch
from seewhy.data.base import BaseDataModule
from seewhy.data.case_files import CaseFiles, Reading
from seewhy.data.cases.dataset import collate_cases
from seewhy.data.dataset_info import read_info
from seewhy.data.splits import PARTS, Split
from seewhy.data.transforms.augmentation import build_augmentation
from seewhy.data.transforms.patch_augmentation import PatchAugmentation
from seewhy.data.uniformity import find_other_spacings, find_turned, usual_spacing
from seewhy.data.volumes.boxes import cut_cases, parse_gap, split_volumes
from seewhy.data.volumes.cases import SUFFIXES as VOLUME_SUFFIXES
from seewhy.data.volumes.cases import VolumeCase, find_cases, open_case
from seewhy.data.volumes.normalization import adopt_normalization, check_scheme, compute_scales, list_schemes
from seewhy.data.volumes.patches import (
    EvaluationDataset,
    PatchDataset,
    PatchLocator,
    VolumeReader,
    check_patches,
    check_sizes,
)
from seewhy.data.volumes.survey import Survey, SurveyCache, check_surveys, list_volume_files, survey_case
from seewhy.errors import ConfigError, DataError
from seewhy.io.geometry import SAME_SPACING, spacing_difference
from seewhy.option_types import Fraction, NonNegativeInt, PositiveInt
from seewhy.options import OptionsOf, check_choice

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
        normalization: a scheme of `seewhy.data.volumes.normalization.list_schemes`, or a mapping with its numbers.
        augmentation: options of `seewhy.data.transforms.patch_augmentation.PatchAugmentation`; None switches it off.
        foreground: share of training patches that are centred on a class, the classes in turn.
        boxes: parts of volumes, as `[{part: train, box: [z0, z1, y0, y1, x0, x1], volume: name}, …]`.
        cut: `z`, `y` or `x`: cut every volume along it by `fractions` instead.
        gap: voxels between boxes of different parts; None is the patch, so that no patch sees two parts.
        spacing: `check` refuses volumes whose voxel size differs by more than 10 % from the model's, or from the
            median of the training volumes; `ignore` trains on several, and the model then predicts at any size along
            such axes.
        evaluation_gib: GiB that one case of validation or test may take in memory.
        cache_dir: where surveys are kept; None is `.survey` in `root`.
        batch_size: patches per step and device.
        batches_per_epoch: patches have no natural end, so that an epoch is so many batches.
        shared: the options of `seewhy.data.base.BaseDataModule`.

    Raises:
        ConfigError: options that do not exist or do not fit together.
    """

    collate = staticmethod(collate_cases)
    eval_batch_size = 1

    def __init__(
        self,
        *,
        root: str,
        classes: Sequence[str],
        patch: tuple[PositiveInt, PositiveInt, PositiveInt],
        images: str = "images",
        labels: str | None = "labels",
        volumes: Mapping[str, Mapping[str, str]] | None = None,
        level: str | None = None,
        ignore_label: NonNegativeInt | None = None,
        patient_pattern: str | None = None,
        normalization: str | Mapping[str, Any] = "ct",
        augmentation: Annotated[Mapping[str, Any] | None, OptionsOf(PatchAugmentation)] = None,
        foreground: Fraction = 0.5,
        boxes: Sequence[Mapping[str, Any]] | None = None,
        cut: str | None = None,
        gap: int | Sequence[int] | None = None,
        spacing: str = "check",
        evaluation_gib: float = 8.0,
        cache_dir: str | None = None,
        batch_size: int = 2,
        batches_per_epoch: int = 250,
        **shared: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, batches_per_epoch=batches_per_epoch, **shared)
        check_patches(patch, foreground, classes, ignore_label)
        check_scheme(normalization)
        check_choice(spacing, ("check", "ignore"), "data.spacing")
        self.root, self.classes, self.patch = Path(root), list(classes), [int(n) for n in patch]
        self.ignore_label, self.asked_normalization = ignore_label, normalization
        self.augmentation = build_augmentation(PatchAugmentation, augmentation)
        self.foreground, self.evaluation_gib, self.checks_spacing = foreground, evaluation_gib, spacing == "check"
        self.gap = list(self.patch) if gap is None else parse_gap(gap)
        self.level = level
        self.stores = {
            "images": images, "labels": labels, "volumes": volumes, "level": level, "patient_pattern": patient_pattern,
        }  # fmt: skip
        fractions = self.split_options["fractions"]
        self.box_options: dict[str, Any] = {"boxes": boxes, "cut": cut, "fractions": fractions, "gap": self.gap}
        self._surveyed = SurveyCache(self.root / ".survey" if cache_dir is None else Path(cache_dir))
        self._surveys: dict[str, Survey] = {}
        self._trained: list[Mapping[str, Any]] | None = None
        self._trained_spacing: Sequence[float] | None = None

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

    def items_of(self, part: str) -> list[VolumeCase]:
        """Cases of `train`, `val`, `test` or `all`; for `predict` those of `predict_on`."""
        own = self.predict_on if part == "predict" else part
        if own == "all":
            return self.cases
        chosen = set(self.split.part(own))
        return [case for case in self.cases if (case.id if case.part else case.patient) in chosen]

    def ids_of(self, item: VolumeCase) -> list[str]:
        """The case's id."""
        return [item.id]

    def survey_of(self, case: VolumeCase) -> Survey:
        """What is known of a case, from the cache or by one pass over it."""
        if case.id not in self._surveys:
            self._surveys[case.id] = self._surveyed(case, ignore=self.ignore_label)
        return self._surveys[case.id]

    @cached_property
    def normalization(self) -> list[dict[str, Any]]:
        """Of each channel, as plain data: the trained model's, or measured in training cases only."""
        if self._trained is not None:
            return adopt_normalization(self.asked_normalization, self._trained, channels=self.channels)
        return list_schemes(self.asked_normalization, [self.survey_of(case) for case in self.items_of("train")])

    @property
    def spacing(self) -> list[float] | None:
        """Millimetres along Z, Y and X, the median of the training volumes; None where any does not state them.

        NaN along an axis where they differ by more than 10 %: any size.
        """
        known = [case.spacing for case in self.items_of("train") if case.spacing is not None]
        if not known or len(known) < len(self.items_of("train")):
            return None
        axes = zip(usual_spacing(known), zip(*known, strict=True), strict=True)
        return [
            middle if all(spacing_difference([size], [middle]) <= SAME_SPACING for size in sizes) else math.nan
            for middle, sizes in axes
        ]

    @property
    def channels(self) -> int:
        """C of an image."""
        return self.cases[0].channels

    def describe_reading(self) -> Reading:
        """A volume with the normalisation and voxel size of the training; see `BaseDataModule.describe_reading`."""
        from seewhy_run.steps.volumes import ReadVolume

        spacing = self._trained_spacing or self.spacing
        z, y, x = (None if spacing is None or math.isnan(size) else float(size) for size in spacing or (math.nan,) * 3)
        step = ReadVolume(
            channels=self.channels,
            normalization=tuple(dict(scheme) for scheme in self.normalization),
            spacing=None if spacing is None else (z, y, x),
            check_spacing=self.checks_spacing,
        )
        return Reading(step=step, inputs=("image",))

    @property
    def is_phantom(self) -> bool:
        """Whether the volumes are synthetic, as `dataset.json` says."""
        return bool(read_info(self.root / "dataset.json").get("phantom", False))

    def split_record(self) -> dict[str, Any]:
        """The split with its hash, how it was made and what it holds, for `split.json`."""
        counts: dict[str, dict[str, int]] = {}
        for part in PARTS:
            own = self.items_of(part)
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
        self._trained_spacing = hyperparameters.get("spacing")
        self._trained = None if found is None else [dict(scheme) for scheme in found]
        self.__dict__.pop("normalization", None)

    # -- Lightning's hooks ------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """List, split and survey the volumes that the stage reads.

        Raises:
            DataError: everything that is wrong with any of them.
        """
        parts = self.parts_of(stage)
        cases = {case.id: case for part in parts for case in self.items_of(part)}
        evaluated = [case for part in parts if part != "train" for case in self.items_of(part)]
        self._check_grids(list(cases.values()))
        check_sizes(evaluated, classes=len(self.classes), gib=self.evaluation_gib, where=self.root)
        check_surveys(
            {case.id: self.survey_of(case) for case in cases.values()}, classes=self.classes,
            ignore=self.ignore_label, train=[case.id for case in self.items_of("train")] if stage == "fit" else [],
            labelled=stage != "predict", where=self.root,
        )  # fmt: skip

    def _check_grids(self, cases: Sequence[VolumeCase]) -> None:
        """Refuse volumes of another orientation or voxel size than the others."""
        turned = find_turned({case.volume: case.codes for case in cases})
        problems = [f"{name}: {text}" for name, text in turned.items()]
        known = [case.spacing for case in self.items_of("train") if case.spacing is not None]
        usual = self._trained_spacing or (usual_spacing(known) if known else None)
        if self.checks_spacing:
            others = find_other_spacings({case.volume: case.spacing for case in cases}, usual)
            problems += [
                f"{name}: {text}; resample all to one voxel size, or set data.spacing=ignore to use several"
                for name, text in others.items()
            ]
        if problems:
            raise DataError(problems, where=str(self.root))

    def training_data(self) -> PatchDataset:
        """Patches at random places."""
        cases = self.items_of("train")
        positions = [
            {label: at for label, at in self.survey_of(case).positions.items() if label != self.ignore_label}
            for case in cases
        ]
        places = PatchLocator(cases, positions, patch=self.patch, foreground=self.foreground, seed=self.seed)
        return PatchDataset(places, self._reader(cases), self.augmentation)

    def evaluation_data(self, items: Sequence[VolumeCase]) -> EvaluationDataset:
        """Whole cases."""
        return EvaluationDataset(items, self._reader(items))

    @property
    def case_suffixes(self) -> tuple[str, ...]:
        """Scans, arrays, TIFF of several pages, and zarr."""
        return VOLUME_SUFFIXES

    def read_files(self, case: CaseFiles, scratch: Path) -> Batch:
        """See `BaseDataModule.read_files`; one volume of any size that fits into memory, in any store."""
        path = case.only_file("image")
        volume = open_case(case.id, str(path), level=self.level)
        if self._trained is None:
            raise ConfigError("the model does not state the normalisation of its volumes, so no others can be read")
        if self.checks_spacing and volume.spacing is not None and self._trained_spacing:
            others = find_other_spacings({case.id: volume.spacing}, self._trained_spacing)
            if others:
                raise DataError(
                    f"{path}: {others[case.id]}; resample it, or set data.spacing=ignore to use it as it is"
                )
        check_sizes([volume], classes=len(self.classes), gib=self.evaluation_gib, where=path)
        survey = survey_case(volume)
        if survey.problems:
            raise DataError(survey.problems, where=str(path))
        schemes = adopt_normalization(self.asked_normalization, self._trained, channels=volume.channels)
        reader = VolumeReader({volume.id: compute_scales(schemes, survey)})
        return collate_cases([EvaluationDataset([volume], reader)[0]])

    def _reader(self, cases: Sequence[VolumeCase]) -> VolumeReader:
        return VolumeReader({case.id: compute_scales(self.normalization, self.survey_of(case)) for case in cases})
