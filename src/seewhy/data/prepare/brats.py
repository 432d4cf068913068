"""Prepare BraTS and MSD brain-tumour volumes: cut them into slices; find and read the cases of an MSD task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from seewhy.data.prepare.brats_files import (
    MODALITIES,
    TUMOURS,
    find_brats,
    load_pair,
    make_case_id,
    resolve_modality,
    select_region_labels,
)
from seewhy.data.prepare.builder import Builder, Summary
from seewhy.data.prepare.source_case import SourceCase, find_clashes
from seewhy.data.slices.label_rule import LabelRule
from seewhy.errors import ConfigError, DataError
from seewhy.io.documents import read_json
from seewhy.io.nifti import NIFTI_SUFFIXES, NiftiFile
from seewhy.options import check_choice

__all__ = ["find_msd", "is_msd", "list_msd_images", "prepare_brats", "read_msd_channels"]


def prepare_brats(
    source: str | Path,
    destination: str | Path,
    *,
    modality: str = "flair",
    window: str = "minmax",
    dtype: str = "float32",
    label_rule: str = "any",
    min_area: int | None = None,
    min_fraction: float | None = None,
    tumour: str = "whole",
    every: int = 1,
    brain_only: bool = True,
    overwrite: bool = False,
    progress: bool = True,
) -> Summary:
    """Cut brain-tumour volumes into `imageSlice/BRATS_<id>_<slice>_<label>.npy`, masks, manifest and settings.

    Two layouts are supported. BraTS: NIfTI files `<case>_<modality>.nii.gz` with `_seg` (or `_autoseg`), one folder per
    case or not, 2012 to 2024 names. MSD Task01: `dataset.json`, `imagesTr/*.nii.gz` of four channels, `labelsTr/`.
    Slices are planes of the third axis, rows and columns its first two axes as stored, so that `stack_to_nifti` can put
    predictions back; dataset.json records how to turn pictures upright. Everything is checked before anything is
    written; the next call continues a killed one. Cases without a segmentation cannot be labelled; they are left
    out and listed in the summary.

    Args:
        source: the folder to read.
        destination: the data set's folder, created by this call.
        modality: `flair`, `t1`, `t1ce` (also t1gd, t1c) or `t2`.
        window: `minmax` per volume (AME-CAM, WeakMedSAM), `percentile` of the tissue, or `none`.
        dtype: `float32`, `float16`, `uint8` (WeakMedSAM), or `source` (with window `none`).
        label_rule: `any`, `area` or `fraction`; see `LabelRule`.
        min_area: lesion pixels, for `area`.
        min_fraction: share of a slice's pixels, for `fraction`; .01 (AME-CAM) by default.
        tumour: region that counts as lesion: `whole`, `core` (without oedema) or `enhancing`.
        every: keep slices 0, n, 2n … of the volume.
        brain_only: leave out slices in which less than 1 % of the pixels are brain.
        overwrite: replace a data set that was prepared with other settings.
        progress: show a bar on stderr.

    Returns:
        Counts of patients and slices.

    Raises:
        ConfigError: an unknown option.
        DataError: all problems of the source at once, or a destination that would be overwritten.

    Example:
        >>> from seewhy.data.prepare import prepare_brats
        >>> from seewhy.phantoms.scanners import write_scanner_phantom
        >>> root = write_scanner_phantom("scanners", subjects=(2, 1), shape=(24, 24, 24))
        >>> summary = prepare_brats(root / "a", "slices", modality="t1ce", progress=False)
        >>> summary.patients, sorted(path.name for path in summary.destination.glob("*.json"))
        (2, ['dataset.json'])
    """
    source = Path(source)
    modality = resolve_modality(modality)
    check_choice(tumour, TUMOURS, "tumour")
    builder = Builder(
        name="BraTS",
        prefix="BRATS_",
        modality=modality,
        window=window,
        dtype=dtype,
        rule=LabelRule(label_rule, min_area, min_fraction),
        every=every,
        tissue_only=brain_only,
        source=source,
        options={"tumour": tumour},
    )
    cases, left_out = _find_cases(source, modality=modality, tumour=tumour)
    return builder.build(cases, destination, left_out=left_out, overwrite=overwrite, progress=progress)


def _find_cases(source: Path, *, modality: str, tumour: str) -> tuple[list[SourceCase], dict[str, str]]:
    """Find the cases in either layout, and patient → reason for those left out."""
    if not source.is_dir():
        raise DataError(f"folder {source} does not exist; give the folder that contains the cases")
    find = find_msd if is_msd(source) else find_brats
    cases, left_out = find(source, modality=modality, tumour=tumour)
    if not cases and not left_out:
        raise DataError(
            f"no case found below {source}; expected <case>_<modality>.nii.gz with <case>_seg.nii.gz (modalities: "
            f"{', '.join(MODALITIES)}), or MSD's dataset.json, imagesTr/ and labelsTr/"
        )
    if not cases:
        raise DataError(
            f"none of the {len(left_out)} cases has a segmentation, which is needed to label slices; "
            "add <case>_seg.nii.gz (or labelsTr/)",
            where=str(source),
        )
    return cases, left_out


def is_msd(source: Path) -> bool:
    """Return whether a folder has the layout of an MSD task."""
    return (source / "imagesTr").is_dir()


def find_msd(source: Path, *, modality: str, tumour: str) -> tuple[list[SourceCase], dict[str, str]]:
    """Find the training cases of an MSD task; its dataset.json names channels and label values.

    Args:
        source: the task's folder, with dataset.json, imagesTr/ and labelsTr/.
        modality: `flair`, `t1`, `t1ce` or `t2`.
        tumour: `whole`, `core` or `enhancing`.

    Returns:
        Cases in the order of their names, and patient → reason for those that are left out.

    Raises:
        DataError: a dataset.json that does not name the channel or labels, or files that do not match it.
    """
    record = _read_description(source)
    channels = record["modality"]
    channel = _find_channel(channels, modality, where=source / "dataset.json")
    region = select_region_labels(record["labels"], tumour)
    values = select_region_labels(record["labels"], "whole") | {0}
    cases: list[SourceCase] = []
    left_out: dict[str, str] = {}
    problems: list[str] = []
    images = list_msd_images(source)
    problems += find_clashes((make_case_id(name), path) for name, path in images.items())
    for name, image in images.items():
        patient = make_case_id(name)
        labels = source / "labelsTr" / image.name
        if not labels.is_file():
            left_out[patient] = "no segmentation in labelsTr/, so its slices have no labels"
            continue
        problems += _check_channels(image, len(channels))
        load = partial(load_pair, image, labels, region=region, values=values, channel=channel)
        cases.append(SourceCase(patient, (image, labels), load))
    if problems:
        raise DataError(problems, where=f"{source} (nothing was written)")
    return cases, left_out


def read_msd_channels(source: Path, modalities: Sequence[str]) -> dict[str, int]:
    """Read the position of each modality among the channels from dataset.json.

    Raises:
        DataError: dataset.json is unreadable or does not name a modality.
    """
    channels = _read_description(source)["modality"]
    return {name: _find_channel(channels, name, where=source / "dataset.json") for name in modalities}


def list_msd_images(source: Path) -> dict[str, Path]:
    """List the volumes in imagesTr/, in the order of their names: name without ending → path."""
    paths = sorted((source / "imagesTr").iterdir())
    volumes = [path for path in paths if path.name.endswith(NIFTI_SUFFIXES) and not path.name.startswith(".")]
    return {path.name.removesuffix(".gz").removesuffix(".nii"): path for path in volumes}


class Description(TypedDict, total=False):
    """The entries of dataset.json that are read: names by number of the channel, and of the label or reversed."""

    modality: dict[Annotated[str, Field(pattern=r"^\d+$")], str]
    channel_names: dict[Annotated[str, Field(pattern=r"^\d+$")], str]
    labels: dict[str, str | int | list[int]]


def _read_description(source: Path) -> dict[str, Any]:
    """Read `modality` (nnU-Net: `channel_names`) and `labels` from dataset.json."""
    path = source / "dataset.json"
    if not path.exists():
        raise DataError(
            f"{path} does not exist, but is needed to assign channels to modalities; copy it from the MSD archive"
        )
    try:
        record = read_json(path, Description)
    except DataError as error:
        raise DataError(f"{error}; copy it from the MSD archive") from error
    modality, labels = record.get("modality", record.get("channel_names")), record.get("labels")
    if not modality or labels is None:
        raise DataError(f"{path} has no `modality` or no `labels`; copy it from the MSD archive")
    return {"modality": modality, "labels": labels}


def _find_channel(channels: dict[str, str], modality: str, *, where: Path) -> int:
    """Find the position of a modality among the channels."""
    for key, name in channels.items():
        try:
            if resolve_modality(str(name)) == modality:
                return int(key)
        except ConfigError:
            continue  # a channel of another modality
    raise DataError(f"{where} names the channels {list(channels.values())}; expected one of them to be {modality}")


def _check_channels(image: Path, expected: int) -> list[str]:
    try:
        channels = NiftiFile(image).channels
    except DataError as error:
        return [str(error)]
    return [] if channels == expected else [f"{image} has {channels} channels; dataset.json names {expected}"]
