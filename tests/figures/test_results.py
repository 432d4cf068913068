import io

import pytest
from rich.console import Console

from seewhy.figures.labels import FALSE_POSITIVES, Score, describe_data, describe_intervals, label_of, scores_by_method
from seewhy.figures.results import results_table

RESULTS = {
    "test/refined/dice": 0.8123,
    "test/refined/dice_low": 0.71,
    "test/refined/dice_high": 0.86,
    "test/refined/hd95_slices_mm": 8.27,
    "test/cam/dice": 0.62,
    "test/cam/hd95_slices_mm": 21.0,
    "test/floor_otsu3/dice": 0.3,
    "test/floor_otsu3/hd95_slices_mm": 5.5,
    "test/auroc": 0.97,
    "test/floor_chance/auroc": 0.5,
    "test/loss": 0.2,
    "test/patients": 25.0,
    "test/patients_with_lesion": 21.0,
    "test/samples": 400.0,
    "val/cam/dice": 0.1,
}


def printed(table, *, width=80, styled=False):
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=styled, color_system="standard" if styled else None).print(table)
    return out.getvalue()


def test_methods_are_in_order_with_floors_last_and_losses_and_other_splits_passed_over():
    found = scores_by_method(RESULTS, prefix="test/")
    assert list(found) == ["classifier", "cam", "refined", "floor_otsu3", "floor_chance"]
    assert found["refined"]["dice"] == Score(0.8123, 0.71, 0.86)
    assert found["cam"] == {"dice": Score(0.62), "hd95_slices_mm": Score(21.0)}


def test_an_unknown_method_is_shown_before_the_floors_by_its_own_name():
    found = scores_by_method({"grad_cam/dice": 0.5, "floor_otsu/dice": 0.2, "cam/dice": 0.4})
    assert list(found) == ["cam", "grad_cam", "floor_otsu"]
    assert label_of("grad_cam") == "grad cam"


def test_every_number_is_in_the_table_beside_the_floor():
    text = printed(results_table(RESULTS))
    lines = {line.split("  ")[1].strip(): line for line in text.splitlines() if "0." in line}
    assert "0.812" in lines["refined"]
    assert "0.71, 0.86" in lines["refined"]
    assert "8.3" in lines["refined"]
    assert "0.300" in lines["floor: 3-class Otsu"]
    assert text.index("refined") < text.index("floor:")
    assert "25 patients, 21 with lesion" in text
    assert "phantom" not in text.lower()


def test_phantom_is_said():
    assert "PHANTOM data" in printed(results_table(RESULTS, phantom=True))
    assert "PHANTOM" in describe_data({}, phantom=True)


def test_the_best_is_bold_and_a_floor_that_wins_is_red():
    text = printed(results_table(RESULTS), styled=True)
    assert "\x1b[1m0.812\x1b" in text
    assert "\x1b[1;31m5.5\x1b" in text  # HD95: the lower the better


def test_classification_is_a_table_of_its_own():
    text = printed(results_table(RESULTS, kind="classification"))
    assert "0.970" in text
    assert "floor: chance" in text
    assert "Dice" not in text
    assert "400 samples" in text


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kind", ["segmentation", "false positives"])
def test_a_full_table_fits_the_terminal_uncut(width, kind):
    names = ["cam", "affinity", "segmentation", "refined", "floor_otsu3", "floor_centre"]
    full = {
        f"test/{name}/{measure}{bound}": 0.5
        for name in names
        for measure in ("dice", "dice_positive", "auprc", "hd95_slices_mm", *FALSE_POSITIVES)
        for bound in ("", "_low", "_high")
    }
    text = printed(results_table(full, kind=kind), width=width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_few_patients_are_said_to_give_rough_intervals():
    few = {"test/cam/dice": 0.5, "test/cam/dice_low": 0.1, "test/cam/dice_high": 0.9, "test/patients": 7.0}
    assert "rough" in describe_data(few, prefix="test/")
    assert "rough" not in describe_data(few | {"test/patients": 10.0}, prefix="test/")
    assert describe_intervals(9) != describe_intervals(10) == describe_intervals(None)
