"""What a run cannot start with: options and training slices that the data modules refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.progress import track

from seewhy.data.slices.files import SliceRecord
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.npy import npy_shape

__all__ = ["check_choices", "check_classes", "check_numbers", "check_predict_on", "check_readable", "check_trainable"]


def check_numbers(**numbers: int | None) -> None:
    """Refuse counts below 1.

    Raises:
        ConfigError: all of them.
    """
    wrong = [
        f"data.{key}={value} must be 1 or more" for key, value in numbers.items() if value is not None and value < 1
    ]
    if wrong:
        raise ConfigError("; ".join(wrong))


def check_choices(channels: int, num_classes: int, normalize: str, predict_on: str) -> None:
    """Refuse options of `SliceDataModule` that do not exist or do not fit together.

    Raises:
        ConfigError: all of them.
    """
    problems = []
    if channels not in (1, 3):
        problems.append(f"data.channels={channels} must be 1 or 3")
    if num_classes < 2:
        problems.append(f"data.num_classes={num_classes} must be 2 or more: it counts the background")
    if normalize == "imagenet" and channels != 3:
        problems.append("data.normalize=imagenet needs data.channels=3")
    if problems:
        raise ConfigError("; ".join(problems))
    check_predict_on(predict_on)


def check_predict_on(place: str) -> None:
    """Refuse a part of the data that does not exist.

    Raises:
        ConfigError: it is none of train, val, test and all.
    """
    places = ("train", "val", "test", "all")
    if place not in places:
        raise ConfigError(f"data.predict_on={place!r} is unknown; {nearest(place, places)}")


def check_readable(training: Sequence[SliceRecord], scored: Sequence[SliceRecord], where: Path) -> None:
    """Refuse damaged files of every part of the split before anything is trained; reads headers and lengths only.

    Args:
        training: slices whose masks, if any, are left alone.
        scored: slices of validation and test, whose masks are looked at too.
        where: the folder, for the message.

    Raises:
        DataError: every file that is empty, cut off, pickled or no array of numbers.
    """
    problems = []
    paths = [record.path for record in (*training, *scored)]
    paths += [record.mask for record in scored if record.mask is not None]
    # A bar only for data sets that take a while.
    quiet, console = len(paths) < 20_000, Console(stderr=True)
    for path in track(paths, "looking at files", transient=True, disable=quiet, console=console):
        try:
            npy_shape(path)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems, where=str(where))


def check_trainable(records: Sequence[SliceRecord], num_classes: int, where: Path) -> None:
    """Refuse training slices among which a class is always or never there.

    Args:
        records: the training slices.
        num_classes: number of classes with the background.
        where: the folder, for the message.

    Raises:
        DataError: every such class.
    """
    problems = []
    for label in range(1, num_classes):
        count = sum(record.label == label for record in records)
        if count in (0, len(records)):
            said = "none" if count == 0 else "all"
            problems.append(
                f"{said} of the {len(records)} training slices show class {label}, so nothing can be learned "
                "about it; add slices of the other kind or choose other training patients"
            )
    if problems:
        raise DataError(problems, where=str(where))


def check_classes(counts: Sequence[int], where: Path) -> None:
    """Refuse training cases that are all of one class, and warn of classes that none is of.

    Args:
        counts: number of training cases of each class.
        where: the table, for the message.

    Raises:
        DataError: fewer than two classes are there.
    """
    if sum(count > 0 for count in counts) < 2:
        raise DataError(
            f"the {sum(counts)} training cases are all of one class (cases per class: {list(counts)}), so nothing can "
            "be learned; add cases of another class or choose other training patients",
            where=str(where),
        )
    for label, count in enumerate(counts):
        if not count:
            rank_zero_warn(f"{where}: no training case is of class {label}; it will not be learned")
