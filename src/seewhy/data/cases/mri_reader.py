"""Read the volume of an MRI case as a stack of slices, with caches for the finished arrays."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from seewhy.data.cases.case_list import Case
from seewhy.data.cases.dataset import Sample
from seewhy.data.cases.mri_slices import AXES, SliceStackReader, VolumeHeader, read_header
from seewhy.data.transforms.augmentation import VolumeAugmentation
from seewhy.data.uniformity import find_turned, group_spacings
from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import file_sha256
from seewhy.io.npy import read_npy, write_npy
from seewhy.io.placement import Placement
from seewhy.options import check_choice

__all__ = ["INPUT", "ArrayCache", "DiskCache", "MRIReader", "MemoryCache", "NoCache", "build_cache"]

FloatArray = NDArray[np.float32]

INPUT = "image"
"""Name of a case's only input."""
VERSION = 1
"""Version of the kept arrays; to be raised when the same settings make other arrays."""


class MRIReader:
    """Reads volumes as slices of one size; keeps headers, and volumes only with a cache.

    Args:
        volumes: how volumes become slices.
        augmentation: of training; None switches it off.
        masks: whether evaluation has annotations; a case without annotation then has an empty one.
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
        self.cache: ArrayCache = build_cache(cache, cache_dir, {"version": VERSION, **asdict(volumes)})
        self._headers: dict[Path, VolumeHeader] = {}

    def header(self, path: str | Path) -> VolumeHeader:
        """Header of a volume; each file is opened once."""
        path = Path(path)
        if path not in self._headers:
            self._headers[path] = read_header(path)
        return self._headers[path]

    @contextmanager
    def keep_nothing(self) -> Iterator[None]:
        """Keep neither headers nor arrays of what is read within the block, as for cases that are in no data set."""
        before = self.cache, dict(self._headers)
        self.cache = NoCache()
        try:
            yield
        finally:
            self.cache, self._headers = before

    def read_case(self, case: Case, *, masks: bool) -> Sample:
        """Read one case.

        Returns:
            `image` [1, D, H, W] float32, `index` (number of the first slice in the scan), `spacing` [3] in mm along
            the grid's axes (NaN where unknown), `placement`, and if asked for `mask` [D, H, W] uint8.
        """
        path = _file(case)
        header = self.header(path)
        placement = self.volumes.placement(header)
        grid = self.cache(path, lambda: self.volumes.read_grid(placement))
        sample: Sample = {
            "image": torch.tensor(np.asarray(grid))[None],
            "index": placement.crop[0][0],
            "spacing": torch.tensor(placement.spacing(header.spacing), dtype=torch.float32),
            "placement": placement,
        }
        if masks and self.masks:
            mask = case.masks.get(INPUT)
            values = np.zeros(placement.grid, np.uint8) if mask is None else self.volumes.read_mask(mask, placement)
            sample["mask"] = torch.from_numpy(values)
        return sample

    def augment(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Augment the sample. It loses its placement, since its voxels no longer lie on those of the scan."""
        if self.augmentation is None:
            return sample
        placement: Placement = sample["placement"]
        volume = sample["image"][0].numpy()
        moved = self.augmentation(
            volume, rng, padding=_outside(volume), left_right=_left_right(self.header(placement.source), placement)
        )
        return {**sample, "image": torch.from_numpy(moved)[None], "placement": None}

    def problems(self, cases: Sequence[Case]) -> list[str]:
        """Problems of the files of these cases, from their headers; each with row and file."""
        problems: list[str] = []
        placed: list[tuple[Case, Placement]] = []
        for case in cases:
            try:
                placed.append((case, self.volumes.placement(self.header(_file(case)))))
            except DataError as error:
                problems += [f"{case.where}: {problem}" for problem in error.problems]
        # Damaged volumes are reported above; the others are still compared with each other.
        problems += (
            self._find_turned([case for case, _ in placed]) + _find_other_sizes(placed) + self._find_sideless(placed)
        )
        for case, placement in placed:
            problems += [f"{case.where}: {problem}" for problem in self._check_mask(case, placement)]
        return problems

    def describe_files(self, cases: Sequence[Case]) -> dict[str, list[str]]:
        """Voxel size and stored shape of each case's volume."""
        headers = [self.header(_file(case)) for case in cases]
        return {
            "voxel size": group_spacings([header.spacing for header in headers]),
            "number of voxels": ["x".join(map(str, header.shape)) for header in headers],
        }

    def _find_turned(self, cases: Sequence[Case]) -> list[str]:
        """Volumes stored in another orientation than most: in one batch, their left would be the others' right."""
        turned = find_turned({case.id: self.header(_file(case)).codes for case in cases})
        return [f"{case.where}: {_file(case)} is {turned[case.id]}" for case in cases if case.id in turned]

    def _find_sideless(self, placed: Sequence[tuple[Case, Placement]]) -> list[str]:
        """Volumes without a known left side, if left and right are to be mirrored."""
        if self.augmentation is None or not self.augmentation.flip:
            return []
        return [
            f"{case.where}: {placement.source} does not record which side is left, so it cannot be mirrored; "
            "set data.augmentation.flip=0"
            for case, placement in placed
            if _left_right(self.header(placement.source), placement) is None
        ]

    def _check_mask(self, case: Case, placement: Placement) -> list[str]:
        mask = case.masks.get(INPUT)
        if mask is None or not self.masks:
            return []
        try:
            header, volume = read_header(mask), self.header(placement.source)
        except DataError as error:
            return error.problems
        if header.shape != volume.shape:
            return [f"{mask} has shape {header.shape}, its volume {volume.path} has {volume.shape}"]
        if header.geometry is None or volume.geometry is None:
            return []
        apart = volume.geometry.difference(header.geometry)
        return [] if apart is None else [f"{mask} does not lie on its volume {volume.path}: {apart}"]


def _file(case: Case) -> Path:
    path = case.files[INPUT]
    if path is None:
        raise DataError(f"{case.where}: the case has no volume")
    return path


def _find_other_sizes(placed: Sequence[tuple[Case, Placement]]) -> list[str]:
    """Volumes whose slices differ in number or size from those of most others."""
    usual = Counter(placement.grid for _, placement in placed).most_common(1)
    return [
        f"{case.where}: {placement.source} (shape {placement.shape}) gives {placement.grid} slices, rows and columns, "
        f"most others {usual[0][0]}; set data.size, and data.slices or data.depth"
        for case, placement in placed
        if placement.grid != usual[0][0]
    ]


def _left_right(header: VolumeHeader, placement: Placement) -> int | None:
    """The grid's axis between the patient's sides, or None if the file does not record it."""
    if header.codes is None:
        return None
    stored = next(axis for axis, code in enumerate(header.codes) if code in AXES["sagittal"])
    return placement.axes.index(stored)


def _outside(volume: np.ndarray) -> float:
    """Value outside a volume: the median of its corners."""
    D, H, W = (max(length - 1, 1) for length in volume.shape)
    return float(np.median(volume[::D, ::H, ::W]))


class ArrayCache(Protocol):
    """Returns the array that was made of a file before, or makes it."""

    def __call__(self, path: Path, make: Callable[[], FloatArray]) -> FloatArray:
        """Return the array made of a file; the caller must not write into it.

        Args:
            path: the file.
            make: reads the file and makes the array.
        """


class NoCache:
    """Makes every array again, each time."""

    def __call__(self, path: Path, make: Callable[[], FloatArray]) -> FloatArray:
        """See `ArrayCache`."""
        return make()


class MemoryCache:
    """Keeps every array in the memory of its process; each worker of a loader has a separate one."""

    def __init__(self) -> None:
        self._arrays: dict[Path, FloatArray] = {}

    def __call__(self, path: Path, make: Callable[[], FloatArray]) -> FloatArray:
        """See `ArrayCache`."""
        if path not in self._arrays:
            self._arrays[path] = make()
            self._arrays[path].setflags(write=False)
        return self._arrays[path]


class DiskCache:
    """Keeps every array as a `.npy` file that is mapped, so that memory stays flat and all workers share it.

    The name of a kept file depends on the content of its source and on the settings it was made with, so that a
    change of either makes a new file next to the old one. A half-written file is never used.

    Args:
        folder: where arrays are kept; created if it does not exist.
        settings: plain data with everything that changes the arrays.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self._settings = json.dumps(settings, sort_keys=True)
        self._names: dict[tuple[Path, int, int], str] = {}

    def __call__(self, path: Path, make: Callable[[], FloatArray]) -> FloatArray:
        """See `ArrayCache`."""
        kept = self.folder / self._name(path)
        if not kept.is_file():
            write_npy(kept, make())
        return read_npy(kept, mmap=True)

    def _name(self, path: Path) -> str:
        """Name of the kept file; the source is read for it once per process and change."""
        status = path.stat()
        key = (path, status.st_size, status.st_mtime_ns)
        if key not in self._names:
            digest = hashlib.sha256(f"{file_sha256(path)}\n{self._settings}".encode()).hexdigest()
            self._names[key] = f"{digest[:32]}.npy"
        return self._names[key]


def build_cache(kind: str | None, folder: str | None, settings: Mapping[str, Any]) -> ArrayCache:
    """Choose a cache by name.

    Args:
        kind: `memory`, `disk`, or None for no cache.
        folder: for `disk`.
        settings: see `DiskCache`.

    Raises:
        ConfigError: another name, or a disk cache without a folder.
    """
    if kind is not None:
        check_choice(kind, ("memory", "disk"), "data.cache", others="null")
    if kind == "disk":
        if folder is None:
            raise ConfigError("data.cache=disk needs data.cache_dir, the folder to keep the arrays in")
        return DiskCache(folder, settings)
    return MemoryCache() if kind == "memory" else NoCache()
