"""BraTS and MSD brain-tumour volumes cut into slices."""

from __future__ import annotations

from pathlib import Path

from seewhy.data.prepare.brats_files import MODALITIES, TUMOURS, canonical_modality, find_brats
from seewhy.data.prepare.builder import Builder, Summary
from seewhy.data.prepare.msd import find_msd, is_msd
from seewhy.data.prepare.source_case import SourceCase
from seewhy.data.slices.label_rule import LabelRule
from seewhy.errors import ConfigError, DataError, nearest

__all__ = ["prepare_brats"]


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

    Two layouts are read. BraTS: NIfTI files `<case>_<modality>.nii.gz` with `_seg` (or `_autoseg`), one folder per
    case or not, 2012 to 2024 names. MSD Task01: `dataset.json`, `imagesTr/*.nii.gz` of four channels, `labelsTr/`.
    Slices are planes of the third axis, rows and columns its first two axes as stored, so that `stack_to_nifti` puts
    predictions back; how pictures are turned upright is kept in dataset.json. Everything is checked before anything is
    written; a killed call is continued by the next. Cases without a segmentation cannot be labelled; they are left
    out, and the summary says so.

    Args:
        source: the folder to read.
        destination: the data set's folder, made here.
        modality: `flair`, `t1`, `t1ce` (also t1gd, t1c) or `t2`.
        window: `minmax` per volume (AME-CAM, WeakMedSAM), `percentile` of the tissue, or `none`.
        dtype: `float32`, `float16`, `uint8` (WeakMedSAM), or `source` (with window `none`).
        label_rule: `any`, `area` or `fraction`; see `LabelRule`.
        min_area: lesion pixels, for `area`.
        min_fraction: share of a slice's pixels, for `fraction`; AME-CAM's .01 when not given.
        tumour: the region that counts as lesion: `whole`, `core` (without oedema) or `enhancing`.
        every: keep slices 0, n, 2n … of the volume.
        brain_only: leave out slices in which less than 1 % of the pixels are brain.
        overwrite: replace a data set that was prepared with other settings.
        progress: show a bar on stderr.

    Returns:
        Counts of what was written.

    Raises:
        ConfigError: an option that does not exist.
        DataError: all problems of the source at once, or a destination that would be overwritten.
    """
    source = Path(source)
    modality = canonical_modality(modality)
    if tumour not in TUMOURS:
        raise ConfigError(f"tumour={tumour!r} is unknown; {nearest(tumour, TUMOURS)}")
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
    cases, left_out = _find(source, modality=modality, tumour=tumour)
    return builder.build(cases, destination, left_out=left_out, overwrite=overwrite, progress=progress)


def _find(source: Path, *, modality: str, tumour: str) -> tuple[list[SourceCase], dict[str, str]]:
    """Cases in whichever layout, and patient → reason for those left out."""
    if not source.is_dir():
        raise DataError(f"{source} is no folder; give the folder that holds the cases")
    find = find_msd if is_msd(source) else find_brats
    cases, left_out = find(source, modality=modality, tumour=tumour)
    if not cases and not left_out:
        raise DataError(
            f"no case found below {source}; expected <case>_<modality>.nii.gz with <case>_seg.nii.gz (modalities: "
            f"{', '.join(MODALITIES)}), or MSD's dataset.json, imagesTr/ and labelsTr/"
        )
    if not cases:
        raise DataError(
            f"none of the {len(left_out)} cases has a segmentation, from which slices get their labels; "
            "add <case>_seg.nii.gz (or labelsTr/)",
            where=str(source),
        )
    return cases, left_out
