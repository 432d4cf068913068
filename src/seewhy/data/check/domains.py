"""The check of two domains of subjects: every subject is read once, as preparing it would, and nothing is written."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from seewhy.batch import MODALITIES
from seewhy.data.check.report import Finding, Report, error, warning
from seewhy.data.domains.measurement import Measured, measure_subject
from seewhy.data.domains.preparation import domain_folders, is_store, open_store
from seewhy.data.domains.store import COUNTERPARTS, DOMAINS, RECORD
from seewhy.data.domains.subjects import Subject, find_subjects
from seewhy.data.splits import split_from_file
from seewhy.errors import ConfigError, DataError
from seewhy.io.layout import IMAGES

__all__ = ["check_domains", "holds_domains"]

FEW_PATIENTS = 3
"""Of each domain: training, validation and test need one each."""


@dataclass(frozen=True)
class _Seen:
    """What is kept of a subject."""

    part: str
    subject: Subject
    digest: bytes
    codes: str | None
    shape: tuple[int, ...]


def holds_domains(root: Path) -> bool:
    """Whether a folder has the sub-folders `a` and `b` of two domains rather than slices."""
    return all((root / domain).is_dir() for domain in DOMAINS) and not (root / IMAGES).is_dir()


def check_domains(root: str | Path, *, split: str | Path | None = None, progress: bool = False) -> Report:
    """Look over two folders of subjects, `a` and `b`, and their counterparts.

    Errors: subjects that lack a modality or have one twice, files that cannot be read, modalities of different shape
    or affine, NaN, constant volumes, segmentations in an image's place, no head, another orientation than most,
    the same scan twice, an empty domain, a split that names others. Warnings: few patients, several sizes,
    patients in both domains.

    Args:
        root: the folder with `a/` and `b/`.
        split: a split.json to check against the subjects.
        progress: show a bar on stderr.
    """
    root = Path(root)
    report = Report(root)
    if is_store(root):
        return _check_store(report)
    seen: list[_Seen] = []
    subjects: list[tuple[str, Subject]] = []
    for part, folder in domain_folders(root, {name: name for name in DOMAINS}, COUNTERPARTS).items():
        found, problems = find_subjects(folder)
        report.add(error("subject", part, problem, "mend or move the files") for problem in problems)
        subjects += [(part, subject) for subject in found]
    console = Console(stderr=True)
    title = f"checking {root.name}"
    for part, subject in track(subjects, title, console=console, transient=True, disable=not progress):
        try:
            seen.append(_seen(part, subject, measure_subject(subject)))
        except DataError as problem:
            report.add(error("subject", f"{part}/{subject.id}", text, "mend or move it") for text in problem.problems)
    own = [item for item in seen if item.part in DOMAINS]
    report.add(_duplicates(seen) + _turned(seen) + _sizes(own) + _patients(own))
    if split is not None:
        report.add(_split_findings(own, split))
    report.counts = {"subjects": dict(Counter(part for part, _ in subjects))}
    return report


def _check_store(report: Report) -> Report:
    """Prepared subjects were looked over when they were made; here their arrays are opened."""
    remedy = "prepare the subjects anew: python -m seewhy prepare domains SRC DST"
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
            message = f"arrays of {shapes}, but {RECORD} says {lengths}"
            report.add([error("prepared", subject.folder, message, remedy)])
    report.counts = {"subjects": dict(Counter(subject.domain for subject in store.subjects))}
    return report


def _seen(part: str, subject: Subject, measured: Measured) -> _Seen:
    codes = "".join(measured.geometry.axis_codes) if measured.geometry.oriented else None
    return _Seen(part, subject, hashlib.sha256(measured.volume.tobytes()).digest(), codes, measured.geometry.shape)


def _duplicates(seen: list[_Seen]) -> list[Finding]:
    """Subjects with exactly the same content: trained on and tested, or in both domains."""
    same: dict[bytes, list[_Seen]] = defaultdict(list)
    for item in seen:
        same[item.digest].append(item)
    return [
        error(
            "duplicate",
            f"{other.part}/{other.subject.id}",
            f"same content as {first.part}/{first.subject.id}",
            "keep one of the two: a split cannot keep them apart, and domains must differ",
        )
        for first, *others in same.values()
        for other in others
    ]


def _turned(seen: list[_Seen]) -> list[Finding]:
    usual = Counter(item.codes for item in seen if item.codes is not None).most_common(1)
    return [
        error(
            "orientation",
            f"{item.part}/{item.subject.id}",
            f"stored as {item.codes}, most others as {usual[0][0]}",
            "store all in one orientation, e.g. with nibabel.as_closest_canonical",
        )
        for item in seen
        if item.codes is not None and item.codes != usual[0][0]
    ]


def _sizes(seen: list[_Seen]) -> list[Finding]:
    findings = []
    for domain in DOMAINS:
        sizes = Counter(item.shape[:2] for item in seen if item.part == domain)
        if len(sizes) > 1:
            shown = ", ".join(f"{rows}x{columns} ({count})" for (rows, columns), count in sizes.most_common(4))
            message = f"slices of several sizes: {shown}"
            findings.append(warning("shape", domain, message, "train with data.image_size or data.crop_size"))
    return findings


def _patients(seen: list[_Seen]) -> list[Finding]:
    domains: Mapping[str, set[str]] = {
        domain: {item.subject.patient for item in seen if item.part == domain} for domain in DOMAINS
    }
    findings = [
        warning("patients", domain, f"{len(names)} patient(s)", "training, validation and test need one each")
        for domain, names in domains.items()
        if 0 < len(names) < FEW_PATIENTS
    ]
    both = sorted(domains["a"] & domains["b"])
    if both:
        message = f"{len(both)} patient(s) in both domains, e.g. {both[0]}; all scans of one get into one part"
        findings.append(warning("patients", "both domains", message, "rename them if they are different people"))
    return findings


def _split_findings(seen: list[_Seen], path: str | Path) -> list[Finding]:
    try:
        split_from_file(list(dict.fromkeys(item.subject.patient for item in seen)), path)
    except ConfigError as problem:
        return [error("split", path, str(problem), "give the split.json of a run on these subjects")]
    return []
