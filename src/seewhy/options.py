"""Options of a configuration checked against the fields of the dataclass that takes them.

From a mapping of options to an object, with every mistyped name answered.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from seewhy.errors import ConfigError, nearest

__all__ = ["fill", "typed_options"]

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


WORDS = {int: "a whole number", float: "a number", str: "a text", NoneType: "null"}
LIST = "a list of names"


def typed_options(kind: type, values: Any, *, where: str) -> tuple[dict[str, Any], list[str]]:
    """Options as the fields of a dataclass have them, and all that is wrong with their names and types.

    A plain text counts as a list of one where a list is expected.

    Args:
        kind: a dataclass whose fields are `int`, `float`, `str`, lists of `str`, or one of these or None. Fields of
            other types are not looked at.
        values: options as plain data.
        where: where they stand, e.g. `cases`.

    Returns:
        The options of right names and types; and problems in words, none where all is well.
    """
    if not isinstance(values, Mapping):
        return {}, [f"{where}={values!r} must be options, each with its name"]
    hints = get_type_hints(kind)
    own = {field.name: field for field in fields(kind)}
    problems = [f"{where}.{name} is no option; {nearest(str(name), own)}" for name in values if name not in own]
    problems += [
        f"{where}.{name} is missing"
        for name, field in own.items()
        if name not in values and field.default is MISSING and field.default_factory is MISSING
    ]
    found = {}
    for name in own:
        if name in values:
            hint, value = hints[name], values[name]
            kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
            if any(_is(value, one) for one in kinds):
                found[name] = (value,) if isinstance(value, str) and any(map(_lists, kinds)) else value
            else:
                words = " or ".join(LIST if _lists(one) else WORDS[one] for one in kinds)
                problems.append(f"{where}.{name}={value!r} must be {words}")
    return found, problems


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; true and false are no numbers."""
    if _lists(kind):
        return isinstance(value, str) or (
            isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
        )
    if kind not in WORDS:
        return True
    wider = (int, float) if kind is float else kind
    return isinstance(value, wider) and not isinstance(value, bool)


def _lists(kind: Any) -> bool:
    return get_origin(kind) in (tuple, Sequence)
