"""Find the subjects of a domain, four modalities each, in the layouts of BraTS-like releases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seewhy.batch import MODALITIES
from seewhy.data.listing import OTHER_VOLUMES, split_suffix, summarize_names
from seewhy.data.prepare.brats_files import MODALITIES as ALIASES
from seewhy.data.prepare.brats_files import SEGMENTATIONS, FileName, group_files, make_case_id, parse_name
from seewhy.data.prepare.msd_files import MSDTask, is_msd
from seewhy.data.prepare.source_case import find_clashes, list_files_below
from seewhy.errors import ConfigError, DataError
from seewhy.io.scans.scan import SCAN_SUFFIXES

__all__ = ["Subject", "find_patient", "find_subjects"]


@dataclass(frozen=True)
class Subject:
    """One scan of a patient in all modalities.

    Attributes:
        id: safe as a file name, unique within its domain.
        name: name in the source files.
        patient: patient of the scan; several scans, also of both domains, may be of one patient.
        files: modality → file (NIfTI, NRRD or MetaImage).
        channel: modality → channel of its file, or None for a file of three axes.
        segmentation: annotation, for evaluation only, or None.
    """

    id: str
    name: str
    patient: str
    files: Mapping[str, Path]
    channel: Mapping[str, int | None]
    segmentation: Path | None = None

    def fingerprint(self) -> list[list[str | int]]:
        """Return name, size in bytes and modification time in nanoseconds of each distinct file."""
        paths = dict.fromkeys([*self.files.values(), *([self.segmentation] if self.segmentation else [])])
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def find_subjects(folder: Path, *, patient_pattern: str | None = None) -> tuple[list[Subject], list[str]]:
    """Find the subjects below a folder by file names.

    Supported are `<subject>_<modality>.nii.gz` in one folder per subject or all in one folder, `<subject>/
    <modality>.nii.gz`, with the modality names of BraTS 2012 to 2024 and MSD, and MSD tasks of 4D files
    (`dataset.json`, `imagesTr/`); all also as `.nii`, `.nrrd`, `.nhdr`, `.mha` or `.mhd`.

    Args:
        folder: folder of one domain.
        patient_pattern: regular expression that finds the patient in a subject's name; None: one patient per subject.

    Returns:
        Complete subjects in the order of their names, and the problems of the others.

    Example:
        >>> from seewhy.data.domains.subjects import find_subjects
        >>> from seewhy.phantoms.scanners import write_scanner_phantom
        >>> root = write_scanner_phantom("scanners", subjects=(2, 1), shape=(24, 24, 24))
        >>> subjects, problems = find_subjects(root / "a")
        >>> [subject.id for subject in subjects], problems
        (['A001', 'A002'], [])
    """
    if not folder.is_dir():
        return [], [f"folder {folder} does not exist; expected one folder of subjects for each domain"]
    try:
        named, problems = _list_msd_subjects(folder) if is_msd(folder) else _list_brats_subjects(folder)
    except DataError as error:
        return [], error.problems
    others = [path.name for path in list_files_below(folder) if split_suffix(path.name, OTHER_VOLUMES)]
    if others:
        from lightning.pytorch.utilities import rank_zero_warn  # `seewhy check` runs without torch

        rank_zero_warn(f"{folder}: {summarize_names(others)} left out; convert them to NIfTI, or move them elsewhere")
    problems += find_clashes((make_case_id(name), next(iter(files.values()))) for name, files, _, _ in named)
    subjects = [
        Subject(make_case_id(name), name, find_patient(name, patient_pattern), files, channel, segmentation)
        for name, files, channel, segmentation in named
    ]
    if not subjects and not problems:
        problems.append(
            f"{folder} contains no subject; expected <subject>/<subject>_<modality>.nii.gz with the modalities "
            f"{', '.join(MODALITIES)}, or MSD's dataset.json and imagesTr/"
        )
    return subjects, problems


def find_patient(name: str, pattern: str | None) -> str:
    """Find the patient in a subject's name: the pattern's group `patient`, else its first group, else the whole match.

    Raises:
        ConfigError: an invalid pattern, or one that does not match.
    """
    if pattern is None:
        return make_case_id(name)
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise ConfigError(f"data.patient_pattern={pattern!r} is not a valid regular expression: {error}") from error
    if match is None:
        raise ConfigError(f"data.patient_pattern={pattern!r} does not match the subject {name!r}")
    groups = match.groupdict()
    return make_case_id(str(groups.get("patient") or (match.group(1) if match.re.groups else match.group(0))))


Named = tuple[str, dict[str, Path], dict[str, int | None], Path | None]
"""Name in the source files, modality → file, modality → channel, segmentation."""


def _list_msd_subjects(folder: Path) -> tuple[list[Named], list[str]]:
    task = MSDTask(folder)
    named: list[Named] = []
    problems: list[str] = []
    for name in task.images:
        found = {modality: task.find_image(name, modality) for modality in MODALITIES}
        missing = [modality for modality, image in found.items() if image is None]
        problems += [f"{folder}: {name} has no file of {modality} in imagesTr/" for modality in missing]
        if not missing:
            images = {modality: image for modality, image in found.items() if image is not None}
            files = {modality: path for modality, (path, _) in images.items()}
            channels = {modality: channel for modality, (_, channel) in images.items()}
            named.append((name, files, channels, task.labels.get(name)))
    return named, problems


def _list_brats_subjects(folder: Path) -> tuple[list[Named], list[str]]:
    named: list[Named] = []
    problems: list[str] = []
    for (parent, name), kinds in group_files(folder, _parse_file).items():
        subject_problems = _find_problems(kinds, folder=parent, name=name)
        problems += subject_problems
        if not subject_problems:
            annotated = next((kinds[kind][0] for kind in SEGMENTATIONS if kind in kinds), None)
            files = {modality: kinds[modality][0] for modality in MODALITIES}
            named.append((name, files, dict.fromkeys(MODALITIES), annotated))
    return named, problems


def _parse_file(path: Path) -> FileName | None:
    """Parse a file name into subject and kind; the folder names the subject of a file like `t1.nii.gz`."""
    if path.name.startswith(".") or split_suffix(path.name, SCAN_SUFFIXES) is None:
        return None
    return parse_name(path) or parse_name(path.with_name(f"{path.parent.name}_{path.name}"))


def _find_problems(kinds: Mapping[str, list[Path]], *, folder: Path, name: str) -> list[str]:
    """Report modalities of a subject that are missing or ambiguous."""
    problems = []
    there = ", ".join(kind for kind in kinds if kind in ALIASES) or "none"
    for modality in MODALITIES:
        if modality not in kinds:
            looked = " or ".join(ALIASES[modality])
            problems.append(f"{folder}: {name} has no {modality} (looked for {looked}); there: {there}")
    for kind, paths in kinds.items():
        if len(paths) > 1:
            listed = ", ".join(path.name for path in paths)
            problems.append(f"{folder}: several files could be {kind} of {name} ({listed}); keep one")
    return problems
