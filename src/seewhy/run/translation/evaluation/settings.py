"""Options of `evaluate`, checked all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge
from omegaconf import DictConfig, OmegaConf

from seewhy.errors import ConfigError
from seewhy.option_types import BatchSize, NonNegativeInt, PositiveInt, Seed
from seewhy.options import parse_options

__all__ = ["DistanceOptions", "EvaluationSettings", "FeatureOptions", "LesionOptions", "ProbeOptions"]


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Features in which distances are measured; see conf/evaluate/default.yaml."""

    name: str = "statistics"
    weights: str | None = None
    by: Literal["name", "position"] = "name"
    size: PositiveInt | None = None
    batch_size: BatchSize = 32


@dataclass(frozen=True, kw_only=True)
class DistanceOptions:
    """Numbers of random groups of patients, and of bootstrap resamples."""

    repeats: PositiveInt = 20
    resamples: Annotated[int, Ge(10)] = 500


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """Seeds, folds, picture size and training steps of the site probes."""

    seeds: PositiveInt = 5
    folds: Annotated[int, Ge(2)] = 5
    size: Annotated[int, Ge(8)] = 32
    steps: PositiveInt = 300


@dataclass(frozen=True, kw_only=True)
class LesionOptions:
    """Margin around lesions in pixels, and the modality that the table shows."""

    margin: PositiveInt = 4
    modality: Literal["t1", "t1ce", "t2", "flair"] = "flair"


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """All options of `evaluate`.

    Example:
        >>> from omegaconf import OmegaConf
        >>> from seewhy.run.translation.evaluation.settings import EvaluationSettings
        >>> node = OmegaConf.create({"baselines": None, "slices": 8, "seed": 0, "folder": None, "probe": {"sede": 3}})
        >>> EvaluationSettings.of(node)
        Traceback (most recent call last):
        seewhy.errors.ConfigError: ...evaluate.probe.sede...nearest: 'seeds'...
    """

    baselines: Sequence[str] | None
    slices: NonNegativeInt
    seed: Seed
    folder: str | None
    features: FeatureOptions
    distances: DistanceOptions
    probe: ProbeOptions
    lesion: LesionOptions

    @classmethod
    def of(cls, node: DictConfig | None) -> EvaluationSettings:
        """Read the node `evaluate` of a configuration.

        Raises:
            ConfigError: no such node, unknown options, values of wrong types, or numbers below their minimum.
        """
        if node is None:
            raise ConfigError("evaluate is not chosen; choose evaluate=default")
        values: Any = OmegaConf.to_container(node, resolve=True)
        groups = {name: values.get(name) for name in ("features", "distances", "probe", "lesion")}
        settings = parse_options(cls, {**values, **groups}, where="evaluate")
        return replace(settings, baselines=tuple(settings.baselines or ()))  # null means none, as an empty list does
