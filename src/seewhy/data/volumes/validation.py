"""What a training on volumes cannot start with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from seewhy.data.volumes.cases import VolumeCase
from seewhy.data.volumes.survey import Survey
from seewhy.errors import ConfigError, DataError

__all__ = ["check_gap", "check_patches", "check_sizes", "check_surveys"]

HIGHEST = 255
"""Masks of batches are uint8."""


def check_patches(patch: Sequence[int], foreground: float, classes: Sequence[str], ignore: int | None) -> None:
    """Refuse options of `VolumesDataModule` that do not fit together.

    Raises:
        ConfigError: all of them.
    """
    problems = []
    if len(patch) != 3 or min(patch) < 1:
        problems.append(f"data.patch={list(patch)} must be three numbers of voxels along Z, Y and X")
    if not 0 <= foreground <= 1:
        problems.append(f"data.foreground={foreground} is a share and must lie in 0..1")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        problems.append(f"data.classes={list(classes)} must name the background and one class at least, each once")
    if ignore is not None and not len(classes) <= ignore <= HIGHEST:
        problems.append(f"data.ignore_label={ignore} must lie above the {len(classes)} classes and below 256")
    if problems:
        raise ConfigError("; ".join(problems))


def check_gap(gap: int | Sequence[int]) -> list[int]:
    """`data.gap` along Z, Y and X.

    Raises:
        ConfigError: neither one whole number nor three, or one below 0.
    """
    gaps = [gap] * 3 if isinstance(gap, int) else list(gap) if isinstance(gap, Sequence) else []
    if len(gaps) != 3 or not all(isinstance(size, int) and size >= 0 for size in gaps):
        raise ConfigError(f"data.gap={gap!r} must be a number of voxels, or three of them along Z, Y and X")
    return gaps


def check_sizes(cases: Sequence[VolumeCase], *, classes: int, gib: float, where: Path) -> None:
    """Refuse cases of validation and test that do not fit into memory.

    Raises:
        DataError: all of them.
    """
    problems = []
    for case in cases:
        # Image and logits in float32, the window's copies of one, and a few masks.
        needed = math.prod(case.shape) * 4 * (2 * case.channels + 2 * classes + 2) / 2**30
        if needed > gib:
            problems.append(
                f"{case.id} of {list(case.shape)} voxels takes about {needed:.1f} GiB to evaluate; allow more by "
                "data.evaluation_gib, or name boxes of it in data.boxes"
            )
    if problems:
        raise DataError(problems, where=str(where))


def check_surveys(
    surveys: Mapping[str, Survey],
    *,
    classes: Sequence[str],
    ignore: int | None,
    train: Sequence[str],
    labelled: bool,
    where: Path,
) -> None:
    """Refuse volumes that cannot be read, hold values that are no numbers, or labels that are no class.

    Args:
        surveys: case → what was found in it.
        classes: names of the labels.
        ignore: the label to ignore.
        train: the cases to train with; empty where nothing is trained.
        labelled: whether labels are needed.
        where: the data set, for the message.

    Raises:
        DataError: all problems of all cases.
    """
    problems = []
    for name, survey in surveys.items():
        problems += [f"{name}: {problem}" for problem in survey.problems]
        unknown = [label for label in sorted(survey.counts) if not 0 <= label < len(classes) and label != ignore]
        if unknown:
            told = ", ".join(f"{label} ({survey.counts[label]} voxels)" for label in unknown[:5])
            problems.append(
                f"{name}: labels {told} are no class; data.classes names {len(classes)} (0 to {len(classes) - 1}). "
                "Name them there, or one of them as data.ignore_label"
            )
        if labelled and not survey.counts and not survey.problems:
            problems.append(f"{name}: no labels; set data.labels to the folder that holds them")
    found = {
        label: sum(surveys[name].counts.get(label, 0) for name in train) for label in range(1, len(classes))
    }  # fmt: skip
    if train and not problems and not any(found.values()):
        problems.append(
            f"none of the {len(train)} training cases has a voxel of {', '.join(classes[1:])}, so nothing can be "
            "learned; choose other training patients or boxes"
        )
    if problems:
        raise DataError(problems, where=str(where))
    for label, count in found.items():
        if train and not count:
            rank_zero_warn(f"{where}: no training voxel is of class {classes[label]}; it will not be learned")
