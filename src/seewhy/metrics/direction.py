"""Direction of a score, found by its name: whether lower or higher is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from seewhy.errors import ConfigError

__all__ = ["best_values", "find_best_mode", "find_mode", "is_bound", "is_constant"]

LOWER = ("loss", "error", "mae", "mse", "rmse", "ece", "brier", "nll", "hd95", "assd", "distance", "fid", "kid")
"""Words in names of scores that are better when lower."""
HIGHER = (
    "auroc", "auprc", "auc", "accuracy", "acc", "average_precision", "precision", "recall", "sensitivity",
    "specificity", "f1", "dice", "cldice", "iou", "kappa", "ssim", "psnr", "pearson", "correlation",
)  # fmt: skip
"""Words in names of scores that are better when higher."""


def find_mode(monitor: str, mode: str | None = None, *, option: str = "callbacks.best") -> str:
    """Find whether a score is better when lower (`min`) or higher (`max`), by the last part of its name.

    Args:
        monitor: name of the score.
        mode: `min` or `max`, for names that say nothing; None finds it.
        option: dotted name of the options, for messages.

    Raises:
        ConfigError: the name does not tell, or contradicts `mode`.

    Example:
        >>> find_mode("val/loss"), find_mode("val/prediction/dice"), find_mode("val/floor_prior/balanced_accuracy")
        ('min', 'max', 'max')
        >>> find_mode("val/auroc", "min")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: callbacks.best.mode=min contradicts callbacks.best.monitor='val/auroc', ...
    """
    if mode not in (None, "min", "max"):
        raise ConfigError(f"{option}.mode={mode!r} is unknown; valid: 'min', 'max', or null to find it by the name")
    name = monitor.rsplit("/", 1)[-1].lower()
    words = {name, *name.split("_")}
    known = {direction for direction, names in (("min", LOWER), ("max", HIGHER)) if words & set(names)}
    if len(known) != 1:
        if mode is None:
            raise ConfigError(
                f"{option}.monitor={monitor!r} does not tell whether lower or higher is better; "
                f"add {option}.mode=min or {option}.mode=max"
            )
        return mode
    found = known.pop()
    if mode not in (None, found):
        better = "lower" if found == "min" else "higher"
        raise ConfigError(
            f"{option}.mode={mode} contradicts {option}.monitor={monitor!r}, which is better when {better}; "
            f"set {option}.mode={found}"
        )
    return found


def best_values(history: Iterable[Mapping[str, Any]], modes: Mapping[str, str] | None = None) -> dict[str, float]:
    """Find the best value of every validation score in the rows of `metrics.csv`.

    Scores whose name does not tell a direction are left out, and so are floors.

    Args:
        history: rows, score → number or text; empty cells are skipped.
        modes: score → `min` or `max`, for names that say nothing.

    Example:
        >>> best_values([{"val/loss": "2.0", "val/cases": "4"}, {"val/loss": ""}, {"val/loss": "0.5"}])
        {'val/loss': 0.5}
    """
    best: dict[str, float] = {}
    for row in history:
        for name, cell in row.items():
            mode = find_best_mode(name, modes)
            if mode is None or cell in ("", None):
                continue
            value = float(cell)
            choose = min if mode == "min" else max
            if math.isfinite(value):
                best[name] = choose(best.get(name, value), value)
    return best


def find_best_mode(name: str, modes: Mapping[str, str] | None = None) -> str | None:
    """Return `min` or `max` for a validation score that has a best value; None for floors and for other names."""
    if not name.startswith("val/") or is_constant(name):
        return None
    if modes and name in modes:
        return modes[name]
    parts = name.split("/")
    for last in (len(parts), len(parts) - 1):  # a score of one class ends in the name of the class
        try:
            return find_mode("/".join(parts[:last]))
        except ConfigError:
            continue
    return None


COUNTS = ("patients", "patients_with_lesion", "cases", "samples", "volumes", "lesion_share")
"""Last words of names of numbers that describe the data, not the model."""


def is_constant(name: str) -> bool:
    """Whether a logged number is a floor or a count, which no training changes.

    Example:
        >>> is_constant("val/floor_majority/accuracy"), is_constant("test/patients"), is_constant("val/auroc")
        (True, True, False)
    """
    parts = name.split("/")
    return parts[-1] in COUNTS or any(part.startswith(("floor_", "ideal")) for part in parts)


def is_bound(name: str) -> bool:
    """Whether a logged number is a bound of an interval (`test/auroc_low`)."""
    return name.endswith(("_low", "_high"))
