"""DataModule of MRI volumes, one per row of a CSV file, as stacks of slices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from seewhy.batch import Batch
from seewhy.data.case_files import CaseFiles, Reading
from seewhy.data.cases.case_list import Files
from seewhy.data.cases.datamodule import CaseDataModule
from seewhy.data.cases.mri_reader import INPUT, MRIReader
from seewhy.data.cases.mri_slices import VOLUME_SUFFIXES, SliceStackReader
from seewhy.data.table import Row
from seewhy.data.transforms.augmentation import VolumeAugmentation, build_augmentation
from seewhy.errors import ConfigError, DataError
from seewhy.io.checks.sizes import find_file_problems
from seewhy.io.geometry import Display, display_of_plane
from seewhy.option_types import NonNegativeInt, PositiveInt
from seewhy.options import OptionsOf

__all__ = ["MRIDataModule"]


class MRIDataModule(CaseDataModule):
    """One volume per row; batches hold `image` [B, 1, D, H, W], D slices along one axis.

    Every volume is normalised as a whole, cut into slices, and each slice is brought to one size. `placement` in a
    batch is the way back to the scan's own voxels, and slices are numbered as in the scan throughout.

    Args:
        table: the CSV file with one row per volume, relative to `root`.
        file_column: column of the volumes, `.nii.gz`, `.nii`, `.nrrd`, `.nhdr`, `.mha`, `.mhd` or `.npy`.
        mask_column: column of annotations on the volume's grid, for evaluation only; an empty cell is an empty
            annotation. None: no annotations.
        id_pattern: regular expression that finds the case's name at the start of the file's name (without its
            ending) where `id_column` is not given: its first group, else all that matched. The usual one takes the
            part before the first `_`, without the prefix `mwp1` of CAT12.
        axis: see `seewhy.data.cases.mri_slices.SliceStackReader`, as all up to `normalize`.
        slices: first slice and the one after the last, in the scan's own numbers; None takes all.
        depth: number of slices to resize to; None keeps theirs.
        size: pixels of a slice's longer side, or [rows, columns]; None keeps theirs.
        pad: pixels added around every slice.
        normalize: `zscore`, `robust` or `none`.
        augmentation: options of `seewhy.data.transforms.augmentation.VolumeAugmentation`; None switches it off.
        cache: `memory` or `disk` keeps finished volumes for the next epoch; None reads them each time.
        cache_dir: folder of the `disk` cache.
        shared: options of every data set of cases, see `seewhy.data.cases.datamodule.CaseDataModule`.

    Raises:
        ConfigError: options that do not exist or do not fit together.
    """

    def __init__(
        self,
        *,
        table: str = "cases.csv",
        file_column: str = "file",
        mask_column: str | None = None,
        id_pattern: str = r"(?:mwp1)?([^_]+)",
        axis: int | str = "coronal",
        slices: tuple[int, int] | None = None,
        depth: PositiveInt | None = None,
        size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
        pad: NonNegativeInt = 0,
        normalize: str = "zscore",
        augmentation: Annotated[Mapping[str, Any] | None, OptionsOf(VolumeAugmentation)] = None,
        cache: str | None = None,
        cache_dir: str | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(table=table, **shared)
        self.file_column, self.mask_column = file_column, mask_column
        try:
            self.id_pattern = re.compile(id_pattern)
        except re.error as error:
            raise ConfigError(f"data.id_pattern={id_pattern!r} is not a regular expression: {error}") from error
        volumes = SliceStackReader(
            axis=axis,
            slices=None if slices is None else tuple(slices),  # type: ignore[arg-type]
            depth=depth,
            size=tuple(size) if isinstance(size, Sequence) else size,  # type: ignore[arg-type]
            pad=pad,
            normalize=normalize,
        )
        self._reader = MRIReader(
            volumes,
            augmentation=build_augmentation(VolumeAugmentation, augmentation),
            masks=mask_column is not None,
            cache=cache,
            cache_dir=cache_dir,
        )

    @property
    def reader(self) -> MRIReader:
        """Turns the volume of a case into slices."""
        return self._reader

    def describe_reading(self) -> Reading:
        """A volume as slices; see `seewhy.data.base.BaseDataModule.describe_reading`."""
        from seewhy_run.steps.stacks import ReadStack

        volumes = self.reader.volumes
        headers = [self.reader.header(path) for case in self.cases if (path := case.files[INPUT]) is not None]
        codes = {header.codes for header in headers}
        sizes = {volumes.placement(header).grid for header in headers}
        step = ReadStack(
            axis=volumes.axis,
            slices=volumes.slices,
            depth=volumes.depth,
            size=volumes.size,
            pad=volumes.pad,
            normalize=volumes.normalize,
            codes=codes.pop() if len(codes) == 1 else None,
        )
        return Reading(step=step, inputs=(INPUT,), size=sizes.pop() if len(sizes) == 1 else None)

    def needed_columns(self) -> list[tuple[str, str]]:
        """Pairs (option, column) of columns that `locate` reads."""
        columns = {"data.file_column": self.file_column, "data.mask_column": self.mask_column}
        return [(option, column) for option, column in columns.items() if column is not None]

    def locate(self, row: Row) -> Files:
        """Find the volume of a row and its annotation."""
        text, problems = row[self.file_column], []
        path = self.path_of(row, text)
        if not text:
            problems.append(f"{self.file_column!r} is empty; every case needs its volume")
        else:
            problems += find_file_problems(path, "relative paths start from data.root")
        masks = {}
        if self.mask_column is not None and row[self.mask_column]:
            masks[INPUT] = self.path_of(row, row[self.mask_column])
            problems += find_file_problems(masks[INPUT], f"leave {self.mask_column!r} empty if there is none")
        column = self.columns.id
        name = row[column] if column is not None else self._name_of(text, problems)
        return Files(name, {INPUT: path if text else None}, masks, problems)

    @property
    def case_suffixes(self) -> tuple[str, ...]:
        """Scans and arrays."""
        return VOLUME_SUFFIXES

    def read_files(self, case: CaseFiles, scratch: Path) -> Batch:
        """See `BaseDataModule.read_files`.

        Raises:
            DataError: also for a volume that is stored in another orientation than the data set's, if that is here.
        """
        path = case.only_file(INPUT)
        with self.reader.keep_nothing():
            codes, usual = self.reader.header(path).codes, self._find_usual_codes()
            if None not in (codes, usual) and codes != usual:
                raise DataError(
                    f"{path} is stored as {codes}, the volumes of the training as {usual}; store it alike, e.g. with "
                    "nibabel.orientations"
                )
            return super().read_files(case, scratch)

    def _find_usual_codes(self) -> str | None:
        """Orientation of the data set's first volume; None if there is none, or no data set on this machine."""
        try:
            path = self.cases[0].files[INPUT]
            return None if path is None else self.reader.header(path).codes
        except DataError:
            return None

    def display_of(self, patient: str) -> Display:
        """How slices of a patient are turned upright, from the volume's header, or else from `dataset.json`."""
        case = next((case for case in self.cases if case.patient == patient), None)
        path = None if case is None else case.files[INPUT]
        if path is None:
            return super().display_of(patient)
        header = self.reader.header(path)
        if header.codes is None or header.geometry is None:
            return super().display_of(patient)
        return display_of_plane(header.geometry, axis=self.reader.volumes.placement(header).axes[0])

    def _name_of(self, text: str, problems: list[str]) -> str:
        """The case's name, from its file's."""
        name = Path(text).name
        stem = next((name.removesuffix(suffix) for suffix in VOLUME_SUFFIXES if name.endswith(suffix)), name)
        match = self.id_pattern.match(stem)
        if match is not None:
            return match.group(1) if self.id_pattern.groups else match.group(0)
        if text:
            problems.append(f"{name} does not match data.id_pattern={self.id_pattern.pattern!r}")
        return stem
