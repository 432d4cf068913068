"""What is judged of a method's maps, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from seewhy.errors import ConfigError, nearest
from seewhy.explain.budget import parse_bytes
from seewhy.explain.judging.perturbation import Fill

__all__ = ["Scope", "Settings"]

Scope: TypeAlias = Literal["auto", "all", "cheap", "none"]

FEW = 64
"""Most samples of a run for which `auto` takes the costly scores too."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is judged, and how.

    Attributes:
        scope: `cheap`: completeness, randomisation, leaving inputs out, masks; `all`: also faithfulness and
            stability; `auto`: all for up to 64 samples, else cheap; `none`: nothing.
        cases: samples of the randomisation test; 0 skips it.
        redraws: re-initialised networks, and heads, per sample.
        steps: of the deletion and insertion curves.
        fill: what a removed pixel shows: blur, mean or zero.
        draws: random and blurred orders per sample, and noisy copies.
        stability: whether `all` includes stability. Of maps made without the network it says nothing: they are stable.
        noise: deviation of the stability test's noise, as a share of each image's own.
        memory_budget: of the curves' forwards, e.g. "1GiB".
        seed: of everything drawn.
    """

    scope: Scope = "auto"
    cases: int = 8
    redraws: int = 3
    steps: int = 10
    fill: Fill = "blur"
    draws: int = 3
    stability: bool = True
    noise: float = 0.05
    memory_budget: int | str = "1GiB"
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
        """What `auto` means for a run of so many samples; other scopes are what they are."""
        if self.scope != "auto":
            return self.scope
        return "all" if samples <= FEW else "cheap"
