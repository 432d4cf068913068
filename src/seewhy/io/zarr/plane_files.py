"""List the files of a folder that holds one plane of a volume per file."""

from __future__ import annotations

import itertools
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from seewhy.errors import DataError
from seewhy.io.slices import natural_key

__all__ = ["list_planes"]


def list_planes(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """List the planes of a folder in natural order: slice2 before slice10.

    Files that macOS or others hide (`._slice1.tif`) are left out with a warning.

    Args:
        folder: the folder.
        suffixes: of the planes, in lower case; capitals count as the same.

    Raises:
        DataError: planes of one name, missing numbers, or pictures of other formats; all of them.
    """
    present = [file for file in folder.iterdir() if file.is_file()]
    hidden = sorted(file.name for file in present if file.name.startswith("."))
    if hidden:
        warnings.warn(f"{folder}: left out {_shorten(hidden)}, which are hidden files, not planes", stacklevel=2)
    planes = [file for file in present if file.suffix.lower() in suffixes and file.name not in hidden]
    planes.sort(key=lambda file: natural_key(file.name.lower()))
    problems = _find_twins(planes) or _find_gaps(planes)
    foreign = sorted(file.name for file in present if file not in planes and file.name not in hidden)
    pictures = [name for name in foreign if Path(name).suffix.lower() in PICTURES]
    if pictures:
        problems.append(f"{_shorten(pictures)} between the planes; expected {' or '.join(suffixes)} only")
    if not planes:
        problems.append(f"no {' or '.join(suffixes)} files")
    if problems:
        raise DataError(problems, where=str(folder))
    return planes


PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".dcm", ".tif", ".tiff", ".jp2", ".webp", ".pgm")
"""Suffixes of files that could be planes as well; text files with settings may lie next to the planes."""


def _find_twins(planes: Sequence[Path]) -> list[str]:
    """Planes whose names differ only in their suffix or in capitals."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file in planes:
        groups[file.stem.lower()].append(file.name)
    return [f"{' and '.join(names)} are one plane twice; remove one" for names in groups.values() if len(names) > 1]


def _find_gaps(planes: Sequence[Path]) -> list[str]:
    """Missing or doubled numbers, if the names differ in one number only; any constant step is complete."""
    parts = [re.split(r"(\d+)", file.stem.lower()) for file in planes]
    if len(planes) < 2 or len({len(part) for part in parts}) > 1:
        return []
    varying = [place for place, values in enumerate(zip(*parts, strict=True)) if len(set(values)) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return []
    numbers = [int(part[varying[0]]) for part in parts]
    step, place = min((after - before, place) for place, (before, after) in enumerate(itertools.pairwise(numbers)))
    if step == 0:
        return [f"{planes[place].name} and {planes[place + 1].name} have one number; remove one"]
    missing = [str(number) for number in range(numbers[0], numbers[-1], step) if number not in set(numbers)]
    if not missing:
        return []
    return [
        f"planes {_shorten(missing)} are missing between {planes[0].name} and {planes[-1].name}; add them, or number "
        "the planes without gaps if none is missing"
    ]


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
