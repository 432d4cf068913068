"""Finding and reading the cases of a BraTS release: one NIfTI file per modality.

What BraTS and MSD call modalities and tumour regions.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seewhy.data.prepare.source_case import SlicePlane, SourceCase, clashes, files_below, planes_of, safe_id
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.nifti import NiftiFile

__all__ = [
    "AUTOMATIC",
    "MODALITIES",
    "SEGMENTATIONS",
    "TUMOURS",
    "FileName",
    "canonical_modality",
    "case_id",
    "find_brats",
    "label_problems",
    "load_pair",
    "named_regions",
    "parse_name",
]

MODALITIES: dict[str, tuple[str, ...]] = {
    "flair": ("flair", "t2f", "t2flair"),
    "t1": ("t1", "t1n", "t1w"),
    "t1ce": ("t1ce", "t1c", "t1gd"),
    "t2": ("t2", "t2w"),
}
"""Our name → the names of BraTS 2012 to 2021, BraTS 2023 and MSD."""

AUTOMATIC = "autoseg"
SEGMENTATIONS = ("seg", "segmentation", AUTOMATIC)
"""Endings of segmentation files; a manual one goes before an automatic one."""

TUMOURS = ("whole", "core", "enhancing")

ALIASES = {alias: name for name, aliases in MODALITIES.items() for alias in aliases}
NAME = re.compile(
    rf"^(?P<case>.+?)[_-](?P<kind>{'|'.join(sorted((*ALIASES, *SEGMENTATIONS), key=len, reverse=True))})\.nii(\.gz)?$",
    re.IGNORECASE,
)


class FileName(NamedTuple):
    """A BraTS file name taken apart: the case, and the modality or segmentation it holds."""

    case: str
    kind: str


def canonical_modality(name: str) -> str:
    """Our name of a modality, whatever a release calls it.

    Raises:
        ConfigError: a name no release uses.
    """
    found = ALIASES.get(name.lower())
    if found is None:
        raise ConfigError(f"modality={name!r} is unknown; {nearest(name.lower(), ALIASES)}")
    return found


def parse_name(path: Path) -> FileName | None:
    """Case and kind of a file, or None where its name is not one of BraTS (or starts with a dot)."""
    match = NAME.match(path.name)
    if match is None or path.name.startswith("."):  # macOS leaves `._name` beside every file of an archive
        return None
    kind = match["kind"].lower()
    return FileName(match["case"], ALIASES.get(kind, kind))


def named_regions(labels: Mapping[str, str | int | list[int]], tumour: str) -> set[int]:
    """Label values of a tumour region, by the names that a dataset.json gives them.

    Args:
        labels: value → name (MSD) or name → value (nnU-Net v2).
        tumour: `whole`, `core` or `enhancing`.

    Raises:
        DataError: names from which the region cannot be told.
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
            f"tumour={tumour!r} cannot be told from the label names of dataset.json {dict(labels)}; "
            "expected names with 'edema' and 'enhancing'"
        )
    return regions[tumour]


VALUES = {0, 1, 2, 3, 4}
REGIONS: Mapping[str, set[int]] = {
    "whole": {1, 2, 3, 4},
    "core": {1, 3, 4},  # 3 is non-enhancing core in 2012–2015, enhancing in 2023: core both times
    "enhancing": {4},
}


def find_brats(source: Path, *, modality: str, tumour: str) -> tuple[list[SourceCase], dict[str, str]]:
    """The cases below a folder, in one folder each or side by side.

    Args:
        source: the release's folder; sub-folders such as HGG/ and LGG/ are searched too.
        modality: our name of it.
        tumour: `whole`, `core` or `enhancing`. For the last, 4 is enhancing tumour; where a release has no 4 at all,
            it is 3 (BraTS 2023), which is told by the names of its files (`t2f`, `t1c`, `t1n`, `t2w`).

    Returns:
        Cases in the order of their names, and patient → reason for those that are left out.

    Raises:
        DataError: all missing or ambiguous files of the folder.
    """
    cases: list[SourceCase] = []
    left_out: dict[str, str] = {}
    problems: list[str] = []
    groups = _groups(source)
    problems += clashes((case_id(name), folder) for folder, name in groups)
    for (folder, name), kinds in groups.items():
        annotated = next((kind for kind in SEGMENTATIONS if kind in kinds), None)
        problems += _ambiguities(kinds, modality, folder=folder, name=name)
        if annotated is None:
            left_out[case_id(name)] = "no segmentation, so its slices have no labels"
        elif modality not in kinds:
            there = ", ".join(kind for kind in kinds if kind in MODALITIES) or "none"
            problems.append(
                f"{folder}: {name} has no {modality} (looked for {' or '.join(MODALITIES[modality])}); there: {there}"
            )
        else:
            image, segmentation = kinds[modality][0], kinds[annotated][0]
            region = _region(tumour, kinds)
            load = partial(load_pair, image, segmentation, region=region, values=VALUES)
            cases.append(SourceCase(case_id(name), (image, segmentation), load, automatic_mask=annotated == AUTOMATIC))
    if problems:
        raise DataError(problems, where=f"{source} (nothing was written)")
    return cases, left_out


def _ambiguities(kinds: Mapping[str, list[Path]], modality: str, *, folder: Path, name: str) -> list[str]:
    """Files of a case between which we would have to guess."""
    return [
        f"{folder}: several files could be {kind} of {name} ({', '.join(path.name for path in paths)}); keep one"
        for kind, paths in kinds.items()
        if len(paths) > 1 and kind in (modality, *SEGMENTATIONS)
    ]


def case_id(name: str) -> str:
    """Id in file names: MSD's and the reference's `BRATS_001` is `001`; others keep their whole name."""
    return safe_id(name.removeprefix("BRATS_"))


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
        DataError: everything that is wrong with the two files.
    """
    opened = [_attempt(NiftiFile, path) for path in (image, segmentation)]
    problems = [problem for _, problem in opened if problem]
    picture, mask = (file for file, _ in opened)
    if picture is not None and mask is not None:
        problems += _grid_problems(picture, mask, channel)
    if problems or picture is None or mask is None:
        raise DataError(problems)
    volume = picture.read(channel=channel)
    labels = mask.read()
    bad = int(volume.size - np.isfinite(volume).sum())
    if bad:
        problems.append(f"{image.name} holds {bad} voxels that are NaN or infinite; repair it or leave this case out")
    problems += label_problems(labels, values, name=segmentation.name)
    if problems:
        raise DataError(problems)
    return planes_of(volume, np.isin(labels, sorted(region)), geometry=picture.geometry, source=image)


def label_problems(labels: NDArray[Any], values: set[int], *, name: str) -> list[str]:
    """Values of a segmentation that are no label of it."""
    unknown = [value for value in np.unique(labels).tolist() if value not in values]
    if not unknown:
        return []
    shown = ", ".join(f"{value:g}" for value in unknown[:5]) + (" …" if len(unknown) > 5 else "")
    return [f"{name} holds the values {shown}; expected labels out of {sorted(values)}"]


def _groups(source: Path) -> dict[tuple[Path, str], dict[str, list[Path]]]:
    """(folder, case) → kind of file → paths."""
    groups: dict[tuple[Path, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in files_below(source):
        name = parse_name(path)
        if name is not None:
            groups[path.parent, name.case][name.kind].append(path)
    return groups


def _region(tumour: str, kinds: Mapping[str, list[Path]]) -> set[int]:
    """Label values of the region; BraTS 2023 and later moved enhancing tumour from 4 to 3."""
    new_names = ("t2f", "t1c", "t1n", "t2w")
    names = [path.name.lower().split(".")[0] for paths in kinds.values() for path in paths]
    if tumour == "enhancing" and any(name.endswith(new_names) for name in names):
        return {3}
    return set(REGIONS[tumour])


def _grid_problems(picture: NiftiFile, mask: NiftiFile, channel: int | None) -> list[str]:
    problems = []
    if channel is None and picture.channels > 1:
        problems.append(f"{picture.path.name} has {picture.channels} channels; expected one volume")
    if mask.channels > 1:
        problems.append(f"{mask.path.name} has {mask.channels} channels; expected one volume of labels")
    difference = picture.geometry.difference(mask.geometry)
    if difference:
        problems.append(f"{mask.path.name} does not lie on {picture.path.name}: {difference}; resample it first")
    return problems


def _attempt(opener: type[NiftiFile], path: Path) -> tuple[NiftiFile | None, str | None]:
    try:
        return opener(path), None
    except DataError as error:
        return None, str(error)
