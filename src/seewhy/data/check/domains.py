"""Check two domains of subjects: read every subject once, as preparing it would, and write nothing."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seewhy.batch import MODALITIES
from seewhy.data.check.report import Finding, Report, error, warning
from seewhy.data.domains.measurement import MeasuredSubject, measure_subject
from seewhy.data.domains.preparation import locate_domain_folders
from seewhy.data.domains.store import COUNTERPARTS, DOMAINS, RECORD, is_store, open_store
from seewhy.data.domains.subjects import Subject, find_subjects
from seewhy.data.patients import report_spellings
from seewhy.data.splits import split_from_file
from seewhy.data.uniformity import find_other_spacings, find_turned
from seewhy.errors import ConfigError, DataError
from seewhy.io.slices import IMAGES
from seewhy.sharing.pool import map_in_processes

__all__ = ["check_domains", "holds_domains"]

FEW_PATIENTS = 3
"""Number of patients per domain: training, validation and test need one each."""


@dataclass(frozen=True)
class _CheckedSubject:
    """Facts about a subject, without its voxels."""

    part: str
    subject: Subject
    digest: bytes
    codes: str | None
    shape: tuple[int, ...]
    spacing: tuple[float, ...]


def holds_domains(root: Path) -> bool:
    """Return whether a folder has the sub-folders `a` and `b` of two domains and no slices."""
    return all((root / domain).is_dir() for domain in DOMAINS) and not (root / IMAGES).is_dir()


def check_domains(
    root: str | Path, *, split: str | Path | None = None, progress: bool = False, jobs: int = 1
) -> Report:
    """Check two folders of subjects, `a` and `b`, and their counterparts.

    Errors: subjects with missing or repeated modalities, unreadable files, modalities of different shape or affine,
    NaN, constant volumes, segmentations in place of an image, volumes without a head, orientations that differ from
    most others, repeated scans, an empty domain, a split of other subjects. Warnings: few patients, several sizes,
    patients in both domains.

    Args:
        root: the folder with `a/` and `b/`.
        split: a split.json to check against the subjects.
        progress: show a bar on stderr.
        jobs: processes that read subjects.

    Example:
        >>> from seewhy.data.check.domains import check_domains
        >>> from seewhy.phantoms.scanners import write_scanner_phantom
        >>> report = check_domains(write_scanner_phantom("scanners", subjects=(1, 1), shape=(24, 24, 24)))
        >>> [(finding.severity, finding.kind, finding.file) for finding in report.findings]
        [('warning', 'patients', 'a'), ('warning', 'patients', 'b')]
    """
    root = Path(root)
    report = Report(root)
    if is_store(root):
        return _check_store(report)
    checked: list[_CheckedSubject] = []
    subjects: list[tuple[str, Subject]] = []
    for part, folder in locate_domain_folders(root, {name: name for name in DOMAINS}, COUNTERPARTS).items():
        in_folder, problems = find_subjects(folder)
        report.add(error("subject", part, problem, "repair or move the files") for problem in problems)
        subjects += [(part, subject) for subject in in_folder]
    for item, findings in map_in_processes(
        lambda pair: _check_subject(*pair), subjects, f"checking {root.name}", jobs=jobs, shown=progress
    ):
        checked += [] if item is None else [item]
        report.add(findings)
    sources = [item for item in checked if item.part in DOMAINS]
    report.add(_find_duplicates(checked) + _compare_grids(checked))
    report.add(_compare_sizes(sources) + _check_patients(sources))
    if split is not None:
        report.add(_check_split(sources, split))
    report.counts = {"subjects": dict(Counter(part for part, _ in subjects))}
    return report


def _check_store(report: Report) -> Report:
    """Check that the arrays of prepared subjects can be opened; their values were checked when they were prepared."""
    remedy = "prepare the subjects again: python -m seewhy prepare domains SRC DST"
    try:
        store = open_store(report.root)
    except DataError as problem:
        report.add(error("prepared", report.root, text, remedy) for text in problem.problems)
        return report
    for subject in (*store.subjects, *store.counterparts.values()):
        try:
            shapes = subject.volume.shape[0], *subject.body.shape, len(subject.quantiles)
        except DataError as problem:
            report.add(error("prepared", subject.folder, text, remedy) for text in problem.problems)
            continue
        lengths = [stop - start for start, stop in subject.box]
        if list(shapes) != [lengths[0], *lengths, len(MODALITIES)]:
            message = f"arrays of {shapes}, but {lengths} in {RECORD}"
            report.add([error("prepared", subject.folder, message, remedy)])
    report.counts = {"subjects": dict(Counter(subject.domain for subject in store.subjects))}
    return report


def _check_subject(part: str, subject: Subject) -> tuple[_CheckedSubject | None, list[Finding]]:
    """Read a subject, and return its facts or its problems."""
    try:
        return _summarize(part, subject, measure_subject(subject)), []
    except DataError as problem:
        where = f"{part}/{subject.id}"
        return None, [error("subject", where, text, "repair or move it") for text in problem.problems]


def _summarize(part: str, subject: Subject, measured: MeasuredSubject) -> _CheckedSubject:
    codes = "".join(measured.geometry.axis_codes) if measured.geometry.oriented else None
    digest = hashlib.sha256(measured.volume.tobytes()).digest()
    return _CheckedSubject(part, subject, digest, codes, measured.geometry.shape, measured.geometry.spacing)


def _find_duplicates(subjects: list[_CheckedSubject]) -> list[Finding]:
    """Report subjects with exactly the same content, in different parts of a split or in both domains."""
    groups: dict[bytes, list[_CheckedSubject]] = defaultdict(list)
    for item in subjects:
        groups[item.digest].append(item)
    return [
        error(
            "duplicate",
            f"{other.part}/{other.subject.id}",
            f"same content as {first.part}/{first.subject.id}",
            "keep one of the two: a split cannot separate them, and domains must differ",
        )
        for first, *others in groups.values()
        for other in others
    ]


def _compare_grids(subjects: list[_CheckedSubject]) -> list[Finding]:
    """Report orientations and voxel sizes that differ from most others."""
    named = {f"{item.part}/{item.subject.id}": item for item in subjects}
    turned = find_turned({name: item.codes for name, item in named.items()})
    others = find_other_spacings({name: item.spacing for name, item in named.items()})
    remedy = "a network would learn to rotate heads"
    return [error("orientation", name, text, remedy) for name, text in turned.items()] + [
        warning("voxel-size", name, text, "resample all to one voxel size") for name, text in others.items()
    ]


def _compare_sizes(subjects: list[_CheckedSubject]) -> list[Finding]:
    findings = []
    for domain in DOMAINS:
        sizes = Counter(item.shape[:2] for item in subjects if item.part == domain)
        if len(sizes) > 1:
            shown = ", ".join(f"{rows}x{columns} ({count})" for (rows, columns), count in sizes.most_common(4))
            message = f"slices of several sizes: {shown}"
            findings.append(warning("shape", domain, message, "train with data.image_size or data.crop_size"))
    return findings


def _check_patients(subjects: list[_CheckedSubject]) -> list[Finding]:
    domains: Mapping[str, set[str]] = {
        domain: {item.subject.patient for item in subjects if item.part == domain} for domain in DOMAINS
    }
    findings = [
        warning("patients", domain, f"{len(names)} patient(s)", "training, validation and test need one each")
        for domain, names in domains.items()
        if 0 < len(names) < FEW_PATIENTS
    ]
    remedy = "rename the folders or files of the subjects"
    findings += [
        error("patients", "both domains", message, remedy)
        for message in report_spellings(sorted(domains["a"] | domains["b"]))
    ]
    both = sorted(domains["a"] & domains["b"])
    if both:
        message = f"{len(both)} patient(s) in both domains, e.g. {both[0]}; all scans of a patient go into one part"
        findings.append(warning("patients", "both domains", message, "rename them if they are different people"))
    return findings


def _check_split(subjects: list[_CheckedSubject], path: str | Path) -> list[Finding]:
    try:
        split_from_file(list(dict.fromkeys(item.subject.patient for item in subjects)), path)
    except ConfigError as problem:
        return [error("split", path, str(problem), "give the split.json of a run on these subjects")]
    return []
