"""Split volumes, or boxes of volumes, into train, val and test; no patch touches the boxes of two parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from seewhy.data.splits import PARTS, Split, choose_split, split_from_file
from seewhy.data.volumes.cases import Ends, VolumeCase
from seewhy.errors import ConfigError, DataError
from seewhy.options import check_choice, choice_problems, option_problems

__all__ = ["PartBox", "check_gaps", "cut_cases", "cut_volume", "parse_boxes", "parse_gap", "split_volumes"]

AXES = ("z", "y", "x")


@dataclass(frozen=True)
class PartBox:
    """A box of a volume and its part of the split."""

    volume: str
    part: str
    ends: Ends

    def __str__(self) -> str:
        spans = ", ".join(f"{axis} {a}:{b}" for axis, a, b in zip(AXES, self.ends[::2], self.ends[1::2], strict=True))
        return f"{self.part} ({spans}) of {self.volume}"


def parse_gap(gap: int | Sequence[int]) -> list[int]:
    """Parse `data.gap` into voxels along Z, Y and X.

    Raises:
        ConfigError: neither one nor three whole numbers, or a negative number.
    """
    gaps = [gap] * 3 if isinstance(gap, int) else list(gap) if isinstance(gap, Sequence) else []
    if len(gaps) != 3 or not all(isinstance(size, int) and size >= 0 for size in gaps):
        raise ConfigError(f"data.gap={gap!r} must be a number of voxels, or three of them along Z, Y and X")
    return gaps


def cut_cases(
    cases: Sequence[VolumeCase],
    *,
    boxes: Sequence[Mapping[str, Any]] | None,
    cut: str | None,
    fractions: Sequence[float],
    gap: Sequence[int],
) -> list[VolumeCase]:
    """Cut volumes into the boxes of `data.boxes` or `data.cut`, each a case with its part; else return the volumes.

    Raises:
        ConfigError: both options are set, or a box does not fit.
        DataError: boxes of different parts are closer than the gap.
    """
    if boxes is None and cut is None:
        return list(cases)
    if boxes is not None and cut is not None:
        raise ConfigError("data.boxes and data.cut both split volumes; set one of the two options")
    whole = {case.volume: case for case in cases}
    shapes = {name: case.shape for name, case in whole.items()}
    if boxes is not None:
        parts = parse_boxes(boxes, shapes)
    else:
        parts = [
            box
            for name, shape in shapes.items()
            for box in cut_volume(name, shape, axis=str(cut), fractions=fractions, gap=gap)
        ]
    check_gaps(parts, gap)
    return [
        replace(whole[box.volume], id=_make_box_id(whole[box.volume].id, box.ends), ends=box.ends, part=box.part)
        for box in parts
    ]


def split_volumes(cases: Sequence[VolumeCase], options: Mapping[str, Any], made: Mapping[str, Any]) -> Split:
    """Split by patients, or by the parts of boxes if there are boxes.

    Args:
        cases: all cases.
        options: options of `seewhy.data.splits.choose_split`.
        made: how boxes were made, for the record.

    Raises:
        ConfigError: boxes and another option for the split are set.
    """
    if not any(case.part for case in cases):
        return choose_split(list(dict.fromkeys(case.patient for case in cases)), **options)
    others = [key for key, value in options.items() if value is not None and key not in ("fractions", "seed")]
    if others == ["split_file"]:  # the same boxes again: names and hash are compared
        return split_from_file([case.id for case in cases], options["split_file"])
    if others:
        raise ConfigError(f"data.boxes or data.cut and data.{others[0]} both define the split; set one of them")
    parts = [tuple(case.id for case in cases if case.part == part) for part in ("train", "val", "test")]
    return Split(parts[0], parts[1], parts[2], dict(made))


def parse_boxes(entries: Sequence[Mapping[str, Any]], shapes: Mapping[str, Sequence[int]]) -> list[PartBox]:
    """Parse the boxes of `data.boxes`.

    Args:
        entries: each with `part`, `box` [z0, z1, y0, y1, x0, x1] and `volume`, which is optional for a single volume.
        shapes: volume → voxels along Z, Y and X.

    Raises:
        ConfigError: all invalid entries.

    Example:
        >>> from seewhy.data.volumes.boxes import parse_boxes
        >>> print(*parse_boxes([{"part": "train", "box": [0, 9, 0, 8, 0, 7]}], {"ct001": (16, 16, 16)}))
        train (z 0:9, y 0:8, x 0:7) of ct001
    """
    problems, boxes = [], []
    for number, entry in enumerate(entries):
        where = f"data.boxes[{number}]"
        volume = str(entry.get("volume", next(iter(shapes)) if len(shapes) == 1 else ""))
        part, ends = str(entry.get("part", "")), list(entry.get("box", ()))
        wrong = option_problems(entry, ("part", "box", "volume"), where)
        wrong = wrong or choice_problems(part, PARTS, f"{where}.part")
        wrong = wrong or choice_problems(volume, shapes, f"{where}.volume")
        if wrong:
            problems += wrong
        elif not _is_inside(ends, shapes[volume]):
            problems.append(
                f"{where}.box={ends} must be [z0, z1, y0, y1, x0, x1] inside {list(shapes[volume])}, and every "
                "end must exceed its start"
            )
        else:
            z0, z1, y0, y1, x0, x1 = ends
            boxes.append(PartBox(volume, part, (z0, z1, y0, y1, x0, x1)))
    if problems:
        raise ConfigError("; ".join(problems))
    return boxes


def cut_volume(
    volume: str, shape: Sequence[int], *, axis: str, fractions: Sequence[float], gap: Sequence[int]
) -> list[PartBox]:
    """Cut a volume along one axis: train, a gap, val, a gap, test.

    Args:
        volume: name of the volume.
        shape: voxels along Z, Y and X.
        axis: `z`, `y` or `x`.
        fractions: shares of train, val and test outside the gaps; a share of 0 omits the part and its gap.
        gap: voxels between two parts along Z, Y and X.

    Raises:
        ConfigError: an unknown axis, invalid shares, or not enough voxels for the parts.

    Example:
        >>> from seewhy.data.volumes.boxes import cut_volume
        >>> for box in cut_volume("v", (100, 40, 40), axis="z", fractions=(0.6, 0.15, 0.25), gap=(10, 10, 10)):
        ...     print(box)
        train (z 0:48, y 0:40, x 0:40) of v
        val (z 58:70, y 0:40, x 0:40) of v
        test (z 80:100, y 0:40, x 0:40) of v
    """
    check_choice(axis, AXES, "data.cut")
    index = AXES.index(axis)
    numbers = all(isinstance(share, int | float) for share in fractions)
    if not numbers or len(fractions) != len(PARTS) or min(fractions) < 0 or max(fractions) == 0:
        raise ConfigError(f"data.fractions={list(fractions)} must be three shares, of train, val and test")
    shares = {part: float(share) for part, share in zip(PARTS, fractions, strict=True) if share > 0}
    room = shape[index] - gap[index] * (len(shares) - 1)
    if room < len(shares):
        raise ConfigError(
            f"data.cut={axis}: {volume} has {shape[index]} voxels along this axis, and gaps of {gap[index]} leave "
            f"{max(room, 0)} for {len(shares)} parts; cut along a longer axis or set a smaller data.gap"
        )
    boxes, start, total = [], 0, sum(shares.values())
    for number, (part, share) in enumerate(shares.items()):
        last = number == len(shares) - 1
        length = shape[index] - start if last else max(1, round(room * share / total))
        spans = [[0, size] for size in shape]
        spans[index] = [start, start + length]
        (z0, z1), (y0, y1), (x0, x1) = spans
        boxes.append(PartBox(volume, part, (z0, z1, y0, y1, x0, x1)))
        start += length + gap[index]
    return boxes


def check_gaps(boxes: Sequence[PartBox], gap: Sequence[int]) -> None:
    """Check that boxes of different parts are separated by the gap along one axis at least.

    If the gap is the patch size, no patch touches two parts: voxels of validation and test are never in the field of
    view of training.

    Args:
        boxes: boxes of all volumes.
        gap: voxels along Z, Y and X.

    Raises:
        DataError: all pairs that are too close.
    """
    problems = []
    for first, other in combinations(boxes, 2):
        if first.volume != other.volume or first.part == other.part:
            continue
        distances = [
            max(first.ends[i] - other.ends[i + 1], other.ends[i] - first.ends[i + 1])
            for i in range(0, len(first.ends), 2)
        ]
        if all(distance < least for distance, least in zip(distances, gap, strict=True)):
            # The distance is negative if they overlap along an axis.
            listed = ", ".join(
                f"{axis}: {distance} voxels apart" if distance >= 0 else f"{axis}: overlapping"
                for axis, distance in zip(AXES, distances, strict=True)
            )
            problems.append(
                f"{first} and {other} are too close ({listed}); leave {list(gap)} voxels along one of the axes, so "
                "that no patch touches both, or set data.gap"
            )
    if problems:
        raise DataError(problems, where="data.boxes")


def _is_inside(ends: Sequence[Any], shape: Sequence[int]) -> bool:
    return (
        len(ends) == 6
        and all(isinstance(end, int) for end in ends)
        and all(0 <= a < b <= size for a, b, size in zip(ends[::2], ends[1::2], shape, strict=True))
    )


def _make_box_id(volume: str, ends: Ends) -> str:
    spans = zip(AXES, ends[::2], ends[1::2], strict=True)
    return "_".join([volume, *(f"{axis}{a}-{b}" for axis, a, b in spans)])
