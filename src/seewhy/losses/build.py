"""The losses of case classification, by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from seewhy.errors import ConfigError, nearest
from seewhy.losses.ordinal import EarthMoverLoss, SoftOrdinalLoss
from seewhy.losses.single_label import BinaryLoss, CrossEntropy, FocalLoss
from seewhy.losses.weights import ClassWeights

__all__ = ["LOSSES", "build_loss"]

LOSSES: dict[str, type[ClassWeights]] = {
    "cross_entropy": CrossEntropy,
    "focal": FocalLoss,
    "emd": EarthMoverLoss,
    "soft_ordinal": SoftOrdinalLoss,
    "binary": BinaryLoss,
}


def build_loss(*, num_classes: int, options: Mapping[str, Any]) -> ClassWeights:
    """The loss `options["name"]` with its other options.

    An option may be null where the loss does not have it, so that one file can state the options of several.

    Raises:
        ConfigError: no such loss, or options it does not have.
    """
    given = dict(options)
    name = str(given.pop("name", ""))
    if name not in LOSSES:
        raise ConfigError(f"model.loss.name={name!r} is unknown; {nearest(name, LOSSES)}")
    chosen = {key: value for key, value in given.items() if value is not None}
    valid = [key for key in inspect.signature(LOSSES[name]).parameters if key != "num_classes"]
    unknown = [key for key in chosen if key not in valid]
    if unknown:
        raise ConfigError(
            "; ".join(f"model.loss.{key} is no option of {name}; {nearest(key, valid)}" for key in unknown)
        )
    return LOSSES[name](num_classes=num_classes, **chosen)
