"""Options of a configuration: check names and types, suggest the nearest valid name, call what takes them.

Options are plain data, as YAML gives them. Every problem of a set of options is reported at once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from seewhy.errors import ConfigError, nearest
from seewhy.option_types import find_value_problem, list_checks, parameter_types

__all__ = [
    "OptionsOf",
    "accepted_options",
    "call_problems",
    "call_with_options",
    "check_choice",
    "check_fields",
    "check_options",
    "choice_problems",
    "collect_problem",
    "flatten_options",
    "option_problems",
    "parse_options",
    "quote_value",
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
        ConfigError: options that the factory does not have, and values of wrong types; all of them at once.

    Example:
        >>> from seewhy.data.transforms.augmentation import Augmentation
        >>> call_with_options(Augmentation, {"flip": 1.0}, "data.augmentation").flip
        1.0
        >>> call_with_options(Augmentation, {"flips": 1.0}, "data.augmentation")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: unknown option `data.augmentation.flips` of Augmentation; nearest: 'flip'
    """
    options = dict(options or {})
    problems = call_problems(factory, options, where, fixed=fixed)
    if problems:
        raise ConfigError("; ".join(problems))
    return factory(**options, **fixed)


def call_problems(
    factory: Callable[..., Any], options: Mapping[str, Any], where: str, *, fixed: Iterable[str] = ()
) -> list[str]:
    """List the problems of options as keyword arguments: names and values that a class or function does not take.

    Args:
        factory: a class or function with named parameters.
        options: option name → value.
        where: dotted name of the options in the configuration, for messages.
        fixed: parameters that the user cannot set.

    Example:
        >>> from seewhy.data.transforms.augmentation import Augmentation
        >>> call_problems(Augmentation, {"flip": "often", "shfit": 1}, "data.augmentation")[1]
        "data.augmentation.flip='often' must be a number, from 0 to 1"
    """
    valid, name = accepted_options(factory), getattr(factory, "__name__", "_")
    problems = []
    if valid is not None:
        free = [key for key in valid if key not in set(fixed)]
        problems = option_problems(options, free, where, of="" if name[0] == "_" else name)
    hints = parameter_types(factory)
    for key in (key for key in options if key in hints):
        problems += _find_problems(options[key], hints[key], f"{where}.{key}")
    return problems


def _find_problems(value: Any, hint: Any, option: str) -> list[str]:
    """List the problems of a value; a callable in `Annotated[…]` checks values that have the type."""
    problem = find_value_problem(value, hint, option)
    if problem is not None:
        return [problem]
    return [found for check in list_checks(hint) if value is not None for found in check(value, option)]


@dataclass(frozen=True)
class OptionsOf:
    """Mark a mapping as keyword arguments: `Annotated[Mapping[str, Any], OptionsOf(Pooling)]`.

    A dataclass is made from them too, so that the checks of its own are part of the check.

    Args:
        factory: the class or function.
        fixed: parameters that the user cannot set.

    Example:
        >>> from seewhy.data.transforms.augmentation import Augmentation
        >>> OptionsOf(Augmentation)({"flip": True}, "data.augmentation")
        ['data.augmentation.flip=True must be a number, from 0 to 1']
    """

    factory: Callable[..., Any]
    fixed: tuple[str, ...] = ()

    def __call__(self, values: Mapping[str, Any], option: str) -> list[str]:
        """List the problems of values."""
        problems = call_problems(self.factory, values, option, fixed=self.fixed)
        if not problems and is_dataclass(self.factory):
            problems = collect_problem(lambda: self.factory(**values))
        return problems


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


def parse_options(kind: type[T], values: Any, *, where: str) -> T:
    """Make a dataclass from options, after checking their names and values against its fields.

    A single string is accepted where a list of strings is expected, and a mapping where a dataclass is.

    Args:
        kind: a dataclass.
        values: option name → value, as plain data; None means no options.
        where: dotted name of the options in the configuration, e.g. `cases`.

    Raises:
        ConfigError: all unknown, missing and wrong options.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Window:
        ...     low: float = 0.5
        ...     high: float = 99.5
        >>> parse_options(Window, {"low": "1 %", "high": 99}, where="data.window")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: data.window.low='1 %' must be a number
    """
    options, problems = _read_fields(kind, {} if values is None else values, where)
    if problems:
        raise ConfigError("; ".join(problems))
    return kind(**options)


def check_fields(options: Any, where: str) -> None:
    """Check the values of a dataclass's fields against their types, for those who make it without `parse_options`.

    Raises:
        ConfigError: all values of wrong types or out of range.
    """
    hints = get_type_hints(type(options), include_extras=True)
    values = {field.name: vars(options)[field.name] for field in fields(options)}
    problems = [wrong for key, value in values.items() for wrong in _find_problems(value, hints[key], f"{where}.{key}")]
    if problems:
        raise ConfigError("; ".join(problems))


def flatten_options(node: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested plain data to dotted names.

    Example:
        >>> flatten_options({"data": {"batch_size": 4, "fractions": [0.5, 0.5]}})
        {'data.batch_size': 4, 'data.fractions': [0.5, 0.5]}
    """
    if not isinstance(node, Mapping) or not node:
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flatten_options(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def quote_value(text: str) -> str:
    r"""Quote a text as a value of Hydra's grammar.

    Example:
        >>> print(quote_value("it's here"))
        'it\'s here'
    """
    inner = re.sub(r"(\\*)(')", lambda match: match[1] * 2 + "\\'", text)
    inner = re.sub(r"(\\+)$", lambda match: match[1] * 2, inner)
    return f"'{inner}'"


def collect_problem(check: Callable[[], object]) -> list[str]:
    """Return the message of the ConfigError that a check raises as a list; empty if it raises none."""
    try:
        check()
    except ConfigError as error:
        return [str(error)]
    return []


def _read_fields(kind: type, values: Any, where: str) -> tuple[dict[str, Any], list[str]]:
    """Return the options of a dataclass with those of dataclasses in it made, and one message per problem."""
    if not isinstance(values, Mapping):
        return {}, [f"{where}={values!r} must be a mapping from option names to values"]
    hints = get_type_hints(kind, include_extras=True)
    entries = {field.name: field for field in fields(kind)}
    problems = option_problems(values, entries, where)
    problems += [
        f"{where}.{name} is missing"
        for name, field in entries.items()
        if name not in values and field.default is MISSING and field.default_factory is MISSING
    ]
    options: dict[str, Any] = {}
    for name in (name for name in entries if name in values):
        hint, value, option = hints[name], values[name], f"{where}.{name}"
        if is_dataclass(hint) and isinstance(hint, type):
            inner, wrong = _read_fields(hint, {} if value is None else value, option)
            problems += wrong
            options[name] = None if wrong else hint(**inner)
        elif wrong := _find_problems(value, hint, option):
            if isinstance(value, str) and not _find_problems([value], hint, option):
                options[name] = (value,)
            else:
                problems += wrong
        else:
            options[name] = value
    return options, problems
