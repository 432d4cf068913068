"""Parts of one volume that train, validate and test, far enough apart for no patch to see two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from seewhy.data.splits import PARTS
from seewhy.errors import ConfigError, DataError
from seewhy.options import check_choice, choice_problems, option_problems

__all__ = ["AXES", "PartBox", "check_gaps", "cut_volume", "part_boxes"]

AXES = ("z", "y", "x")
Ends = tuple[int, int, int, int, int, int]
"""First voxel and the one after the last along Z, Y and X: (z0, z1, y0, y1, x0, x1)."""


@dataclass(frozen=True)
class PartBox:
    """A box of a volume and the part of the split that it belongs to."""

    volume: str
    part: str
    ends: Ends

    def __str__(self) -> str:
        spans = ", ".join(f"{axis} {a}:{b}" for axis, a, b in zip(AXES, self.ends[::2], self.ends[1::2], strict=True))
        return f"{self.part} ({spans}) of {self.volume}"


def part_boxes(entries: Sequence[Mapping[str, Any]], shapes: Mapping[str, Sequence[int]]) -> list[PartBox]:
    """Boxes as `data.boxes` names them.

    Args:
        entries: each with `part`, `box` [z0, z1, y0, y1, x0, x1] and `volume`, which one volume alone does not need.
        shapes: volume → its extent along Z, Y and X.

    Raises:
        ConfigError: everything that is no box of a volume.
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
        elif not _inside(ends, shapes[volume]):
            problems.append(
                f"{where}.box={ends} must be [z0, z1, y0, y1, x0, x1] inside {list(shapes[volume])}, each end above "
                "its start"
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
        volume: its name.
        shape: its extent along Z, Y and X.
        axis: `z`, `y` or `x`.
        fractions: shares of train, val and test of what the gaps leave; a share of 0 is no part and needs no gap.
        gap: voxels between two parts along Z, Y and X.

    Raises:
        ConfigError: another axis, other than three shares, or no room for the parts.
    """
    check_choice(axis, AXES, "data.cut")
    place = AXES.index(axis)
    numbers = all(isinstance(share, int | float) for share in fractions)
    if not numbers or len(fractions) != len(PARTS) or min(fractions) < 0 or max(fractions) == 0:
        raise ConfigError(f"data.fractions={list(fractions)} must be three shares: of train, val and test")
    shares = {part: float(share) for part, share in zip(PARTS, fractions, strict=True) if share > 0}
    room = shape[place] - gap[place] * (len(shares) - 1)
    if room < len(shares):
        raise ConfigError(
            f"data.cut={axis}: {volume} has {shape[place]} voxels along it, gaps of {gap[place]} leave {max(room, 0)} "
            f"for {len(shares)} parts; cut along a longer axis or set a smaller data.gap"
        )
    boxes, start, total = [], 0, sum(shares.values())
    for number, (part, share) in enumerate(shares.items()):
        last = number == len(shares) - 1
        length = shape[place] - start if last else max(1, round(room * share / total))
        spans = [[0, size] for size in shape]
        spans[place] = [start, start + length]
        (z0, z1), (y0, y1), (x0, x1) = spans
        boxes.append(PartBox(volume, part, (z0, z1, y0, y1, x0, x1)))
        start += length + gap[place]
    return boxes


def check_gaps(boxes: Sequence[PartBox], gap: Sequence[int]) -> None:
    """Refuse boxes of different parts that lie closer than the gap along every axis.

    With a gap of a patch no window of that size touches two parts, wherever it is put: what validates or tests is
    then never in the field of view of what trained.

    Args:
        boxes: of all volumes.
        gap: voxels along Z, Y and X; far enough along one axis is far enough.

    Raises:
        DataError: every pair that is too close.
    """
    problems = []
    for one, other in combinations(boxes, 2):
        if one.volume != other.volume or one.part == other.part:
            continue
        apart = [
            max(one.ends[i] - other.ends[i + 1], other.ends[i] - one.ends[i + 1]) for i in range(0, len(one.ends), 2)
        ]
        if all(found < wanted for found, wanted in zip(apart, gap, strict=True)):
            # Where they overlap along an axis the distance is negative.
            told = ", ".join(
                f"{axis}: {found} voxels apart" if found >= 0 else f"{axis}: overlapping"
                for axis, found in zip(AXES, apart, strict=True)
            )
            problems.append(
                f"{one} and {other} are too close ({told}); leave {list(gap)} voxels along one of the axes, so that "
                "no patch sees both, or set data.gap"
            )
    if problems:
        raise DataError(problems, where="data.boxes")


def _inside(ends: Sequence[Any], shape: Sequence[int]) -> bool:
    return (
        len(ends) == 6
        and all(isinstance(end, int) for end in ends)
        and all(0 <= a < b <= size for a, b, size in zip(ends[::2], ends[1::2], shape, strict=True))
    )
