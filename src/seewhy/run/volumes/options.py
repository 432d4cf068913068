"""Options of `volume` (conf/volume/default.yaml), and of `explain` for a region (conf/explain/volume.yaml)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Lt

from seewhy.option_types import BatchSize, MemorySize, NonNegativeInt, PositiveInt

__all__ = ["RegionOptions", "VolumeOptions"]

Size: TypeAlias = tuple[PositiveInt, PositiveInt, PositiveInt]
Edge: TypeAlias = NonNegativeInt
Region: TypeAlias = tuple[Edge, Edge, Edge, Edge, Edge, Edge]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Alternatives to the model of a run."""

    nnunet: str | None = None
    bundle: str | None = None
    folds: int | str | Sequence[int | str] | None = None
    checkpoint: str | None = None
    configuration: str | None = None
    network: Mapping[str, Any] | None = None
    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """Patches, their blending, and mirrors."""

    patch: Size | None = None
    normalization: Sequence[Mapping[str, Any]] | None = None
    spacing: Literal["check", "ignore"] = "check"
    tta: bool | Sequence[Literal[0, 1, 2]] | None = False
    overlap: Annotated[float, Ge(0), Lt(1)] = 0.5
    window: Literal["gaussian", "nnunet", "hann", "constant"] = "gaussian"
    sigma_scale: Annotated[float, Gt(0), Le(64)] = 8.0
    batch_size: BatchSize = 1
    skip_empty: bool = True


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """Format of the output."""

    mode: Literal["binary", "threshold", "multiclass", "regions"] | None = None
    dtype: Literal["uint8", "uint16", "float32", "labels", "logits"] = "uint8"
    threshold: Annotated[float, Gt(0), Lt(1)] = 0.5
    zarr_format: Literal[2, 3] = 3
    chunk: Size = (64, 64, 64)
    shard: Size | None = None
    name: str = "prediction"


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Memory, processes and progress notes."""

    memory_budget: MemorySize = "4GB"
    num_parts: PositiveInt = 1
    part_id: NonNegativeInt = 0
    ledger: str | None = None
    lease: Annotated[float, Ge(1)] = 60
    executor: Literal["submitit"] | None = None
    submitit: Mapping[str, Any] | None = None
    keep_logits: bool = False
    estimate: bool = False


@dataclass(frozen=True, kw_only=True)
class VolumeOptions:
    """All options of `volume`.

    Example:
        >>> from seewhy.options import parse_options
        >>> from seewhy.run.volumes.options import VolumeOptions
        >>> parse_options(VolumeOptions, {"inference": {"overlap": 1}}, where="volume")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: volume.inference.overlap=1 must be a number, 0 or more and below 1
    """

    input: str | None = None
    output: str | None = None
    overwrite: bool = False
    preview: bool = True
    roi: Region | None = None
    level: int | str | None = None
    channels: Sequence[NonNegativeInt] | None = None
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    model: ModelOptions = ModelOptions()
    inference: InferenceOptions = InferenceOptions()
    store: StoreOptions = StoreOptions()
    job: JobOptions = JobOptions()


@dataclass(frozen=True, kw_only=True)
class RegionOptions:
    """Options of `explain` for a region of a volume."""

    methods: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    target: int | str | None = None
    roi: Region | None = None
    over: Literal["predicted", "region"] = "predicted"
    max_voxels: PositiveInt = 4_000_000
    memory_budget: MemorySize | None = None
    judge: Literal["cheap", "none"] = "cheap"
    folder: str | None = None
    after_fit: bool = False
    after_predict: bool = False
    every_n_epochs: NonNegativeInt = 0
    own_maps: None = None
