"""Options are of the types that their dataclass says; what is not is named, all at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from seewhy.options import typed_options


@dataclass(frozen=True, kw_only=True)
class Choice:
    count: int
    share: float = 0.5
    name: str = "x"
    path: str | None = None
    kinds: Sequence[str] = ("a",)
    names: tuple[str, ...] | None = None


def test_what_fits_is_taken_as_it_is():
    values = {"count": 3, "share": 1, "name": "y", "path": None, "kinds": ["a", "b"], "names": None}
    assert typed_options(Choice, values, where="w") == (values, [])


def test_a_plain_text_is_a_list_of_one():
    found, problems = typed_options(Choice, {"count": 1, "kinds": "best", "names": "best", "name": "best"}, where="w")
    assert (found["kinds"], found["names"], found["name"], problems) == (("best",), ("best",), "best", [])


def test_all_problems_are_named():
    values = {"count": 1.5, "share": "x", "name": None, "path": 3, "kinds": [1], "names": {"a": 1}, "nmae": 2}
    assert typed_options(Choice, values, where="w") == ({}, [
        "w.nmae is no option; nearest: 'name', 'names'", "w.count=1.5 must be a whole number",
        "w.share='x' must be a number", "w.name=None must be a text", "w.path=3 must be a text or null",
        "w.kinds=[1] must be a list of names", "w.names={'a': 1} must be a list of names or null",
    ])  # fmt: skip
    assert typed_options(Choice, {"count": True}, where="w")[1] == ["w.count=True must be a whole number"]
    assert typed_options(Choice, {"count": "nan", "share": True}, where="w")[1] == [
        "w.count='nan' must be a whole number", "w.share=True must be a number",
    ]  # fmt: skip
    assert typed_options(Choice, {}, where="w")[1] == ["w.count is missing"]
    assert typed_options(Choice, 5, where="w")[1] == ["w=5 must be options, each with its name"]
