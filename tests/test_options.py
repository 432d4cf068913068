"""Options are checked against names and types of what takes them, and all problems are reported at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from seewhy.errors import ConfigError
from seewhy.options import (
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
    assert parse_options(Choice, values, where="w") == (values, [])


def test_a_single_string_is_a_list_of_one():
    accepted, problems = parse_options(
        Choice, {"count": 1, "kinds": "best", "names": "best", "name": "best"}, where="w"
    )
    assert (accepted["kinds"], accepted["names"], accepted["name"], problems) == (("best",), ("best",), "best", [])


def test_all_problems_are_named():
    values = {"count": 1.5, "share": "x", "name": None, "path": 3, "kinds": [1], "names": {"a": 1}, "nmae": 2}
    accepted, problems = parse_options(Choice, values, where="w")
    assert accepted == {}
    facts = [
        ("`w.nmae`", "'name', 'names'"), ("w.count=1.5", "integer"), ("w.share='x'", "number"),
        ("w.name=None", "string"), ("w.path=3", "string or null"), ("w.kinds=[1]", "list of names"),
        ("w.names={'a': 1}", "list of names or null"),
    ]  # fmt: skip
    assert len(problems) == len(facts)
    for problem, words in zip(problems, facts, strict=True):
        assert all(word in problem for word in words)


def test_booleans_are_not_numbers():
    assert len(parse_options(Choice, {"count": True, "share": True}, where="w")[1]) == 2


def test_a_required_option_must_be_given():
    assert parse_options(Choice, {}, where="w")[1] == ["w.count is missing"]


def test_options_must_be_a_mapping():
    accepted, problems = parse_options(Choice, 5, where="w")
    assert accepted == {}
    assert "w=5" in problems[0]
