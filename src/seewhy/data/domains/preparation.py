"""Subjects of both domains prepared into one store: each read once, kept until its files change.

Whose a store is: the source folders that it was prepared from, so that two data sets never share one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from seewhy.data.domains.measurement import measure_subject
from seewhy.data.domains.store import (
    COUNTERPARTS,
    DOMAINS,
    RECORD,
    VERSION,
    PreparedSubject,
    read_subject,
    write_subject,
)
from seewhy.data.domains.subjects import Subject, find_subjects, patient_of
from seewhy.errors import DataError
from seewhy.io.atomic import TEMPORARY_PREFIX, atomic_folder, write_json

__all__ = [
    "SOURCES",
    "STORE",
    "DomainStore",
    "claim_store",
    "domain_folders",
    "is_store",
    "open_store",
    "prepare_domains",
]

STORE = "domains.json"
"""In the store's folder once all subjects are there."""
SOURCES = "sources.json"
"""In the store's folder from the start: where it is, and which folders it is of."""


def claim_store(store: Path, folders: Mapping[str, Path]) -> None:
    """Make a store's folder, or go on with one that is of the same source folders.

    Subjects of two sources may have the same names, and a run that reads those of one would go on with the other's.
    A store that was moved or copied (with its data set, to a faster disk, say) is of whoever claims it next; so is
    one whose source is no longer there.

    Args:
        store: its folder.
        folders: part of the store → source folder.

    Raises:
        DataError: it cannot be made, holds other files than prepared subjects, or is of other folders.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{store} cannot be made ({error.strerror}); set data.cache_dir to a folder that can be written"
        ) from error
    if strange := _strange(store):
        raise DataError(f"{store} holds other files than prepared subjects, e.g. {strange[0]}; choose another folder")
    known = _sources(store)
    for part, folder in folders.items():
        if part in known and Path(known[part]).is_dir() and not _same(known[part], folder):
            raise DataError(
                f"{store} holds the subjects of {known[part]} as domain {part}, not those of {folder}; set "
                "data.cache_dir to a folder of its own"
            )
    record = {**known, **{part: str(folder) for part, folder in folders.items()}}
    if record != known:
        write_json(store / SOURCES, {"store": str(store.absolute()), "folders": record})


def _strange(store: Path) -> list[Path]:
    """Files in a store's folder that are none of a store."""
    places = [store, *(store / part for part in (*DOMAINS, COUNTERPARTS))]
    places += [store / COUNTERPARTS / domain for domain in DOMAINS]
    return [
        path
        for place in places
        if place.is_dir()
        for path in place.iterdir()
        if not (path in places or path.name in (STORE, SOURCES) or path.name.startswith(TEMPORARY_PREFIX))
        and not (path / RECORD).is_file()
    ]


def _sources(store: Path) -> dict[str, str]:
    """Part of the store → the folder that it was prepared from; nothing where the store itself came from elsewhere."""
    try:
        found = json.loads((store / SOURCES).read_text(encoding="utf-8"))
        folders = {str(part): str(folder) for part, folder in found["folders"].items()}
        return folders if _same(found["store"], store) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _same(one: str | Path, other: str | Path) -> bool:
    """Whether two paths, by whatever links, lead to one folder."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


SLOW = 8
"""Subjects from which on a bar is shown."""


@dataclass(frozen=True)
class DomainStore:
    """Prepared subjects of both domains, and the other scanner's view of them where it is known.

    Attributes:
        root: the store's folder.
        subjects: of domain a, then of b, each in the order of their names.
        counterparts: (domain, id) → the same subject as the other domain's scanner saw it.
        is_phantom: whether the subjects are synthetic.
        written: how many were prepared by this call.
    """

    root: Path
    subjects: list[PreparedSubject]
    counterparts: dict[tuple[str, str], PreparedSubject] = field(default_factory=dict)
    is_phantom: bool = False
    written: int = 0

    def of_domain(self, domain: str) -> list[PreparedSubject]:
        """Subjects of one domain."""
        return [subject for subject in self.subjects if subject.domain == domain]

    def by_patient(self, pattern: str) -> DomainStore:
        """The same with patients told from the subjects' names, see `patient_of`."""
        subjects = [
            replace(subject, record={**subject.record, "patient": patient_of(subject.name, pattern)})
            for subject in self.subjects
        ]
        return replace(self, subjects=subjects)


def domain_folders(root: Path, names: Mapping[str, str | None], counterparts: str | None) -> dict[str, Path]:
    """Where the subjects of each part of a store come from.

    Args:
        root: folder that relative names start from.
        names: domain → folder, or None for a domain that is not there.
        counterparts: folder with a sub-folder per domain, or None; one that does not exist is none.

    Returns:
        Part of the store (`a`, `b`, `counterparts/a`, …) → folder.
    """
    # Absolute, since the files' names are kept and a later run may start elsewhere.
    root = root.absolute()
    folders = {domain: root / name for domain, name in names.items() if name is not None}
    if counterparts is not None:
        below = {f"{COUNTERPARTS}/{domain}": root / counterparts / domain for domain in folders}
        folders |= {part: folder for part, folder in below.items() if folder.is_dir()}
    return folders


def prepare_domains(
    folders: Mapping[str, Path],
    store: Path,
    *,
    patient_pattern: str | None = None,
    phantom: bool = False,
    progress: bool = True,
) -> DomainStore:
    """Prepare every subject that is not in the store, or whose files have changed, and leave out those that are gone.

    A subject becomes memory-mapped arrays cut to the box around its tissue, in the files' own intensities (16-bit
    whole numbers stay so): about 25 MB for a BraTS subject, read slice by slice later. A killed call is
    continued by the next; two calls at once do not harm each other.

    Args:
        folders: part of the store → source folder, see `domain_folders`.
        store: the folder to make.
        patient_pattern: see `find_subjects`.
        phantom: whether the subjects are synthetic; the store then says so too.
        progress: show a bar on stderr where there are many.

    Raises:
        DataError: all problems of all subjects at once, after all good ones were prepared.
    """
    wanted, problems = _find(folders, patient_pattern)
    if not all(folder.is_dir() for folder in folders.values()):
        raise DataError(problems, where=str(store.parent))  # before a folder is made where none should be
    claim_store(store, folders)
    todo = [(part, subject) for part, subject in wanted if not _current(store / part / subject.id, subject)]
    bar = track(
        todo, "preparing subjects", transient=True, console=Console(stderr=True),
        disable=not progress or len(todo) < SLOW,
    )  # fmt: skip
    for part, subject in bar:
        try:
            _prepare(store / part / subject.id, subject)
        except DataError as error:
            problems += [f"{part}: {problem}" for problem in error.problems]
    if problems:
        raise DataError(problems, where=str(store.parent))
    parts: dict[str, list[str]] = {part: [] for part in folders}
    for part, subject in wanted:
        parts[part].append(subject.id)
    _record(store / STORE, parts, phantom)
    return replace(open_store(store), written=len(todo))


def _record(path: Path, parts: Mapping[str, list[str]], phantom: bool) -> None:
    """Write who is in the store, unless it says so already (its folder may be read-only by now)."""
    record = {"made_by": "seewhy prepare domains", "version": VERSION, "phantom": phantom, "parts": parts}
    if not path.is_file() or json.loads(path.read_text(encoding="utf-8")) != record:
        write_json(path, record)


def is_store(root: Path) -> bool:
    """Whether a folder holds prepared subjects."""
    return (root / STORE).is_file()


def open_store(root: Path) -> DomainStore:
    """Open prepared subjects; their sources need not be on this machine.

    Raises:
        DataError: no store, or records that cannot be read; all at once.
    """
    try:
        record = json.loads((root / STORE).read_text(encoding="utf-8"))
        parts, phantom = record["parts"], bool(record.get("phantom", False))
        ids = {str(part): [str(name) for name in names] for part, names in parts.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{root / STORE} is no record of prepared domains ({error}); prepare them anew") from error
    subjects: list[PreparedSubject] = []
    counterparts: dict[tuple[str, str], PreparedSubject] = {}
    problems: list[str] = []
    for part, names in ids.items():
        domain = part.rsplit("/", 1)[-1]
        for name in names:
            try:
                subject = read_subject(root / part / name, domain)
            except DataError as error:
                problems += error.problems
                continue
            if part in DOMAINS:
                subjects.append(subject)
            else:
                counterparts[domain, name] = subject
    if problems:
        raise DataError(problems, where=str(root))
    return DomainStore(root, subjects, counterparts, phantom)


def _find(folders: Mapping[str, Path], pattern: str | None) -> tuple[list[tuple[str, Subject]], list[str]]:
    """Pairs (part of the store, subject), and what is wrong with the folders."""
    wanted: list[tuple[str, Subject]] = []
    problems: list[str] = []
    for part, folder in folders.items():
        subjects, wrong = find_subjects(folder, patient_pattern=pattern)
        wanted += [(part, subject) for subject in subjects]
        problems += [f"{part}: {problem}" for problem in wrong]
    return wanted, problems


def _current(folder: Path, subject: Subject) -> bool:
    """Whether a subject was prepared from the files as they are now."""
    try:
        record = read_subject(folder, "").record
    except DataError:
        return False
    files = {name: str(path) for name, path in subject.files.items()}
    known = (record.get("sources"), record["files"], record["patient"])
    return known == (subject.fingerprint(), files, subject.patient)


def _prepare(folder: Path, subject: Subject) -> None:
    measured = measure_subject(subject)
    if _current(folder, subject):
        return  # another process was faster
    if folder.exists():
        shutil.rmtree(folder)
    try:
        with atomic_folder(folder) as temporary:
            write_subject(temporary, subject, measured)
    except OSError:
        # Another process (a second rank) may have prepared the same subject in this moment.
        if not _current(folder, subject):
            raise
