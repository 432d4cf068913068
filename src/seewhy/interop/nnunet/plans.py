"""Read plans.json and dataset.json of an nnU-Net v2 model folder, as data only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from seewhy.errors import CheckpointError, ConfigError, nearest
from seewhy.io.documents import read_json

__all__ = ["Architecture", "Configuration", "Dataset", "NNUNetHeads", "NNUNetPlans", "Plans", "read_plans"]

PLANS = ("plans.json", "nnUNetPlans.json")
NEEDED = ("patch_size", "spacing", "normalization_schemes")
PREPROCESSORS = ("DefaultPreprocessor",)


@dataclass(frozen=True)
class NNUNetHeads:
    """Meaning of the output channels.

    Attributes:
        regions: whether channels are overlapping regions (sigmoid) instead of classes (softmax).
        count: output channels.
        classes: names by stored value, background included.
        class_order: stored value of each region, later regions overwrite earlier ones; None for classes.
        names: of the output channels.
    """

    regions: bool
    count: int
    classes: dict[int, str]
    class_order: tuple[int, ...] | None
    names: tuple[str, ...]


class NNUNetPlans:
    """Plans and data set description of one folder.

    Args:
        plans: content of plans.json.
        dataset: content of dataset.json.
        folder: for messages.
    """

    def __init__(self, plans: Mapping[str, Any], dataset: Mapping[str, Any], folder: Path) -> None:
        self.plans, self.dataset, self.folder = plans, dataset, folder
        manager = plans.get("label_manager", "LabelManager")
        if manager != "LabelManager":
            raise CheckpointError(f"{folder}: its plans use the label manager {manager!r}, which is not supported")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the input channels."""
        names = self.dataset.get("channel_names") or self.dataset.get("modality")
        if not isinstance(names, Mapping):
            raise CheckpointError(f"{self.folder}: dataset.json has neither channel_names nor modality")
        return tuple(str(names[key]) for key in sorted(names, key=int))

    @property
    def transpose(self) -> tuple[int, int, int]:
        """Axes of (Z, Y, X) in the order in which the network sees them."""
        order = list(self.plans.get("transpose_forward", (0, 1, 2)))
        if sorted(order) != [0, 1, 2]:
            raise CheckpointError(f"{self.folder}: transpose_forward={order}; expected an order of the axes 0, 1 and 2")
        return order[0], order[1], order[2]

    def configuration(self, name: str | None) -> dict[str, Any]:
        """One configuration with everything that it inherits.

        Args:
            name: e.g. `3d_fullres`; None if there is only one.

        Raises:
            ConfigError: no such configuration, or several and `name` is None.
            CheckpointError: circular inheritance, a cascade, or an unsupported preprocessing.
        """
        configurations: Mapping[str, Any] = self.plans.get("configurations", {})
        if name is None:
            if len(configurations) != 1:
                raise ConfigError(
                    f"{self.folder}: its checkpoint does not state its configuration; give "
                    f"volume.model.configuration=…; {nearest('3d_fullres', configurations)}"
                )
            name = next(iter(configurations))
        resolved: dict[str, Any] = {}
        seen: list[str] = []
        current: str | None = name
        while current is not None:
            if current not in configurations:
                raise ConfigError(f"{self.folder} has no configuration {current!r}; {nearest(current, configurations)}")
            if current in seen:
                raise CheckpointError(f"{self.folder}: configurations inherit in a circle: {' → '.join(seen)}")
            seen.append(current)
            resolved = {**configurations[current], **resolved}
            current = configurations[current].get("inherits_from")
        if resolved.get("previous_stage"):
            raise CheckpointError(
                f"{self.folder}: {name} is the second stage of a cascade and needs the result of "
                f"{resolved['previous_stage']!r}; give a 3d_fullres or 3d_lowres model"
            )
        missing = [key for key in NEEDED if key not in resolved]
        if missing:
            raise CheckpointError(f"{self.folder}: plans of {name} have no {', '.join(missing)}")
        self._check_lengths(resolved, name)
        preprocessor = resolved.get("preprocessor_name", PREPROCESSORS[0])
        if preprocessor not in PREPROCESSORS:
            raise CheckpointError(f"{self.folder}: its preprocessing {preprocessor!r} is not supported")
        return resolved

    def _check_lengths(self, configuration: Mapping[str, Any], name: str) -> None:
        """Raise an error for lists whose lengths do not fit together."""
        patch, spacing, schemes = (configuration[key] for key in NEEDED)
        if len(patch) != len(spacing):
            raise CheckpointError(
                f"{self.folder}: plans of {name} have the patch_size {patch} and the spacing {spacing}; expected one "
                "number per axis in both"
            )
        if len(schemes) != len(self.channels):
            raise CheckpointError(
                f"{self.folder}: plans of {name} have {len(schemes)} normalization_schemes, dataset.json "
                f"{len(self.channels)} channels; expected one scheme per channel"
            )

    def normalization(self, configuration: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Normalization per channel for `seewhy.volumes.normalization`.

        nnU-Net crops a volume to the bounding box of nonzero voxels before it normalizes (`crop_to_nonzero`), so
        statistics are of that box. If plans use a mask, nnU-Net fills its holes; here zeros in holes do not count.

        Raises:
            CheckpointError: an unsupported scheme, or missing properties.
        """
        schemes, masks = configuration["normalization_schemes"], configuration.get("use_mask_for_norm", [])
        return [
            self._scheme(channel, str(scheme), bool(masks[channel]) if channel < len(masks) else False)
            for channel, scheme in enumerate(schemes)
        ]

    def spacing(self, configuration: Mapping[str, Any]) -> tuple[float, float, float]:
        """Voxel size of Z, Y and X in millimetres in training; NaN across the planes of a 2D network.

        nnU-Net assigns a voxel size of 1 to files without one, which cannot be distinguished from a measured one.
        """
        target = [float(value) for value in configuration["spacing"]]
        if len(target) == 2:  # any distance of planes is accepted
            target = [math.nan, *target]
        return self.untransposed(target)

    def untransposed(self, values: Sequence[Any]) -> tuple[Any, Any, Any]:
        """Convert numbers per axis of the network to numbers per Z, Y and X."""
        by_axis = dict(zip(self.transpose, values, strict=True))
        return by_axis[0], by_axis[1], by_axis[2]

    def heads(self) -> NNUNetHeads:
        """Meaning of the output channels.

        Raises:
            CheckpointError: no background, or regions without their order.
        """
        labels = {str(name): value for name, value in self.dataset.get("labels", {}).items() if name != "ignore"}
        if labels.get("background") not in (0, [0], "0"):
            raise CheckpointError(f"{self.folder}: dataset.json has no label background with value 0")
        if not any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
            values = {int(v[0] if isinstance(v, list) else v): name for name, v in labels.items()}
            numbers = sorted(values)
            if numbers != list(range(len(numbers))):
                raise CheckpointError(f"{self.folder}: its labels are {numbers}; expected 0, 1, 2, …")
            return NNUNetHeads(False, len(numbers), values, None, tuple(values[number] for number in numbers))
        names = [name for name, value in labels.items() if value not in (0, [0], "0")]
        order = self.dataset.get("regions_class_order")
        if order is None or len(order) != len(names):
            raise CheckpointError(f"{self.folder}: {len(names)} regions, but regions_class_order is {order}")
        classes = {0: "background"} | {int(value): name for value, name in zip(order, names, strict=True)}
        return NNUNetHeads(True, len(names), classes, tuple(int(value) for value in order), tuple(names))

    def _scheme(self, channel: int, scheme: str, masked: bool) -> dict[str, Any]:
        schemes: dict[str, dict[str, Any]] = {
            "NoNormalization": {"scheme": "none"},
            "ZScoreNormalization": {"scheme": "zscore", "nonzero": masked or "box"},
            "RescaleTo01Normalization": {"scheme": "rescale", "nonzero": "box"},
            "RGBTo01Normalization": {"scheme": "scale", "by": 255},
        }
        if scheme in schemes:
            return schemes[scheme]
        if scheme != "CTNormalization":
            close = nearest(scheme, [*schemes, "CTNormalization"])
            raise CheckpointError(f"{self.folder}: normalization {scheme!r} is not supported; {close}")
        older = self.plans.get("foreground_intensity_properties_by_modality", {})
        properties = self.plans.get("foreground_intensity_properties_per_channel", older).get(str(channel), {})
        keys = {"lower": "percentile_00_5", "upper": "percentile_99_5", "mean": "mean", "std": "std"}
        missing = [key for key in keys.values() if key not in properties]
        if missing:
            raise CheckpointError(f"{self.folder}: plans have no {', '.join(missing)} of channel {channel}")
        values = {name: float(properties[key]) for name, key in keys.items()}
        if not all(map(math.isfinite, values.values())) or values["std"] <= 0:
            raise CheckpointError(f"{self.folder}: intensities of channel {channel} are {values}; expected std above 0")
        return {"scheme": "ct"} | values


def read_plans(folder: Path) -> NNUNetPlans:
    """Read plans.json and dataset.json of a model folder.

    Raises:
        CheckpointError: a file is missing, not JSON, or has entries of other types; all of them at once.
    """
    plans = next((folder / name for name in PLANS if (folder / name).exists()), folder / PLANS[0])
    contents = []
    for path, kind in ((plans, Plans), (folder / "dataset.json", Dataset)):
        if not path.exists():
            raise CheckpointError(f"{path} does not exist; an nnU-Net model folder has plans.json and dataset.json")
        contents.append(read_json(path, kind, raises=CheckpointError))
    return NNUNetPlans(contents[0], contents[1], folder)


Size = Annotated[int, Field(ge=1, le=1 << 16)]
Count = Annotated[int, Field(ge=0, le=64)]
Step = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[str, Field(pattern=r"^\d+$")]
PerAxis = Size | list[Size]
"""One number for all axes, or one for each."""


class Options(TypedDict, total=False):
    """Arguments of a network; those of its normalization and non-linearity are checked by their classes."""

    n_stages: Annotated[int, Field(ge=1, le=32)]
    features_per_stage: PerAxis
    conv_op: str
    kernel_sizes: Size | list[PerAxis]
    strides: Size | list[PerAxis]
    n_conv_per_stage: Count | list[Count]
    n_blocks_per_stage: Count | list[Count]
    n_conv_per_stage_decoder: Count | list[Count]
    conv_bias: bool
    norm_op: str | None
    norm_op_kwargs: dict[str, Any] | None
    dropout_op: str | None
    dropout_op_kwargs: dict[str, Any] | None
    nonlin: str | None
    nonlin_kwargs: dict[str, Any] | None
    nonlin_first: bool


class Architecture(TypedDict, total=False):
    """Class and arguments of a network."""

    network_class_name: str
    arch_kwargs: Options
    _kw_requires_import: list[str]


class Configuration(TypedDict, total=False):
    """One configuration; all entries may be inherited."""

    inherits_from: str | None
    previous_stage: str | None
    preprocessor_name: str
    patch_size: Annotated[list[Size], Field(min_length=2, max_length=3)]
    spacing: Annotated[list[Step], Field(min_length=2, max_length=3)]
    normalization_schemes: list[str]
    use_mask_for_norm: list[bool]
    architecture: Architecture
    UNet_class_name: str
    UNet_base_num_features: Size
    unet_max_num_features: Size
    n_conv_per_stage_encoder: Annotated[list[Count], Field(max_length=32)]
    n_conv_per_stage_decoder: list[Count]
    conv_kernel_sizes: list[list[Size]]
    pool_op_kernel_sizes: list[list[Size]]


class Plans(TypedDict, total=False):
    """Contents of plans.json."""

    label_manager: str
    transpose_forward: list[int]
    configurations: dict[str, Configuration]
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]]
    foreground_intensity_properties_by_modality: dict[str, dict[str, float]]


class Dataset(TypedDict, total=False):
    """Contents of dataset.json."""

    channel_names: dict[Number, str]
    modality: dict[Number, str]
    labels: dict[str, int | Number | Annotated[list[int], Field(min_length=1)]]
    regions_class_order: list[int] | None
