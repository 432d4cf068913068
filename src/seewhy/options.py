"""Options of a configuration: check names and types, suggest the nearest valid name, call what takes them.

Options are plain data, as YAML gives them. Every problem of a set of options is reported at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from seewhy.errors import ConfigError, nearest

__all__ = [
    "accepted_options",
    "call_with_options",
    "check_choice",
    "check_options",
    "choice_problems",
    "option_problems",
    "parse_options",
]

T = TypeVar("T")


def call_with_options(factory: Callable[..., T], options: Mapping[str, Any] | None, where: str, **fixed: Any) -> T:
    """Call a class or function with options as keyword arguments.

    Args:
        factory: a class or function with named parameters.
        options: option name → value; None means no options.
        where: dotted name of the options in the configuration, for messages.
        fixed: further keyword arguments, which the user cannot set.

    Raises:
        ConfigError: options that the factory does not have; all of them at once.

    Example:
        >>> from seewhy.data.transforms.augmentation import Augmentation
        >>> call_with_options(Augmentation, {"flip": 1.0}, "data.augmentation").flip
        1.0
        >>> call_with_options(Augmentation, {"flips": 1.0}, "data.augmentation")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: unknown option `data.augmentation.flips` of Augmentation; nearest: 'flip'
    """
    options = dict(options or {})
    valid = accepted_options(factory)
    if valid is not None:
        name = getattr(factory, "__name__", "_")
        check_options(options, [key for key in valid if key not in fixed], where, of="" if name[0] == "_" else name)
    return factory(**options, **fixed)


def accepted_options(factory: Callable[..., Any]) -> list[str] | None:
    """List the parameters of a class or function; None where it takes any, or where Python cannot tell."""
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # some built-in types have no signature
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else list(parameters)


def check_options(names: Iterable[str], valid: Iterable[str], where: str, *, of: str = "") -> None:
    """Raise an error that lists every unknown option with the nearest valid names.

    Args:
        names: of the options that the user gave.
        valid: names that exist.
        where: dotted name of the options in the configuration, e.g. `data.augmentation`.
        of: the class or method that takes the options, for the message.

    Raises:
        ConfigError: any name is not valid.
    """
    problems = option_problems(names, valid, where, of=of)
    if problems:
        raise ConfigError("; ".join(problems))


def option_problems(names: Iterable[str], valid: Iterable[str], where: str, *, of: str = "") -> list[str]:
    """List the problems that `check_options` raises, for callers that collect several kinds.

    Example:
        >>> option_problems(["fold", "spilt_seed"], ["fold", "split_seed"], "data")
        ["unknown option `data.spilt_seed`; nearest: 'split_seed'"]
    """
    valid, taker = list(valid), f" of {of}" if of else ""
    return [
        f"unknown option `{where}.{name}`{taker}; {nearest(str(name), valid)}" for name in names if name not in valid
    ]


def check_choice(value: Any, valid: Iterable[str], option: str, *, others: str = "") -> None:
    """Raise an error if the value of an option is not one of the valid ones.

    Args:
        value: what the user chose.
        valid: values that exist.
        option: dotted name of the option, e.g. `data.normalize`.
        others: description of further valid values, e.g. `a number`.

    Raises:
        ConfigError: the value is not valid; the message has the nearest ones.

    Example:
        >>> check_choice("robust", ("robust", "zscore"), "data.normalize")
        >>> check_choice("zcore", ("robust", "zscore"), "data.normalize")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: data.normalize='zcore' is unknown; nearest: 'zscore'
    """
    problems = choice_problems(value, valid, option, others=others)
    if problems:
        raise ConfigError(problems[0])


def choice_problems(value: Any, valid: Iterable[str], option: str, *, others: str = "") -> list[str]:
    """List the problem that `check_choice` raises, for callers that collect several kinds."""
    valid, rest = list(valid), f", or {others}" if others else ""
    return [] if value in valid else [f"{option}={value!r} is unknown; {nearest(str(value), valid)}{rest}"]


TYPE_NAMES = {int: "an integer", float: "a number", str: "a string", NoneType: "null"}


def parse_options(kind: type, values: Any, *, where: str) -> tuple[dict[str, Any], list[str]]:
    """Check options against the names and types of a dataclass's fields.

    A single string is accepted where a list of strings is expected.

    Args:
        kind: a dataclass whose fields are `int`, `float`, `str`, lists of `str`, or a union of these and None. Fields
            of other types are not checked.
        values: option name → value, as plain data.
        where: dotted name of the options in the configuration, e.g. `cases`.

    Returns:
        The options with valid names and types; and one message per problem.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Window:
        ...     low: float = 0.5
        ...     high: float = 99.5
        >>> parse_options(Window, {"low": "1 %", "high": 99}, where="data.window")
        ({'high': 99}, ["data.window.low='1 %' must be a number"])
    """
    if not isinstance(values, Mapping):
        return {}, [f"{where}={values!r} must be a mapping from option names to values"]
    hints = get_type_hints(kind)
    entries = {field.name: field for field in fields(kind)}
    problems = option_problems(values, entries, where)
    problems += [
        f"{where}.{name} is missing"
        for name, field in entries.items()
        if name not in values and field.default is MISSING and field.default_factory is MISSING
    ]
    accepted = {}
    for name in entries:
        if name in values:
            hint, value = hints[name], values[name]
            types = get_args(hint) if isinstance(hint, UnionType) else (hint,)
            if any(_has_type(value, item) for item in types):
                accepted[name] = (value,) if isinstance(value, str) and any(map(_is_list, types)) else value
            else:
                words = " or ".join("a list of names" if _is_list(item) else TYPE_NAMES[item] for item in types)
                problems.append(f"{where}.{name}={value!r} must be {words}")
    return accepted, problems


def _has_type(value: Any, kind: Any) -> bool:
    """Test a value against a field's type; booleans do not count as numbers."""
    if _is_list(kind):
        items = value if isinstance(value, list | tuple) else [value]
        return all(isinstance(item, str) for item in items)
    if kind not in TYPE_NAMES:
        return True
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) in (tuple, Sequence)
