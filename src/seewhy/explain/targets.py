"""Classes to explain: names and indices, for all samples or for each."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from seewhy.errors import ConfigError, ExplanationError, nearest

__all__ = ["Target", "find_class", "resolve_targets"]

Target: TypeAlias = int | str | Tensor | Sequence[int | str] | None
"""Class index or name of all samples or of each sample; None is the predicted class."""


def find_class(wanted: object, names: Sequence[str], count: int, option: str, *, others: Sequence[str] = ()) -> int:
    """Find the index of a class by its name or index.

    Args:
        wanted: name, index, or index as text.
        names: of the classes, in order; may be empty.
        count: number of classes.
        option: name of the option, for messages.
        others: further values of the option, for messages.

    Raises:
        ConfigError: no such class.

    Example:
        >>> from seewhy.explain.targets import find_class
        >>> find_class("early", ("normal", "early"), 2, "target")
        1
        >>> find_class("erly", ("normal", "early"), 2, "target")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: target='erly' is not a class; nearest: 'early'
    """
    if isinstance(wanted, str) and wanted in names:
        return list(names).index(wanted)
    is_index = isinstance(wanted, Integral) and not isinstance(wanted, bool)
    if is_index or (isinstance(wanted, str) and wanted.isdecimal()):
        index = int(wanted)  # type: ignore[call-overload]
        if 0 <= index < count:
            return index
    elif isinstance(wanted, str) and (names or others):
        raise ConfigError(f"{option}={wanted!r} is not a class; {nearest(wanted, [*names, *others])}")
    listed = f" ({', '.join(names)})" if names else ""
    raise ConfigError(f"{option}={wanted!r} is not a class; expected 0 to {count - 1}{listed}")


def resolve_targets(target: Target, scores: Tensor, names: Sequence[str]) -> Tensor:
    """Resolve a target to the class index of each sample, [B] int64.

    Args:
        target: class index or name, one per sample or one for all, or None for the predicted class.
        scores: [B, K] of the unchanged inputs.
        names: of the classes; may be empty.

    Raises:
        ConfigError: a class that does not exist, or a wrong number of classes.
        ExplanationError: scores that are not finite.

    Example:
        >>> import torch
        >>> from seewhy.explain.targets import resolve_targets
        >>> resolve_targets(["early", 0], torch.zeros(2, 2), ("normal", "early"))
        tensor([1, 0])
    """
    broken = [row for row, finite in enumerate(scores.isfinite().all(dim=1).tolist()) if not finite]
    if broken:
        raise ExplanationError(
            f"the scores of sample {', '.join(map(str, broken))} of {len(scores)} are not finite "
            f"({scores[broken[0]].tolist()}); check the image and the weights"
        )
    if target is None:
        return (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(dim=1)
    given = target.tolist() if isinstance(target, Tensor | np.ndarray) else target
    items = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given] * len(scores)
    if len(items) != len(scores) or any(not isinstance(item, Integral | str) for item in items):
        raise ConfigError(f"target={target!r}: expected one class, or one for each of {len(scores)} samples")
    classes = max(scores.shape[1], 2)  # a single column has the classes 0 and 1
    found = [find_class(item, names, classes, "target") for item in items]
    return torch.tensor(found, device=scores.device)
