"""OME-NGFF metadata (0.4 in zarr v2, 0.5 in zarr v3): pyramids, axes, units, scale, labels."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seewhy.errors import DataError

__all__ = [
    "Level",
    "Multiscale",
    "image_label",
    "length_in_mm",
    "multiscales",
    "ome_attributes",
    "read_multiscale",
    "unit_name",
]

VERSIONS = {2: "0.4", 3: "0.5"}
"""OME-NGFF version by zarr format."""
MILLIMETRES = {
    "angstrom": 1e-7,
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "meter": 1e3,
}
"""Units of length by their UDUNITS names, in millimetres."""
ALIASES = {
    "nm": "nanometer",
    "um": "micrometer",
    "µm": "micrometer",
    "μm": "micrometer",
    "micron": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "å": "angstrom",
}


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes:
        path: path of its array inside the group.
        scale: voxel size along every axis of the array, in the axes' units; 1 for channels.
        translation: position of the first voxel along every axis.
    """

    path: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]


@dataclass(frozen=True)
class Multiscale:
    """A pyramid, as described by its metadata.

    Attributes:
        axes: names, lower case, in the order of the arrays' axes; subset of t, c, z, y, x.
        units: UDUNITS name of each axis, or None.
        levels: from fine to coarse.
        version: of OME-NGFF.
    """

    axes: tuple[str, ...]
    units: tuple[str | None, ...]
    levels: tuple[Level, ...]
    version: str

    def find(self, path: str) -> Level | None:
        """Level with this path."""
        return next((level for level in self.levels if level.path == path), None)


def read_multiscale(attributes: Mapping[str, Any], path: str) -> Multiscale | None:
    """Read the first pyramid from the attributes of a group; None if they describe none.

    Args:
        attributes: of the group, version 0.5 (in `ome`), 0.4 or 0.3.
        path: for messages.

    Raises:
        DataError: invalid metadata.
    """
    inside = attributes.get("ome")
    home = inside if isinstance(inside, Mapping) and "multiscales" in inside else attributes
    entries = home.get("multiscales")
    if not entries:
        return None
    try:
        first = entries[0]
        axes, units = _axes(first)
        shared = _transform(first.get("coordinateTransformations"), len(axes))
        levels = [_level(entry, shared, len(axes)) for entry in first["datasets"]]
        version = str(home.get("version") or first.get("version") or "0.4")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: its OME multiscales metadata are invalid ({error!r})") from error
    return Multiscale(axes, units, tuple(levels), version)


def multiscales(
    levels: Sequence[Level], *, zarr_format: int, channels: bool, unit: str | None, name: str, method: str
) -> list[dict[str, Any]]:
    """Create the entry `multiscales` of a group.

    Args:
        levels: from fine to coarse; scale and translation have one number per axis.
        zarr_format: 2 or 3, which determines the version.
        channels: whether the arrays have a channel axis first.
        unit: of z, y and x.
        name: of the image.
        method: method of downsampling, e.g. `mean`.
    """
    axes: list[dict[str, Any]] = [{"name": axis, "type": "space"} for axis in "zyx"]
    if unit is not None:
        axes = [{**axis, "unit": unit} for axis in axes]
    if channels:
        axes = [{"name": "c", "type": "channel"}, *axes]
    datasets = [
        {
            "path": level.path,
            "coordinateTransformations": [
                {"type": "scale", "scale": list(level.scale)},
                {"type": "translation", "translation": list(level.translation)},
            ],
        }
        for level in levels
    ]
    entry = {"name": name, "axes": axes, "datasets": datasets, "type": method}
    return [entry if zarr_format == 3 else {"version": VERSIONS[2], **entry}]


def ome_attributes(content: Mapping[str, Any], *, zarr_format: int) -> dict[str, Any]:
    """Create the attributes of a group: in `ome` with the version for zarr v3, at the top for v2."""
    return {"ome": {"version": VERSIONS[3], **content}} if zarr_format == 3 else dict(content)


def image_label(classes: Mapping[int, str], *, zarr_format: int) -> dict[str, Any]:
    """Create the entry `image-label` of a label image: a colour and a name for every class.

    Args:
        classes: value → name; 0 is background and has no colour.
        zarr_format: 2 or 3, which determines the version.
    """
    shown = [value for value in sorted(classes) if value != 0]
    entry = {
        "colors": [{"label-value": value, "rgba": _colour(index)} for index, value in enumerate(shown)],
        "properties": [{"label-value": value, "class": classes[value]} for value in sorted(classes)],
    }
    return entry if zarr_format == 3 else {"version": VERSIONS[2], **entry}


def unit_name(unit: str | None) -> str | None:
    """UDUNITS name of a unit of length; unknown units are returned in lower case.

    Example:
        >>> unit_name("µm"), unit_name("Millimetre"), unit_name(" ")
        ('micrometer', 'millimeter', None)
    """
    if unit is None or not unit.strip():
        return None
    text = unit.strip()
    return ALIASES.get(text.lower(), text.lower().replace("metre", "meter"))


def length_in_mm(unit: str | None) -> float | None:
    """Length of a unit in millimetres; None for an unknown unit."""
    name = unit_name(unit)
    return None if name is None else MILLIMETRES.get(name)


def _axes(entry: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    declared = entry.get("axes")
    if declared is None:  # 0.1 and 0.2 always had these five
        return tuple("tczyx"), (None,) * 5
    if not isinstance(declared, list | tuple):
        raise ValueError(f"axes are {declared!r}; expected a list")
    if all(isinstance(axis, str) for axis in declared):  # 0.3
        return tuple(axis.lower() for axis in declared), (None,) * len(declared)
    return tuple(str(axis["name"]).lower() for axis in declared), tuple(
        unit_name(axis.get("unit")) for axis in declared
    )


def _level(entry: Mapping[str, Any], shared: tuple[list[float], list[float]], count: int) -> Level:
    """Combine the transformation of a dataset with that of the whole pyramid."""
    scale, translation = _transform(entry.get("coordinateTransformations"), count)
    outer, shift = shared
    return Level(
        path=str(entry["path"]),
        scale=tuple(inner * factor for inner, factor in zip(scale, outer, strict=True)),
        translation=tuple(inner * factor + add for inner, factor, add in zip(translation, outer, shift, strict=True)),
    )


LARGEST = 1e15
"""Largest size of a voxel, and the inverse of the smallest, in any unit of length from nanometres to metres."""


def _read_size(value: Any) -> float:
    if isinstance(value, bool) or abs(float(value)) > LARGEST or 0 < abs(float(value)) < 1 / LARGEST:
        raise ValueError(f"a scale of {value!r}")
    return float(value)


def _transform(entries: Any, count: int) -> tuple[list[float], list[float]]:
    scale, translation = [1.0] * count, [0.0] * count
    for entry in entries or []:
        if entry["type"] == "scale":
            scale = [_read_size(value) for value in entry["scale"]]
        elif entry["type"] == "translation":
            translation = [float(value) for value in entry["translation"]]
        elif entry["type"] != "identity":
            raise ValueError(f"transformation of type {entry['type']!r}")
    if len(scale) != count or len(translation) != count:
        raise ValueError(f"{count} axes, but {len(scale)} scales and {len(translation)} translations")
    return scale, translation


def _colour(index: int) -> list[int]:
    """Distinct colours, with hues spaced by the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb((index * 0.618034) % 1, 0.75, 0.95)
    return [round(255 * red), round(255 * green), round(255 * blue), 255]
