"""Localisation by true class, and Shapley values in the table of shares."""

import csv

import pytest

from seewhy.figures.explanations.tables import explanation_section
from seewhy.figures.report.blocks import ReportTable
from seewhy.reporting.by_class import write_class_table
from seewhy.reporting.tables import share_rows

CLASSES = ["normal", "early", "late"]


def record(number, label, pointing, *, method="grad_cam"):
    judged = {"pointing": pointing, "energy": 0.2, "auprc": 0.3, "mask_share": 0.1}
    return {
        "id": f"s{number}", "patient": f"p{number}", "method": method, "folder": "", "label": label,
        "classes": CLASSES, "judged": judged if label else {"pointing": None, "energy": None},
    }  # fmt: skip


def test_each_class_has_its_own_means(tmp_path):
    records = [record(0, 0, None), record(1, 1, 0.0), record(2, 1, 0.0), record(3, 2, 1.0), record(4, 2, 0.0)]
    rows = write_class_table(tmp_path / "by.csv", records)
    assert [(row["class"], row["samples"], row["pointing"]) for row in rows] == [("early", 2, 0.0), ("late", 2, 0.5)]
    with (tmp_path / "by.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["early", "late"]
    table = next(block for block in explanation_section(by_class=rows).blocks if isinstance(block, ReportTable))
    assert table.rows[1][:3] == ["late", "Grad-CAM", "0.5"]


def test_one_annotated_class_gives_no_table(tmp_path):
    assert write_class_table(tmp_path / "by.csv", [record(0, 0, None), record(1, 1, 0.5)]) == []
    assert not (tmp_path / "by.csv").exists()


def test_shapley_values_are_in_the_table_of_shares_with_sign():
    contributions = {
        "total": 2.0, "removal": "absent", "values": {"fluid": 3.0, "ga": -1.0}, "left_out": {"fluid": 0.0, "ga": 0.5},
        "interactions": {"fluid x ga": -3.0}, "shares": {"fluid": 1.5, "ga": -0.5},
    }  # fmt: skip
    shown = {
        "id": "s", "patient": "p", "method": "shapley_inputs", "target_name": "late", "parts": {}, "slice_numbers": [],
        "shares": {"fluid": 1.0, "ga": 0.0}, "contributions": contributions,
    }  # fmt: skip
    rows = {(row["kind"], row["name"]): row["share"] for row in share_rows([shown])}
    assert rows == {
        ("shapley", "fluid"): pytest.approx(1.5), ("shapley", "ga"): pytest.approx(-0.5),
        ("left_out", "fluid"): 0, ("left_out", "ga"): pytest.approx(0.25),
        ("interaction", "fluid x ga"): pytest.approx(-1.5), ("input", "fluid"): 1.0, ("input", "ga"): 0.0,
    }  # fmt: skip
