"""Eyes with several registered en-face images each, graded for age-related macular degeneration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from lightning.pytorch.utilities import rank_zero_warn

from seewhy.data.base import check_counts
from seewhy.data.case_files import Reading
from seewhy.data.cases.case_list import Files
from seewhy.data.cases.datamodule import CaseDataModule
from seewhy.data.cases.planar_image import PLANE_SUFFIXES, PlaneReader, PlaneScaling
from seewhy.data.listing import split_suffix, summarize_names
from seewhy.data.prepare.picture_masks import find_mask_level
from seewhy.data.table import Row
from seewhy.data.transforms.augmentation import Augmentation, build_augmentation
from seewhy.errors import ConfigError, DataError
from seewhy.io.checks.sizes import has_file
from seewhy.option_types import PositiveInt
from seewhy.options import OptionsOf, choice_problems

__all__ = ["AMDDataModule"]


class AMDDataModule(CaseDataModule):
    """Cases with one image per named input: `<caseID>_<input>.png`, or as listed in a manifest.

    Batches have `image`: input → [B, C, H, W] float32 and `present` → [B, inputs] bool. An image that is missing
    must be declared, by an empty cell in the manifest or by `missing: allow`; it is zero and not present.

    Args:
        table: the CSV file with one row per case.
        root: folder of the images.
        inputs: names of the images.
        file_columns: input → column of the table that holds its path; None takes `<caseID>_<input><extension>`.
        extension: of the images, without `file_columns`.
        missing: `error` refuses images that do not exist, `allow` accepts the case without them.
        channels: 1, or 3 for colour images.
        normalize: `oct`, `bio`, `robust` or `none`, see `seewhy.data.cases.planar_image.PlaneScaling`.
        image_size: side to resize to, or [height, width]; None keeps the files' size.
        masks: folder in the root with annotations `<caseID>_<input>_mask.png` for evaluation; None: no annotations.
        augmentation: options of `seewhy.data.transforms.augmentation.Augmentation`; None switches it off.
        id_column: column of the case's name.
        label_column: column of its grade; None for cases without grade.
        classes: names of the grades, in order.
        shared: the options of `CaseDataModule`.

    Raises:
        ConfigError: options that do not exist or do not fit together.
    """

    def __init__(
        self,
        *,
        table: str = "labels.csv",
        root: str | None = None,
        inputs: Sequence[str] = ("mnv", "fluid", "ga", "drusen"),
        file_columns: Mapping[str, str] | None = None,
        extension: str = ".png",
        missing: str = "error",
        channels: PositiveInt = 1,
        normalize: str = "oct",
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
        masks: str | None = "masks",
        augmentation: Annotated[Mapping[str, Any] | None, OptionsOf(Augmentation)] = None,
        id_column: str = "caseID",
        label_column: str | None = "label",
        classes: Sequence[str] | None = ("normal", "early", "intermediate", "advanced"),
        **shared: Any,
    ) -> None:
        super().__init__(
            table=table, root=root, id_column=id_column, label_column=label_column, classes=classes, **shared
        )
        self.inputs = tuple(inputs)
        self.file_columns = None if file_columns is None else dict(file_columns)
        self.extension, self.missing = extension, missing
        self.channels, self.image_size = channels, _pair(image_size)
        self.masks = masks
        self._check()
        self.scaling = PlaneScaling(normalize, self.inputs)
        self.augmentation = build_augmentation(Augmentation, augmentation)

    @cached_property
    def reader(self) -> PlaneReader:
        """Turns the images of a case into tensors."""
        return PlaneReader(
            inputs=self.inputs,
            channels=self.channels,
            scaling=self.scaling,
            image_size=self.image_size,
            augmentation=self.augmentation,
            masks=self._mask_folder is not None,
        )

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the images."""
        return self.inputs

    @property
    def case_suffixes(self) -> tuple[str, ...]:
        """Pictures, arrays, and scans of one plane."""
        return PLANE_SUFFIXES

    def describe_reading(self) -> Reading:
        """Pictures by input; see `seewhy.data.base.BaseDataModule.describe_reading`."""
        from seewhy_run.steps.planes import ReadPlanes

        rules = [self.scaling.rule_of(name) for name in self.inputs]
        step = ReadPlanes(
            inputs=self.inputs,
            channels=self.channels,
            rules=tuple(rule for rule, _ in rules),
            numbers=tuple(float(number) for _, number in rules),
            size=self.image_size,
        )
        return Reading(step=step, inputs=self.inputs, optional=True, size=self.image_size)

    def needed_columns(self) -> list[tuple[str, str]]:
        """The manifest's columns of paths."""
        return [(f"data.file_columns.{name}", column) for name, column in (self.file_columns or {}).items()]

    def locate(self, row: Row) -> Files:
        """The images and annotations of a row."""
        name = row[self.columns.id or "caseID"]
        files, problems = self._find_by_name(name) if self.file_columns is None else self._find_by_manifest(row)
        if not problems and not any(files.values()):
            problems.append("none of its inputs exists")
        masks = {}
        if self._mask_folder is not None:
            paths = {key: self._mask_folder / f"{name}_{key}_mask.png" for key in self.inputs}
            masks = {key: path for key, path in paths.items() if self._has_file(path, problems)}
        # Without a name no file can be found; the missing name is reported already.
        return Files(name, files, masks, problems if name else [])

    def setup(self, stage: str) -> None:
        """See `CaseDataModule.setup`; also decides which values of the annotations are the lesion, for all of them.

        Files in their folder that no case can have are warned of.

        Raises:
            DataError: as `CaseDataModule.setup` does, or annotations of several classes.
        """
        super().setup(stage)
        if self._mask_folder is not None:
            self.reader.mask_level = self._mask_level
            endings = tuple(f"_{key}_mask.png" for key in self.inputs)
            others = sorted(path.name for path in self._mask_folder.iterdir() if not path.name.endswith(endings))
            others = [name for name in others if name.startswith("._") or name[0] != "."]
            if others:
                rank_zero_warn(
                    f"{self._mask_folder}: {summarize_names(others)} left out, so that their cases count as not "
                    f"annotated; expected <case>{endings[0]}"
                )

    @cached_property
    def _mask_level(self) -> float:
        """Brightness above which a pixel of an annotation belongs to the lesion."""
        masks = [path for case in self.cases for path in case.masks.values()]
        try:
            return find_mask_level(masks)
        except DataError as error:
            raise DataError(error.problems, where=str(self._mask_folder)) from error

    @cached_property
    def _mask_folder(self) -> Path | None:
        folder = None if self.masks is None else self.root / self.masks
        return folder if folder is not None and folder.is_dir() else None

    def _find_by_name(self, name: str) -> tuple[dict[str, Path | None], list[str]]:
        """Files `<caseID>_<input><extension>`, and their problems."""
        files: dict[str, Path | None] = {}
        problems: list[str] = []
        for key in self.inputs:
            path = self.root / f"{name}_{key}{self.extension}"
            count = len(problems)
            files[key] = path if self._has_file(path, problems) else None
            if files[key] is None and self.missing == "error" and len(problems) == count:
                problems.append(f"{path} does not exist{self._other_extension(path)}")
        return files, problems

    def _find_by_manifest(self, row: Row) -> tuple[dict[str, Path | None], list[str]]:
        """Files of the manifest, whose empty cells mean no file, and their problems."""
        files: dict[str, Path | None] = {}
        problems: list[str] = []
        for key, column in (self.file_columns or {}).items():
            path = self.path_of(row, row[column]) if row[column] else None
            count = len(problems)
            files[key] = path if path is not None and self._has_file(path, problems) else None
            if len(problems) > count:
                continue
            if path is not None and files[key] is None and self.missing == "error":
                problems.append(f"{column!r}: {path} does not exist; leave the cell empty if there is no such image")
            elif path is not None and not path.name.lower().endswith(PLANE_SUFFIXES):
                problems.append(f"{column!r}: {path} has an unknown format; expected {', '.join(PLANE_SUFFIXES)}")
        return files, problems

    @staticmethod
    def _has_file(path: Path, problems: list[str]) -> bool:
        """Whether the file exists; a folder or device of this name is added to the problems."""
        try:
            return has_file(path)
        except DataError as error:
            problems += error.problems
            return False

    @cached_property
    def _file_names(self) -> dict[str, list[str]]:
        """Stem in lower case → names of the images in the root."""
        names: dict[str, list[str]] = {}
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            parts = split_suffix(path.name, PLANE_SUFFIXES)
            if parts is not None:
                names.setdefault(parts[0].lower(), []).append(path.name)
        return names

    def _other_extension(self, path: Path) -> str:
        """Remedy in the message of a missing file, e.g. another extension that exists."""
        stem = path.name.removesuffix(self.extension)
        for name in self._file_names.get(stem.lower(), ()):
            if name.startswith(stem):
                return f", but {name} does; set data.extension={name.removeprefix(stem)}"
            return f", but {name} does; names must agree in capitals"
        return "; data.missing=allow accepts cases without some inputs"

    def _check(self) -> None:
        """Refuse options that do not exist or do not fit together."""
        check_counts(image_size=None if self.image_size is None else min(self.image_size))
        problems = []
        if not self.inputs or len(set(self.inputs)) < len(self.inputs) or "present" in self.inputs:
            problems.append(f"data.inputs={list(self.inputs)} must be different names, none of them 'present'")
        if self.file_columns is not None and set(self.file_columns) != set(self.inputs):
            problems.append(
                f"data.file_columns names {', '.join(self.file_columns)}, data.inputs {', '.join(self.inputs)}; "
                "give one column for each input"
            )
        if self.channels not in (1, 3):
            problems.append(f"data.channels={self.channels} must be 1 or 3")
        problems += choice_problems(self.missing, ("error", "allow"), "data.missing")
        problems += choice_problems(self.extension.lower(), PLANE_SUFFIXES, "data.extension")
        if problems:
            raise ConfigError("; ".join(problems))


def _pair(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Height and width."""
    if size is None or isinstance(size, int):
        return None if size is None else (size, size)
    if len(size) != 2:
        raise ConfigError(f"data.image_size={list(size)} must be one side or [height, width]")
    return int(size[0]), int(size[1])
