"""Rules for the image-level label of a slice, given the area of its lesion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seewhy.errors import ConfigError
from seewhy.options import check_choice

__all__ = ["RULES", "LabelRule"]

RULES = ("any", "area", "fraction")
AME_CAM_FRACTION = 0.01


@dataclass(frozen=True)
class LabelRule:
    """Decides whether a slice is positive.

    - `any`: at least one lesion pixel (AFA's medical forks, WeakMedSAM).
    - `area`: at least `min_area` lesion pixels, so that a thin rim does not make a slice positive.
    - `fraction`: lesion in more than `min_fraction` of the slice's pixels; AME-CAM (Chen et al. 2023) uses 0.01.

    Attributes:
        name: one of `RULES`.
        min_area: lesion pixels, for `area`.
        min_fraction: share of the slice's pixels in [0, 1), for `fraction`; 0.01 if not given.

    Example:
        >>> LabelRule("area", min_area=5).label(area=4, pixels=100)
        0
        >>> LabelRule("fraction", min_fraction=0.03).label(area=4, pixels=100)
        1
    """

    name: str = "any"
    min_area: int | None = None
    min_fraction: float | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown rule and any number that the rule does not read."""
        check_choice(self.name, RULES, "label_rule")
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
        """Rule of a dataset.json, or None if it has none that is valid."""
        if record.get("label_rule") not in RULES:
            return None
        try:
            return cls(record["label_rule"], record.get("min_area"), record.get("min_fraction"))
        except (ConfigError, TypeError):
            return None
