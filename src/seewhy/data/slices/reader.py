"""Read and normalise single slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.data.slices.files import SliceRecord
from seewhy.data.transforms.normalization import (
    IntensityNormalization,
    IntensityStatistics,
    body_mask,
    channels_first,
    measure,
)
from seewhy.io.npy import read_npy
from seewhy_run.arrays.statistics import evenly_spaced

__all__ = ["ReadImage", "SliceReader"]


class ReadImage(NamedTuple):
    """A normalised slice."""

    image: NDArray[np.float32]
    """[C, H, W]."""
    padding: NDArray[np.float32]
    """[C, 1, 1], the value of the background and of a missing channel."""


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

    def measure_patient(self, patient: str, records: Sequence[SliceRecord]) -> None:
        """Measure a patient once, from evenly spread slices.

        Args:
            patient: its name.
            records: all slices of the patient, in order.
        """
        if patient not in self.statistics:
            chosen = [records[place] for place in evenly_spaced(len(records))]
            images = [self.read_slice(record) for record in chosen]
            self.statistics[patient] = measure(images, percentiles=self.normalization.percentiles)

    def forget_patient(self, patient: str) -> None:
        """Forget the measures of a patient."""
        self.statistics.pop(patient, None)

    def normalize(self, raw: NDArray[np.float32], patient: str) -> ReadImage:
        """Normalise a raw slice of a patient who has been measured."""
        by_slice = self.normalization.over == "slice"
        statistics = (
            measure([raw], percentiles=self.normalization.percentiles) if by_slice else self.statistics[patient]
        )
        return ReadImage(self.normalization(raw, statistics), self.normalization.background(statistics, len(raw)))

    def find_body(self, raw: NDArray[np.float32], patient: str) -> NDArray[np.bool_]:
        """Pixels [H, W] of tissue in a raw slice of a patient who has been measured."""
        return body_mask(raw, self.statistics[patient])

    def label(self, record: SliceRecord) -> Tensor:
        """[K] float32, one column per foreground class."""
        return torch.tensor([float(record.label == label) for label in range(1, self.num_classes)])
