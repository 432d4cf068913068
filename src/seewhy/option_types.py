"""Check plain values of options against type hints, and aliases for numbers with limits."""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from functools import cache
from numbers import Integral, Real
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from seewhy.errors import ConfigError, nearest

__all__ = [
    "BatchSize",
    "Fraction",
    "MemorySize",
    "NonNegativeFloat",
    "NonNegativeInt",
    "OpenFraction",
    "Percent",
    "PositiveFloat",
    "PositiveInt",
    "Seed",
    "find_value_problem",
    "list_checks",
    "parameter_types",
    "parse_bytes",
]

PositiveInt: TypeAlias = Annotated[int, Ge(1)]
NonNegativeInt: TypeAlias = Annotated[int, Ge(0)]
PositiveFloat: TypeAlias = Annotated[float, Gt(0)]
NonNegativeFloat: TypeAlias = Annotated[float, Ge(0)]
Fraction: TypeAlias = Annotated[float, Ge(0), Le(1)]
Percent: TypeAlias = Annotated[float, Ge(0), Le(100)]
OpenFraction: TypeAlias = Annotated[float, Gt(0), Lt(1)]
BatchSize: TypeAlias = Annotated[int, Ge(1), Le(65_536)]
"""More samples than that in one step are a mistyped number, and drawing them takes all memory."""
Seed: TypeAlias = Annotated[int, Ge(0), Lt(2**32)]
"""Seed that Python, NumPy and PyTorch all take."""

LIMITS = {Ge: "{} or more", Gt: "above {}", Le: "{} or less", Lt: "below {}"}
"""Kind of a limit → words."""
PLAIN = {int: "an integer", float: "a number", str: "a string", bool: "true or false", types.NoneType: "null"}
PLURALS = {int: "integers", float: "numbers", str: "strings", bool: "true or false"}


def find_value_problem(value: Any, hint: Any, option: str) -> str | None:
    """Return what is wrong with the value of an option; None if it fits, or if the type hint cannot be checked.

    Booleans, NaN and infinities are not numbers, text is not a list, and a number is not text. A value for a class is
    one that the class may convert: text or a mapping, but not a number.

    Args:
        value: plain data, as YAML gives them, or an object.
        hint: type hint, which may have limits, e.g. `Annotated[int, Ge(1)]`.
        option: dotted name of the option.

    Example:
        >>> from seewhy.option_types import PositiveInt, find_value_problem
        >>> find_value_problem(0, PositiveInt | None, "data.batch_size")
        'data.batch_size=0 must be an integer, 1 or more, or null'
        >>> find_value_problem([0.7, "a"], tuple[float, float], "data.fractions")
        "data.fractions=[0.7, 'a'] must be a list of 2 numbers"
        >>> find_value_problem(["bset"], list[Literal["best", "worst"]], "cases.categories")
        "cases.categories: 'bset' is unknown; nearest: 'best'"
    """
    if _fits(value, hint):
        return None
    choices = [choice for choice in _list_choices(hint) if isinstance(choice, str)]
    if choices and isinstance(value, str):
        others = [part for part in _list_parts(hint) if get_origin(part) is not Literal]
        rest = f", or {' or '.join(map(_describe, others))}" if others else ""
        return f"{option}={value!r} is unknown; {nearest(value, choices)}{rest}"
    allowed = [choice for part in _list_parts(hint) for item in get_args(part) for choice in _list_choices(item)]
    unknown = [item for item in _list_items(value) if isinstance(item, str) and item not in allowed]
    if allowed and unknown:
        return f"{option}: {unknown[0]!r} is unknown; {nearest(unknown[0], allowed)}"
    return f"{option}={value!r} must be {_describe(hint)}"


def _list_items(value: Any) -> list[Any]:
    """List the items of a list; a single text is one."""
    return list(value) if isinstance(value, list | tuple) else [value]


@cache
def parameter_types(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return parameter → type hint of a class or function; hints that cannot be resolved are left out.

    Example:
        >>> from seewhy.io.geometry import Display
        >>> parameter_types(Display)["transpose"]
        <class 'bool'>
    """
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some built-in types have no signature
        return {}
    owners = [vars(kind).get("__init__", kind) for kind in factory.__mro__] if isinstance(factory, type) else [factory]
    scopes = [vars(kind) for kind in map(inspect.getmodule, getattr(factory, "__mro__", ())) if kind]
    scopes += [getattr(inspect.unwrap(owner), "__globals__", {}) for owner in owners]
    hints = {}
    for parameter in parameters:
        hint = parameter.annotation
        for scope in scopes if isinstance(hint, str) else ():
            with suppress(Exception):  # a name that only type checkers import, or a type that this Python lacks
                hint = eval(hint, dict(scope))
                break
        if not isinstance(hint, str) and hint is not parameter.empty:
            hints[parameter.name] = hint if parameter.default is not None else Union[hint, None]  # noqa: UP007
    return hints


def list_checks(hint: Any) -> list[Callable[[Any, str], list[str]]]:
    """List the callables in a hint's `Annotated[…]`: (value, option) → problems of a value that has the type."""
    return [item for part in _list_parts(hint) for item in getattr(part, "__metadata__", ()) if callable(item)]


def _list_parts(hint: Any) -> list[Any]:
    """List the members of a union; of other hints, the hint itself."""
    if get_origin(hint) in (Union, types.UnionType):
        return [part for member in get_args(hint) for part in _list_parts(member)]
    return [hint]


def _list_choices(hint: Any) -> list[Any]:
    return [choice for part in _list_parts(hint) if get_origin(part) is Literal for choice in get_args(part)]


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, arguments[0]) and all(_keeps_limit(value, limit) for limit in arguments[1:])
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if hint is None or hint is types.NoneType:
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hint is float:  # NaN is smaller, greater than and equal to nothing, so that no later check would find it
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if hint is str:
        return isinstance(value, str)
    kind = origin or hint
    if not isinstance(kind, type) or kind in (Any, object):  # or a type variable, a forward reference
        return True
    if issubclass(kind, PurePath):
        return isinstance(value, str | kind)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and (
            len(arguments) < 2 or all(_fits(item, arguments[1]) for item in value.values())
        )
    if _is_list(kind):
        return _fits_collection(value, kind, arguments)
    return not isinstance(value, Real | types.NoneType) or (issubclass(kind, Real) and isinstance(value, kind))


def _is_list(kind: type) -> bool:
    """Test for a built-in or abstract collection; tensors and arrays have its methods, but are not plain data."""
    return issubclass(kind, Iterable) and kind.__module__ in ("builtins", "collections.abc")


def _fits_collection(value: Any, kind: type, arguments: tuple[Any, ...]) -> bool:
    if isinstance(value, str | Mapping) or not isinstance(value, Collection):
        return False
    if issubclass(kind, tuple) and arguments and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    return not arguments or all(_fits(item, arguments[0]) for item in value)


def _bound_of(limit: Any) -> Any:
    """Return the number of a limit."""
    (bound,) = astuple(limit)
    return bound


def _keeps_limit(value: Any, limit: Any) -> bool:
    if type(limit) not in LIMITS:
        return True
    bound = _bound_of(limit)
    if not isinstance(value, Real) or not math.isfinite(value):
        return False
    return {Ge: value >= bound, Gt: value > bound, Le: value <= bound, Lt: value < bound}[type(limit)]


def _describe(hint: Any, *, plural: bool = False) -> str:
    """Describe the values that fit a hint, for the end of a message."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [limit for limit in arguments[1:] if type(limit) in LIMITS]
        words = [LIMITS[type(limit)].format(_bound_of(limit)) for limit in limits]
        if [type(limit) for limit in limits] == [Ge, Le]:
            words = [f"from {limits[0].ge} to {limits[1].le}"]
        return ", ".join([_describe(arguments[0], plural=plural), *filter(None, [" and ".join(words)])])
    if origin in (Union, types.UnionType):
        parts = [_describe(part, plural=plural) for part in _list_parts(hint)]
        comma = "," if any("," in part for part in parts) else ""
        return f"{comma} or ".join(dict.fromkeys(parts))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    names = PLURALS if plural else PLAIN
    kind = types.NoneType if hint is None else origin or hint
    if not isinstance(kind, type) or kind in names:
        return names.get(kind, "another value")
    if issubclass(kind, Mapping):
        return "mappings" if plural else "a mapping"
    if _is_list(kind):
        return _describe_collection(kind, arguments, plural=plural)
    return "a path" if issubclass(kind, PurePath) else f"a {kind.__name__}"


def _describe_collection(kind: type, arguments: Sequence[Any], *, plural: bool) -> str:
    lists = "lists" if plural else "a list"
    if not arguments:
        return lists
    fixed = issubclass(kind, tuple) and arguments[-1] is not Ellipsis
    items = _describe(arguments[0], plural=True)
    return f"{lists} of {f'{len(arguments)} ' if fixed else ''}{items}"


def parse_bytes(size: float | str) -> int:
    """Convert "8 GB", "512MiB" or a plain number to bytes.

    Raises:
        ConfigError: anything else, or less than one byte.

    Example:
        >>> from seewhy.option_types import parse_bytes
        >>> parse_bytes("512MiB"), parse_bytes("2 GB"), parse_bytes(1e6)
        (536870912, 2000000000, 1000000)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:e\+?\d+)?)\s*([kmgt]?)(i?)b?\s*", str(size), re.IGNORECASE)
    power = " kmgt".index(match[2].lower() or " ") if match else 0
    count = int(float(match[1]) * (1024 if match[3] else 1000) ** power) if match else 0
    if count < 1:
        raise ConfigError(f"memory_budget={size!r}; expected a size such as '1GiB', '512MiB' or a number of bytes")
    return count


def _find_size_problems(size: float | str, option: str) -> list[str]:
    try:
        parse_bytes(size)
    except ConfigError as error:
        return [str(error).replace("memory_budget", option, 1)]
    return []


MemorySize: TypeAlias = Annotated[float | str, _find_size_problems]
"""A number of bytes, or text such as "1GiB"."""
