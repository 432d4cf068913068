"""DataModule of sliced volumes: single slices in training, whole patients in evaluation."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.progress import track

from seewhy.batch import Batch
from seewhy.data.base import BaseDataModule, check_counts
from seewhy.data.case_files import CaseFiles, Reading
from seewhy.data.slices.dataset import PatientDataset, TrainingDataset, collate_slices
from seewhy.data.slices.files import BRATS, LASC, Naming, SliceFolder, SliceRecord, list_slices, read_slice_info
from seewhy.data.slices.new_patient import list_new_slices
from seewhy.data.slices.reader import ModalityReader, SliceReader, parse_channels
from seewhy.data.splits import PARTS, Split, choose_split
from seewhy.data.transforms.augmentation import Augmentation, build_augmentation
from seewhy.data.transforms.normalization import IntensityNormalization
from seewhy.data.uniformity import find_other_spacings
from seewhy.errors import ConfigError, DataError
from seewhy.io.geometry import Display
from seewhy.io.npy import npy_shape
from seewhy.io.scans.scan import SCAN_SUFFIXES
from seewhy.io.slices import find_plane_shape
from seewhy.option_types import Fraction, NonNegativeInt, Percent, PositiveInt
from seewhy.options import OptionsOf
from seewhy.wording import TargetWords

__all__ = ["BraTSDataModule", "LASCDataModule", "SliceDataModule"]


class SliceDataModule(BaseDataModule):
    """Slices as `.npy` files in one folder, labels in their names, annotations (if any) for evaluation only.

    Training batches hold slices of many patients, normalised and augmented, and never a mask. Validation,
    test and predict batches hold all slices of one patient in order and at their original size. Intensities are
    normalised by the same numbers in both.

    Args:
        root: the data set's folder with `imageSlice/` and optionally `maskSlice/` and `manifest.csv`.
        pattern: regular expression of the file names with the groups `patient`, `label` and optionally `slice`;
            None takes the pattern of the data set.
        channels: 1, or 3 for networks that were trained on colour images; with `modalities` their number.
        modalities: channels of the input where the files hold several modalities: `flair` (a modality), `t1ce-t1` (a
            difference) or `t1ce-mirror` (a modality minus its mirror image about the midline).
        channel_dropout: probability of each modality to be missing in a training slice, so that the network can do
            with some of them; a missing channel has the value of the background.
        num_classes: number of classes with the background.
        crop_size: side of the training square in pixels; None trains on whole slices.
        normalize: `robust`, `zscore`, `window` or `imagenet`, see
            `seewhy.data.transforms.normalization.IntensityNormalization`.
        normalize_over: `patient` or `slice`.
        percentiles: ends of the window over the body's pixels.
        augmentation: options of `seewhy.data.transforms.augmentation.Augmentation`; None switches it off.
        slice_split: the reference's split by two positions in the list of files; refused where it divides a patient.
        max_patients: use the first so many patients only.
        target_name: noun for what label 1 shows, in figures, tables and the report.
        absent_name: adjective of slices and patients without it.
        shared: the options of `seewhy.data.base.BaseDataModule`.

    Raises:
        ConfigError: options that do not exist or do not fit together.
    """

    naming: ClassVar[Naming] = Naming(r"(?P<patient>.+)_(?P<slice>\d+)_(?P<label>\d+)\.npy", "patient7_12_0.npy")
    collate = staticmethod(collate_slices)

    def __init__(
        self,
        *,
        root: str,
        pattern: str | None = None,
        channels: PositiveInt = 1,
        modalities: Sequence[str] | None = None,
        channel_dropout: Fraction = 0.0,
        num_classes: PositiveInt = 2,
        crop_size: PositiveInt | None = None,
        normalize: str = "zscore",
        normalize_over: str = "patient",
        percentiles: tuple[Percent, Percent] = (0.5, 99.5),
        augmentation: Annotated[Mapping[str, Any] | None, OptionsOf(Augmentation)] = None,
        slice_split: tuple[NonNegativeInt, NonNegativeInt] | None = None,
        max_patients: PositiveInt | None = None,
        target_name: str = "lesion",
        absent_name: str = "healthy",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        check_counts(crop_size=crop_size, max_patients=max_patients)
        _check_channels(channels, num_classes, normalize, modalities, channel_dropout)
        self.root = Path(root)
        self.modalities = None if modalities is None else tuple(modalities)
        self.channel_dropout = channel_dropout
        if pattern is not None:
            self.naming = Naming(pattern, f"one that matches {pattern}")  # type: ignore[misc]
        self.channels, self.num_classes, self.crop_size = channels, num_classes, crop_size
        low, high = percentiles
        self.normalization = IntensityNormalization(normalize, normalize_over, (float(low), float(high)))
        self.augmentation = build_augmentation(Augmentation, augmentation)
        self.max_patients = max_patients
        self._words = TargetWords(target=target_name, absent=absent_name)
        self.split_options["slice_split"] = slice_split

    @cached_property
    def reader(self) -> SliceReader:
        """Reads and normalises slices."""
        options: dict[str, Any] = {"normalization": self.normalization, "num_classes": self.num_classes}
        if self.modalities is None:
            return SliceReader(channels=self.channels, **options)
        stored = read_slice_info(self.root).get("modalities")
        if not stored:
            raise ConfigError(
                f"data.modalities={list(self.modalities)}, but the slices of {self.root} hold one modality; prepare "
                "several with: python -m seewhy prepare brats SRC DST --modality flair,t1,t1ce,t2"
            )
        return ModalityReader(channels=parse_channels(self.modalities, stored), stored=stored, **options)

    @property
    def channel_sources(self) -> dict[str, tuple[str, ...]]:
        """See `BaseDataModule.channel_sources`."""
        reader = self.reader
        return (
            {channel.name: channel.sources for channel in reader.inputs} if isinstance(reader, ModalityReader) else {}
        )

    @cached_property
    def folder(self) -> SliceFolder:
        """The list of slices, read once."""
        folder = list_slices(self.root, self.naming, num_classes=self.num_classes)
        stored = folder.info.get("modalities")
        if stored and self.modalities is None:
            raise ConfigError(
                f"the slices of {self.root} hold {len(stored)} modalities; set data.modalities=[{','.join(stored)}] "
                f"data.channels={len(stored)}"
            )
        return folder.first_patients(self.max_patients) if self.max_patients else folder

    @cached_property
    def split(self) -> Split:
        """Patients of train, val and test."""
        owner = {record.path.name: record.patient for record in self.folder.records}
        return choose_split(self.folder.patients, patient_of_file=owner, **self.split_options)

    def items_of(self, part: str) -> list[list[SliceRecord]]:
        """Slices of each patient of `train`, `val`, `test` or `all`; for `predict` those of `predict_on`."""
        part = self.predict_on if part == "predict" else part
        patients = self.folder.patients if part == "all" else self.split.part(part)
        groups: dict[str, list[SliceRecord]] = {patient: [] for patient in patients}
        for record in self.folder.of_patients(patients):
            groups[record.patient].append(record)
        return list(groups.values())

    def ids_of(self, item: Sequence[SliceRecord]) -> list[str]:
        """Ids of a patient's slices."""
        return [record.id for record in item]

    def training_data(self) -> TrainingDataset:
        """Single slices."""
        return TrainingDataset(
            self.folder.of_patients(self.split.train), self.reader,
            augmentation=self.augmentation, crop_size=self.crop_size, seed=self.seed,
            channel_dropout=self.channel_dropout,
        )  # fmt: skip

    def evaluation_data(self, items: Sequence[Sequence[SliceRecord]]) -> PatientDataset:
        """Whole patients."""
        return PatientDataset(items, self.reader, masks=self.folder.has_masks)

    def setup(self, stage: str) -> None:
        """For training: list, split and check the files, and measure the training patients (a few numbers each)."""
        if stage != "fit":
            return
        records = self.folder.of_patients(self.split.train)
        _check_trainable(records, self.num_classes, self.folder.images)
        scored = self.folder.of_patients([*self.split.val, *self.split.test])
        _check_readable(records, scored, self.folder.images)
        _warn_of_differences(self.folder)
        if self.modalities is not None or self.normalization.over == "patient":
            groups = self.items_of("train")
            # A bar only for data sets that take a while.
            quiet = len(groups) < 50
            console = Console(stderr=True)
            for group in track(groups, "measuring intensities", transient=True, disable=quiet, console=console):
                self.reader.measure_patient(group[0].patient, group)

    def positive_patients(self, limit: int) -> Iterator[Batch]:
        """Evaluation batches, without masks, of up to `limit` patients with a positive slice.

        Those of validation, or if these are fewer, also some of training, evenly spaced.
        """
        groups = [[item for item in self.items_of(part) if any(x.label for x in item)] for part in ("val", "train")]
        validated, trained = groups[0][:limit], groups[1]
        count = min(limit - len(validated), len(trained))
        chosen = [trained[index * len(trained) // count] for index in range(count)]
        dataset = PatientDataset([*validated, *chosen], self.reader, masks=False)
        yield from (dataset[index] for index in range(len(dataset)))

    @property
    def has_slice_files(self) -> bool:
        """A patient may be a list of slices."""
        return True

    @property
    def case_suffixes(self) -> tuple[str, ...]:
        """Scans and arrays; none for images of several modalities."""
        return (*SCAN_SUFFIXES, ".npy") if self.modalities is None else ()

    def read_files(self, case: CaseFiles, scratch: Path) -> Batch:
        """See `BaseDataModule.read_files`; one volume, or slices as in `imageSlice/`."""
        if self.modalities is not None:
            raise ConfigError("cases of several modalities are only read from a prepared data set; set data.root to it")
        records = list_new_slices(case, scratch, naming=self.naming, root=self.root)
        batch = PatientDataset([records], self.reader, masks=False)[0]
        self.reader.forget_patient(case.id)  # the next case may have the same name
        del batch["label"]
        return batch

    def describe_reading(self) -> Reading:
        """Slices, or a volume per modality that is cut as `prepare` does; see `BaseDataModule.describe_reading`."""
        from seewhy_run.steps.modalities import ReadModalities
        from seewhy_run.steps.slices import ReadSlices

        info: Mapping[str, Any] = self.folder.info
        cut = {key: info[key] for key in ("window", "dtype", "every", "tissue_only") if key in info}
        normalization, reader = self.normalization, self.reader
        cut |= {"kind": normalization.kind, "over": normalization.over, "percentiles": normalization.percentiles}
        if isinstance(reader, ModalityReader):
            channels = tuple((channel.modality, channel.subtracted) for channel in reader.inputs)
            step = ReadModalities(modalities=reader.stored, channels=channels, **cut)
            return Reading(step=step, inputs=reader.stored)
        return Reading(step=ReadSlices(pattern=self.naming.pattern, channels=self.channels, **cut), inputs=("image",))

    @property
    def is_phantom(self) -> bool:
        """Whether the patients are synthetic, from `dataset.json`."""
        return bool(self.folder.info.get("phantom", False))

    @property
    def words(self) -> TargetWords:
        """The options `target_name` and `absent_name`."""
        return self._words

    @property
    def solid(self) -> bool:
        """Whether lesions have no holes, from `dataset.json`."""
        return bool(self.folder.info.get("solid", True))

    def display_of(self, patient: str) -> Display:
        """How pictures of a patient are turned upright, from `dataset.json`."""
        return self.folder.display_of(patient)

    def split_record(self) -> dict[str, Any]:
        """The split with its hash, how it was made, and its numbers of patients, slices and slices per class."""
        counts = {}
        for part in PARTS:
            records = self.folder.of_patients(self.split.part(part))
            counts[part] = {"patients": len(self.split.part(part)), "slices": len(records)}
            for label in range(1, self.num_classes):
                counts[part][f"class_{label}"] = sum(record.label == label for record in records)
        return {**self.split.to_dict(), "counts": counts}

    def fingerprint(self) -> str:
        """SHA-256 over names (which hold the labels) and sizes of all image files."""
        digest = hashlib.sha256()
        for record in sorted(self.folder.records, key=lambda record: record.path.name):
            digest.update(f"{record.path.name}\0{record.path.stat().st_size}\0{record.label}\n".encode())
        return digest.hexdigest()


class BraTSDataModule(SliceDataModule):
    """Slices of brain tumour scans: `BRATS_<id>_<slice>_<label>.npy`, label 1 where the slice shows tumour.

    The patient is `<id>`, which may contain underscores: the last two fields are slice and label. `python -m seewhy
    prepare brats` makes such a folder of BraTS or Medical Segmentation Decathlon volumes.
    """

    naming: ClassVar[Naming] = BRATS


class LASCDataModule(SliceDataModule):
    """Slices of heart scans: `<name>_<label>.npy`, label 1 where the slice shows the left atrium.

    The format does not define how `<name>` gives the patient. The rule here: if it ends in `_<number>`, that is
    the slice and the patient is the part before it; else the patient is `<name>`. For data sets with another rule set
    `data.pattern`, or add a `manifest.csv` with the columns `file` and `patient`.
    """

    naming: ClassVar[Naming] = LASC


def _check_channels(
    channels: int, num_classes: int, normalize: str, modalities: Sequence[str] | None, channel_dropout: float
) -> None:
    """Refuse channels and classes that do not exist or do not fit the normalisation."""
    problems = []
    if modalities is not None and channels != len(modalities):
        problems.append(f"data.modalities has {len(modalities)} entries; set data.channels={len(modalities)}")
    if modalities is not None and normalize == "imagenet":
        problems.append("data.normalize=imagenet is for colour images, not for data.modalities")
    if modalities is None and channel_dropout:
        problems.append(f"data.channel_dropout={channel_dropout} needs data.modalities")
    if modalities is None and channels not in (1, 3):
        problems.append(f"data.channels={channels} must be 1 or 3")
    if num_classes < 2:
        problems.append(f"data.num_classes={num_classes} must be 2 or more: it counts the background")
    if normalize == "imagenet" and channels != 3:
        problems.append("data.normalize=imagenet needs data.channels=3")
    if problems:
        raise ConfigError("; ".join(problems))


def _check_readable(training: Sequence[SliceRecord], scored: Sequence[SliceRecord], where: Path) -> None:
    """Refuse damaged files of every part of the split before training starts; reads headers and lengths only.

    Args:
        training: slices whose masks, if any, are not read.
        scored: slices of validation and test, whose masks are checked too.
        where: the folder, for the message.

    Raises:
        DataError: every file that is empty, cut off, pickled or not an array of numbers, and every mask of another
            size than its slice.
    """
    problems = []
    pairs = [(record, None) for record in training] + [(record, record.mask) for record in scored]
    # A bar only for data sets that take a while.
    quiet, console = len(pairs) < 20_000, Console(stderr=True)
    for record, mask in track(pairs, "checking files", transient=True, disable=quiet, console=console):
        sizes = []
        for path in (record.path, mask):
            try:
                sizes += [] if path is None else [find_plane_shape(npy_shape(path))]
            except DataError as error:
                problems += error.problems
        if len(sizes) == 2 and None not in sizes and sizes[0] != sizes[1]:
            problems.append(f"{mask} has {sizes[1]} rows and columns, its slice {sizes[0]}; cut both from one grid")
    if problems:
        raise DataError(problems, where=str(where))


def _warn_of_differences(folder: SliceFolder) -> None:
    """Warn of patients whose slices have another pixel size or are stored in another orientation than most."""
    first = {record.patient: record for record in reversed(folder.records)}
    others = find_other_spacings({patient: record.spacing[:2] for patient, record in first.items()})
    displays = {patient: folder.display_of(patient) for patient in first}
    usual = Counter(displays.values()).most_common(1)[0][0]
    others |= {patient: "slices stored in another orientation" for patient, own in displays.items() if own != usual}
    if others:
        listed = "; ".join(f"{patient}: {text}" for patient, text in list(others.items())[:5])
        rank_zero_warn(
            f"{folder.images}: {len(others)} of {len(first)} patients differ from the others ({listed}); a network "
            "sees their slices turned or scaled: prepare them alike, or leave them out"
        )


def _check_trainable(records: Sequence[SliceRecord], num_classes: int, where: Path) -> None:
    """Refuse training slices if a class is in none or in all of them."""
    problems = []
    for label in range(1, num_classes):
        count = sum(record.label == label for record in records)
        if count in (0, len(records)):
            problems.append(
                f"{'none' if count == 0 else 'all'} of the {len(records)} training slices show class {label}, so "
                "nothing can be learned about it; add slices of the other kind or choose other training patients"
            )
    if problems:
        raise DataError(problems, where=str(where))
