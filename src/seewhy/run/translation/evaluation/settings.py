"""Options of `evaluate`, checked all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seewhy.batch import MODALITIES
from seewhy.errors import ConfigError, nearest
from seewhy.options import parse_options

__all__ = ["DistanceOptions", "EvaluationSettings", "FeatureOptions", "LesionOptions", "ProbeOptions"]


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Features in which distances are measured; see conf/evaluate/default.yaml."""

    name: str = "statistics"
    weights: str | None = None
    by: str = "name"
    size: int | None = None
    batch_size: int = 32


@dataclass(frozen=True, kw_only=True)
class DistanceOptions:
    """Numbers of random groups of patients, and of bootstrap resamples."""

    repeats: int = 20
    resamples: int = 500


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """Seeds, folds, picture size and training steps of the site probes."""

    seeds: int = 5
    folds: int = 5
    size: int = 32
    steps: int = 300


@dataclass(frozen=True, kw_only=True)
class LesionOptions:
    """Margin around lesions in pixels, and the modality that the table shows."""

    margin: int = 4
    modality: str = "flair"


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

    baselines: tuple[str, ...]
    slices: int
    seed: int
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
        groups: dict[str, type] = {
            "features": FeatureOptions,
            "distances": DistanceOptions,
            "probe": ProbeOptions,
            "lesion": LesionOptions,
        }
        problems, built = [], {}
        for name, kind in groups.items():
            group = values.pop(name, None)
            options, wrong = parse_options(kind, {} if group is None else group, where=f"evaluate.{name}")
            problems += wrong
            built[name] = kind(**options)
        values["baselines"] = values.get("baselines") or ()  # null means none, as an empty list does
        options, wrong = parse_options(cls, {**values, **built}, where="evaluate")
        if problems or wrong:
            raise ConfigError("; ".join([*problems, *wrong]))
        settings = cls(**{**options, "baselines": tuple(options["baselines"])})
        settings._check()
        return settings

    def _check(self) -> None:
        least = {
            "slices": (self.slices, 0), "features.batch_size": (self.features.batch_size, 1),
            "distances.repeats": (self.distances.repeats, 1), "distances.resamples": (self.distances.resamples, 10),
            "probe.seeds": (self.probe.seeds, 1), "probe.folds": (self.probe.folds, 2),
            "probe.size": (self.probe.size, 8), "probe.steps": (self.probe.steps, 1),
            "lesion.margin": (self.lesion.margin, 1),
        }  # fmt: skip
        problems = [
            f"evaluate.{name}={value} must be {low} or more" for name, (value, low) in least.items() if value < low
        ]
        if self.lesion.modality not in MODALITIES:
            close = nearest(self.lesion.modality, MODALITIES)
            problems.append(f"evaluate.lesion.modality={self.lesion.modality!r} is unknown; {close}")
        if problems:
            raise ConfigError("; ".join(problems))
