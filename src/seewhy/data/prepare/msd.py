"""Finding and reading the cases of the Medical Segmentation Decathlon's brain-tumour task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seewhy.data.prepare.brats_files import canonical_modality, case_id, load_pair, named_regions
from seewhy.data.prepare.source_case import SourceCase, clashes
from seewhy.errors import ConfigError, DataError
from seewhy.io.nifti import NIFTI_SUFFIXES, NiftiFile

__all__ = ["find_msd", "is_msd", "msd_channels", "msd_images"]


def is_msd(source: Path) -> bool:
    """Whether a folder is laid out like an MSD task."""
    return (source / "imagesTr").is_dir()


def find_msd(source: Path, *, modality: str, tumour: str) -> tuple[list[SourceCase], dict[str, str]]:
    """The training cases of an MSD task; channels and label values are told by its dataset.json.

    Args:
        source: the task's folder, with dataset.json, imagesTr/ and labelsTr/.
        modality: our name of it.
        tumour: `whole`, `core` or `enhancing`.

    Returns:
        Cases in the order of their names, and patient → reason for those that are left out.

    Raises:
        DataError: a dataset.json that does not say which channel or label is which, or misfit files.
    """
    record = _description(source)
    channels = record["modality"]
    channel = _channel(channels, modality, where=source / "dataset.json")
    region = named_regions(record["labels"], tumour)
    values = named_regions(record["labels"], "whole") | {0}
    cases: list[SourceCase] = []
    left_out: dict[str, str] = {}
    problems: list[str] = []
    images = msd_images(source)
    problems += clashes((case_id(_stem(path)), path) for path in images)
    for image in images:
        patient = case_id(_stem(image))
        labels = source / "labelsTr" / image.name
        if not labels.is_file():
            left_out[patient] = "no segmentation in labelsTr/, so its slices have no labels"
            continue
        problems += _channel_problems(image, len(channels))
        load = partial(load_pair, image, labels, region=region, values=values, channel=channel)
        cases.append(SourceCase(patient, (image, labels), load))
    if problems:
        raise DataError(problems, where=f"{source} (nothing was written)")
    return cases, left_out


def msd_channels(source: Path, modalities: Sequence[str]) -> dict[str, int]:
    """Position of each modality among the channels, as dataset.json says.

    Raises:
        DataError: no readable dataset.json, or one that lacks a modality.
    """
    channels = _description(source)["modality"]
    return {name: _channel(channels, name, where=source / "dataset.json") for name in modalities}


def msd_images(source: Path) -> list[Path]:
    """The volumes in imagesTr/, in the order of their names."""
    return [path for path in sorted((source / "imagesTr").iterdir()) if _is_volume(path)]


def _description(source: Path) -> dict[str, Any]:
    """The parts of dataset.json that we need: `modality` (nnU-Net: `channel_names`) and `labels`."""
    path = source / "dataset.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist; it says which channel is which modality: copy it from the MSD archive"
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}); copy it from the MSD archive") from error
    modality = record.get("modality", record.get("channel_names"))
    labels = record.get("labels")
    if not isinstance(modality, dict) or not isinstance(labels, dict):
        raise DataError(f"{path} lacks `modality` or `labels`; copy it from the MSD archive")
    return {"modality": modality, "labels": labels}


def _channel(channels: dict[str, str], modality: str, *, where: Path) -> int:
    """Position of a modality among the channels."""
    for key, name in channels.items():
        try:
            if canonical_modality(str(name)) == modality:
                return int(key)
        except ConfigError:
            continue  # a channel that is no BraTS modality
    raise DataError(f"{where} names the channels {list(channels.values())}; none of them is {modality}")


def _channel_problems(image: Path, expected: int) -> list[str]:
    try:
        found = NiftiFile(image).channels
    except DataError as error:
        return [str(error)]
    return [] if found == expected else [f"{image} has {found} channels; dataset.json names {expected}"]


def _is_volume(path: Path) -> bool:
    return path.name.endswith(NIFTI_SUFFIXES) and not path.name.startswith(".")


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
