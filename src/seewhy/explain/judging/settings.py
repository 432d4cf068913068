"""Settings of the scorecard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from seewhy.errors import ConfigError, nearest
from seewhy.explain.judging.perturbation import Fill
from seewhy.option_types import MemorySize, parse_bytes

__all__ = ["JudgingSettings", "Scope"]

Scope: TypeAlias = Literal["auto", "all", "cheap", "none"]

FEW = 64
"""Largest number of samples for which `auto` computes the expensive scores, too."""


@dataclass(frozen=True, kw_only=True)
class JudgingSettings:
    """Scores to compute, and their options.

    Attributes:
        scope: `cheap`: completeness, randomisation, leaving inputs out, localisation; `all`: also faithfulness and
            stability; `auto`: all for up to 64 samples, else cheap; `none`: no scores.
        cases: samples of the randomisation test; 0 skips it.
        redraws: re-initialised networks, and heads, per sample.
        steps: steps of the deletion and insertion curves.
        fill: value of removed pixels: blur, mean or zero.
        draws: random orders, blurred orders and noisy copies per sample.
        stability: whether `all` includes stability; it is not informative for maps made without the network.
        noise: standard deviation of the noise of the stability test, as a share of each image's standard deviation.
        memory_budget: memory limit of the forwards of the curves, e.g. "1GiB".
        seed: seed of all random draws.

    Raises:
        ConfigError: an unknown scope or fill, or a number that is too low.
    """

    scope: Scope = "auto"
    cases: int = 8
    redraws: int = 3
    steps: int = 10
    fill: Fill = "blur"
    draws: int = 3
    stability: bool = True
    noise: float = 0.05
    memory_budget: MemorySize = "1GiB"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, options in (("scope", get_args(Scope)), ("fill", get_args(Fill))):
            value = getattr(self, name)
            if value not in options:
                raise ConfigError(f"judging: {name}={value!r} is unknown; {nearest(str(value), options)}")
        least = {"cases": 0, "redraws": 1, "steps": 1, "draws": 1, "noise": 0}
        low = [f"{name}={getattr(self, name)} (at least {bound})" for name, bound in least.items()]
        low = [text for text, (name, bound) in zip(low, least.items(), strict=True) if getattr(self, name) < bound]
        parse_bytes(self.memory_budget)
        if low:
            raise ConfigError(f"judging: too low: {', '.join(low)}")

    def scope_of(self, samples: int) -> Scope:
        """Resolve `auto` for a run of a number of samples."""
        if self.scope != "auto":
            return self.scope
        return "all" if samples <= FEW else "cheap"
