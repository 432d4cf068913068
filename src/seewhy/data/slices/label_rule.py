"""From a slice's lesion area to its image-level label: the rules that the papers use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seewhy.errors import ConfigError, nearest

__all__ = ["RULES", "LabelRule"]

RULES = ("any", "area", "fraction")
AME_CAM_FRACTION = 0.01


@dataclass(frozen=True)
class LabelRule:
    """When a slice counts as positive.

    - `any`: at least one lesion pixel (AFA's medical forks, WeakMedSAM).
    - `area`: at least `min_area` lesion pixels, so that a slice is not called positive for a sliver.
    - `fraction`: lesion in more than `min_fraction` of the slice's pixels; AME-CAM (Chen et al. 2023) takes .01.

    Attributes:
        name: one of `RULES`.
        min_area: lesion pixels, for `area`.
        min_fraction: share of the slice's pixels in [0, 1), for `fraction`; .01 when not given.
    """

    name: str = "any"
    min_area: int | None = None
    min_fraction: float | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown rule and any number that the rule would not read."""
        if self.name not in RULES:
            raise ConfigError(f"label_rule={self.name!r} is unknown; {nearest(self.name, RULES)}")
        if self.name == "fraction" and self.min_fraction is None:
            object.__setattr__(self, "min_fraction", AME_CAM_FRACTION)
        if self.name != "area" and self.min_area is not None:
            raise ConfigError(f"min_area is read by label_rule='area' only, not by {self.name!r}")
        if self.name != "fraction" and self.min_fraction is not None:
            raise ConfigError(f"min_fraction is read by label_rule='fraction' only, not by {self.name!r}")
        if self.name == "area" and (self.min_area is None or self.min_area < 1):
            raise ConfigError(f"label_rule='area' needs min_area of at least 1 pixel, got {self.min_area}")
        if self.min_fraction is not None and not 0 <= self.min_fraction < 1:
            raise ConfigError(f"min_fraction={self.min_fraction} is outside [0, 1)")

    def label(self, area: int, pixels: int) -> int:
        """1 for a positive slice, else 0.

        Args:
            area: lesion pixels.
            pixels: all pixels of the slice.
        """
        if self.name == "area":
            return int(area >= (self.min_area or 1))
        if self.name == "fraction":
            return int(area > (self.min_fraction or 0.0) * pixels)
        return int(area > 0)

    def record(self) -> dict[str, Any]:
        """The rule as the keys of dataset.json."""
        return {"label_rule": self.name, "min_area": self.min_area, "min_fraction": self.min_fraction}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LabelRule | None:
        """The rule that a dataset.json states, or None where it states none that we know."""
        if record.get("label_rule") not in RULES:
            return None
        try:
            return cls(record["label_rule"], record.get("min_area"), record.get("min_fraction"))
        except (ConfigError, TypeError):
            return None
