"""From the files of an MRI case to tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from seewhy.data.cases.cache import ArrayCache, cache_from
from seewhy.data.cases.case_list import Case
from seewhy.data.cases.dataset import Sample
from seewhy.data.cases.mri_slices import AXES, SliceStackReader, VolumeHeader, read_header
from seewhy.data.transforms.augmentation import VolumeAugmentation
from seewhy.errors import DataError
from seewhy.io.placement import Placement

__all__ = ["INPUT", "MRIReader"]

INPUT = "image"
"""Name of a case's only input."""
VERSION = 1
"""Raised whenever the same settings would make other arrays, so that kept ones are not taken for new ones."""


class MRIReader:
    """Reads volumes as slices of one size; keeps headers, and volumes only where a cache is asked for.

    Args:
        volumes: how volumes become slices.
        augmentation: of training; None switches it off.
        masks: whether evaluation has annotations; a case without one then has an empty one.
        cache: `memory`, `disk`, or None.
        cache_dir: folder of the `disk` cache.
    """

    def __init__(
        self,
        volumes: SliceStackReader,
        *,
        augmentation: VolumeAugmentation | None,
        masks: bool,
        cache: str | None,
        cache_dir: str | None,
    ) -> None:
        self.volumes = volumes
        self.augmentation = augmentation
        self.masks = masks
        self.cache: ArrayCache = cache_from(cache, cache_dir, {"version": VERSION, **asdict(volumes)})
        self._headers: dict[Path, VolumeHeader] = {}

    def header(self, path: str | Path) -> VolumeHeader:
        """What is known of a volume without its values; each file is looked at once."""
        path = Path(path)
        if path not in self._headers:
            self._headers[path] = read_header(path)
        return self._headers[path]

    # -- what a data set of cases asks for ---------------------------------------------------------------------

    def read(self, case: Case, *, masks: bool) -> Sample:
        """Read one case.

        Returns:
            `image` [1, D, H, W] float32, `index` (number of the first slice in the scan), `spacing` [3] in mm along
            the grid's axes (NaN where unknown), `placement`, and where it is wanted `mask` [D, H, W] uint8.
        """
        path = _file(case)
        header = self.header(path)
        placement = self.volumes.placement(header)
        grid = self.cache(path, lambda: self.volumes.read(placement))
        sample: Sample = {
            "image": torch.tensor(np.asarray(grid))[None],
            "index": placement.crop[0][0],
            "spacing": torch.tensor(placement.spacing(header.spacing), dtype=torch.float32),
            "placement": placement,
        }
        if masks and self.masks:
            mask = case.masks.get(INPUT)
            found = np.zeros(placement.grid, np.uint8) if mask is None else self.volumes.read_mask(mask, placement)
            sample["mask"] = torch.from_numpy(found)
        return sample

    def augment(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample moved and changed; from what was moved there is no way back, so it has no placement."""
        if self.augmentation is None:
            return sample
        placement: Placement = sample["placement"]
        volume = sample["image"][0].numpy()
        moved = self.augmentation(
            volume, rng, padding=_outside(volume), left_right=_left_right(self.header(placement.source), placement)
        )
        return {**sample, "image": torch.from_numpy(moved)[None], "placement": None}

    def problems(self, cases: Sequence[Case]) -> list[str]:
        """What is wrong with the files of these cases, told from their headers; each with row and file."""
        problems: list[str] = []
        placed: list[tuple[Case, Placement]] = []
        for case in cases:
            try:
                placed.append((case, self.volumes.placement(self.header(_file(case)))))
            except DataError as error:
                problems += [f"{case.where}: {problem}" for problem in error.problems]
        # One that is damaged has been told; the others are still compared with each other.
        problems += self._turned([case for case, _ in placed]) + _other_sizes(placed) + self._sides(placed)
        for case, placement in placed:
            problems += [f"{case.where}: {problem}" for problem in self._wrong_mask(case, placement)]
        return problems

    def _turned(self, cases: Sequence[Case]) -> list[str]:
        """Volumes stored in another orientation than most: in one batch, their left would be the others' right."""
        codes = {case.id: self.header(_file(case)).codes for case in cases}
        usual = Counter(code for code in codes.values() if code is not None).most_common(1)
        return [
            f"{case.where}: {_file(case)} is stored as {codes[case.id]}, most others as {usual[0][0]}; "
            "store all in one orientation, e.g. with nibabel.as_closest_canonical"
            for case in cases
            if codes[case.id] is not None and codes[case.id] != usual[0][0]
        ]

    def _sides(self, placed: Sequence[tuple[Case, Placement]]) -> list[str]:
        """Volumes of which nobody knows where left is, where left and right are to be mirrored."""
        if self.augmentation is None or not self.augmentation.flip:
            return []
        return [
            f"{case.where}: {placement.source} does not say where left is, so it cannot be mirrored; "
            "set data.augmentation.flip=0"
            for case, placement in placed
            if _left_right(self.header(placement.source), placement) is None
        ]

    def _wrong_mask(self, case: Case, placement: Placement) -> list[str]:
        mask = case.masks.get(INPUT)
        if mask is None or not self.masks:
            return []
        try:
            found, volume = read_header(mask), self.header(placement.source)
        except DataError as error:
            return error.problems
        if found.shape != volume.shape:
            return [f"{mask} has shape {found.shape}, its volume {volume.path} has {volume.shape}"]
        if found.geometry is None or volume.geometry is None:
            return []
        apart = volume.geometry.difference(found.geometry)
        return [] if apart is None else [f"{mask} does not lie on its volume {volume.path}: {apart}"]


def _file(case: Case) -> Path:
    path = case.files[INPUT]
    if path is None:
        raise DataError(f"{case.where}: there is no volume")
    return path


def _other_sizes(placed: Sequence[tuple[Case, Placement]]) -> list[str]:
    """Volumes whose slices differ in number or size from most others'."""
    usual = Counter(placement.grid for _, placement in placed).most_common(1)
    return [
        f"{case.where}: {placement.source} (shape {placement.shape}) gives {placement.grid} slices, rows and columns, "
        f"most others {usual[0][0]}; set data.size, and data.slices or data.depth"
        for case, placement in placed
        if placement.grid != usual[0][0]
    ]


def _left_right(header: VolumeHeader, placement: Placement) -> int | None:
    """The grid's axis between the patient's sides, or None where the file does not say."""
    if header.codes is None:
        return None
    stored = next(axis for axis, code in enumerate(header.codes) if code in AXES["sagittal"])
    return placement.axes.index(stored)


def _outside(volume: np.ndarray) -> float:
    """What lies outside a volume, as its corners show."""
    D, H, W = (max(length - 1, 1) for length in volume.shape)
    return float(np.median(volume[::D, ::H, ::W]))
