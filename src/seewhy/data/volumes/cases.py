"""Find volumes and their labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from seewhy.data.listing import Listing, list_by_stem, summarize_names
from seewhy.errors import ConfigError, DataError, SeewhyError
from seewhy.io.names import find_name_clashes, safe_name
from seewhy.io.scans.scan import SCAN_SUFFIXES
from seewhy.io.slices import natural_key
from seewhy.io.zarr.metadata import is_zarr
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.source import Box, VolumeSource, describe_offset, millimetres, volume_geometry

__all__ = ["Ends", "VolumeCase", "find_cases", "open_case"]

SUFFIXES = (".ome.zarr", ".zarr", *SCAN_SUFFIXES, ".npy", ".ome.tiff", ".ome.tif", ".tiff", ".tif")
Ends = tuple[int, int, int, int, int, int]
"""First voxel and the one after the last along Z, Y and X: (z0, z1, y0, y1, x0, x1)."""


@dataclass(frozen=True)
class VolumeCase:
    """A volume, or a box of it, with its labels.

    Attributes:
        id: unique and safe as a file name.
        patient: patient of the volume.
        volume: name of the volume.
        image: path or address of the image.
        label: path or address of the labels, or None.
        level: level of a pyramid, for both; None is the finest.
        channels: C of the image.
        ends: first voxel and the one after the last along Z, Y and X.
        spacing: millimetres along Z, Y and X; None if the file gives no spacing or no unit.
        part: part of the split, for a box.
        codes: directions of the axes X, Y and Z, e.g. `RAS`; None if the file does not state them.
    """

    id: str
    patient: str
    volume: str
    image: str
    label: str | None
    level: str | None
    channels: int
    ends: Ends
    spacing: tuple[float, float, float] | None
    part: str | None = None
    codes: str | None = None

    @property
    def box(self) -> Box:
        """Voxels of the case in the volume."""
        z0, z1, y0, y1, x0, x1 = self.ends
        return slice(z0, z1), slice(y0, y1), slice(x0, x1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along Z, Y and X."""
        z0, z1, y0, y1, x0, x1 = self.ends
        return z1 - z0, y1 - y0, x1 - x0

    def open(self) -> tuple[VolumeSource, VolumeSource | None]:
        """Open image and labels, to be read in boxes."""
        image: VolumeSource = open_source(self.image, level=self.level)
        return image, None if self.label is None else open_source(self.label, level=self.level)


def find_cases(
    root: str | Path,
    *,
    images: str,
    labels: str | None,
    volumes: Mapping[str, Mapping[str, str]] | None,
    level: str | None,
    patient_pattern: str | None,
) -> list[VolumeCase]:
    """Find all volumes, in natural order of their names.

    Args:
        root: the data set's folder.
        images: folder of the images below it.
        labels: folder of the labels, with the same names; None for volumes without labels.
        volumes: name → `{image: …, label: …}` for stores elsewhere, e.g. on a web server; replaces both folders.
            Paths without a scheme are relative to `root`.
        level: level of a pyramid; None is the finest.
        patient_pattern: regular expression that finds the patient in a volume's name.

    Raises:
        ConfigError: an invalid pattern.
        DataError: all volumes that cannot be opened, have no labels, or labels on another grid.

    Example:
        >>> from seewhy.data.volumes.cases import find_cases
        >>> from seewhy.phantoms.ct import write_ct_phantom
        >>> root = write_ct_phantom("ct", volumes=1, shape=(32, 32, 32), chunk=16)
        >>> options = {"volumes": None, "level": None, "patient_pattern": None}
        >>> case, = find_cases(root, images="images", labels="labels", **options)
        >>> case.id, case.shape, case.spacing
        ('ct001', (32, 32, 32), (1.25, 1.0, 1.0))
    """
    try:
        re.compile(patient_pattern or "")
    except re.error as error:
        raise ConfigError(
            f"data.patient_pattern={patient_pattern!r} is not a valid regular expression ({error})"
        ) from error
    pairs = _resolve_stores(Path(root), volumes) if volumes else _pair_stores(Path(root), images, labels)
    cases, problems = [], find_name_clashes(pairs, "volumes")
    for name, (image, label) in pairs.items():
        try:
            cases.append(open_case(name, image, label, level, patient_pattern))
        except SeewhyError as error:
            problems.append(f"{name}: {error}")
    channels = sorted({case.channels for case in cases})
    if len(channels) > 1:
        listed = "; ".join(f"{n}: {next(case.volume for case in cases if case.channels == n)} …" for n in channels)
        problems.append(f"volumes with different numbers of channels ({listed}) cannot form batches")
    if problems:
        raise DataError(problems, where=str(root))
    return cases


def open_case(
    name: str, image: str, label: str | None = None, level: str | None = None, pattern: str | None = None
) -> VolumeCase:
    """Open one volume, and check that its labels lie on it.

    Args:
        name: of the volume.
        image: path or address of the image.
        label: path or address of the labels, or None.
        level: level of a pyramid; None is the finest.
        pattern: regular expression that finds the patient in the name; None takes the name.

    Raises:
        DataError: a store that cannot be read, or labels that do not lie on the image.
    """
    source: VolumeSource = open_source(image, level=level)
    channels, *shape = source.shape
    if label is not None:
        mask: VolumeSource = open_source(label, level=level)
        if mask.shape != (1, *shape):
            raise DataError(
                f"the image has {shape} voxels and the labels {list(mask.shape[1:])} in {mask.shape[0]} channel(s); "
                "expected one channel on the image's grid"
            )
        if apart := describe_offset(source, mask, coarse=level not in (None, "0")):
            raise DataError(f"the labels do not lie on the image: {apart}; resample them to the image's grid")
    z, y, x = shape
    geometry = volume_geometry(source)
    return VolumeCase(
        id=safe_name(name), patient=_find_patient(name, pattern), volume=name, image=image, label=label, level=level,
        channels=channels, ends=(0, z, 0, y, 0, x), spacing=millimetres(source),
        codes=None if geometry is None or not geometry.oriented else "".join(geometry.axis_codes),
    )  # fmt: skip


def _pair_stores(root: Path, images: str, labels: str | None) -> dict[str, tuple[str, str | None]]:
    """Pair the stores of the two folders: name → (image, labels); files that are not read are named in a warning."""
    folder = root / images
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; expected a folder of volumes there (data.root, data.images)")
    found = list_by_stem(folder, SUFFIXES, accepts=_is_store)
    if not found.files:
        rest = f"; it holds {summarize_names(found.left_out)}" if found.left_out else ""
        raise DataError(f"{folder} contains no volume; expected names that end in {', '.join(SUFFIXES)}{rest}")
    masks = Listing() if labels is None else list_by_stem(root / labels, SUFFIXES, accepts=_is_store)
    stores = found.files if labels is None else _strip_channels(found.files, masks.files, folder)
    missing = [name for name in stores if labels is not None and name not in masks.files]
    if missing:
        raise DataError(
            [f"{name}: no labels in {root / str(labels)}; expected {name}.zarr there" for name in missing],
            where=str(root),
        )
    for place, left_out in ((folder, found.left_out), (root / str(labels), masks.left_out)):
        if left_out:
            rank_zero_warn(
                f"{place}: {summarize_names(left_out)} left out; read are {', '.join(SUFFIXES)}: convert them, or move "
                "them elsewhere"
            )
    lonely = [path.name for name, path in masks.files.items() if name not in stores]
    if lonely:
        rank_zero_warn(f"{root / str(labels)}: {summarize_names(lonely)} left out, without an image of that name")
    return {
        name: (str(stores[name]), str(masks.files[name]) if name in masks.files else None)
        for name in sorted(stores, key=natural_key)
    }


def _is_store(folder: Path) -> bool:
    """Whether a folder without an ending is a zarr store, or holds the planes of a volume as TIFF files."""
    return is_zarr(folder) or any(path.suffix.lower() in (".tif", ".tiff") for path in folder.iterdir())


def _strip_channels(stores: dict[str, Path], masks: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Strip `_0000` from names of nnU-Net's raw layout, whose labels are named without it.

    Raises:
        DataError: several channel files per case.
    """
    numbered = {name: re.fullmatch(r"(.+)_(\d{4})", name) for name in stores}
    if not all(match and match[1] in masks for match in numbered.values()) or any(name in masks for name in stores):
        return stores
    cases = {match[1]: stores[name] for name, match in numbered.items() if match is not None}
    if len(cases) < len(stores):
        raise DataError(
            f"{folder} has nnU-Net's raw layout with several channel files per case (_0000, _0001 …); expected one "
            "file per volume: stack its channels into one file, or set data.volumes to the files of one channel"
        )
    return cases


def _resolve_stores(root: Path, volumes: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, str | None]]:
    """Resolve the stores of `data.volumes`: name → (image, labels)."""
    pairs = {}
    for name, entry in volumes.items():
        if "image" not in entry or set(entry) - {"image", "label"}:
            raise ConfigError(f"data.volumes.{name}={dict(entry)} must contain image and, if available, label")
        label = entry.get("label")
        pairs[str(name)] = (_make_absolute(root, entry["image"]), label and _make_absolute(root, label))
    return pairs


def _make_absolute(root: Path, path: str) -> str:
    return path if "://" in path else str(root / path)


def _find_patient(name: str, pattern: str | None) -> str:
    if pattern is None:
        return name
    match = re.search(pattern, name)
    if match is None:
        raise DataError(f"data.patient_pattern={pattern!r} does not match the name {name!r}")
    return match.group(match.lastindex or 0)
