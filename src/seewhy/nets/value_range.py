"""The range of values that a network was trained on, where it is not that of our batches."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor

from seewhy.errors import ConfigError, nearest

__all__ = ["ValueRange", "check_range", "from_net", "to_net"]

ValueRange: TypeAlias = Literal["symmetric", "unit"]
"""symmetric: [-1, 1], as in our batches; unit: [0, 1], as the published networks were trained."""
RANGES = ("symmetric", "unit")


def check_range(name: str, where: str) -> ValueRange:
    """The name of a range, if there is such a one.

    Args:
        name: of the range.
        where: dotted name of the option, for the message.

    Raises:
        ConfigError: no such range.
    """
    if name not in RANGES:
        raise ConfigError(f"{where}={name!r} is unknown; {nearest(name, RANGES)}")
    return "unit" if name == "unit" else "symmetric"


def to_net(values: Tensor, value_range: ValueRange) -> Tensor:
    """Values in [-1, 1] as a network takes them; -1 is 0 in `unit`."""
    return (values + 1) / 2 if value_range == "unit" else values


def from_net(values: Tensor, value_range: ValueRange) -> Tensor:
    """The inverse of `to_net`."""
    return values * 2 - 1 if value_range == "unit" else values
