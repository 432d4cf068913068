"""Search spaces in Hydra's grammar."""

import pytest

from seewhy.errors import ConfigError
from seewhy.run.sweeps.search_space import read_search_space

distributions = pytest.importorskip("optuna").distributions
Choice, Float, Int = (getattr(distributions, f"{name}Distribution") for name in ("Categorical", "Float", "Int"))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("x=a,b", lambda: Choice(["a", "b"])),
        ("x=choice(1,2.5,true)", lambda: Choice(["1", "2.5", "True"])),
        ("x=1,null", lambda: Choice(["1", "null"])),
        ("x=[1,2],[3]", lambda: Choice(["[1,2]", "[3]"])),
        ("x='a b',c", lambda: Choice(["'a b'", "c"])),
        ("x=range(1,5)", lambda: Int(1, 4)),
        ("x=range(4,33,4)", lambda: Int(4, 32, step=4)),
        ("x=range(0,1,0.25)", lambda: Float(0.0, 0.75, step=0.25)),
        ("x=range(0.1,0.35,0.1)", lambda: Float(0.1, 0.3, step=0.1)),
        ("x=range(3,0,-1)", lambda: Choice(["3", "2", "1"])),
        ("x=interval(1,5)", lambda: Float(1.0, 5.0)),
        ("x=int(interval(1,5))", lambda: Int(1, 5)),
        ("x=tag(log,interval(1e-4,1e-2))", lambda: Float(1e-4, 1e-2, log=True)),
        ("x=tag(log,int(interval(1,64)))", lambda: Int(1, 64, log=True)),
    ],
)
def test_words_of_the_grammar(word, expected):
    space = read_search_space(None, [word, "seed=3"])
    assert dict(space.varied) == {"x": expected()}
    assert space.fixed == ["seed=3"]


def test_the_command_line_replaces_params_and_fixes_them():
    space = read_search_space({"x": "interval(0,1)", "y": "1,2", "z": "7"}, ["y=3", "x=5,6"])
    assert dict(space.varied) == {"x": Choice(["5", "6"])}
    assert sorted(space.fixed) == ["y=3", "z=7"]
    assert space.list_overrides({"x": "5"})[-1] == "x=5"


def test_a_grid_has_all_combinations():
    grid = read_search_space(None, ["x=a,b", "y=range(2,7,2)", "z=range(0,0.3,0.1)"]).grid()
    assert len(grid) == 18
    assert [values["y"] for values in grid[:9:3]] == [2, 4, 6]
    assert [values["z"] for values in grid[:3]] == [0.0, 0.1, 0.2]
    with pytest.raises(ConfigError, match="x is an interval"):
        read_search_space(None, ["x=interval(0,1)"]).grid()


@pytest.mark.parametrize("word", ["x=interval(2,1)", "x=tag(log,interval(0,1))", "x=range(3,3)", "x=3"])
def test_impossible_spaces(word):
    with pytest.raises(ConfigError):
        read_search_space(None, [word])


def test_a_missing_or_old_optuna_is_answered_with_its_extra(monkeypatch):
    import sys
    from types import SimpleNamespace

    from seewhy.run.sweeps.study import import_optuna

    for module in (None, SimpleNamespace(__version__="2.10.1")):
        monkeypatch.setitem(sys.modules, "optuna", module)
        with pytest.raises(ConfigError, match=r"pip install 'seewhy\[sweep\]'"):
            import_optuna()
