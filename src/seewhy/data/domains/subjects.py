"""Finding the subjects of a domain: four modalities each, in the layouts that BraTS-like releases have."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seewhy.batch import MODALITIES
from seewhy.data.prepare.brats_files import MODALITIES as ALIASES
from seewhy.data.prepare.brats_files import SEGMENTATIONS, FileName, case_id, parse_name
from seewhy.data.prepare.msd import is_msd, msd_channels, msd_images
from seewhy.data.prepare.source_case import clashes, files_below
from seewhy.errors import ConfigError, DataError
from seewhy.io.nifti import NIFTI_SUFFIXES

__all__ = ["Subject", "find_subjects", "patient_of"]


@dataclass(frozen=True)
class Subject:
    """One scan of a patient in all modalities.

    Attributes:
        id: safe as a file name, unique within its domain.
        name: as the files have it.
        patient: whose scan it is; several scans, also of both domains, may be of one patient.
        files: modality → NIfTI file.
        channel: modality → channel of its file, or None for a file of three axes.
        segmentation: annotation, for evaluation only; None where there is none.
    """

    id: str
    name: str
    patient: str
    files: Mapping[str, Path]
    channel: Mapping[str, int | None]
    segmentation: Path | None = None

    def fingerprint(self) -> list[list[str | int]]:
        """Name, size in bytes and modification time in nanoseconds of each file, each once."""
        paths = dict.fromkeys([*self.files.values(), *([self.segmentation] if self.segmentation else [])])
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def find_subjects(folder: Path, *, patient_pattern: str | None = None) -> tuple[list[Subject], list[str]]:
    """The subjects below a folder, from names alone.

    Read are `<subject>_<modality>.nii.gz` in one folder each or side by side, `<subject>/<modality>.nii.gz`, with
    the modality's names of BraTS 2012 to 2024 and MSD; and MSD tasks of 4D files (`dataset.json`, `imagesTr/`).

    Args:
        folder: of one domain.
        patient_pattern: regular expression that finds the patient in a subject's name; None: one subject each.

    Returns:
        Complete subjects in the order of their names, and everything that is wrong with the others.
    """
    if not folder.is_dir():
        return [], [f"{folder} is no folder; expected one folder of subjects for each domain"]
    try:
        named, problems = _msd(folder) if is_msd(folder) else _brats(folder)
    except DataError as error:
        return [], error.problems
    problems += clashes((case_id(name), next(iter(files.values()))) for name, files, _, _ in named)
    subjects = [
        Subject(case_id(name), name, patient_of(name, patient_pattern), files, channel, segmentation)
        for name, files, channel, segmentation in named
    ]
    if not subjects and not problems:
        problems.append(
            f"{folder} holds no subject; expected <subject>/<subject>_<modality>.nii.gz with the modalities "
            f"{', '.join(MODALITIES)}, or MSD's dataset.json and imagesTr/"
        )
    return subjects, problems


def patient_of(name: str, pattern: str | None) -> str:
    """The patient in a subject's name: the pattern's group `patient`, else its first, else all that matched.

    Raises:
        ConfigError: a pattern that is none, or that does not match.
    """
    if pattern is None:
        return case_id(name)
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise ConfigError(f"data.patient_pattern={pattern!r} is no regular expression: {error}") from error
    if match is None:
        raise ConfigError(f"data.patient_pattern={pattern!r} does not match the subject {name!r}")
    groups = match.groupdict()
    return case_id(str(groups.get("patient") or (match.group(1) if match.re.groups else match.group(0))))


Named = tuple[str, dict[str, Path], dict[str, int | None], Path | None]
"""Name as the files have it, modality → file, modality → channel, segmentation."""


def _msd(folder: Path) -> tuple[list[Named], list[str]]:
    channels: dict[str, int | None] = {**msd_channels(folder, MODALITIES)}
    found: list[Named] = []
    for path in msd_images(folder):
        labels = folder / "labelsTr" / path.name
        files = dict.fromkeys(MODALITIES, path)
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        found.append((name, files, channels, labels if labels.is_file() else None))
    return found, []


def _brats(folder: Path) -> tuple[list[Named], list[str]]:
    groups: dict[tuple[Path, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in files_below(folder):
        parts = _parts(path)
        if parts is not None:
            groups[path.parent, parts.case][parts.kind].append(path)
    found: list[Named] = []
    problems: list[str] = []
    for (place, name), kinds in groups.items():
        wrong = _wrong(kinds, place=place, name=name)
        problems += wrong
        if not wrong:
            annotated = next((kinds[kind][0] for kind in SEGMENTATIONS if kind in kinds), None)
            files = {modality: kinds[modality][0] for modality in MODALITIES}
            found.append((name, files, dict.fromkeys(MODALITIES), annotated))
    return found, problems


def _parts(path: Path) -> FileName | None:
    """Subject and kind of a file; `t1.nii.gz` alone is its folder's subject."""
    if path.name.startswith(".") or not path.name.endswith(NIFTI_SUFFIXES):
        return None
    return parse_name(path) or parse_name(path.with_name(f"{path.parent.name}_{path.name}"))


def _wrong(kinds: Mapping[str, list[Path]], *, place: Path, name: str) -> list[str]:
    """Modalities that a subject lacks or has twice."""
    problems = []
    there = ", ".join(kind for kind in kinds if kind in ALIASES) or "none"
    for modality in MODALITIES:
        if modality not in kinds:
            looked = " or ".join(ALIASES[modality])
            problems.append(f"{place}: {name} has no {modality} (looked for {looked}); there: {there}")
    for kind, paths in kinds.items():
        if len(paths) > 1:
            listed = ", ".join(path.name for path in paths)
            problems.append(f"{place}: several files could be {kind} of {name} ({listed}); keep one")
    return problems
