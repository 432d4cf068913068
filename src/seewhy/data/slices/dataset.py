"""Datasets of slices: single slices with labels for training, whole patients for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from seewhy.batch import Batch
from seewhy.data.loaders import Draw
from seewhy.data.slices.files import SliceRecord
from seewhy.data.slices.reader import ModalityReader, SliceReader, drop_modalities
from seewhy.data.transforms.augmentation import Augmentation, center_crop
from seewhy.errors import ConfigError, DataError
from seewhy.io.checks.labels import read_whole_labels
from seewhy.io.npy import read_npy

__all__ = ["PatientDataset", "TrainingDataset", "collate_slices"]


class TrainingDataset(Dataset[dict[str, Any]]):
    """Single slices with their labels; masks are never opened.

    Args:
        records: the training slices.
        reader: with the statistics of all their patients.
        augmentation: None for no augmentation.
        crop_size: side of the square to cut out; None keeps the slice's size.
        seed: of the augmentation.
        channel_dropout: probability of each modality to be missing, where there are several.
    """

    def __init__(
        self,
        records: Sequence[SliceRecord],
        reader: SliceReader,
        *,
        augmentation: Augmentation | None,
        crop_size: int | None,
        seed: int,
        channel_dropout: float = 0.0,
    ) -> None:
        self.records = list(records)
        self.reader = reader
        self.augmentation = augmentation
        self.crop_size = crop_size
        self.seed = seed
        self.channel_dropout = channel_dropout

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw | int) -> dict[str, Any]:
        """The slice of a draw, augmented as a function of (seed, number of the draw), in any worker.

        A plain index, as from the sampler that Lightning uses for `overfit_batches`, also is the number.
        """
        draw = draw if isinstance(draw, Draw) else Draw(draw, draw)
        record = self.records[draw.sample]
        image, padding = self.reader.normalize(self.reader.read_slice(record), record.patient)
        if self.channel_dropout and isinstance(self.reader, ModalityReader):
            rng = np.random.default_rng([self.seed, draw.number, 1])
            image = drop_modalities(image, padding, self.reader.inputs, share=self.channel_dropout, rng=rng)
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
        patient = records[0].patient
        self.reader.measure_patient(patient, records)
        raw = [self.reader.read_slice(record) for record in records]
        _check_sizes(records, raw)
        images = [self.reader.normalize(image, patient) for image in raw]
        batch: Batch = {
            "image": torch.from_numpy(np.stack([image for image, _ in images])),
            "label": torch.stack([self.reader.label(record) for record in records]),
            "body": torch.from_numpy(np.stack([self.reader.find_body(image, patient) for image in raw])),
            "id": [record.id for record in records],
            "patient": [record.patient for record in records],
            "index": [record.slice for record in records],
            "source": [record.source for record in records],
            "spacing": torch.tensor([record.spacing for record in records], dtype=torch.float32),
        }
        if isinstance(self.reader, ModalityReader):
            batch["missing"] = torch.from_numpy(np.stack([padding[:, 0, 0] for _, padding in images]))
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
