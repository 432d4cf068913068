"""What can be chosen about explanations; the defaults are those of `conf/explain/default.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seewhy.callbacks.explanations.choice import SampleChoice
from seewhy.callbacks.explanations.target import TargetSetting
from seewhy.errors import ConfigError, nearest

__all__ = ["ExplanationSettings"]

JUDGING = ("auto", "all", "cheap", "none")


@dataclass(frozen=True, kw_only=True)
class ExplanationSettings:
    """Which samples are explained and what is written of them.

    Attributes:
        target: see `seewhy.callbacks.explanations.target.TargetChoice`.
        samples: see `seewhy.callbacks.explanations.choice.SampleChoice`.
        max_samples: how many samples; 0 is all.
        batch_size: samples that are explained at once.
        key_slices: numbers, in the scan, of the slices that are drawn of a volume; None draws 7 spread over it.
        judge: which scores maps get: `cheap` (completeness, randomisation, shares), `all`, `none`, or `auto`: all
            for up to 64 samples, else the cheap ones.
        nifti: write maps of volumes on the grid of their source too.
        atlas: label volume on the grid of the sources, for shares by region; None gives none.
        seed: of a random choice and of the judging's draws.
    """

    target: TargetSetting = None
    samples: str | Sequence[str] = "spread"
    max_samples: int = 50
    batch_size: int = 8
    key_slices: Sequence[int] | None = None
    judge: str = "auto"
    nifti: bool = True
    atlas: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.judge not in JUDGING:
            raise ConfigError(f"explain.judge={self.judge!r} is unknown; {nearest(self.judge, JUDGING)}")
        if self.batch_size < 1:
            raise ConfigError(f"explain.batch_size={self.batch_size} must be 1 or more")
        if self.key_slices is not None and not self.key_slices:
            raise ConfigError(
                "explain.key_slices is empty; give slice numbers, or null for slices spread over a volume"
            )

    def choice(self) -> SampleChoice:
        """How samples are picked."""
        return SampleChoice(self.samples, count=self.max_samples, seed=self.seed)
