"""Datasets of slices: single slices with labels for training, whole patients for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from seewhy.batch import Batch
from seewhy.data.loaders import Draw
from seewhy.data.slices.files import SliceRecord
from seewhy.data.transforms.augmentation import Augmentation, center_crop
from seewhy.data.transforms.normalization import (
    IntensityNormalization,
    IntensityStatistics,
    body_mask,
    channels_first,
    measure,
)
from seewhy.errors import ConfigError, DataError
from seewhy.io.checks.labels import read_whole_labels
from seewhy.io.npy import read_npy
from seewhy_run.arrays.statistics import evenly_spaced

__all__ = ["PatientDataset", "SliceReader", "TrainingDataset", "collate_slices"]


class SliceReader:
    """Reads and normalises slices; keeps a few numbers per patient and no pixels.

    Args:
        channels: 1 or 3.
        normalization: of the intensities.
        num_classes: number of classes with the background.
    """

    def __init__(self, *, channels: int, normalization: IntensityNormalization, num_classes: int) -> None:
        self.channels = channels
        self.normalization = normalization
        self.num_classes = num_classes
        self.statistics: dict[str, IntensityStatistics] = {}

    def read_slice(self, record: SliceRecord) -> NDArray[np.float32]:
        """Raw slice [C, H, W] float32 with finite values."""
        return channels_first(read_npy(record.path), channels=self.channels, where=str(record.path))

    def measure_patient(self, patient: str, records: Sequence[SliceRecord]) -> IntensityStatistics:
        """Measure a patient once, from evenly spread slices.

        Args:
            patient: its name.
            records: all slices of the patient, in order.
        """
        if patient not in self.statistics:
            chosen = [records[place] for place in evenly_spaced(len(records))]
            self.statistics[patient] = self._measure([self.read_slice(record) for record in chosen])
        return self.statistics[patient]

    def normalize(self, image: NDArray[np.float32], patient: str) -> tuple[NDArray[np.float32], IntensityStatistics]:
        """Normalise an image; returns it and the statistics that were used."""
        by_slice = self.normalization.over == "slice"
        statistics = self._measure([image]) if by_slice else self.statistics[patient]
        return self.normalization(image, statistics), statistics

    def label(self, record: SliceRecord) -> Tensor:
        """[K] float32, one column per foreground class."""
        return torch.tensor([float(record.label == label) for label in range(1, self.num_classes)])

    def _measure(self, images: Sequence[NDArray[np.float32]]) -> IntensityStatistics:
        return measure(images, percentiles=self.normalization.percentiles)


class TrainingDataset(Dataset[dict[str, Any]]):
    """Single slices with their labels; masks are never opened.

    Args:
        records: the training slices.
        reader: with the statistics of all their patients.
        augmentation: None for no augmentation.
        crop_size: side of the square to cut out; None keeps the slice's size.
        seed: of the augmentation.
    """

    def __init__(
        self,
        records: Sequence[SliceRecord],
        reader: SliceReader,
        *,
        augmentation: Augmentation | None,
        crop_size: int | None,
        seed: int,
    ) -> None:
        self.records = list(records)
        self.reader = reader
        self.augmentation = augmentation
        self.crop_size = crop_size
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw | int) -> dict[str, Any]:
        """The slice of a draw, augmented as a function of (seed, number of the draw), in any worker.

        A plain index, as from the sampler that Lightning uses for `overfit_batches`, also is the number.
        """
        draw = draw if isinstance(draw, Draw) else Draw(draw, draw)
        record = self.records[draw.sample]
        image, statistics = self.reader.normalize(self.reader.read_slice(record), record.patient)
        padding = self.reader.normalization.background(statistics, len(image))
        if self.augmentation is not None:
            rng = np.random.default_rng([self.seed, draw.number])
            image = self.augmentation(image, rng, size=self.crop_size, padding=padding)
        elif self.crop_size is not None:
            image = center_crop(image, size=self.crop_size, padding=padding)
        return {
            "image": torch.from_numpy(image),
            "label": self.reader.label(record),
            "id": record.id,
            "patient": record.patient,
            "index": record.slice,
        }


class PatientDataset(Dataset[Batch]):
    """Whole patients: all slices in order and at their original size, with body and, if there is one, mask.

    Args:
        patients: lists of slices, one list per patient.
        reader: measures each patient when it is first read.
        masks: whether batches have the annotation.
    """

    def __init__(self, patients: Sequence[Sequence[SliceRecord]], reader: SliceReader, *, masks: bool) -> None:
        self.patients = [list(records) for records in patients]
        self.reader = reader
        self.masks = masks

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, index: int) -> Batch:
        """The batch of one patient, see `seewhy.batch.Batch`."""
        records = self.patients[index]
        statistics = self.reader.measure_patient(records[0].patient, records)
        raw = [self.reader.read_slice(record) for record in records]
        _check_sizes(records, raw)
        images = [self.reader.normalize(image, records[0].patient)[0] for image in raw]
        batch: Batch = {
            "image": torch.from_numpy(np.stack(images)),
            "label": torch.stack([self.reader.label(record) for record in records]),
            "body": torch.from_numpy(np.stack([body_mask(image, statistics) for image in raw])),
            "id": [record.id for record in records],
            "patient": [record.patient for record in records],
            "index": [record.slice for record in records],
            "source": [record.source for record in records],
            "spacing": torch.tensor([record.spacing for record in records], dtype=torch.float32),
        }
        if self.masks:
            shape = raw[0].shape[1:]
            batch["mask"] = torch.from_numpy(np.stack([self._mask(record, shape) for record in records]))
        return batch

    def _mask(self, record: SliceRecord, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Class indices [H, W]; a slice of label 0 may come without a file."""
        if record.mask is None:
            return np.zeros(shape, np.uint8)
        array = read_npy(record.mask)
        mask = np.squeeze(array, axis=tuple(axis for axis in (0, -1) if array.ndim == 3 and array.shape[axis] == 1))
        if mask.shape != shape:
            raise DataError(f"{record.mask} has shape {array.shape}, its image has {shape}; cut both from one volume")
        return _classes(mask, record, self.reader.num_classes)


def _classes(mask: NDArray[Any], record: SliceRecord, num_classes: int) -> NDArray[np.uint8]:
    """Class indices of a mask; with one foreground class every value above 0 is that class (0/1, 0/255, 0/1/2/4)."""
    mask = read_whole_labels(mask, record.mask)
    if num_classes == 2:
        return (mask > 0).astype(np.uint8)
    values = np.unique(mask)
    if values.min() < 0 or values.max() >= num_classes:
        raise DataError(
            f"{record.mask} holds the values {values[:8].tolist()}; expected class indices 0 to {num_classes - 1}"
        )
    return mask.astype(np.uint8)


def _check_sizes(records: Sequence[SliceRecord], images: Sequence[NDArray[np.float32]]) -> None:
    """Refuse slices that do not have the size of the patient's first."""
    sizes = ["x".join(map(str, image.shape[1:])) for image in images]
    problems = [
        f"{record.path} is {size}, the patient's first slice {sizes[0]}"
        for record, size in zip(records, sizes, strict=True)
        if size != sizes[0]
    ]
    if problems:
        raise DataError(problems, where=f"patient {records[0].patient}: slices of different sizes")


def collate_slices(items: Sequence[dict[str, Any]]) -> Batch:
    """Put training slices into one batch.

    Raises:
        ConfigError: slices of different sizes.
    """
    sizes = sorted({"x".join(map(str, item["image"].shape[1:])) for item in items})
    if len(sizes) > 1:
        raise ConfigError(
            f"slices of different sizes cannot form a batch ({', '.join(sizes)}); "
            "set data.crop_size, e.g. data.crop_size=192"
        )
    return {
        "image": torch.stack([item["image"] for item in items]),
        "label": torch.stack([item["label"] for item in items]),
        "id": [item["id"] for item in items],
        "patient": [item["patient"] for item in items],
        "index": [item["index"] for item in items],
    }
