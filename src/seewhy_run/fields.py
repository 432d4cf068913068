"""Build dataclasses from JSON: every key is known, none is missing, and values have the types of the fields."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from inspect import signature
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from seewhy_run.errors import RunError, suggest

__all__ = ["build", "check_names"]

T = TypeVar("T")


def build(kind: type[T], record: Any, where: str) -> T:
    """Build a dataclass from a mapping.

    Args:
        kind: a dataclass whose fields are numbers, text, tuples, dicts, dataclasses, or None.
        record: of JSON.
        where: place of the record, for messages.

    Raises:
        RunError: no mapping, unknown or missing keys, or values of other types.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Point:
        ...     x: int
        >>> build(Point, {"x": 1.5}, "step 1")
        Traceback (most recent call last):
        seewhy_run.errors.RunError: step 1: x is 1.5; expected int
    """
    if not isinstance(record, Mapping):
        raise RunError(f"{where} is {record!r:.60}; expected a mapping")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    unknown = [str(key) for key in record if key not in known]
    if unknown:
        raise RunError(f"{where}: unknown entry {unknown[0]!r}; {suggest(unknown[0], known)}")
    missing = [
        name
        for name, field in known.items()
        if name not in record and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise RunError(f"{where}: {', '.join(missing)} missing")
    hints = get_type_hints(kind)
    values = {name: _convert(value, hints[name], f"{where}: {name}") for name, value in record.items()}
    return kind(**values)


def check_names(function: Callable[..., Any], options: Mapping[str, Any] | None, where: str) -> None:
    """Check that options are keyword arguments of a function.

    Raises:
        RunError: the first that is none.

    Example:
        >>> check_names(build, {"kin": int}, "step 1")
        Traceback (most recent call last):
        seewhy_run.errors.RunError: step 1: unknown entry 'kin'; nearest: 'kind'
    """
    known = signature(function).parameters
    unknown = next((name for name in options or {} if name not in known), None)
    if unknown is not None:
        raise RunError(f"{where}: unknown entry {unknown!r}; {suggest(unknown, known)}")


def _convert(value: Any, hint: Any, where: str) -> Any:
    """The value as the type of a field: lists become tuples, whole numbers become floats where these are expected."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, where)
    if origin is Literal and value in parts and isinstance(value, type(parts[parts.index(value)])):
        return value
    if origin in (Union, types.UnionType):
        for part in parts:
            try:
                return _convert(value, part, where)
            except RunError:
                continue
    elif hint is type(None) and value is None:
        return None
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint in (int, str, bool) and type(value) is hint:
        return value
    elif origin is tuple and isinstance(value, list | tuple):
        kinds = [parts[0]] * len(value) if len(parts) == 2 and parts[1] is Ellipsis else list(parts)
        if len(kinds) == len(value):
            return tuple(_convert(item, kind, where) for item, kind in zip(value, kinds, strict=True))
    elif origin is dict and isinstance(value, Mapping):
        return {_convert(key, parts[0], where): _convert(item, parts[1], where) for key, item in value.items()}
    name = hint.__name__ if isinstance(hint, type) and origin is None else str(hint).replace("typing.", "")
    raise RunError(f"{where} is {value!r:.60}; expected {name}")
