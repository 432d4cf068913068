"""Find and read the cases of a BraTS release, one NIfTI file per modality; names of modalities and tumour regions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seewhy.data.prepare.source_case import (
    SlicePlane,
    SourceCase,
    cut_planes,
    find_clashes,
    list_files_below,
    make_safe_id,
)
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.nifti import NiftiFile

__all__ = [
    "AUTOMATIC",
    "MODALITIES",
    "SEGMENTATIONS",
    "TUMOURS",
    "FileName",
    "find_brats",
    "group_files",
    "load_pair",
    "make_case_id",
    "parse_name",
    "resolve_modality",
    "select_region_labels",
]

MODALITIES: dict[str, tuple[str, ...]] = {
    "flair": ("flair", "t2f", "t2flair"),
    "t1": ("t1", "t1n", "t1w"),
    "t1ce": ("t1ce", "t1c", "t1gd"),
    "t2": ("t2", "t2w"),
}
"""Modality → its names in BraTS 2012 to 2021, BraTS 2023 and MSD."""

AUTOMATIC = "autoseg"
SEGMENTATIONS = ("seg", "segmentation", AUTOMATIC)
"""Endings of segmentation files; a manual segmentation is preferred to an automatic one."""

TUMOURS = ("whole", "core", "enhancing")
VALUES = {0, 1, 2, 3, 4}
REGIONS: Mapping[str, set[int]] = {
    "whole": {1, 2, 3, 4},
    "core": {1, 3, 4},  # 3 is non-enhancing core in 2012–2015, enhancing in 2023: core both times
    "enhancing": {4},
}

ALIASES = {alias: name for name, aliases in MODALITIES.items() for alias in aliases}
NAME = re.compile(
    rf"^(?P<case>.+?)[_-](?P<kind>{'|'.join(sorted((*ALIASES, *SEGMENTATIONS), key=len, reverse=True))})\.nii(\.gz)?$",
    re.IGNORECASE,
)


class FileName(NamedTuple):
    """Fields of a BraTS file name: the case, and the modality or kind of segmentation."""

    case: str
    kind: str


def resolve_modality(name: str) -> str:
    """Translate a release's name of a modality into `flair`, `t1`, `t1ce` or `t2`.

    Raises:
        ConfigError: a name that no release uses.

    Example:
        >>> from seewhy.data.prepare.brats_files import resolve_modality
        >>> resolve_modality("T1Gd"), resolve_modality("t2f")
        ('t1ce', 'flair')
    """
    modality = ALIASES.get(name.lower())
    if modality is None:
        raise ConfigError(f"unknown modality={name!r}; {nearest(name.lower(), ALIASES)}")
    return modality


def parse_name(path: Path) -> FileName | None:
    """Parse a file name into case and kind; None if it is not a BraTS name or starts with a dot."""
    match = NAME.match(path.name)
    if match is None or path.name.startswith("."):  # macOS adds `._name` to every file of an archive
        return None
    kind = match["kind"].lower()
    return FileName(match["case"], ALIASES.get(kind, kind))


def select_region_labels(labels: Mapping[str, str | int | list[int]], tumour: str) -> set[int]:
    """Select the label values of a tumour region by their names in dataset.json.

    Args:
        labels: value → name (MSD) or name → value (nnU-Net v2).
        tumour: `whole`, `core` or `enhancing`.

    Raises:
        DataError: names that do not identify the region.
    """
    by_value = {}
    for key, value in labels.items():
        number, name = (key, value) if str(key).lstrip("-").isdigit() else (value, key)
        if isinstance(number, list) or not str(number).lstrip("-").isdigit():
            raise DataError(f"dataset.json labels {key!r} as {value!r}; expected one whole number for each name")
        by_value[int(number)] = str(name).lower()
    oedema = {value for value, name in by_value.items() if "edema" in name}
    enhancing = {
        value for value, name in by_value.items() if "enhanc" in name and not re.search(r"non[\s_-]*enhanc", name)
    }
    lesion = set(by_value) - {0}
    regions = {"whole": lesion, "core": lesion - oedema, "enhancing": enhancing}
    unclear = (tumour == "core" and not oedema) or not regions[tumour]
    if unclear:
        raise DataError(
            f"tumour={tumour!r} cannot be identified by the label names of dataset.json {dict(labels)}; "
            "expected names with 'edema' and 'enhancing'"
        )
    return regions[tumour]


def find_brats(source: Path, *, modality: str, tumour: str) -> tuple[list[SourceCase], dict[str, str]]:
    """Find the cases below a folder, in one folder each or all in one folder.

    Args:
        source: the release's folder; sub-folders such as HGG/ and LGG/ are searched too.
        modality: `flair`, `t1`, `t1ce` or `t2`.
        tumour: `whole`, `core` or `enhancing`. Enhancing tumour is label 4; in releases without label 4 (BraTS 2023)
            it is 3, recognised by the names of their files (`t2f`, `t1c`, `t1n`, `t2w`).

    Returns:
        Cases in the order of their names, and patient → reason for those that are left out.

    Raises:
        DataError: all missing or ambiguous files of the folder.
    """
    cases: list[SourceCase] = []
    left_out: dict[str, str] = {}
    problems: list[str] = []
    groups = group_files(source)
    problems += find_clashes((make_case_id(name), folder) for folder, name in groups)
    for (folder, name), kinds in groups.items():
        annotated = next((kind for kind in SEGMENTATIONS if kind in kinds), None)
        problems += _find_ambiguities(kinds, modality, folder=folder, name=name)
        if annotated is None:
            left_out[make_case_id(name)] = "no segmentation, so its slices have no labels"
        elif modality not in kinds:
            there = ", ".join(kind for kind in kinds if kind in MODALITIES) or "none"
            problems.append(
                f"{folder}: {name} has no {modality} (looked for {' or '.join(MODALITIES[modality])}); there: {there}"
            )
        else:
            image, segmentation = kinds[modality][0], kinds[annotated][0]
            region = _select_region(tumour, kinds)
            load = partial(load_pair, image, segmentation, region=region, values=VALUES)
            cases.append(
                SourceCase(make_case_id(name), (image, segmentation), load, automatic_mask=annotated == AUTOMATIC)
            )
    if problems:
        raise DataError(problems, where=f"{source} (nothing was written)")
    return cases, left_out


def _find_ambiguities(kinds: Mapping[str, list[Path]], modality: str, *, folder: Path, name: str) -> list[str]:
    """Report files of a case that cannot be told apart by name."""
    return [
        f"{folder}: several files could be {kind} of {name} ({', '.join(path.name for path in paths)}); keep one"
        for kind, paths in kinds.items()
        if len(paths) > 1 and kind in (modality, *SEGMENTATIONS)
    ]


def make_case_id(name: str) -> str:
    """Make the id used in file names: `BRATS_001` (MSD, reference) becomes `001`; other names are kept."""
    return make_safe_id(name.removeprefix("BRATS_"))


def load_pair(
    image: Path, segmentation: Path, *, region: set[int], values: set[int], channel: int | None = None
) -> list[SlicePlane]:
    """Read one modality and the segmentation of a case.

    Args:
        image: NIfTI of three axes, or four with `channel`.
        segmentation: NIfTI of the same grid.
        region: label values that count as lesion.
        values: label values that may occur.
        channel: of an image of four axes.

    Raises:
        DataError: all problems of the two files.
    """
    problems: list[str] = []
    picture, mask = (_try_open(path, problems) for path in (image, segmentation))
    if picture is not None and mask is not None:
        problems += _find_grid_problems(picture, mask, channel)
    if problems or picture is None or mask is None:
        raise DataError(problems)
    volume = picture.read(channel=channel)
    labels = mask.read()
    bad = int(volume.size - np.isfinite(volume).sum())
    if bad:
        problems.append(
            f"{image.name} contains {bad} voxels that are NaN or infinite; repair it or leave this case out"
        )
    problems += _find_label_problems(labels, values, name=segmentation.name)
    if problems:
        raise DataError(problems)
    return cut_planes(volume, np.isin(labels, sorted(region)), geometry=picture.geometry, source=image)


def _find_label_problems(labels: NDArray[Any], values: set[int], *, name: str) -> list[str]:
    """Report values of a segmentation that are not among its labels."""
    unknown = [value for value in np.unique(labels).tolist() if value not in values]
    if not unknown:
        return []
    shown = ", ".join(f"{value:g}" for value in unknown[:5]) + (" …" if len(unknown) > 5 else "")
    return [f"{name} contains the values {shown}; expected labels out of {sorted(values)}"]


def group_files(
    source: Path, parse: Callable[[Path], FileName | None] = parse_name
) -> dict[tuple[Path, str], dict[str, list[Path]]]:
    """Group the files below a folder: (folder, case) → kind of file → paths."""
    groups: dict[tuple[Path, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in list_files_below(source):
        name = parse(path)
        if name is not None:
            groups[path.parent, name.case][name.kind].append(path)
    return groups


def _select_region(tumour: str, kinds: Mapping[str, list[Path]]) -> set[int]:
    """Select the label values of a region; BraTS 2023 and later moved enhancing tumour from 4 to 3."""
    new_names = ("t2f", "t1c", "t1n", "t2w")
    names = [path.name.lower().split(".")[0] for paths in kinds.values() for path in paths]
    if tumour == "enhancing" and any(name.endswith(new_names) for name in names):
        return {3}
    return set(REGIONS[tumour])


def _find_grid_problems(picture: NiftiFile, mask: NiftiFile, channel: int | None) -> list[str]:
    problems = []
    if channel is None and picture.channels > 1:
        problems.append(f"{picture.path.name} has {picture.channels} channels; expected one volume")
    if mask.channels > 1:
        problems.append(f"{mask.path.name} has {mask.channels} channels; expected one volume of labels")
    difference = picture.geometry.difference(mask.geometry)
    if difference:
        problems.append(f"{mask.path.name} does not lie on {picture.path.name}: {difference}; resample it first")
    return problems


def _try_open(path: Path, problems: list[str]) -> NiftiFile | None:
    """Open a file, or append its error to the problems."""
    try:
        return NiftiFile(path)
    except DataError as error:
        problems.append(str(error))
        return None
