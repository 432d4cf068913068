"""Cut volumes into the slices of a prepared data set, and label the slices by the area of their lesion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError, DataError
from seewhy.options import check_choice
from seewhy_run.arrays.slicing import cut_volumes
from seewhy_run.errors import RunError

__all__ = ["RULES", "LabelRule", "cut_slices"]

RULES = ("any", "area", "fraction")
AME_CAM_FRACTION = 0.01


def cut_slices(
    images: Mapping[int, NDArray[Any]], *, window: str, dtype: str, every: int = 1, tissue_only: bool = False
) -> dict[int, NDArray[Any]]:
    """Choose the slices of a volume, and convert them to what is stored.

    Args:
        images: number → slice [rows, columns], or [modalities, rows, columns] of several volumes on one grid; all
            slices in order. Each modality has its own window; a slice is kept where any of them shows tissue.
        window: `minmax`, `percentile` or `none`, see `seewhy_run.arrays.slicing.find_value_range`.
        dtype: of the stored slices, see `seewhy_run.arrays.slicing.convert_intensities`.
        every: keep slices 0, n, 2n … of the volume.
        tissue_only: leave out slices in which less than 1 % of the pixels differ from the background.

    Returns:
        Number of the slice → its stored values.

    Raises:
        DataError: no slice is left, or values that do not fit the window or the type.

    Example:
        >>> import numpy as np
        >>> head = np.zeros((8, 8))
        >>> head[2:6, 2:6] = 2
        >>> cut = cut_slices({0: np.zeros((8, 8)), 1: head}, window="minmax", dtype="float32", tissue_only=True)
        >>> list(cut), float(cut[1].max())
        ([1], 1.0)
    """
    single = next(iter(images.values())).ndim == 2
    volumes = [list(images.values())] if single else [list(planes) for planes in zip(*images.values(), strict=True)]
    options = {"window": window, "dtype": dtype, "every": every, "tissue_only": tissue_only}
    try:
        kept, cut = cut_volumes(volumes, numbers=list(images), **options)  # type: ignore[arg-type]
        slices = cut[0] if single else [np.stack(planes) for planes in zip(*cut, strict=True)]
        return dict(zip(kept, slices, strict=True))
    except RunError as error:
        raise DataError(str(error)) from None


# -- labels ---------------------------------------------------------------------------------------------------


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
