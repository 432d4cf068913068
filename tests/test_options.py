"""Options are checked against names and types of what takes them, and all problems are reported at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from seewhy.errors import ConfigError
from seewhy.option_types import PositiveInt
from seewhy.options import (
    OptionsOf,
    accepted_options,
    call_with_options,
    check_choice,
    check_options,
    choice_problems,
    option_problems,
    parse_options,
)


@dataclass(frozen=True, kw_only=True)
class Choice:
    count: int
    share: float = 0.5
    name: str = "x"
    path: str | None = None
    kinds: Sequence[str] = ("a",)
    names: tuple[str, ...] | None = None


def test_options_become_keyword_arguments_next_to_fixed_ones():
    assert call_with_options(Choice, {"count": 3}, "w", name="y") == Choice(count=3, name="y")
    assert call_with_options(dict, None, "w") == {}


def test_unknown_options_are_refused_all_at_once_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        call_with_options(Choice, {"count": 3, "shares": 1, "colour": 2}, "model.part")
    message = str(caught.value)
    assert "`model.part.shares` of Choice; nearest: 'share'" in message
    assert "`model.part.colour` of Choice" in message


def test_a_fixed_argument_is_not_an_option():
    with pytest.raises(ConfigError, match=r"unknown option `w\.name`") as caught:
        call_with_options(Choice, {"count": 3, "name": "y"}, "w", name="y")
    assert "'name'" not in str(caught.value)


def test_a_factory_of_any_options_gets_all():
    def collect(**options):
        return options

    assert accepted_options(collect) is None
    assert call_with_options(collect, {"a": 1}, "w", b=2) == {"a": 1, "b": 2}


def test_a_private_function_is_not_named():
    def _hidden(*, alpha=1):
        return alpha

    with pytest.raises(ConfigError, match=r"^unknown option `w\.alpa`; valid: 'alpha'$"):
        call_with_options(_hidden, {"alpa": 2}, "w")


def test_problems_can_be_collected():
    assert option_problems(["a"], ["a", "b"], "w") == []
    assert option_problems(["x"], [], "w") == ["unknown option `w.x`; none exist"]
    assert choice_problems("a", ("a", "b"), "w.kind") == []
    assert choice_problems(None, ("a", "b"), "w.kind", others="a number") == [
        "w.kind=None is unknown; valid: 'a', 'b', or a number"
    ]


def test_checks_raise():
    check_options(["a"], ["a"], "w")
    check_choice("a", ["a"], "w.kind")
    with pytest.raises(ConfigError, match=r"`w\.x` of focal"):
        check_options(["x"], ["a"], "w", of="focal")
    with pytest.raises(ConfigError, match=r"w\.kind='robus'.*nearest: 'robust'"):
        check_choice("robus", ["robust", "zscore"], "w.kind")


def test_valid_options_are_taken_as_they_are():
    values = {"count": 3, "share": 1, "name": "y", "path": None, "kinds": ["a", "b"], "names": None}
    assert parse_options(Choice, values, where="w") == Choice(**values)


def test_a_single_string_is_a_list_of_one():
    choice = parse_options(Choice, {"count": 1, "kinds": "best", "names": "best", "name": "best"}, where="w")
    assert (choice.kinds, choice.names, choice.name) == (("best",), ("best",), "best")


def test_all_problems_are_named():
    values = {"count": 1.5, "share": "x", "name": None, "path": 3, "kinds": [1], "names": {"a": 1}, "nmae": 2}
    with pytest.raises(ConfigError) as caught:
        parse_options(Choice, values, where="w")
    problems = str(caught.value).replace("; nearest", " nearest").split("; ")
    facts = [
        ("`w.nmae`", "'name', 'names'"), ("w.count=1.5", "integer"), ("w.share='x'", "number"),
        ("w.name=None", "string"), ("w.path=3", "string or null"), ("w.kinds=[1]", "list of strings"),
        ("w.names={'a': 1}", "list of strings or null"),
    ]  # fmt: skip
    assert len(problems) == len(facts)
    for problem, words in zip(problems, facts, strict=True):
        assert all(word in problem for word in words)


def test_booleans_are_not_numbers():
    with pytest.raises(ConfigError, match=r"w\.count=True must be an integer; w\.share=True must be a number"):
        parse_options(Choice, {"count": True, "share": True}, where="w")


def test_a_required_option_must_be_given():
    with pytest.raises(ConfigError, match=r"^w\.count is missing$"):
        parse_options(Choice, {}, where="w")


def test_options_must_be_a_mapping():
    with pytest.raises(ConfigError, match="w=5"):
        parse_options(Choice, 5, where="w")


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Choice
    flag: bool = False


def test_a_mapping_becomes_the_dataclass_of_its_field():
    assert parse_options(Outer, {"inner": {"count": 2}}, where="w") == Outer(inner=Choice(count=2))
    with pytest.raises(ConfigError, match=r"w\.inner\.count='a' must be an integer; w\.flag=1 must be true or false"):
        parse_options(Outer, {"inner": {"count": "a"}, "flag": 1}, where="w")


def test_values_of_keyword_arguments_are_checked_and_so_are_mappings_of_options():
    def take(size: PositiveInt, part: Annotated[Mapping[str, Any] | None, OptionsOf(Choice, ("name",))] = None):
        return size, part

    assert call_with_options(take, {"size": 1, "part": {"count": 2}}, "w") == (1, {"count": 2})
    with pytest.raises(
        ConfigError, match=r"w\.size=0 .*1 or more; unknown option `w\.part\.name`.*; w\.part\.count='a'"
    ):
        call_with_options(take, {"size": 0, "part": {"count": "a", "name": "b"}}, "w")
