"""From a mapping of options to an object, with every mistyped name answered."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from seewhy.errors import ConfigError, nearest

__all__ = ["fill"]

T = TypeVar("T")


def fill(factory: Callable[..., T], options: Mapping[str, Any] | None, where: str, **extra: Any) -> T:
    """Call `factory` with options as keywords; None stands for its defaults.

    Args:
        factory: a class or function with named keywords.
        options: plain data, as it stands in the configuration.
        where: dotted name of the options, for messages.
        extra: keywords that are no choice of the user.

    Raises:
        ConfigError: an option the factory does not have; all such options at once.
    """
    options = dict(options or {})
    valid = [name for name in inspect.signature(factory).parameters if name not in extra]
    unknown = [name for name in options if name not in valid]
    if unknown:
        raise ConfigError("; ".join(f"{where}.{name} is no option; {nearest(name, valid)}" for name in unknown))
    return factory(**options, **extra)
