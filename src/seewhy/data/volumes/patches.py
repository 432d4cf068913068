"""Patches of volumes for training, whole cases for evaluation; both read stores where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from seewhy.data.loaders import Draw
from seewhy.data.transforms.patch_augmentation import PatchAugmentation
from seewhy.data.volumes.cases import VolumeCase
from seewhy.data.volumes.normalization import IntensityScale, normalize
from seewhy.io.zarr.source import Box, VolumeSource

__all__ = ["EvaluationDataset", "PatchDataset", "PatchPlaces", "VolumeReader"]

PAD_LABEL = 0
"""Label of voxels beside a volume that is smaller than a patch: they are background."""


class VolumeReader:
    """Reads boxes of cases as tensors; holds plain data and sources, which open anew in every process.

    Args:
        scales: case → normalisation of each channel.
    """

    def __init__(self, scales: Mapping[str, Sequence[IntensityScale]]) -> None:
        self.scales = dict(scales)
        self._opened: dict[str, tuple[VolumeSource, VolumeSource | None]] = {}

    def read(self, case: VolumeCase, box: Box) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        """Normalised image [C, z, y, x] and labels [z, y, x] of a box of the volume."""
        if case.volume not in self._opened:
            self._opened[case.volume] = case.open()
        image, label = self._opened[case.volume]
        mask = None if label is None else label.read(box)[0].astype(np.uint8)
        return normalize(image.read(box), self.scales[case.id]), mask

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}


class PatchPlaces:
    """Where the patch of a draw lies, as a function of seed and number of the draw alone.

    Of all draws of a run, the share `foreground` is centred on a voxel of a class, as evenly as whole numbers
    allow, and those go through the classes in turn; the volume is then one that has the class. All other patches lie
    anywhere in the volume of the draw. A patch never reaches out of its case's box; where the box is smaller than
    the patch, it lies in the middle of the patch.

    Args:
        cases: training cases.
        positions: for each of them, class → [n, 3] places in the volume.
        patch: voxels along Z, Y and X.
        foreground: share of such patches.
        seed: of places.
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
        found = sorted({label for own in positions for label, places in own.items() if len(places)})
        self.holders = {label: [i for i, own in enumerate(positions) if len(own.get(label, ()))] for label in found}

    def __call__(self, draw: Draw) -> tuple[VolumeCase, Box]:
        """Case of a draw and the box of its patch inside that case."""
        rng = np.random.default_rng([self.seed, draw.number, 1])
        before, after = (int(np.floor(n * self.foreground + 1e-9)) for n in (draw.number, draw.number + 1))
        if after == before or not self.holders:
            case = self.cases[draw.sample]
            first, last = self._room(case)
            return case, self._box(case, rng.integers(first, last + 1))
        label = list(self.holders)[before % len(self.holders)]
        chosen = self.holders[label][rng.integers(len(self.holders[label]))]
        places = self.positions[chosen][label]
        case = self.cases[chosen]
        first, last = self._room(case)
        return case, self._box(case, np.clip(places[rng.integers(len(places))] - self.patch // 2, first, last))

    def _room(self, case: VolumeCase) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last place where a patch may start."""
        first, stop = np.array(case.ends[::2], np.int64), np.array(case.ends[1::2], np.int64)
        return first, np.maximum(first, stop - self.patch)

    def _box(self, case: VolumeCase, start: NDArray[np.int64]) -> Box:
        stops = np.minimum(start + self.patch, case.ends[1::2])
        z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stops, strict=True))
        return z, y, x


class PatchDataset(Dataset[dict[str, Any]]):
    """Training patches by draw, augmented.

    Args:
        places: where the patch of a draw lies.
        reader: of the stores.
        augmentation: None changes nothing.
    """

    def __init__(self, places: PatchPlaces, reader: VolumeReader, augmentation: PatchAugmentation | None) -> None:
        self.places, self.reader, self.augmentation = places, reader, augmentation

    def __len__(self) -> int:
        return len(self.places.cases)

    def __getitem__(self, draw: Draw | int) -> dict[str, Any]:
        """The patch of a draw; a plain index, as `overfit_batches` gives, is its own number."""
        draw = draw if isinstance(draw, Draw) else Draw(draw, draw)
        case, box = self.places(draw)
        values, labels = self.reader.read(case, box)
        assert labels is not None  # training cases without labels are refused
        image, mask = (torch.from_numpy(one) for one in _padded(values, labels, self.places.patch))
        if self.augmentation is not None:
            image, mask = self.augmentation(image, mask, (self.places.seed, draw.number, 2))
        told = {"id": f"{case.id}_{draw.number}", "patient": case.patient, "source": case.image}
        return {"image": image, "mask": mask, **told}


class EvaluationDataset(Dataset[dict[str, Any]]):
    """Whole cases in order.

    Args:
        cases: those to evaluate or predict.
        reader: of the stores.
    """

    def __init__(self, cases: Sequence[VolumeCase], reader: VolumeReader) -> None:
        self.cases, self.reader = list(cases), reader

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One case."""
        case = self.cases[index]
        values, labels = self.reader.read(case, case.box)
        found: dict[str, Any] = {
            "image": torch.from_numpy(values),
            "spacing": torch.tensor(case.spacing or (float("nan"),) * 3, dtype=torch.float32),
            "id": case.id, "patient": case.patient, "source": case.image, "index": case.ends[0],
        }  # fmt: skip
        return found if labels is None else {**found, "mask": torch.from_numpy(labels)}


def _padded(
    image: NDArray[np.float32], mask: NDArray[np.uint8], patch: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Both at the patch's size, what there is in the middle; beside it the image is zero, as in a prediction."""
    short = np.maximum(patch - mask.shape, 0)
    if not short.any():
        return np.ascontiguousarray(image), np.ascontiguousarray(mask)
    margins = [(int(n) // 2, int(n) - int(n) // 2) for n in short]
    return np.pad(image, [(0, 0), *margins]), np.pad(mask, margins, constant_values=PAD_LABEL)
