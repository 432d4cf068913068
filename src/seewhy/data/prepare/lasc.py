"""Prepare left-atrium volumes and pictures: cut them into slices."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.data.listing import Listing, list_by_stem
from seewhy.data.prepare.builder import Builder, Summary
from seewhy.data.prepare.picture_masks import find_mask_level, measure_brightness
from seewhy.data.prepare.source_case import (
    SlicePlane,
    SourceCase,
    cut_planes,
    find_clashes,
    list_files_below,
    make_safe_id,
)
from seewhy.data.slices.cutting import LabelRule
from seewhy.errors import DataError
from seewhy.io.checks.labels import read_whole_labels
from seewhy.io.image import PICTURE_SUFFIXES, check_lossless, read_image
from seewhy.io.nrrd import read_nrrd

__all__ = ["prepare_lasc"]

IMAGE, MASK = "lgemri.nrrd", "laendo.nrrd"
PICTURE = re.compile(r"^(?P<patient>.+)_(?P<slice>\d+)$")


def prepare_lasc(
    source: str | Path,
    destination: str | Path,
    *,
    window: str = "minmax",
    dtype: str = "float32",
    label_rule: str = "any",
    min_area: int | None = None,
    min_fraction: float | None = None,
    every: int = 1,
    overwrite: bool = False,
    progress: bool = True,
    jobs: int = 1,
) -> Summary:
    """Cut left-atrium MRI into `imageSlice/<name>_<slice>_<label>.npy`, masks, manifest and settings.

    Two layouts are supported. LASC 2018: folders with `lgemri.nrrd` and `laendo.nrrd` (cavity 255), cut along the third
    axis. Pictures: `images/<patient>_<slice>.png` (or TIFF, JPEG) with `masks/` of the same names (PNG or TIFF), gray
    or coloured (the brightest of red, green and blue counts); which of their values are the atrium is decided for all
    masks together. Checks and restarts are those of `prepare_brats`.

    Args:
        source: the folder to read.
        destination: the data set's folder, created by this call.
        window: `minmax` over a patient's slices, `percentile`, or `none`.
        dtype: `float32`, `float16`, `uint8`, or `source` (with window `none`).
        label_rule: `any`, `area` or `fraction`; see `LabelRule`.
        min_area: atrium pixels, for `area`.
        min_fraction: share of a slice's pixels, for `fraction`.
        every: keep slices 0, n, 2n … of the volume (the reference's list is every second).
        overwrite: replace a data set that was prepared with other settings.
        progress: show a bar on stderr.
        jobs: processes that check and write cases; the files are the same for any number.

    Returns:
        Counts of patients and slices.

    Raises:
        ConfigError: an unknown option.
        DataError: all problems of the source at once, or a destination that would be overwritten.

    Example:
        >>> import numpy as np
        >>> from seewhy.data.prepare import prepare_lasc
        >>> from seewhy.io.image import write_image
        >>> picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
        >>> for index in range(2):
        ...     _ = write_image(f"source/images/P1_{index}.png", picture)
        ...     _ = write_image(f"source/masks/P1_{index}.png", picture > 60 if index else picture < 0)
        >>> summary = prepare_lasc("source", "slices", progress=False)
        >>> summary.slices, summary.positive
        (2, 1)
    """
    source = Path(source)
    builder = Builder(
        name="LASC",
        prefix="",
        modalities=["lge"],
        window=window,
        dtype=dtype,
        rule=LabelRule(label_rule, min_area, min_fraction),
        every=every,
        tissue_only=False,
        source=source,
        options={},
    )
    cases, left_out = _find_cases(source)
    return builder.build(cases, destination, left_out=left_out, overwrite=overwrite, progress=progress, jobs=jobs)


def _find_cases(source: Path) -> tuple[list[SourceCase], dict[str, str]]:
    """Find the cases in either layout, and name → reason for what is left out."""
    if not source.is_dir():
        raise DataError(f"folder {source} does not exist; give the folder that contains the cases")
    cases, left_out = _find_pictures(source) if (source / "images").is_dir() else _find_volumes(source)
    if not cases:
        raise DataError(
            [
                f"no case with a mask found below {source}; expected <case>/{IMAGE} with <case>/{MASK}, or "
                "images/<patient>_<slice>.png with masks/ of the same names",
                *(f"{name}: {reason}" for name, reason in left_out.items()),
            ]
        )
    return cases, left_out


def _find_volumes(source: Path) -> tuple[list[SourceCase], dict[str, str]]:
    """Find the cases of LASC 2018, and patient → reason for those left out."""
    folders: dict[Path, dict[str, Path]] = defaultdict(dict)
    for path in list_files_below(source):
        folders[path.parent][path.name.lower()] = path
    images = {folder: files[IMAGE] for folder, files in folders.items() if IMAGE in files}
    problems = find_clashes((make_safe_id(folder.name), folder) for folder in images)
    if problems:
        raise DataError(problems, where=f"{source} (nothing was written)")
    cases: list[SourceCase] = []
    left_out: dict[str, str] = {}
    for folder, files in folders.items():
        patient = make_safe_id(folder.name)
        other = next((name for name in files if name.startswith(Path(IMAGE).stem + ".") and name != IMAGE), None)
        if folder in images and MASK in files:
            pair = (images[folder], files[MASK])
            cases.append(SourceCase(patient, pair, partial(_load_volume, *pair)))
        elif folder in images:
            left_out[patient] = f"no {MASK}, so its slices have no labels"
        elif other is not None:
            left_out[patient] = f"{files[other].name} is not read; expected {IMAGE}"
    return cases, left_out


def _load_volume(image: Path, mask: Path) -> list[SlicePlane]:
    """Read one LASC 2018 case."""
    volume, geometry = read_nrrd(image)
    labels, grid = read_nrrd(mask)
    problems = []
    difference = geometry.difference(grid)
    if difference:
        problems.append(f"{mask.name} does not lie on {image.name}: {difference}; resample it first")
    if not np.isfinite(volume).all():
        problems.append(f"{image.name} contains NaN or infinite voxels; repair it or leave this case out")
    try:
        labels = read_whole_labels(labels, mask.name)
    except DataError as error:
        raise DataError([*problems, *error.problems]) from error
    values = np.unique(labels).tolist()
    if len([value for value in values if value != 0]) > 1:
        problems.append(f"{mask.name} contains the values {values[:6]}; expected 0 and one value for the cavity")
    if problems:
        raise DataError(problems)
    return cut_planes([volume], labels != 0, geometry=geometry, source=image)


def _find_pictures(source: Path) -> tuple[list[SourceCase], dict[str, str]]:
    """Find the patients of a folder of pictures, and name → reason for slices left out."""
    slices: dict[str, dict[int, tuple[Path, Path]]] = defaultdict(dict)
    left_out: dict[str, str] = {}
    problems: list[str] = []
    listed: dict[str, Listing] = {"images": Listing(), "masks": Listing()}
    for part in listed:
        try:
            listed[part] = _list_pictures(source / part)
            if part == "masks":
                problems += _find_lossy(listed[part].files.values())
        except DataError as error:
            problems += error.problems
    masks = listed["masks"].files
    for part, listing in listed.items():
        left_out |= {f"{part}/{name}": f"not read; expected {', '.join(PICTURE_SUFFIXES)}" for name in listing.left_out}
    lonely = sorted(masks.keys() - listed["images"].files.keys())
    left_out |= {f"masks/{masks[stem].name}": "no image of the same name" for stem in lonely}
    for path in listed["images"].files.values():
        match = PICTURE.match(path.stem)
        if match is None:
            problems.append(f"{path.name} is not named <patient>_<slice>{path.suffix}; rename it")
        elif path.stem not in masks:
            left_out[path.stem] = "no mask of the same name, so this slice has no label"
        elif int(match["slice"]) in slices[match["patient"]]:
            problems.append(f"{path.name}: slice {int(match['slice'])} of {match['patient']} occurs twice; keep one")
        else:
            slices[match["patient"]][int(match["slice"])] = (path, masks[path.stem])
    problems += find_clashes((make_safe_id(patient), source / "images" / patient) for patient in slices)
    level = 0.0
    try:
        level = find_mask_level(mask for pairs in slices.values() for _, mask in pairs.values())
    except DataError as error:
        problems += error.problems
    if problems:
        raise DataError(problems, where=f"{source} (nothing was written)")
    return [_make_picture_case(patient, pairs, level) for patient, pairs in slices.items() if pairs], left_out


def _make_picture_case(patient: str, pairs: dict[int, tuple[Path, Path]], level: float) -> SourceCase:
    ordered = {index: pairs[index] for index in sorted(pairs)}
    files = tuple(path for pair in ordered.values() for path in pair)
    return SourceCase(make_safe_id(patient), files, partial(_load_pictures, ordered, level))


def _load_pictures(pairs: dict[int, tuple[Path, Path]], level: float) -> list[SlicePlane]:
    """Read the slices of one patient; mask pixels above a level are the region."""
    planes: list[SlicePlane] = []
    problems: list[str] = []
    for index, (image, mask) in pairs.items():
        try:
            picture, region = _read_gray(image), measure_brightness(read_image(mask)) > level
        except DataError as error:
            problems += error.problems
            continue
        if picture.shape != region.shape:
            problems.append(f"{mask} has shape {region.shape}; its image has {picture.shape}")
        unknown = (float("nan"),) * 3
        planes.append(SlicePlane(index=index, image=picture, mask=region, source=image, spacing=unknown))
    if problems:
        raise DataError(problems)
    return planes


def _read_gray(path: Path) -> NDArray[Any]:
    """Read a picture as one channel; colour pictures are accepted if all their pixels are gray."""
    values = read_image(path)
    if values.ndim == 2:
        if not np.isfinite(values).all():
            raise DataError(f"{path} contains NaN or infinite pixels; repair it or leave it out")
        return values
    if (values[..., 0] == values[..., 1]).all() and (values[..., 0] == values[..., 2]).all():
        return np.ascontiguousarray(values[..., 0])
    raise DataError(f"{path} is a colour picture; expected gray values of an MRI slice (is it an overlay or mask?)")


def _list_pictures(folder: Path) -> Listing:
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist; expected pictures with the same names as in images/")
    return list_by_stem(folder, PICTURE_SUFFIXES)


def _find_lossy(masks: Iterable[Path]) -> list[str]:
    """Report masks whose format changes values."""
    problems: list[str] = []
    for mask in masks:
        try:
            check_lossless(mask)
        except DataError as error:
            problems += error.problems
    return problems
