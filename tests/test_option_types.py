"""Values are checked against type hints; what cannot be checked passes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import pytest
from annotated_types import Ge, Lt

from seewhy.option_types import (
    BatchSize,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
    find_value_problem,
    parameter_types,
)

T = TypeVar("T")


class Shape(Protocol):
    sides: int


class Thing:
    pass


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1, int),
        (1, float),
        (1.5, float),
        ("a", str),
        (True, bool),
        (None, None),
        (None, int | None),
        ([1, 2], Sequence[int]),
        ((1, 2), list[int]),
        ([], tuple[int, ...]),
        ([1, 2.5], tuple[int, float]),
        ({"a": 1}, Mapping[str, int]),
        ({"a": "b"}, dict),
        ("a", Literal["a", 1]),
        (1, Literal["a", 1]),
        ("p", Path),
        ("p", str | Path),
        (Path("p"), Path),
        (3, Any),
        ("x", T),
        (["a"], Iterable[str]),
        ("relu", Callable[[int], int]),
        ({"name": "x"}, Thing),
        ("x", Thing),
        (Thing(), Thing),
        ("x", Shape),
        (0, NonNegativeInt),
        (0.5, Fraction),
        (1, Fraction),
        (0, NonNegativeFloat),
        (1e-9, PositiveFloat),
    ],
)
def test_values_that_fit(value, hint):
    assert find_value_problem(value, hint, "a.b") is None


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        ("1", int, "an integer"),
        (1.0, int, "an integer"),
        (True, int, "an integer"),
        (True, float, "a number"),
        (1, str, "a string"),
        (1, bool, "true or false"),
        ("yes", bool, "true or false"),
        ("a", int | None, "an integer or null"),
        ("ab", Sequence[str], "a list of strings"),
        (5, Sequence[str], "a list of strings"),
        ([1, "a"], list[int], "a list of integers"),
        ({"a": 1}, Sequence[int], "a list"),
        ([1], tuple[int, int], "a list of 2 integers"),
        ([1], Mapping[str, int], "a mapping"),
        ({"a": "b"}, Mapping[str, int], "a mapping"),
        ("b", Literal["a", "c"], "unknown; valid: 'a', 'c'"),
        (True, Literal[0, 1], "0 or 1"),
        ("grad", Literal["grid"] | None, "valid: 'grid', or null"),
        (1, Path, "a path"),
        (2, Thing, "a Thing"),
        (0, PositiveInt, "1 or more"),
        (-1, NonNegativeInt, "0 or more"),
        (1.01, Fraction, "from 0 to 1"),
        (float("nan"), float | None, "a number"),
        ([1.0, float("inf")], Sequence[float], "a list of numbers"),
        (float("nan"), Fraction, "from 0 to 1"),
        (float("inf"), PositiveFloat, "above 0"),
        (0, PositiveFloat, "above 0"),
        (10**12, BatchSize, "from 1 to 65536"),
        (2**32, Seed, "0 or more and below 4294967296"),
        (1, Annotated[float, Ge(0), Lt(1)], "0 or more and below 1"),
        ([1, 0], Sequence[PositiveInt], "a list of integers, 1 or more"),
    ],
)
def test_values_that_do_not_fit(value, hint, words):
    problem = find_value_problem(value, hint, "a.b")
    assert problem.startswith(f"a.b={value!r} ")
    assert words in problem


def test_hints_of_a_class_are_those_of_its_constructor_and_unknown_names_are_left_out():
    class Base:
        def __init__(self, size: "int", other: "NotDefined", factor: float = None):  # noqa: F821, RUF013
            pass

    assert parameter_types(Base) == {"size": int, "factor": float | None}
    assert parameter_types(dict) == {}
