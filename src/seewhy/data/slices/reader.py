"""Read and normalise slices of one or of several modalities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.npy import read_npy
from seewhy_run.arrays.intensity import finite
from seewhy_run.arrays.midline import Midline, find_midline
from seewhy_run.arrays.modalities import MIRROR, find_modality_body, make_channel
from seewhy_run.arrays.statistics import evenly_spaced

__all__ = ["InputChannel", "ModalityReader", "ReadImage", "SliceReader", "drop_modalities", "parse_channels"]

FloatArray = NDArray[np.float32]


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


# -- several modalities ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InputChannel:
    """A channel of the network's input.

    Attributes:
        name: as in the option, e.g. `flair` or `t1ce-t1`.
        modality: modality of the channel.
        subtracted: what is subtracted from it: another modality, `mirror` for its mirror image, or empty.
    """

    name: str
    modality: str
    subtracted: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """Modalities that are needed for the channel."""
        return (self.modality, self.subtracted) if self.subtracted not in ("", MIRROR) else (self.modality,)


def parse_channels(names: Sequence[str], stored: Sequence[str]) -> tuple[InputChannel, ...]:
    """Parse the entries of `data.modalities`.

    Args:
        names: `flair` (a modality), `t1ce-t1` (a difference of two) or `t1ce-mirror` (a modality minus its mirror
            image about the patient's midline).
        stored: modalities of the data set.

    Raises:
        ConfigError: a modality that the data set does not have, or an entry that occurs twice.

    Example:
        >>> from seewhy.data.slices.reader import parse_channels
        >>> [channel.sources for channel in parse_channels(["t1", "t1ce-t1", "t1-mirror"], ["t1", "t1ce"])]
        [('t1',), ('t1ce', 't1'), ('t1',)]
    """
    channels = [InputChannel(name, *(name.split("-", 1) if "-" in name else (name, ""))) for name in names]
    problems = [
        f"data.modalities: {channel.name!r} needs {part!r}, and the slices hold {', '.join(stored)}; "
        f"{nearest(part, stored)}"
        for channel in channels
        for part in channel.sources
        if part not in stored
    ]
    problems += [f"data.modalities names {name!r} twice" for name, count in Counter(names).items() if count > 1]
    if problems:
        raise ConfigError("; ".join(problems))
    return tuple(channels)


@dataclass(frozen=True)
class PatientMeasures:
    """Numbers of a patient that reading needs.

    Attributes:
        statistics: of each stored modality.
        midline: of the patient; None if no channel needs it, or if the body is not symmetric.
    """

    statistics: tuple[IntensityStatistics, ...]
    midline: Midline | None


class ModalityReader(SliceReader):
    """Reads slices [modalities, H, W], normalises each modality by its own statistics, and makes the channels.

    A difference is 0 outside the body. Where the outline of a body has no midline, its mirrored difference is 0.

    Args:
        channels: of the input.
        stored: modalities of the files, in their order.
        normalization: of the intensities; not `imagenet`, which is for colours.
        num_classes: number of classes with the background.
    """

    def __init__(
        self,
        *,
        channels: Sequence[InputChannel],
        stored: Sequence[str],
        normalization: IntensityNormalization,
        num_classes: int,
    ) -> None:
        super().__init__(channels=len(channels), normalization=normalization, num_classes=num_classes)
        self.inputs, self.stored = tuple(channels), tuple(stored)
        self.measures: dict[str, PatientMeasures] = {}

    def read_slice(self, record: SliceRecord) -> FloatArray:
        """Raw slice [modalities, H, W] float32 with finite values."""
        array = read_npy(record.path)
        if array.ndim != 3 or len(array) != len(self.stored):
            raise DataError(f"{record.path} has shape {array.shape}; expected {len(self.stored)} x rows x columns")
        return finite(array.astype(np.float32), str(record.path))

    def measure_patient(self, patient: str, records: Sequence[SliceRecord]) -> None:
        """Measure every modality of a patient once, from evenly spread slices."""
        if patient in self.measures:
            return
        chosen = np.stack([self.read_slice(records[place]) for place in evenly_spaced(len(records))])
        statistics = tuple(self._measure(chosen[:, k]) for k in range(len(self.stored)))
        midline = None
        if any(channel.subtracted == MIRROR for channel in self.inputs):
            body = np.stack([find_modality_body(image, statistics) for image in chosen])
            parts = [self.normalization(chosen[:, k], own) for k, own in enumerate(statistics)]
            midline = find_midline(np.mean(parts, axis=0), body)
        self.measures[patient] = PatientMeasures(statistics, midline)

    def forget_patient(self, patient: str) -> None:
        """Forget the measures of a patient."""
        self.measures.pop(patient, None)

    def normalize(self, raw: FloatArray, patient: str) -> ReadImage:
        """The channels [C, H, W] of a raw slice, and the value of each where it is missing."""
        own = self.measures[patient]
        statistics = own.statistics
        if self.normalization.over == "slice":
            statistics = tuple(self._measure(image[None]) for image in raw)
        parts, missing = {}, {}
        for name, image, measured in zip(self.stored, raw, statistics, strict=True):
            parts[name] = self.normalization(image[None], measured)[0]
            missing[name] = float(self.normalization.background(measured, 1)[0, 0, 0])
        images = [
            make_channel(channel.modality, channel.subtracted, parts, missing, own.midline) for channel in self.inputs
        ]
        padding = [0.0 if channel.subtracted else missing[channel.modality] for channel in self.inputs]
        return ReadImage(np.stack(images), np.array(padding, np.float32)[:, None, None])

    def find_body(self, raw: FloatArray, patient: str) -> NDArray[np.bool_]:
        """Pixels [H, W] that are tissue in any modality."""
        return find_modality_body(raw, self.measures[patient].statistics)

    def _measure(self, images: FloatArray) -> IntensityStatistics:
        return measure([image[None] for image in images], percentiles=self.normalization.percentiles)


def drop_modalities(
    image: FloatArray, padding: FloatArray, channels: Sequence[InputChannel], *, share: float, rng: np.random.Generator
) -> FloatArray:
    """Leave modalities out at random; one is always kept.

    Args:
        image: [C, H, W].
        padding: [C, 1, 1], the value of a missing channel.
        channels: of the image.
        share: probability of each modality to be missing.
        rng: generator of this draw.

    Example:
        >>> from seewhy.data.slices.reader import drop_modalities, parse_channels
        >>> channels = parse_channels(["t1", "t2"], ["t1", "t2"])
        >>> image, padding = np.ones((2, 1, 1), np.float32), np.full((2, 1, 1), -4, np.float32)
        >>> sorted(drop_modalities(image, padding, channels, share=1.0, rng=np.random.default_rng(0)).ravel().tolist())
        [-4.0, 1.0]
    """
    names = list(dict.fromkeys(name for channel in channels for name in channel.sources))
    kept = rng.random(len(names)) >= share
    spare = int(rng.integers(len(names)))
    if not kept.any():
        kept[spare] = True
    missing = {name for name, given in zip(names, kept, strict=True) if not given}
    out = image.copy()
    for k, channel in enumerate(channels):
        if missing & set(channel.sources):
            out[k] = padding[k]
    return out
