"""Read the configuration of a MONAI bundle as data, without evaluating expressions, and translate its transforms."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from seewhy.errors import CheckpointError, DataError
from seewhy.io.documents import read_json, read_text

__all__ = ["BundleConfig", "Preprocessing", "find_config", "read_metadata", "read_preprocessing"]

REFERENCE = re.compile(r"@(?P<path>[\w.-]+(?:(?:#|::)[\w.-]+)*)")
"""A reference to a value: names from the root, separated by `#` or `::`."""
NAMES = ("inference", "evaluate", "train")
"""Configurations that are looked for, in order."""
WITHOUT_EFFECT = (
    "LoadImage", "EnsureChannelFirst", "EnsureType", "CastToType", "ToTensor", "CopyItems", "AddChannel", "ToDevice",
    "CheckSpacing", "SelectItems",
)  # fmt: skip
"""Transforms that change neither values nor axes, or whose work the engine does."""
XYZ, ZYX = (2, 1, 0), (0, 1, 2)
"""Axes of (Z, Y, X) in the order in which the network sees them: as MONAI reads files, and turned to Z, Y, X."""


class BundleConfig:
    """Contents of a configuration whose values are looked up on demand.

    Args:
        file: JSON or YAML.
        metadata: contents of `metadata.json`, which `@_meta_#…` names.

    Raises:
        CheckpointError: the file cannot be read, or is not a mapping.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("net.json").write_text('{"classes": 3, "network_def": {"out_channels": "@classes"}}')
        >>> BundleConfig(Path("net.json"), {}).resolve("@network_def", "network")
        {'out_channels': 3}
    """

    def __init__(self, file: Path, metadata: dict[str, Any]) -> None:
        self.file = file
        try:
            self.text = read_text(file)
            content = json.loads(self.text) if file.suffix == ".json" else _parse_yaml(self.text, file)
        except (DataError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise CheckpointError(f"{file} cannot be read as a configuration: {_first_line(error)}") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{file} holds {type(content).__name__}; expected a mapping")
        self.content: dict[str, Any] = {**content, "_meta_": metadata}

    def get(self, key: str) -> Any:
        """Entry of the root as it is written; None if it is missing."""
        return self.content.get(key)

    def resolve(self, value: Any, key: str, *, through: tuple[str, ...] = ()) -> Any:
        """Replace the references in a value.

        Args:
            value: plain data of the file.
            key: its place, for messages.
            through: references that led here.
        """
        if isinstance(value, dict):
            return {name: self.resolve(item, f"{key}#{name}", through=through) for name, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item, f"{key}#{i}", through=through) for i, item in enumerate(value)]
        if not isinstance(value, str) or value[:1] not in ("$", "@", "%"):
            return value
        match = REFERENCE.fullmatch(value)
        if match is None:
            kind = {"$": "an expression", "%": "a macro"}.get(value[0], "a reference with a calculation")
            raise self.refuse(key, value, f"is {kind}, which is never evaluated; write the value itself there")
        path = re.split("#|::", match["path"])
        if value in through:
            raise self.refuse(key, value, "refers to itself")
        return self.resolve(self._find(path, key, value), "#".join(path), through=(*through, value))

    def _find(self, path: list[str], key: str, value: str) -> Any:
        place: Any = self.content
        for name in path:
            if isinstance(place, dict) and name in place:
                place = place[name]
            elif isinstance(place, list) and name.isdecimal() and int(name) < len(place):
                place = place[int(name)]
            else:
                raise self.refuse(key, value, "names no value of the file")
        return place

    def refuse(self, key: str, value: Any, reason: str) -> CheckpointError:
        """Error about an entry, with the line on which it stands.

        Args:
            key: place of the entry.
            value: as it is written.
            reason: what is wrong, as the rest of a sentence.
        """
        written = json.dumps(value).strip('"')
        lines = self.text.splitlines()
        found = next((i for i, line in enumerate(lines, start=1) if written in line or str(value) in line), None)
        where = f"{self.file}, line {found}" if found else str(self.file)
        return CheckpointError(f"{where}: {key} = {str(value)[:80]!r} {reason}")


def _parse_yaml(text: str, file: Path) -> Any:
    """Parse YAML without aliases, of which few can describe a huge document."""
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
        raise CheckpointError(f"{file} has aliases (*name), which are not read; write the values out")
    return yaml.safe_load(text)


def find_config(folder: Path) -> Path:
    """The configuration of a bundle that describes its network.

    Raises:
        CheckpointError: none.
    """
    for name in NAMES:
        for ending in ("json", "yaml", "yml"):
            if (file := folder / "configs" / f"{name}.{ending}").is_file():
                return file
    raise CheckpointError(
        f"{folder} has no configs/inference.json (or .yaml); give the folder of a MONAI bundle, with configs and models"
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    """Contents of `configs/metadata.json`; empty if the bundle has none."""
    file = folder / "configs" / "metadata.json"
    return dict(read_json(file, raises=CheckpointError)) if file.is_file() else {}


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# -- preprocessing --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What the transforms of a bundle mean for a prediction.

    Attributes:
        order: axes of (Z, Y, X) in the order in which the network sees them.
        spacing: millimetres along Z, Y and X; None where the bundle states none.
        normalization: scheme of every channel, see `seewhy.volumes.normalization`.
        orientation: directions of the axes that images are turned to, e.g. RAS; None leaves them as stored.
    """

    order: tuple[int, int, int] = XYZ
    spacing: tuple[float, float, float] | None = None
    normalization: Mapping[str, Any]
    orientation: str | None = None


def read_preprocessing(config: BundleConfig, *, channels: int) -> Preprocessing | CheckpointError:
    """Translate `preprocessing` of a bundle; the error names the transform that cannot be translated.

    Args:
        config: of the bundle.
        channels: of the images; normalisations over all channels at once are known for one channel only.
    """
    node = config.get("preprocessing")
    transforms = node.get("transforms") if isinstance(node, dict) else node
    if not isinstance(transforms, list):
        return CheckpointError(f"{config.file} has no list of transforms in `preprocessing`")
    found: dict[str, Any] = {}
    schemes: list[dict[str, Any]] = []
    try:
        for place, transform in enumerate(transforms):
            key = f"preprocessing#transforms#{place}"
            if not isinstance(transform, dict):
                raise config.refuse(key, transform, "is not a transform by its name and arguments")
            _read_transform(config, transform, key, channels, found, schemes)
        if len(schemes) > 1:
            raise config.refuse("preprocessing", transforms[-1].get("_target_"), "is a second normalisation")
    except CheckpointError as error:
        return error
    return Preprocessing(normalization=schemes[0] if schemes else {"scheme": "none"}, **found)


def _read_transform(
    config: BundleConfig,
    transform: Mapping[str, Any],
    key: str,
    channels: int,
    found: dict[str, Any],
    schemes: list[dict[str, Any]],
) -> None:
    target = str(transform.get("_target_"))
    name = target.rpartition(".")[2].removesuffix("d").removesuffix("Dict").removesuffix("D")
    if name in WITHOUT_EFFECT or transform.get("_disabled_") is True:
        if name == "CheckSpacing":
            found["spacing"] = _turn(config.resolve(transform.get("spacing"), f"{key}#spacing"))
        return

    def read_option(option: str, default: Any = None) -> Any:
        return config.resolve(transform.get(option, default), f"{key}#{option}")

    if name == "Orientation":
        found["orientation"] = str(read_option("axcodes", "RAS"))
    elif name == "Spacing":
        found["spacing"] = _turn(read_option("pixdim"))
    elif name == "Transpose" and read_option("indices") in ([0, 3, 2, 1], [0, 1, 2, 3]):
        found["order"] = ZYX if read_option("indices") == [0, 3, 2, 1] else XYZ
    elif (scheme := _read_normalization(name, read_option, channels)) is not None:
        schemes.append(scheme)
    else:
        raise config.refuse(key, target, "or its options have no counterpart in the volume engine")


def _turn(sizes: Any) -> tuple[float, float, float] | None:
    """Millimetres along Z, Y and X from those along X, Y and Z; NaN along axes of any size."""
    if not isinstance(sizes, list) or len(sizes) != 3:
        return None
    x, y, z = (math.nan if size is None or size <= 0 else float(size) for size in sizes)
    return z, y, x


def _read_normalization(name: str, read_option: Any, channels: int) -> dict[str, Any] | None:
    """Scheme of a transform of intensities; None for any other transform, and for options without a scheme."""
    each = channels == 1 or read_option("channel_wise", False) is True
    if name == "NormalizeIntensity" and each and read_option("subtrahend") is None and read_option("divisor") is None:
        nonzero = read_option("nonzero", False) is True
        return None if nonzero and channels > 1 else {"scheme": "zscore"} | ({"nonzero": True} if nonzero else {})
    if (
        name == "ScaleIntensity"
        and each
        and (read_option("minv", 0.0), read_option("maxv", 1.0), read_option("factor")) == (0, 1, None)
    ):
        return {"scheme": "rescale"}
    clip = read_option("clip", False) is True
    unit = (read_option("b_min"), read_option("b_max")) == (0, 1)
    if name == "ScaleIntensityRangePercentiles" and each and unit and clip and not read_option("relative", False):
        return {"scheme": "percentile", "low": float(read_option("lower")), "high": float(read_option("upper"))}
    if name == "ScaleIntensityRange" and read_option("b_min") is not None and read_option("b_max") is not None:
        low, high, bottom, top = (float(read_option(option)) for option in ("a_min", "a_max", "b_min", "b_max"))
        if clip and high > low and top > bottom:
            std = (high - low) / (top - bottom)
            return {"scheme": "ct", "lower": low, "upper": high, "mean": low - bottom * std, "std": std}
        if not clip and low == bottom == 0 and top == 1 and high > 0:
            return {"scheme": "scale", "by": high}
    return None
