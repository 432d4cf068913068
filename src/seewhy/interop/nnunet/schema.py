"""Types of the entries of plans.json and dataset.json that seewhy reads; other entries are not checked."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

__all__ = ["Architecture", "Configuration", "Dataset", "Plans"]

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
