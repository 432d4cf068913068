"""Prepare the subjects of both domains: read each once and keep it in a store until its files change.

A source manifest in the store names the source folders, so that two data sets never share a store.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from typing_extensions import TypedDict

from seewhy.batch import MODALITIES
from seewhy.data.domains.measurement import AXIS, MeasuredSubject, measure_subject
from seewhy.data.domains.store import (
    COUNTERPARTS,
    DOMAINS,
    RECORD,
    STORE,
    VERSION,
    DomainStore,
    open_store,
    read_subject,
)
from seewhy.data.domains.subjects import Subject, find_subjects
from seewhy.errors import DataError
from seewhy.io.atomic import TEMPORARY_PREFIX, atomic_folder, write_json
from seewhy.io.documents import read_json
from seewhy.io.geometry import Display, display_of_plane
from seewhy.io.npy import write_npy
from seewhy.sharing.pool import map_in_processes

__all__ = ["SOURCES", "claim_store", "locate_domain_folders", "prepare_domains", "prepare_subject"]

SOURCES = "sources.json"
"""The source manifest: path of the store, and its source folders. It is written before any subject."""


class Sources(TypedDict):
    """Contents of `sources.json`: the store, and part of the store → source folder."""

    store: str
    folders: dict[str, str]


def locate_domain_folders(root: Path, names: Mapping[str, str | None], counterparts: str | None) -> dict[str, Path]:
    """Locate the source folder of each part of a store.

    Args:
        root: folder to which names are relative.
        names: domain → folder; None for a domain without one.
        counterparts: folder with a sub-folder per domain; None or a missing folder: no counterparts.

    Returns:
        Part of the store (`a`, `b`, `counterparts/a`, …) → folder.
    """
    # Absolute, since file names are recorded and a later run may start in another folder.
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
    jobs: int = 1,
) -> DomainStore:
    """Prepare all subjects that are not in the store or whose files changed; subjects without files are left out.

    A subject becomes memory-mapped arrays cut to the box around its tissue, in the files' intensities (16-bit whole
    numbers stay so): about 25 MB for a BraTS subject, read slice by slice later. The next call continues a killed
    one; concurrent calls are safe.

    Args:
        folders: part of the store → source folder, see `locate_domain_folders`.
        store: the store's folder.
        patient_pattern: see `find_subjects`.
        phantom: whether the subjects are synthetic; recorded in the store.
        progress: show a bar on stderr if it takes long.
        jobs: processes that prepare subjects; the files are the same for any number.

    Raises:
        DataError: all problems of all subjects at once, after all valid subjects were prepared.

    Example:
        >>> from pathlib import Path
        >>> from seewhy.data.domains.preparation import locate_domain_folders, prepare_domains
        >>> from seewhy.phantoms.scanners import write_scanner_phantom
        >>> root = write_scanner_phantom("scanners", subjects=(1, 1), shape=(24, 24, 24))
        >>> folders = locate_domain_folders(root, {"a": "a", "b": "b"}, "counterparts")
        >>> store = prepare_domains(folders, Path("prepared"))
        >>> [subject.id for subject in store.subjects], store.subjects[0].quantiles.shape
        (['A001', 'B001'], (4, 1001))
    """
    wanted, problems = _find_all(folders, patient_pattern)
    if not all(folder.is_dir() for folder in folders.values()):
        raise DataError(problems, where=str(store.parent))  # before the store's folder is created
    claim_store(store, folders)
    todo = [(part, subject) for part, subject in wanted if not _is_current(store / part / subject.id, subject)]
    for part_problems in map_in_processes(
        lambda item: _list_problems(store, *item), todo, "preparing subjects", jobs=jobs, shown=progress
    ):
        problems += part_problems
    if problems:
        raise DataError(problems, where=f"{store} (not complete; subjects without a problem are kept)")
    parts: dict[str, list[str]] = {part: [] for part in folders}
    for part, subject in wanted:
        parts[part].append(subject.id)
    _write_list(store / STORE, parts, phantom)
    return replace(open_store(store), written=len(todo))


def claim_store(store: Path, folders: Mapping[str, Path]) -> None:
    """Create a store's folder with its source manifest, or check that an existing store has the same sources.

    Subjects of two sources may have the same names, and runs on one source would continue with the subjects of the
    other. A store that was moved or copied (with its data set to a faster disk, for example) may be claimed for new
    sources, and so may a store whose source no longer exists.

    Args:
        store: the store's folder.
        folders: part of the store → source folder.

    Raises:
        DataError: the folder cannot be created, contains other files, or belongs to other sources.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{store} cannot be created ({error.strerror}); choose a writable folder (data.cache_dir of a run)"
        ) from error
    if foreign := _find_foreign_files(store):
        raise DataError(
            f"{store} contains files other than prepared subjects, e.g. {foreign[0]}; choose another folder"
        )
    sources = _read_sources(store)
    for part, folder in folders.items():
        if part in sources and Path(sources[part]).is_dir() and not _is_same(sources[part], folder):
            raise DataError(
                f"{store} contains the subjects of {sources[part]} as domain {part}, not those of {folder}; set "
                "data.cache_dir to a separate folder"
            )
    record = {**sources, **{part: str(folder) for part, folder in folders.items()}}
    if record != sources:
        write_json(store / SOURCES, {"store": str(store.absolute()), "folders": record})


def _find_foreign_files(store: Path) -> list[Path]:
    """List files in a store's folder that do not belong to a store."""
    folders = [store, *(store / part for part in (*DOMAINS, COUNTERPARTS))]
    folders += [store / COUNTERPARTS / domain for domain in DOMAINS]
    return [
        path
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if not (path in folders or path.name in (STORE, SOURCES) or path.name.startswith(TEMPORARY_PREFIX))
        and not (path / RECORD).is_file()
    ]


def _read_sources(store: Path) -> dict[str, str]:
    """Read part of the store → source folder; empty if the store was moved or copied."""
    try:
        manifest = read_json(store / SOURCES, Sources)
    except DataError:
        return {}
    return dict(manifest["folders"]) if _is_same(manifest["store"], store) else {}


def _is_same(first: str | Path, second: str | Path) -> bool:
    """Return whether two paths lead to the same folder, also through links."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def _write_list(path: Path, parts: Mapping[str, list[str]], phantom: bool) -> None:
    """Write the list of subjects if it changed (the folder of an unchanged store may be read-only)."""
    record = {"made_by": "seewhy prepare domains", "version": VERSION, "phantom": phantom, "parts": parts}
    try:
        changed = read_json(path) != record
    except DataError:  # missing or damaged
        changed = True
    if changed:
        write_json(path, record)


def _find_all(folders: Mapping[str, Path], pattern: str | None) -> tuple[list[tuple[str, Subject]], list[str]]:
    """Find pairs (part of the store, subject) of all folders, and their problems."""
    wanted: list[tuple[str, Subject]] = []
    problems: list[str] = []
    for part, folder in folders.items():
        subjects, folder_problems = find_subjects(folder, patient_pattern=pattern)
        wanted += [(part, subject) for subject in subjects]
        problems += [f"{part}: {problem}" for problem in folder_problems]
    return wanted, problems


def _is_current(folder: Path, subject: Subject) -> bool:
    """Return whether a subject was prepared from its current files."""
    try:
        record = read_subject(folder, "").record
    except DataError:
        return False
    files = {name: str(path) for name, path in subject.files.items()}
    prepared = (record.get("sources"), record["files"], record["patient"])
    return prepared == (subject.fingerprint(), files, subject.patient)


def _list_problems(store: Path, part: str, subject: Subject) -> list[str]:
    """Prepare a subject, and return its problems."""
    try:
        prepare_subject(store / part / subject.id, subject)
    except DataError as error:
        return [f"{part}: {problem}" for problem in error.problems]
    return []


def prepare_subject(folder: Path, subject: Subject) -> None:
    """Prepare one subject.

    Args:
        folder: of this subject in a store.
        subject: the subject.

    Raises:
        DataError: all problems of its files.
    """
    measured = measure_subject(subject)
    if _is_current(folder, subject):
        return  # another process was faster
    if folder.exists():
        shutil.rmtree(folder)
    try:
        with atomic_folder(folder) as temporary:
            _write_subject(temporary, subject, measured)
    except OSError:
        # Another process (a second rank) may have prepared the same subject at this moment.
        if not _is_current(folder, subject):
            raise


def _write_subject(folder: Path, subject: Subject, measured: MeasuredSubject) -> None:
    """Write a measured subject into an empty folder."""
    geometry = measured.geometry
    write_npy(folder / "volume.npy", measured.volume)
    write_npy(folder / "body.npy", measured.body)
    write_npy(folder / "quantiles.npy", measured.quantiles)
    if measured.mask is not None:
        write_npy(folder / "mask.npy", measured.mask)
    display = display_of_plane(geometry, axis=AXIS) if geometry.oriented else Display()
    record = {
        "version": VERSION,
        "id": subject.id,
        "name": subject.name,
        "patient": subject.patient,
        "modalities": list(MODALITIES),
        "files": {name: str(path) for name, path in subject.files.items()},
        "segmentation": None if subject.segmentation is None else str(subject.segmentation),
        "shape": list(geometry.shape),
        "affine": geometry.affine.tolist(),
        "box": [list(ends) for ends in measured.box],
        "content": np.count_nonzero(measured.body, axis=(1, 2)).tolist(),
        "spacing": list(geometry.spacing),
        "codes": "".join(geometry.axis_codes) if geometry.oriented else None,
        "display": display.record(),
        "sources": subject.fingerprint(),
    }
    write_json(folder / RECORD, record)
