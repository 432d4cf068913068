"""Reading cases that are several registered planar images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.data.augmentation import Augmentation
from seewhy.data.case_dataset import Sample
from seewhy.data.cases import Case
from seewhy.data.plane import PlaneScaling, is_nifti, plane_size, read_plane
from seewhy.errors import DataError
from seewhy.io.placement import Placement

__all__ = ["PlaneReader"]

Size = tuple[int, int]


class PlaneReader:
    """Turns the images of a case into one sample; a missing image becomes zeros and is marked as not present.

    Args:
        inputs: names of the images, in the order of `present`.
        channels: 1, or 3 for colour.
        scaling: how values are brought to a common scale.
        image_size: height and width to resize to, after scaling; None keeps the files' size, which must then be
            the same for all.
        augmentation: one draw for all images of a case, since they show the same place; None for none.
        masks: whether there are annotations.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[str],
        channels: int,
        scaling: PlaneScaling,
        image_size: Size | None,
        augmentation: Augmentation | None,
        masks: bool,
    ) -> None:
        self.inputs = tuple(inputs)
        self.channels = channels
        self.scaling = scaling
        self.image_size = image_size
        self.augmentation = augmentation
        self.masks = masks

    def read(self, case: Case, *, masks: bool) -> Sample:
        """Read one case.

        Args:
            case: which.
            masks: whether the annotation is wanted.

        Returns:
            `image`: input → [C, H, W] float32, and `present` [inputs] bool; `placement` from the first file, which
            the others lie on; where wanted and there, `mask`: input → [H, W] uint8, 1 inside.

        Raises:
            DataError: a file that cannot be read, or sizes that differ and are not resized.
        """
        found: dict[str, NDArray[np.float32]] = {}
        placement: Placement | None = None
        for name in self.inputs:
            path = case.files.get(name)
            if path is None:
                continue
            values = self.scaling(read_plane(path, channels=self.channels), name)
            own = self._placement(path, (values.shape[1], values.shape[2]))
            placement = placement or own
            if own.grid != placement.grid:
                raise DataError(f"{case.where}: {path.name} is {_told(own.shape)}, others are {_told(placement.shape)}")
            found[name] = np.stack([own.apply(channel) for channel in values])
        if placement is None:
            raise DataError(f"{case.where}: none of its inputs exists")
        height, width = placement.grid
        blank = np.zeros((self.channels, height, width), np.float32)
        image = {name: torch.from_numpy(found.get(name, blank).copy()) for name in self.inputs}
        image["present"] = torch.tensor([name in found for name in self.inputs])
        sample: Sample = {"image": image, "placement": placement}
        if masks and self.masks:
            sample["mask"] = {name: self._mask(case, name, (height, width)) for name in self.inputs}
        return sample

    def augment(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Change all images of a case in the same way; missing ones stay zero."""
        if self.augmentation is None:
            return sample
        image: dict[str, Tensor] = sample["image"]
        stack = np.concatenate([image[name].numpy() for name in self.inputs])
        padding = stack.min(axis=(1, 2), keepdims=True)
        stack = self.augmentation(stack, rng, size=None, padding=padding)
        changed = np.split(stack, len(self.inputs))
        present = image["present"]
        image = {
            name: torch.from_numpy(np.ascontiguousarray(values)) * present[place]
            for place, (name, values) in enumerate(zip(self.inputs, changed, strict=True))
        }
        return {**sample, "image": {**image, "present": present}}

    def problems(self, cases: Sequence[Case]) -> list[str]:
        """Files that are damaged, of another kind or of another size, each with its row."""
        problems: list[str] = []
        sizes: list[tuple[Case, str, Size]] = []
        for case in cases:
            files = {name: path for name, path in case.files.items() if path is not None}
            if len({is_nifti(path) for path in files.values()}) > 1:
                problems.append(f"{case.where}: NIfTI files beside others, which lie the other way round; use one kind")
            for name, path in files.items():
                try:
                    sizes.append((case, name, plane_size(path, channels=self.channels)))
                except DataError as error:
                    problems += [f"{case.where}: {problem}" for problem in error.problems]
        return problems if self.image_size is not None else problems + _other_sizes(sizes)

    def _placement(self, path: Path, size: Size) -> Placement:
        return Placement(source=str(path), shape=size, size=self.image_size or ())

    def _mask(self, case: Case, name: str, size: Size) -> Tensor:
        """[H, W] uint8; empty where the case has no annotation of that input."""
        path = case.masks.get(name)
        if path is None:
            return torch.zeros(size, dtype=torch.uint8)
        values = read_plane(path).values[0] > 0
        placement = self._placement(path, (values.shape[0], values.shape[1]))
        if placement.grid != size:
            raise DataError(f"{case.where}: {path} is {_told(values.shape)}, its image {_told(size)}")
        # A pixel of the smaller grid belongs to the lesion where at least half of it does.
        return torch.from_numpy((placement.apply(values) >= 0.5).astype(np.uint8))


def _other_sizes(sizes: Sequence[tuple[Case, str, Size]]) -> list[str]:
    """Images that do not have the size of most."""
    found = [size for _, _, size in sizes]
    if len(set(found)) < 2:
        return []
    usual = max(dict.fromkeys(found), key=found.count)
    return [
        f"{case.where}: {name} is {_told(size)}, most are {_told(usual)}; set data.image_size to resize all"
        for case, name, size in sizes
        if size != usual
    ]


def _told(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
