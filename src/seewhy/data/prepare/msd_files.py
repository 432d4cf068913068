"""Find the cases of an MSD task or of nnU-Net's raw layout, whose dataset.json names channels and labels."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from seewhy.data.listing import Listing, list_by_stem
from seewhy.data.prepare.brats_files import (
    FoundCases,
    load_case,
    make_case_id,
    resolve_modality,
    select_region_labels,
)
from seewhy.data.prepare.source_case import SourceCase, find_clashes
from seewhy.errors import ConfigError, DataError
from seewhy.io.documents import read_json
from seewhy.io.scans.scan import SCAN_SUFFIXES, open_scan

__all__ = ["MSDTask", "find_msd", "is_msd"]


def is_msd(source: Path) -> bool:
    """Return whether a folder has the layout of an MSD task."""
    return (source / "imagesTr").is_dir()


class MSDTask:
    """An MSD task (`imagesTr/<case>.nii.gz` with all channels) or nnU-Net's raw layout (`<case>_0000.nii.gz` …).

    Args:
        source: the folder, with dataset.json, imagesTr/ and labelsTr/.

    Attributes:
        source: the folder.
        channels: name of each channel, in order.
        regions: label names and values of dataset.json.

    Raises:
        DataError: an unreadable dataset.json, or several files of one case and channel.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        record = _read_description(source)
        self.channels: dict[int, str] = record["channels"]
        self.regions: dict[str, Any] = record["labels"]

    @cached_property
    def _images(self) -> Listing:
        return list_by_stem(self.source / "imagesTr", SCAN_SUFFIXES)

    @property
    def left_out(self) -> list[str]:
        """Names of files in imagesTr/ that are not read."""
        return self._images.left_out

    @cached_property
    def images(self) -> dict[str, dict[int | None, Path]]:
        """Case → channel → file; the channel None stands for a file with all channels."""
        files = self._images.files
        numbered = {stem: re.fullmatch(r"(.+)_(\d{4})", stem) for stem in files}
        if not all(match and int(match[2]) in self.channels for match in numbered.values()):
            return {stem: {None: path} for stem, path in files.items()}
        cases: defaultdict[str, dict[int | None, Path]] = defaultdict(dict)
        for stem, match in numbered.items():
            if match is not None:
                cases[match[1]][int(match[2])] = files[stem]
        return dict(cases)

    @cached_property
    def labels(self) -> dict[str, Path]:
        """Case → segmentation."""
        return list_by_stem(self.source / "labelsTr", SCAN_SUFFIXES).files

    def find_image(self, case: str, modality: str) -> tuple[Path, int | None] | None:
        """Find file and channel of a modality; the channel is None for a file of one channel, and no file is None.

        Raises:
            DataError: dataset.json does not name the modality.
        """
        channel = self.find_channel(modality)
        files = self.images[case]
        if None in files:
            return files[None], channel
        return (files[channel], None) if channel in files else None

    def find_channel(self, modality: str) -> int:
        """Find the position of a modality among the channels.

        Raises:
            DataError: dataset.json does not name the modality.
        """
        for number, name in self.channels.items():
            try:
                if resolve_modality(name) == modality:
                    return number
            except ConfigError:
                continue  # a channel of another modality
        names = list(self.channels.values())
        raise DataError(
            f"{self.source / 'dataset.json'} names the channels {names}; expected one of them to be {modality}"
        )


def find_msd(source: Path, *, modalities: Sequence[str], tumour: str) -> FoundCases:
    """Find the training cases; dataset.json names channels and label values.

    Args:
        source: the task's folder, with dataset.json, imagesTr/ and labelsTr/.
        modalities: of `flair`, `t1`, `t1ce` and `t2`, in the order of the channels.
        tumour: `whole`, `core` or `enhancing`.

    Raises:
        DataError: a dataset.json that does not name the channel or labels, or files that do not match it.
    """
    task = MSDTask(source)
    for modality in modalities:
        task.find_channel(modality)
    region = select_region_labels(task.regions, tumour)
    values = {value for key, item in task.regions.items() for value in _label_values(key, item)} | {0}
    cases: list[SourceCase] = []
    left_out = dict.fromkeys(task.left_out, f"not read; expected {', '.join(SCAN_SUFFIXES)}")
    problems = find_clashes((make_case_id(name), next(iter(files.values()))) for name, files in task.images.items())
    for name in task.images:
        patient, labels = make_case_id(name), task.labels.get(name)
        images = {modality: task.find_image(name, modality) for modality in modalities}
        missing = [modality for modality, image in images.items() if image is None]
        if labels is None:
            left_out[patient] = f"no segmentation {name}.nii.gz in labelsTr/, so its slices have no labels"
        elif missing:
            problems += [
                f"imagesTr/ has no {name}_{task.find_channel(modality):04d}.nii.gz ({modality})" for modality in missing
            ]
        else:
            sources = [image for image in images.values() if image is not None]
            for path, channel in dict.fromkeys((path, channel is None) for path, channel in sources):
                problems += _check_channels(path, 1 if channel else len(task.channels))
            load = partial(load_case, sources, labels, region=region, values=values)
            files = tuple(dict.fromkeys(path for path, _ in sources))
            cases.append(SourceCase(patient, (*files, labels), load))
    if problems:
        raise DataError(problems, where=f"{source} (nothing was written)")
    chosen = ", ".join(map(str, sorted(region)))
    return FoundCases(cases, left_out, f"dataset.json {task.regions}; {tumour} = {chosen}")


def _label_values(key: str, item: Any) -> list[int]:
    """Values of an entry of `labels`: value → name, or name → value or values."""
    numbers = [key] if str(key).lstrip("-").isdigit() else item if isinstance(item, list) else [item]
    return [int(number) for number in numbers]


class Description(TypedDict, total=False):
    """The entries of dataset.json that are read: names by number of the channel, and of the label or reversed."""

    modality: dict[Annotated[str, Field(pattern=r"^\d+$")], str]
    channel_names: dict[Annotated[str, Field(pattern=r"^\d+$")], str]
    labels: dict[str, str | int | list[int]]


def _read_description(source: Path) -> dict[str, Any]:
    """Read the channels (`modality`, nnU-Net: `channel_names`) and `labels` from dataset.json."""
    path = source / "dataset.json"
    if not path.exists():
        raise DataError(
            f"{path} does not exist, but is needed to assign channels to modalities; copy it from the MSD archive"
        )
    try:
        record = read_json(path, Description)
    except DataError as error:
        raise DataError(f"{error}; copy it from the MSD archive") from error
    channels, labels = record.get("modality", record.get("channel_names")), record.get("labels")
    if not channels or labels is None:
        raise DataError(
            f"{path} has no `modality` or `channel_names` by number, or no `labels`; copy it from the MSD archive"
        )
    return {"channels": {int(key): str(name) for key, name in channels.items()}, "labels": labels}


def _check_channels(image: Path, expected: int) -> list[str]:
    try:
        channels = open_scan(image).channels
    except DataError as error:
        return [str(error)]
    return [] if channels == expected else [f"{image} has {channels} channels; dataset.json names {expected}"]
