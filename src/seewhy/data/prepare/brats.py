"""Prepare brain-tumour volumes of BraTS, of an MSD task or of nnU-Net's raw layout: cut them into slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seewhy.data.prepare.brats_files import MODALITIES, FoundCases, find_brats, resolve_modalities
from seewhy.data.prepare.builder import Builder, Summary
from seewhy.data.prepare.label_schemes import AUTO, SCHEMES, TUMOURS
from seewhy.data.prepare.msd_files import find_msd, is_msd
from seewhy.data.slices.cutting import LabelRule
from seewhy.errors import ConfigError, DataError
from seewhy.options import check_choice

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
    label_scheme: str = AUTO,
    every: int = 1,
    brain_only: bool = True,
    overwrite: bool = False,
    progress: bool = True,
    jobs: int = 1,
) -> Summary:
    """Cut brain-tumour volumes into `imageSlice/BRATS_<id>_<slice>_<label>.npy`, masks, manifest and settings.

    Three layouts are supported. BraTS: NIfTI files `<case>_<modality>.nii.gz` with `_seg` (or `_autoseg`), one folder
    per case or not, 2012 to 2024 names. MSD Task01: `dataset.json`, `imagesTr/*.nii.gz` of four channels, `labelsTr/`.
    nnU-Net's raw layout: the same with one file per channel, `imagesTr/<case>_0000.nii.gz`.
    Slices are planes of the third axis, rows and columns its first two axes as stored, so that `stack_to_nifti` can put
    predictions back; dataset.json records how to turn pictures upright. Everything is checked before anything is
    written; the next call continues a killed one. Cases without a segmentation cannot be labelled; they are left
    out and listed in the summary.

    Args:
        source: the folder to read.
        destination: the data set's folder, created by this call.
        modality: `flair`, `t1`, `t1ce` (also t1gd, t1c) or `t2`; several, separated by commas, become the channels of
            slices [modalities, rows, columns], each in its own window.
        window: `minmax` per volume (AME-CAM, WeakMedSAM), `percentile` of the tissue, or `none`.
        dtype: `float32`, `float16`, `uint8` (WeakMedSAM), or `source` (with window `none`).
        label_rule: `any`, `area` or `fraction`; see `LabelRule`.
        min_area: lesion pixels, for `area`.
        min_fraction: share of a slice's pixels, for `fraction`; .01 (AME-CAM) by default.
        tumour: region that counts as lesion: `whole`, `core` (without oedema) or `enhancing`.
        label_scheme: meaning of the label values, `brats2012` (to 2021), `brats2023`, `brats2024` or `peds2024`; `auto`
            detects it and refuses values that fit several. MSD names its labels in dataset.json.
        every: keep slices 0, n, 2n … of the volume.
        brain_only: leave out slices in which less than 1 % of the pixels are brain.
        overwrite: replace a data set that was prepared with other settings.
        progress: show a bar on stderr.
        jobs: processes that check and write cases; the files are the same for any number.

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
    modalities = resolve_modalities(modality)
    check_choice(tumour, TUMOURS, "tumour")
    check_choice(label_scheme, (AUTO, *SCHEMES), "label_scheme")
    builder = Builder(
        name="BraTS",
        prefix="BRATS_",
        modalities=modalities,
        window=window,
        dtype=dtype,
        rule=LabelRule(label_rule, min_area, min_fraction),
        every=every,
        tissue_only=brain_only,
        source=source,
        options={"tumour": tumour, "solid": tumour != "enhancing"},  # an enhancing tumour is a ring around necrosis
    )
    found = _find_cases(source, modalities=modalities, tumour=tumour, label_scheme=label_scheme)
    builder.settings["labels"] = found.labels
    return builder.build(
        found.cases, destination, left_out=found.left_out, overwrite=overwrite, progress=progress, jobs=jobs
    )


def _find_cases(source: Path, *, modalities: Sequence[str], tumour: str, label_scheme: str) -> FoundCases:
    """Find the cases in either layout."""
    if not source.is_dir():
        raise DataError(f"folder {source} does not exist; give the folder that contains the cases")
    if is_msd(source):
        if label_scheme != AUTO:
            raise ConfigError(
                f"label_scheme={label_scheme!r}, but dataset.json names the labels of {source}; leave it out"
            )
        found = find_msd(source, modalities=modalities, tumour=tumour)
    else:
        found = find_brats(source, modalities=modalities, tumour=tumour, label_scheme=label_scheme)
    if not found.cases:
        unlabelled = [name for name, reason in found.left_out.items() if reason.startswith("no segmentation")]
        others = [f"{name}: {reason}" for name, reason in found.left_out.items() if name not in unlabelled]
        if unlabelled:
            text = f"none of the {len(unlabelled)} cases has a segmentation, which is needed to label slices; add "
            text += "<case>_seg.nii.gz (or labelsTr/)"
        else:
            text = "no case found; expected <case>_<modality>.nii.gz with <case>_seg.nii.gz (modalities: "
            text += f"{', '.join(MODALITIES)}), or MSD's or nnU-Net's dataset.json, imagesTr/ and labelsTr/"
        raise DataError([text, *others], where=str(source))
    return found
