"""List the files of a data folder by name; unknown files and two files of one name are problems."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seewhy.errors import DataError

__all__ = ["OTHER_VOLUMES", "Listing", "list_by_stem", "split_suffix", "summarize_names"]

OTHER_VOLUMES = (
    ".mgz", ".mgh", ".dcm", ".ima", ".hdr", ".img", ".h5", ".hdf5", ".mnc", ".npz",
)  # fmt: skip
"""Endings of volumes in formats that data folders of scans do not read."""

HEADERS = (".mhd", ".nhdr", ".MHD", ".NHDR")
VALUES = (".raw", ".zraw", ".gz", ".bz2")
"""Endings of the files of values next to such headers."""


@dataclass(frozen=True)
class Listing:
    """Files of a folder.

    Attributes:
        files: name without its ending → path, in the order of the names.
        left_out: names of files that are not read.
    """

    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def split_suffix(name: str, suffixes: Sequence[str]) -> tuple[str, str] | None:
    """Split a file name into stem and ending, whatever its capitals; None for other endings.

    Example:
        >>> split_suffix("C1.NII.GZ", (".nii.gz", ".nii"))
        ('C1', '.NII.GZ')
    """
    found = next((ending for ending in suffixes if name.lower().endswith(ending)), None)
    return None if found is None else (name[: -len(found)], name[-len(found) :])


def list_by_stem(folder: Path, suffixes: Sequence[str], *, accepts: Callable[[Path], bool] | None = None) -> Listing:
    """List the files of a folder that have one of some endings, also in capitals.

    Hidden files are not listed, but the `._` files of macOS are named as left out.

    Args:
        folder: if it does not exist, there are no files.
        suffixes: longer ones before those they end in, e.g. `.nii.gz` before `.nii`.
        accepts: whether a folder without such an ending is read too, under its whole name.

    Raises:
        DataError: all names that two files share, e.g. `c1.nii` and `c1.nii.gz`.
    """
    listing = Listing()
    problems = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        parts = split_suffix(path.name, suffixes)
        if path.suffix.lower() in VALUES and _has_header(path):
            continue
        if path.name.startswith("."):
            listing.left_out.extend([path.name] if path.name.startswith("._") else [])
            continue
        if parts is None and not (path.is_dir() and accepts is not None and accepts(path)):
            listing.left_out.append(path.name)
            continue
        stem = path.name if parts is None else parts[0]
        if stem in listing.files:
            problems.append(f"{listing.files[stem].name} and {path.name} have one name; keep one of them")
        listing.files[stem] = path
    if problems:
        raise DataError(problems, where=str(folder))
    return listing


def _has_header(path: Path) -> bool:
    """Whether a file of values has a header of the same name, which names it."""
    stem = path.with_suffix("") if path.suffix.lower() in (".gz", ".bz2") else path
    return any(stem.with_suffix(suffix).is_file() for suffix in HEADERS)


def summarize_names(names: Sequence[str], shown: int = 5) -> str:
    """Format the number of names and the first of them.

    Example:
        >>> summarize_names(["a.mha", "b.mha", "c.mha"], shown=2)
        '3 files (a.mha, b.mha …)'
    """
    count = "1 file" if len(names) == 1 else f"{len(names)} files"
    return f"{count} ({', '.join(names[:shown])}{' …' if len(names) > shown else ''})"
