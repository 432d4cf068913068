"""Label schemes of the BraTS releases: which value is which tissue, and which scheme a data set follows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seewhy.errors import DataError
from seewhy.io.checks.labels import read_whole_labels
from seewhy.io.scans.scan import open_scan

__all__ = ["AUTO", "SCHEMES", "TUMOURS", "LabelScheme", "detect_scheme", "find_family"]

AUTO = "auto"
TUMOURS = ("whole", "core", "enhancing")
OEDEMA, ENHANCING, CAVITY = "oedema", "enhancing", "resection cavity (no tumour)"


@dataclass(frozen=True)
class LabelScheme:
    """Meaning of the label values of a release.

    Attributes:
        name: as in the option `label_scheme`.
        tissues: value → tissue.
    """

    name: str
    tissues: Mapping[int, str]

    @property
    def values(self) -> set[int]:
        """Values that may occur, with the background."""
        return {0, *self.tissues}

    def select_region(self, tumour: str) -> set[int]:
        """Select the values of a region: `whole`, `core` (without oedema) or `enhancing`.

        Example:
            >>> from seewhy.data.prepare.label_schemes import SCHEMES
            >>> SCHEMES["brats2012"].select_region("core"), SCHEMES["brats2024"].select_region("core")
            ({1, 3, 4}, {1, 3})
        """
        excluded = {"whole": {CAVITY}, "core": {CAVITY, OEDEMA}}
        if tumour == "enhancing":
            return {value for value, tissue in self.tissues.items() if tissue == ENHANCING}
        return {value for value, tissue in self.tissues.items() if tissue not in excluded[tumour]}

    def describe(self, tumour: str) -> str:
        """Describe the scheme and the region in one line."""
        tissues = ", ".join(f"{value} {tissue}" for value, tissue in self.tissues.items())
        return f"{self.name} ({tissues}); {tumour} = {', '.join(map(str, sorted(self.select_region(tumour))))}"


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        LabelScheme("brats2012", {1: "necrosis", 2: OEDEMA, 3: "non-enhancing", 4: ENHANCING}),
        LabelScheme("brats2023", {1: "necrosis or non-enhancing", 2: OEDEMA, 3: ENHANCING}),
        LabelScheme("brats2024", {1: "non-enhancing", 2: OEDEMA, 3: ENHANCING, 4: CAVITY}),
        LabelScheme("peds2024", {1: ENHANCING, 2: "non-enhancing", 3: "cyst", 4: OEDEMA}),
    )
}
"""Schemes by name: releases 2012 to 2021 (3 until 2015 only); 2023 (and older ones with 4 changed to 3); 2024 after
treatment; children 2024."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "old": ("brats2012", "brats2023"),
    "treated": ("brats2024", "brats2012"),
    "children": ("peds2024", "brats2023"),
    "untreated": ("brats2023",),
    "new": ("brats2023", "brats2024", "peds2024", "brats2012"),
}
"""Kind of case by its file names → the schemes that it may follow, the usual one first."""
RELEASES = {"GLI": "treated", "MET": "treated", "PED": "children", "MEN": "untreated", "SSA": "untreated"}


def find_family(case: str, files: Sequence[str]) -> str:
    """Find the kind of a case by its name and the names of its files.

    Args:
        case: e.g. `BraTS-GLI-00005-100`.
        files: e.g. `BraTS-GLI-00005-100-t2f.nii.gz`; releases from 2023 on name modalities t1n, t1c, t2w and t2f.
    """
    stems = [name.lower().split(".")[0] for name in files]
    if not any(stem.endswith(("t2f", "t1c", "t1n", "t2w")) for stem in stems):
        return "old"
    release = re.search(r"brats[-_]([a-z]{3})", case, re.IGNORECASE)
    return RELEASES.get(release[1].upper(), "new") if release else "new"


def detect_scheme(family: str, segmentations: Mapping[str, Path], tumour: str) -> LabelScheme:
    """Detect the scheme of a family's cases from the values of all its segmentations.

    Args:
        family: key of `FAMILIES`.
        segmentations: case → file; unreadable ones are skipped, because reading the case reports them.
        tumour: region that must be clear.

    Raises:
        DataError: values that fit several schemes in which the region differs, or none.
    """
    seen: set[int] = set()
    schemes = [SCHEMES[name] for name in FAMILIES[family]]
    for case, path in segmentations.items():
        try:
            seen |= set(np.unique(read_whole_labels(open_scan(path).read(), path)).tolist())
        except DataError:
            continue
        fitting = [scheme for scheme in schemes if _fits(scheme, family, seen, case)]
        if len(fitting) == 1:
            return fitting[0]
        schemes = fitting or schemes
    if len({frozenset(scheme.select_region(tumour) & seen) for scheme in schemes}) > 1:
        listed = "; ".join(scheme.describe(tumour) for scheme in schemes)
        raise DataError(
            f"the {len(segmentations)} segmentation(s), e.g. of {next(iter(segmentations))}, hold the values "
            f"{sorted(seen)}, which fit several releases: {listed}; choose one with label_scheme (--label-scheme)"
        )
    return schemes[0]


def _fits(scheme: LabelScheme, family: str, seen: set[int], case: str) -> bool:
    """Whether a scheme explains the values that were seen."""
    if not seen <= scheme.values:
        return False
    if scheme.name == "brats2012" and 3 in seen and 4 not in seen:
        # Label 3 was used until 2015, and never together with the new file names.
        year = re.search(r"brats(?:20)?(1[7-9]|2[01])[-_]", case, re.IGNORECASE)
        return family == "old" and year is None
    return not (scheme.name == "brats2012" and family != "old" and 3 in seen)
