"""The printed tables of a run's explanations: every method with its floors, in 80 columns."""

import io

import pytest
from rich.console import Console

from seewhy.figures.explanations.tables import Checks, explanation_tables, share_table

LOCATED = ["pointing game", "energy inside the mask", "AUPRC"]
METHODS = ["grad_cam", "integrated_gradients", "control_intensity"]


def row(method, score, value, **more):
    return {"method": method, "score": score, "value": value, "low": value - 0.1, "high": value + 0.1, **more}


@pytest.fixture
def rows():
    found = []
    for method, value in zip(METHODS, (0.6, 0.3, 0.24), strict=True):
        own = {} if method.startswith("control") else {"untrained": 0.22, "untrained_low": 0.051, "untrained_high": 0.3}
        found += [row(method, score, value, floor=0.113, **own) for score in LOCATED]
        found += [row(method, "IoU at the validation's threshold", value)]
        found += [
            row(method, f"{way}, gap to blurred noise", value - 0.4, floor=0.0) for way in ("deletion", "insertion")
        ]
    found += [row("grad_cam", "stability under noise", 0.98)]
    found += [{"method": "grad_cam", "score": "seconds per map", "value": 0.0123, "higher_is_better": False}]
    return found


def printed(tables, width=80):
    console = Console(file=io.StringIO(), width=width)
    for table in tables:
        console.print(table)
    return console.file.getvalue()


def line(text, start):
    return next(one for one in text.splitlines() if one.strip().startswith(start))


def test_every_method_stands_above_its_own_floor_and_chance_is_below_the_controls(rows):
    text = printed(explanation_tables(rows, checks={}, phantom=True))
    where = text.split("deletion  ")[0]
    order = [where.index(name) for name in ("Grad-CAM", "integrated gradients", "floor: brightness", "chance (mask")]
    assert order == sorted(order)
    assert sum(one.startswith("  re-initialised") for one in where.splitlines()) == 2
    assert line(where, "Grad-CAM").split() == ["Grad-CAM", *[".60", "[.50,.70]"] * 3, ".60"]
    assert line(where, "re-init").split()[1:] == [*[".22", "[.051,.30]"] * 3, "–"]  # noqa: RUF001
    assert line(where, "chance").split()[-4:] == [".11"] * 3 + ["–"]  # noqa: RUF001
    assert "PHANTOM" in where


def test_a_star_marks_what_does_not_beat_its_own_floor_with_its_whole_interval(rows):
    text = printed(explanation_tables(rows, checks={}))
    assert line(text, "integrated").count(".30*[.20,.40]") == 3  # above chance, not above re-initialised networks
    assert "*" not in line(text, "floor: brightness")
    assert "*" not in line(text, "Grad-CAM")


def test_verdicts_errors_and_times_stand_beside_the_other_scores(rows):
    checks = {"grad_cam": Checks(passes=False), "integrated_gradients": Checks(passes=True, completeness=0.0123)}
    _, why = explanation_tables(rows, checks=checks)
    text = printed([why])
    assert line(text, "deletion").split() == ["deletion", "insertion", "stable", "error", "random", "s/map"]
    assert line(text, "Grad-CAM").split()[-4:] == [".98", "–", "FAILS", "0.012"]  # noqa: RUF001
    assert line(text, "integrated").split()[-3:] == ["1.2%", "passes", "–"]  # noqa: RUF001
    assert "-.10*[-.20,.00]" in line(text, "integrated")


def test_everything_fits_in_80_columns(rows):
    text = printed(explanation_tables(rows, checks={"integrated_gradients": Checks(True, 0.0123)}, note="n" * 30))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "integrated gradients" in text  # no name is broken


def test_without_masks_only_the_other_table_is_there_and_without_scores_none(rows):
    rest = [one for one in rows if "gap" in one["score"]]
    tables = explanation_tables(rest, checks={})
    assert len(tables) == 1
    assert [column.header for column in tables[0].columns] == ["", "deletion", "insertion"]
    assert explanation_tables([], checks={}) == []


def test_inputs_have_a_line_each_with_shares_and_the_effect():
    shares = {"grad_cam": {"mnv": 0.1, "fluid": 0.9}, "saliency": {"mnv": 0.5, "fluid": 0.5}}
    text = printed([share_table(shares, {"mnv": -0.014, "fluid": 0.5})])
    assert line(text, "mnv").split() == ["mnv", "10%", "50%", "-0.01"]
    assert line(text, "fluid").split() == ["fluid", "90%", "50%", "+0.50"]
    assert "50% each" in text
    assert len(share_table(shares, {}).columns) == 3
