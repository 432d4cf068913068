"""Find and read the cases of a BraTS release, one file per modality; names of modalities and tumour regions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seewhy.data.listing import OTHER_VOLUMES, split_suffix, summarize_names
from seewhy.data.prepare.label_schemes import AUTO, SCHEMES, TUMOURS, LabelScheme, detect_scheme, find_family
from seewhy.data.prepare.source_case import (
    SlicePlane,
    SourceCase,
    cut_planes,
    find_clashes,
    list_files_below,
    make_safe_id,
)
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.checks.labels import read_whole_labels
from seewhy.io.scans.scan import SCAN_SUFFIXES, Scan, open_scan

__all__ = [
    "AUTOMATIC",
    "MODALITIES",
    "SEGMENTATIONS",
    "FileName",
    "FoundCases",
    "find_brats",
    "group_files",
    "load_case",
    "make_case_id",
    "parse_name",
    "resolve_modalities",
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

ALIASES = {alias: name for name, aliases in MODALITIES.items() for alias in aliases}
KINDS = "|".join(sorted((*ALIASES, *SEGMENTATIONS), key=len, reverse=True))
NAME = re.compile(rf"^(?P<case>.+?)[_-](?P<kind>{KINDS})({'|'.join(map(re.escape, SCAN_SUFFIXES))})$", re.IGNORECASE)


class FileName(NamedTuple):
    """Fields of a BraTS file name: the case, and the modality or kind of segmentation."""

    case: str
    kind: str


def resolve_modalities(names: str) -> tuple[str, ...]:
    """Translate names of modalities, separated by commas; the order is kept.

    Raises:
        ConfigError: a name that no release uses, or the same modality twice.

    Example:
        >>> from seewhy.data.prepare.brats_files import resolve_modalities
        >>> resolve_modalities("flair,T1Gd")
        ('flair', 't1ce')
    """
    modalities = tuple(resolve_modality(name.strip()) for name in names.split(","))
    if len(set(modalities)) < len(modalities):
        raise ConfigError(f"modality={names!r} names a modality twice")
    return modalities


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
        labels: value → name (MSD) or name → value (nnU-Net v2); a name may have several values (nnU-Net's regions).
        tumour: `whole`, `core` or `enhancing`.

    Raises:
        DataError: names that do not identify the region.
    """
    by_name: dict[str, set[int]] = {}
    for key, value in labels.items():
        number, name = (key, value) if str(key).lstrip("-").isdigit() else (value, key)
        numbers = number if isinstance(number, list) else [number]
        if not numbers or not all(str(item).lstrip("-").isdigit() for item in numbers):
            raise DataError(f"dataset.json labels {key!r} as {value!r}; expected whole numbers for each name")
        by_name[str(name).lower()] = {int(item) for item in numbers}
    named = {r: values for r in TUMOURS for name, values in by_name.items() if r in re.split(r"[\s_-]+", name)}
    if any(len(values) > 1 for values in by_name.values()) and tumour in named:
        return named[tumour]
    oedema, cavity = _values_of(by_name, r"edema|\bsnfh\b|\bed\b"), _values_of(by_name, r"cavity|\brc\b")
    enhancing = _values_of(by_name, r"enhanc|\bet\b") - _values_of(by_name, r"non[\s_-]*enhanc")
    lesion = set().union(*by_name.values()) - {0} - cavity
    regions = {"whole": lesion, "core": lesion - oedema, "enhancing": enhancing}
    unclear = (tumour == "core" and not oedema) or not regions[tumour]
    if unclear:
        raise DataError(
            f"tumour={tumour!r} cannot be identified by the label names of dataset.json {dict(labels)}; "
            "expected names with 'edema' and 'enhancing'"
        )
    return regions[tumour]


def _values_of(by_name: Mapping[str, set[int]], pattern: str) -> set[int]:
    """Values of all labels whose names match a pattern."""
    return {value for name, values in by_name.items() if re.search(pattern, name) for value in values}


class FoundCases(NamedTuple):
    """Cases of a folder.

    Attributes:
        cases: in the order of their names.
        left_out: patient → reason for those that are left out.
        labels: which values of the segmentations count as lesion, and why.
    """

    cases: list[SourceCase]
    left_out: dict[str, str]
    labels: str


def find_brats(source: Path, *, modalities: Sequence[str], tumour: str, label_scheme: str = AUTO) -> FoundCases:
    """Find the cases below a folder, in one folder each or all in one folder.

    Args:
        source: the release's folder; sub-folders such as HGG/ and LGG/ are searched too.
        modalities: of `flair`, `t1`, `t1ce` and `t2`, in the order of the channels.
        tumour: `whole`, `core` or `enhancing`.
        label_scheme: key of `SCHEMES`; `auto` detects it from file names and values, for each kind of case.

    Raises:
        DataError: all missing or ambiguous files of the folder, or values that fit several schemes.
    """
    found: list[tuple[str, str, tuple[Path, ...], Path, bool]] = []
    left_out = report_unread(source)
    problems: list[str] = []
    groups = group_files(source)
    problems += find_clashes((make_case_id(name), folder) for folder, name in groups)
    for (folder, name), kinds in groups.items():
        annotated = next((kind for kind in SEGMENTATIONS if kind in kinds), None)
        problems += _find_ambiguities(kinds, modalities, folder=folder, name=name)
        if annotated is None:
            left_out[make_case_id(name)] = "no segmentation, so its slices have no labels"
        elif missing := [modality for modality in modalities if modality not in kinds]:
            there = ", ".join(kind for kind in kinds if kind in MODALITIES) or "none"
            problems += [
                f"{folder}: {name} has no {modality} (looked for {' or '.join(MODALITIES[modality])}); there: {there}"
                for modality in missing
            ]
        else:
            family = find_family(name, [path.name for paths in kinds.values() for path in paths])
            images = tuple(kinds[modality][0] for modality in modalities)
            found.append((name, family, images, kinds[annotated][0], annotated == AUTOMATIC))
    schemes: dict[str, LabelScheme] = {}
    for family in dict.fromkeys(family for _, family, *_ in found):
        segmentations = {name: mask for name, own, _, mask, _ in found if own == family}
        try:
            auto = label_scheme == AUTO
            schemes[family] = detect_scheme(family, segmentations, tumour) if auto else SCHEMES[label_scheme]
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems, where=f"{source} (nothing was written)")
    cases = [
        SourceCase(make_case_id(name), (*images, mask), _loader(images, mask, schemes[family], tumour), automatic)
        for name, family, images, mask, automatic in found
    ]
    return FoundCases(cases, left_out, "; ".join(dict.fromkeys(scheme.describe(tumour) for scheme in schemes.values())))


def report_unread(source: Path) -> dict[str, str]:
    """Report files below a folder that are passed over: volumes of other formats, and scans of other names."""
    names = [path.name for path in list_files_below(source) if path.name[0] != "." or path.name.startswith("._")]
    others = [name for name in names if split_suffix(name, OTHER_VOLUMES)]
    unnamed = [name for name in names if split_suffix(name, SCAN_SUFFIXES) and parse_name(Path(name)) is None]
    reports = {
        "other formats": (others, "convert them to NIfTI"),
        "other names": (unnamed, "expected <case>_<modality>"),
    }
    return {kind: f"{summarize_names(found)} not read; {remedy}" for kind, (found, remedy) in reports.items() if found}


def _loader(images: Sequence[Path], mask: Path, scheme: LabelScheme, tumour: str) -> Callable[[], list[SlicePlane]]:
    sources = [(image, None) for image in images]
    return partial(load_case, sources, mask, region=scheme.select_region(tumour), values=scheme.values)


def _find_ambiguities(
    kinds: Mapping[str, list[Path]], modalities: Sequence[str], *, folder: Path, name: str
) -> list[str]:
    """Report files of a case that cannot be told apart by name."""
    return [
        f"{folder}: several files could be {kind} of {name} ({', '.join(path.name for path in paths)}); keep one"
        for kind, paths in kinds.items()
        if len(paths) > 1 and kind in (*modalities, *SEGMENTATIONS)
    ]


def make_case_id(name: str) -> str:
    """Make the id used in file names: `BRATS_001` (MSD, reference) becomes `001`; other names are kept."""
    return make_safe_id(name.removeprefix("BRATS_"))


def load_case(
    images: Sequence[tuple[Path, int | None]], segmentation: Path, *, region: set[int], values: set[int]
) -> list[SlicePlane]:
    """Read the modalities and the segmentation of a case.

    Args:
        images: scan of each modality, with its channel where the scan has four axes.
        segmentation: scan of the same grid.
        region: label values that count as lesion.
        values: label values that may occur.

    Returns:
        Slices with images [rows, columns], or [modalities, rows, columns] of several.

    Raises:
        DataError: all problems of the files.
    """
    problems: list[str] = []
    mask = _try_open(segmentation, problems)
    pictures = [(_try_open(path, problems), channel) for path, channel in images]
    for picture, channel in pictures:
        if picture is not None and mask is not None:
            problems += _find_grid_problems(picture, mask, channel)
    if problems or mask is None:
        raise DataError(list(dict.fromkeys(problems)))
    opened = [(picture, channel) for picture, channel in pictures if picture is not None]
    volumes = [_read_volume(picture, channel, problems) for picture, channel in opened]
    labels = mask.read()
    try:
        labels = read_whole_labels(labels, segmentation.name)
        problems += _find_label_problems(labels, values, name=segmentation.name)
    except DataError as error:
        problems += error.problems
    if problems:
        raise DataError(problems)
    lesion, geometry = np.isin(labels, sorted(region)), opened[0][0].geometry
    return cut_planes(volumes, lesion, geometry=geometry, source=images[0][0])


def _read_volume(picture: Scan, channel: int | None, problems: list[str]) -> NDArray[Any]:
    volume = picture.read(channel=channel)
    bad = int(volume.size - np.isfinite(volume).sum())
    if bad:
        problems.append(
            f"{picture.path.name} contains {bad} voxels that are NaN or infinite; repair it or leave this case out"
        )
    return volume


def _find_label_problems(labels: NDArray[Any], values: set[int], *, name: str) -> list[str]:
    """Report values of a segmentation that are not among its labels."""
    unknown = [value for value in np.unique(labels).tolist() if value not in values]
    if not unknown:
        return []
    shown = ", ".join(f"{value:g}" for value in unknown[:5]) + (" …" if len(unknown) > 5 else "")
    return [
        f"{name} contains the values {shown}; expected labels out of {sorted(values)}; another release may have them "
        "(--label-scheme)"
    ]


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


def _find_grid_problems(picture: Scan, mask: Scan, channel: int | None) -> list[str]:
    problems = []
    if channel is None and picture.channels > 1:
        problems.append(f"{picture.path.name} has {picture.channels} channels; expected one volume")
    if mask.channels > 1:
        problems.append(f"{mask.path.name} has {mask.channels} channels; expected one volume of labels")
    difference = picture.geometry.difference(mask.geometry)
    if difference:
        problems.append(f"{mask.path.name} does not lie on {picture.path.name}: {difference}; resample it first")
    return problems


def _try_open(path: Path, problems: list[str]) -> Scan | None:
    """Open a file, or append its error to the problems."""
    try:
        return open_scan(path)
    except DataError as error:
        problems.append(str(error))
        return None
