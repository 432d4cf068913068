"""The options of `evaluate`, checked all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seewhy.batch import MODALITIES
from seewhy.errors import ConfigError, nearest
from seewhy.options import parse_options

__all__ = ["Distances", "EvaluationSettings", "FeatureChoice", "LesionChoice", "ProbeChoice"]


@dataclass(frozen=True, kw_only=True)
class FeatureChoice:
    """Which features distances are measured in; see conf/evaluate/default.yaml."""

    name: str = "statistics"
    weights: str | None = None
    by: str = "name"
    size: int | None = None
    batch_size: int = 32


@dataclass(frozen=True, kw_only=True)
class Distances:
    """How often groups of patients are drawn, and subjects drawn again."""

    repeats: int = 20
    resamples: int = 500


@dataclass(frozen=True, kw_only=True)
class ProbeChoice:
    """How sites are told apart."""

    seeds: int = 5
    folds: int = 5
    size: int = 32
    steps: int = 300


@dataclass(frozen=True, kw_only=True)
class LesionChoice:
    """How lesions are looked at."""

    margin: int = 4
    modality: str = "flair"


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """All of `evaluate`."""

    baselines: tuple[str, ...]
    slices: int
    seed: int
    folder: str | None
    features: FeatureChoice
    distances: Distances
    probe: ProbeChoice
    lesion: LesionChoice

    @classmethod
    def of(cls, node: DictConfig | None) -> EvaluationSettings:
        """Read the node `evaluate` of a configuration.

        Raises:
            ConfigError: no such node, unknown options, values of other types, or numbers that measure nothing.
        """
        if node is None:
            raise ConfigError("evaluate is not chosen; choose evaluate=default")
        plain: Any = OmegaConf.to_container(node, resolve=True)
        groups = {"features": FeatureChoice, "distances": Distances, "probe": ProbeChoice, "lesion": LesionChoice}
        problems, built = [], {}
        for name, kind in groups.items():
            chosen = plain.pop(name, None)
            own, wrong = parse_options(kind, {} if chosen is None else chosen, where=f"evaluate.{name}")
            problems += wrong
            built[name] = kind(**own)
        plain["baselines"] = plain.get("baselines") or ()  # null is none of them, as an empty list is
        own, wrong = parse_options(cls, {**plain, **built}, where="evaluate")
        if problems or wrong:
            raise ConfigError("; ".join([*problems, *wrong]))
        settings = cls(**{**own, "baselines": tuple(own["baselines"])})
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
            known = nearest(self.lesion.modality, MODALITIES)
            problems.append(f"evaluate.lesion.modality={self.lesion.modality!r} is none; {known}")
        if problems:
            raise ConfigError("; ".join(problems))
