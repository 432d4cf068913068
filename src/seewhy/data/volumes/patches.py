"""Read patches of volumes for training and whole cases for evaluation, directly from their stores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from seewhy.data.loaders import Draw
from seewhy.data.transforms.normalization import IntensityScale
from seewhy.data.transforms.patch_augmentation import PatchAugmentation
from seewhy.data.volumes.cases import VolumeCase
from seewhy.data.volumes.normalization import normalize
from seewhy.errors import ConfigError, DataError
from seewhy.io.checks.labels import read_whole_labels
from seewhy.io.zarr.source import Box, VolumeSource

__all__ = ["EvaluationDataset", "PatchDataset", "PatchLocator", "VolumeReader", "check_patches", "check_sizes"]

HIGHEST = 255
"""Largest label of a uint8 mask."""
PAD_LABEL = 0
"""Label of padding around a volume that is smaller than a patch: background."""


def check_patches(patch: Sequence[int], foreground: float, classes: Sequence[str], ignore: int | None) -> None:
    """Check options of `VolumesDataModule`.

    Raises:
        ConfigError: all invalid options.
    """
    problems = []
    if len(patch) != 3 or min(patch) < 1:
        problems.append(f"data.patch={list(patch)} must be three numbers of voxels along Z, Y and X")
    if not 0 <= foreground <= 1:
        problems.append(f"data.foreground={foreground} must be a share in 0..1")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        problems.append(
            f"data.classes={list(classes)} must name the background and at least one class, without repetition"
        )
    if ignore is not None and not len(classes) <= ignore <= HIGHEST:
        problems.append(f"data.ignore_label={ignore} must be {len(classes)} (number of classes) or more, and below 256")
    if problems:
        raise ConfigError("; ".join(problems))


def check_sizes(cases: Sequence[VolumeCase], *, classes: int, gib: float, where: Path) -> None:
    """Check that each case of validation and test fits into memory.

    Raises:
        DataError: all cases that do not.
    """
    problems = []
    for case in cases:
        # Image and logits in float32, the sliding window's copies of these, and a few masks.
        needed = math.prod(case.shape) * 4 * (2 * case.channels + 2 * classes + 2) / 2**30
        if needed > gib:
            problems.append(
                f"{case.id} of {list(case.shape)} voxels needs about {needed:.1f} GiB to evaluate; raise "
                "data.evaluation_gib, or evaluate boxes of it with data.boxes"
            )
    if problems:
        raise DataError(problems, where=str(where))


class VolumeReader:
    """Reader of boxes of cases; it can be pickled, and opens its sources again in every process.

    Args:
        scales: case → normalisation of each channel.
    """

    def __init__(self, scales: Mapping[str, Sequence[IntensityScale]]) -> None:
        self.scales = dict(scales)
        self._opened: dict[str, tuple[VolumeSource, VolumeSource | None]] = {}

    def read_patch(self, case: VolumeCase, box: Box) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        """Read the normalised image [C, z, y, x] and the labels [z, y, x] of a box of the volume."""
        if case.volume not in self._opened:
            self._opened[case.volume] = case.open()
        image, label = self._opened[case.volume]
        mask = None if label is None else read_whole_labels(label.read(box)[0], case.label).astype(np.uint8)
        return normalize(image.read(box), self.scales[case.id]), mask

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}


class PatchLocator:
    """Position of the patch of a draw, a function of the seed and the number of the draw alone.

    The share `foreground` of all draws, spread evenly over the run, is centred on a voxel of a class; these draws take
    the classes in turn, each in a random volume that contains the class. All other patches lie anywhere in the volume
    of the draw. A patch stays inside its case's box; a box that is smaller than the patch is centred in it.

    Args:
        cases: training cases.
        positions: for each case, class → [n, 3] voxels in the volume.
        patch: voxels along Z, Y and X.
        foreground: share of patches centred on a class.
        seed: seed of the positions.
    """

    def __init__(
        self,
        cases: Sequence[VolumeCase],
        positions: Sequence[Mapping[int, NDArray[np.int32]]],
        *,
        patch: Sequence[int],
        foreground: float,
        seed: int,
    ) -> None:
        self.cases, self.positions, self.seed = list(cases), list(positions), seed
        self.patch, self.foreground = np.asarray(patch, np.int64), float(foreground)
        labels = sorted({label for by_class in positions for label, voxels in by_class.items() if len(voxels)})
        self.holders = {
            label: [i for i, by_class in enumerate(positions) if len(by_class.get(label, ()))] for label in labels
        }

    def __call__(self, draw: Draw) -> tuple[VolumeCase, Box]:
        """Return the case of a draw and the box of its patch inside that case."""
        rng = np.random.default_rng([self.seed, draw.number, 1])
        before, after = (int(np.floor(n * self.foreground + 1e-9)) for n in (draw.number, draw.number + 1))
        if after == before or not self.holders:
            case = self.cases[draw.sample]
            first, last = self._find_range(case)
            return case, self._make_box(case, rng.integers(first, last + 1))
        label = list(self.holders)[before % len(self.holders)]
        chosen = self.holders[label][rng.integers(len(self.holders[label]))]
        voxels = self.positions[chosen][label]
        case = self.cases[chosen]
        first, last = self._find_range(case)
        return case, self._make_box(case, np.clip(voxels[rng.integers(len(voxels))] - self.patch // 2, first, last))

    def _find_range(self, case: VolumeCase) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the first and the last start of a patch."""
        first, stop = np.array(case.ends[::2], np.int64), np.array(case.ends[1::2], np.int64)
        return first, np.maximum(first, stop - self.patch)

    def _make_box(self, case: VolumeCase, start: NDArray[np.int64]) -> Box:
        stops = np.minimum(start + self.patch, case.ends[1::2])
        z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stops, strict=True))
        return z, y, x


class PatchDataset(Dataset[dict[str, Any]]):
    """Training patches by draw, augmented.

    Args:
        locator: chooses the patch of a draw.
        reader: reads the stores.
        augmentation: None applies none.
    """

    def __init__(self, locator: PatchLocator, reader: VolumeReader, augmentation: PatchAugmentation | None) -> None:
        self.locator, self.reader, self.augmentation = locator, reader, augmentation

    def __len__(self) -> int:
        return len(self.locator.cases)

    def __getitem__(self, draw: Draw | int) -> dict[str, Any]:
        """Return the patch of a draw; a plain index, as with `overfit_batches`, is used as number of the draw."""
        draw = draw if isinstance(draw, Draw) else Draw(draw, draw)
        case, box = self.locator(draw)
        values, labels = self.reader.read_patch(case, box)
        if labels is None:
            raise DataError(f"training case {case.id} has no labels; set data.labels to the folder that contains them")
        image, mask = map(torch.from_numpy, _pad_to_patch(values, labels, self.locator.patch))
        if self.augmentation is not None:
            image, mask = self.augmentation(image, mask, (self.locator.seed, draw.number, 2))
        return {
            "image": image, "mask": mask, "id": f"{case.id}_{draw.number}", "patient": case.patient,
            "source": case.image,
        }  # fmt: skip


class EvaluationDataset(Dataset[dict[str, Any]]):
    """Whole cases in order.

    Args:
        cases: cases to evaluate or predict.
        reader: reads the stores.
    """

    def __init__(self, cases: Sequence[VolumeCase], reader: VolumeReader) -> None:
        self.cases, self.reader = list(cases), reader

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one case."""
        case = self.cases[index]
        values, labels = self.reader.read_patch(case, case.box)
        item: dict[str, Any] = {
            "image": torch.from_numpy(values),
            "spacing": torch.tensor(case.spacing or (float("nan"),) * 3, dtype=torch.float32),
            "id": case.id, "patient": case.patient, "source": case.image, "index": case.ends[0],
        }  # fmt: skip
        return item if labels is None else {**item, "mask": torch.from_numpy(labels)}


def _pad_to_patch(
    image: NDArray[np.float32], mask: NDArray[np.uint8], patch: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Pad both to the patch's size, centred; the image is padded with zeros, as in a prediction."""
    short = np.maximum(patch - mask.shape, 0)
    if not short.any():
        return np.ascontiguousarray(image), np.ascontiguousarray(mask)
    margins = [(int(n) // 2, int(n) - int(n) // 2) for n in short]
    return np.pad(image, [(0, 0), *margins]), np.pad(mask, margins, constant_values=PAD_LABEL)
