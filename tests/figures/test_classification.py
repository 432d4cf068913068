import numpy as np
import pytest

from seewhy.figures.classification import classes_of, grading_figure, reliability_curve
from seewhy.figures.labels import NONE, describe_data, label_of, lower_is_better, scores_by_method
from seewhy.figures.results import results_table
from seewhy.figures.style import png_bytes
from seewhy.figures.training import training_curves

RESULTS = {
    "test/accuracy": 0.8, "test/accuracy_low": 0.7, "test/accuracy_high": 0.9, "test/balanced_accuracy": 0.75,
    "test/kappa": 0.9, "test/mae": 0.2, "test/ece": 0.05, "test/auroc": 0.95, "test/ideal/ece": 0.01,
    "test/uncalibrated/ece": 0.2, "test/floor_majority/accuracy": 0.3, "test/floor_permuted/mae": 1.2,
    "test/recall/early": 0.5, "test/cases": 39.0, "test/patients": 30.0,
}  # fmt: skip


def rows_of(label, prediction, confidence, names=("a", "b", "c")):
    return [
        {"id": str(i), "label": y, "prediction": p, "confidence": c, **{f"probability_{name}": 0.0 for name in names}}
        for i, (y, p, c) in enumerate(zip(label, prediction, confidence, strict=True))
    ]


def test_the_matrix_holds_every_case():
    rows = rows_of([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 0], [0.9] * 6)
    assert classes_of(rows) == ["a", "b", "c"]
    left, right = grading_figure(rows, title="run", ece=0.123, phantom=True).axes
    shown = {text.get_position(): text.get_text() for text in left.texts}
    assert shown[(0, 2)] == "2\n67 %"  # two of three cases of class c were called a
    assert shown[(2, 0)] == "0"
    assert np.allclose(left.images[0].get_array(), [[0.5, 0.5, 0], [0, 1, 0], [2 / 3, 0, 1 / 3]])
    assert [label.get_text() for label in left.get_yticklabels()] == ["a (2)", "b (1)", "c (3)"]
    assert "0.123" in right.get_title(loc="left")


def test_bins_of_the_reliability_curve_hold_equally_many_cases():
    confidence = np.linspace(0.5, 1.0, 40)
    right = np.arange(40) >= 20
    means, shares, counts = reliability_curve(confidence, right, bins=4)
    assert counts.tolist() == [10, 10, 10, 10]
    assert shares.tolist() == [0, 0, 1, 1]
    assert means[0] == pytest.approx(confidence[:10].mean())
    _, _, counts = reliability_curve(confidence[:7], right[:7])
    assert counts.tolist() == [7]


@pytest.mark.parametrize("count", [2, 9])
def test_few_and_many_classes_are_drawn(count):
    names = [f"a long name of class {k}" for k in range(count)]
    rows = rows_of(range(count), range(count), [0.5] * count, names)
    assert png_bytes(grading_figure(rows))[:4] == b"\x89PNG"


def test_results_of_cases_are_named_and_ordered():
    scores = scores_by_method(RESULTS, prefix="test/")
    assert list(scores) == ["classifier", "uncalibrated", "ideal", "floor_majority", "floor_permuted"]
    assert scores["classifier"]["accuracy"] == (0.8, 0.7, 0.9)
    assert lower_is_better("ece")
    assert lower_is_better("mae")
    assert not lower_is_better("kappa")
    assert label_of("floor_permuted") == "floor: permuted"
    assert describe_data(RESULTS, prefix="test/", samples=True) == (
        "39 cases of 30 patients; 95 % bootstrap intervals by patient"
    )


def test_the_terminal_marks_the_best_but_not_what_is_ideal():
    table = results_table(RESULTS, kind="classification")
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["ECE ↓"] == ["[bold]0.050[/]", "0.200", "0.010", NONE, NONE]
    assert cells["MAE ↓"][0] == "[bold]0.200[/]"
    assert results_table(RESULTS).row_count == 0


def test_a_training_of_cases_is_drawn_without_clutter():
    names = ["val/loss", "val/auroc", "val/kappa", "val/mae", "val/ece", "val/uncalibrated/ece", "val/recall/early"]
    left_out = [
        "val/precision/early",
        "val/auroc/early",
        "val/floor_majority/mae",
        "val/cases",
        "val/nll",
        "val/mae_low",
    ]
    rows = [{"step": step, **dict.fromkeys([*names, *left_out], 0.5)} for step in (1, 2)]
    panels = [axes for axes in training_curves(rows).axes if axes.get_visible()]
    drawn = {axes.get_title(loc="left"): len(axes.lines) for axes in panels}
    assert drawn == {
        "loss · validation": 1, "classification": 2, "error in grades · validation": 1, "calibration": 2,
        "recall by class · early, recall, validation": 1,
    }  # fmt: skip
