"""Classes to explain, and contrasts of two classes: names and indices, for all samples or for each."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from seewhy.errors import ConfigError, ExplanationError, nearest

__all__ = [
    "PREDICTED",
    "RUNNER_UP",
    "Contrast",
    "Target",
    "find_class",
    "find_contrast",
    "find_runner_up",
    "predict_classes",
    "resolve_targets",
]

Target: TypeAlias = int | str | Tensor | Sequence[int | str] | None
"""Class index or name of all samples or of each sample; None is the predicted class.

A contrast explains the difference of two classes' scores, i.e. why the first and not the second: `early-normal`, `1-0`,
`predicted-normal`, or `predicted-runner_up`, whose second class has the highest score of all but the first. A tensor
of contrasts has pairs of indices, [B, 2].
"""
Contrast: TypeAlias = "tuple[int | str, int | str]"
"""Two classes; each is an index or a word."""
PREDICTED = "predicted"
RUNNER_UP = "runner_up"


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


def find_contrast(
    wanted: str, names: Sequence[str], count: int, option: str, *, words: Sequence[str] = (PREDICTED,)
) -> Contrast | None:
    """Find the two classes of a contrast `a-b`; None for a text that is a class or has no hyphen.

    Args:
        wanted: text.
        names: of the classes; may be empty. They may contain hyphens.
        count: number of classes.
        option: name of the option, for messages.
        words: what may stand for a class on both sides; `runner_up` may always stand on the right.

    Raises:
        ConfigError: no such class, a class contrasted with itself, or several ways to split the text.

    Example:
        >>> from seewhy.explain.targets import find_contrast
        >>> find_contrast("early-normal", ("normal", "early"), 2, "target")
        (1, 0)
        >>> find_contrast("predicted-runner_up", (), 2, "target"), find_contrast("early", ("early",), 2, "target")
        (('predicted', 'runner_up'), None)
    """
    if wanted in names:
        return None
    cuts = [position for position, letter in enumerate(wanted) if letter == "-" and 0 < position < len(wanted) - 1]
    sides = [(wanted[:cut], (*words,)) for cut in cuts], [(wanted[cut + 1 :], (*words, RUNNER_UP)) for cut in cuts]
    found: list[Contrast] = []
    errors: list[ConfigError] = []
    for left, right in zip(*sides, strict=True):
        try:
            first, second = (
                text if text in allowed else find_class(text, names, count, option, others=allowed)
                for text, allowed in (left, right)
            )
        except ConfigError as problem:
            errors.append(problem)
        else:
            found.append((first, second))
    if len(errors) == 1 and not found:
        raise errors[0]
    if not found:  # without a hyphen, or with so many that only the whole text can be reported
        return None
    if len(found) > 1:
        raise ConfigError(f"{option}={wanted!r} can be read in {len(found)} ways; give the classes' numbers, e.g. 1-0")
    if found[0][0] == found[0][1]:
        raise ConfigError(
            f"{option}={wanted!r} contrasts a class with itself; expected two classes, e.g. predicted-runner_up"
        )
    return found[0]


def predict_classes(scores: Tensor) -> Tensor:
    """Return the predicted class of each row of scores [B, K], [B] int64; a single column is the logit of class 1."""
    return (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(dim=1)


def find_runner_up(scores: Tensor, target: Tensor) -> Tensor:
    """Return the class with the highest score of all but the target.

    Args:
        scores: [B, K] finite.
        target: [B] int64.

    Example:
        >>> import torch
        >>> from seewhy.explain.targets import find_runner_up
        >>> find_runner_up(torch.tensor([[3.0, 1.0, 2.0]] * 2), torch.tensor([0, 2]))
        tensor([2, 0])
    """
    if scores.shape[1] == 1:
        return 1 - target
    return scores.scatter(1, target[:, None], -torch.inf).argmax(dim=1)


def resolve_targets(target: Target, scores: Tensor, names: Sequence[str]) -> Tensor:
    """Resolve a target to the class index of each sample, [B] int64; or contrasts to pairs of indices, [B, 2].

    Args:
        target: class index or name, one per sample or one for all, or None for the predicted class.
        scores: [B, K] of the unchanged inputs.
        names: of the classes; may be empty.

    Raises:
        ConfigError: a class that does not exist, or a wrong number of classes.
        ExplanationError: scores that are not finite, or a sample whose class would be contrasted with itself.

    Example:
        >>> import torch
        >>> from seewhy.explain.targets import resolve_targets
        >>> resolve_targets(["early", 0], torch.zeros(2, 2), ("normal", "early"))
        tensor([1, 0])
        >>> resolve_targets("predicted-runner_up", torch.tensor([[1.0, 3.0, 2.0]]), ())
        tensor([[1, 2]])
    """
    broken = [row for row, finite in enumerate(scores.isfinite().all(dim=1).tolist()) if not finite]
    if broken:
        raise ExplanationError(
            f"the scores of sample {', '.join(map(str, broken))} of {len(scores)} are not finite "
            f"({scores[broken[0]].tolist()}); check the image and the weights"
        )
    if target is None:
        return predict_classes(scores)
    given = target.tolist() if isinstance(target, Tensor | np.ndarray) else target
    items = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given] * len(scores)
    pairs = [isinstance(item, list) and len(item) == 2 for item in items]
    if len(items) != len(scores) or not all(
        pair or isinstance(item, Integral | str) for pair, item in zip(pairs, items, strict=True)
    ):
        raise ConfigError(f"target={target!r}: expected one class, or one for each of {len(scores)} samples")
    classes = max(scores.shape[1], 2)  # a single column has the classes 0 and 1
    found = [_resolve_item(item, scores[row : row + 1], names, classes) for row, item in enumerate(items)]
    if len({len(item) for item in found}) > 1:
        raise ConfigError(f"target={target!r} mixes classes and contrasts of two classes; expected one kind")
    resolved = torch.tensor(found, device=scores.device)
    same = [row for row, item in enumerate(found) if len(set(item)) < len(item)]
    if same:
        name = names[found[same[0]][0]] if names else str(found[same[0]][0])
        raise ExplanationError(f"class {name} would be contrasted with itself; contrast with runner_up instead")
    return resolved if resolved.shape[1] == 2 else resolved[:, 0]


def _resolve_item(item: object, scores: Tensor, names: Sequence[str], classes: int) -> list[int]:
    """Resolve the target of one sample, whose scores are [1, K], to one class or two."""
    pair = tuple(item) if isinstance(item, list) else None
    if isinstance(item, str):
        pair = find_contrast(item, names, classes, "target")
    if pair is None:
        return [find_class(item, names, classes, "target")]
    first, second = pair
    first = int(predict_classes(scores)) if first == PREDICTED else find_class(first, names, classes, "target")
    if second == RUNNER_UP:
        return [first, int(find_runner_up(scores, torch.tensor([first], device=scores.device)))]
    second = int(predict_classes(scores)) if second == PREDICTED else find_class(second, names, classes, "target")
    return [first, second]
