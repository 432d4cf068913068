"""Compare orientation and voxel size of the cases of a data set, and find file properties that decide the class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from seewhy.io.geometry import SAME_SPACING, format_mm, spacing_difference

__all__ = [
    "find_other_spacings",
    "find_turned",
    "group_spacings",
    "report_mixtures",
    "report_shortcuts",
    "usual_spacing",
]

SHOWN = 5
"""Values of a property in a message."""
LEAST = 2
"""Cases that must have a value of a property, so that it counts."""
MOST = 0.8
"""Share of cases whose value other cases have too, so that the property can decide the class."""


def find_turned(codes: Mapping[str, str | None]) -> dict[str, str]:
    """Find cases that are stored in another orientation than most.

    Args:
        codes: case → directions of its axes, e.g. `RAS`; None if its file does not state them.

    Returns:
        Case → how it differs, and the remedy.

    Example:
        >>> find_turned({"a": "RAS", "b": "RAS", "c": "PIR"})["c"]
        'stored as PIR, most others as RAS; store all in one orientation, e.g. with nibabel.as_closest_canonical'
    """
    usual = Counter(code for code in codes.values() if code is not None).most_common(1)
    return {
        name: f"stored as {code}, most others as {usual[0][0]}; store all in one orientation, e.g. with "
        "nibabel.as_closest_canonical"
        for name, code in codes.items()
        if code is not None and code != usual[0][0]
    }


def usual_spacing(spacings: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Median voxel size along each axis, the lower of two middle values; there is one at least."""
    return tuple(np.percentile(np.asarray(spacings, np.float64), 50, axis=0, method="lower").tolist())


def find_other_spacings(
    spacings: Mapping[str, Sequence[float] | None], usual: Sequence[float] | None = None
) -> dict[str, str]:
    """Find cases whose voxel size differs by more than 10 % from the usual one.

    Args:
        spacings: case → mm along each axis; None or NaN if unknown.
        usual: what to compare with; None is the median of the cases.

    Returns:
        Case → its voxel size and the usual one.
    """
    known = {name: size for name, size in spacings.items() if size is not None and not np.isnan(size).any()}
    if not known:
        return {}
    wanted = usual_spacing(list(known.values())) if usual is None else usual
    return {
        name: f"voxels of {format_mm(size)}, usual are {format_mm(wanted)}"
        for name, size in known.items()
        if spacing_difference(size, wanted) > SAME_SPACING
    }


def group_spacings(spacings: Sequence[Sequence[float]]) -> list[str]:
    """Name the group of each voxel size; sizes within 10 % of the first of a group belong to it."""
    firsts: list[Sequence[float]] = []
    names = []
    for size in spacings:
        if np.isnan(size).any():
            names.append("unknown")
            continue
        same = next((one for one in firsts if spacing_difference(size, one) <= SAME_SPACING), None)
        firsts += [] if same is not None else [size]
        names.append(format_mm(size if same is None else same))
    return names


def report_mixtures(traits: Mapping[str, Sequence[str]], classes: Sequence[object]) -> list[str]:
    """Report properties of the files in which cases differ, with the number of cases of each class and value."""
    return [
        f"cases differ in their {trait}: {_format_counts(_count_classes(values, classes))}"
        for trait, values in traits.items()
        if len(set(values)) > 1
    ]


def report_shortcuts(traits: Mapping[str, Sequence[str]], classes: Sequence[object]) -> list[str]:
    """Report properties of the files that decide the class, so that a model need not look at the images.

    Values of a single case say nothing, as in data sets in which every scan has another size.

    Args:
        traits: property, e.g. `voxel size` → its value in each case.
        classes: class of each case.

    Returns:
        One message per property, with the number of cases of each class and value.

    Example:
        >>> report_shortcuts({"voxel size": ["1 mm", "1 mm", "5 mm", "5 mm"]}, ["ill", "ill", "well", "well"])
        ['the voxel size decides the class: 1 mm: 2 ill; 5 mm: 2 well']
    """
    messages = []
    for trait, values in traits.items():
        counts = _count_classes(values, classes)
        repeated = [own for own in counts.values() if own.total() >= LEAST]
        pure = all(len(own) == 1 for own in repeated) and len({name for own in repeated for name in own}) > 1
        if pure and sum(own.total() for own in repeated) >= MOST * len(classes):
            messages.append(f"the {trait} decides the class: {_format_counts(counts)}")
    return messages


def _count_classes(values: Sequence[str], classes: Sequence[object]) -> dict[str, Counter[object]]:
    """Count the cases of each value and class, frequent values first."""
    counts: defaultdict[str, Counter[object]] = defaultdict(Counter)
    for value, name in zip(values, classes, strict=True):
        counts[value][name] += 1
    return dict(sorted(counts.items(), key=lambda item: -item[1].total()))


def _format_counts(counts: Mapping[str, Mapping[object, int]]) -> str:
    """Format value → class → number of cases in one line."""
    listed = [
        f"{value}: {', '.join(f'{count} {name}' for name, count in own.items())}" for value, own in counts.items()
    ]
    return "; ".join(listed[:SHOWN]) + (f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")
