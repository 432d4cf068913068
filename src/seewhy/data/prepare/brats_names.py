"""What BraTS and MSD call modalities and tumour regions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from seewhy.errors import ConfigError, DataError, nearest

__all__ = [
    "AUTOMATIC",
    "MODALITIES",
    "SEGMENTATIONS",
    "TUMOURS",
    "FileName",
    "canonical_modality",
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
