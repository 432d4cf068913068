"""Ranking of methods: means by patient, places, and the distance to the best floor."""

import math

import pytest

from seewhy.errors import DataError
from seewhy.metrics.bootstrap import bootstrap_difference, bootstrap_interval
from seewhy.metrics.map_ranking import rank_methods

PATIENTS = ["p1", "p1", "p2", "p3", "p4"]


def rows(method, **scores):
    """A row per sample; a patient may have several."""
    found = []
    for number, patient in enumerate(PATIENTS):
        row = {"method": method, "id": f"s{number}", "patient": patient}
        found.append(row | {name: values[number] for name, values in scores.items()})
    return found


TABLE = [
    *rows("good", auprc=[0.9, 0.7, 0.6, 0.8, 0.7], pointing=[1.0, 1.0, 0.0, 1.0, 1.0]),
    *rows("poor", auprc=[0.2, 0.2, 0.1, 0.3, 0.2], pointing=[0.0, 0.0, 0.0, 1.0, None]),
    *rows("control_edges", auprc=[0.3, 0.3, 0.3, 0.3, 0.3], pointing=[0.0, 1.0, 0.0, 1.0, 1.0]),
    *rows("control_centre", auprc=[0.1, 0.1, 0.1, 0.1, 0.1], pointing=[0.0, 0.0, 0.0, 0.0, 0.0]),
]


def test_a_patient_counts_once():
    good = rank_methods(TABLE)[0]
    assert good.method == "good"
    assert good.scores["auprc"] == pytest.approx((0.8 + 0.6 + 0.8 + 0.7) / 4)
    assert good.intervals["auprc"] == bootstrap_interval([0.8, 0.6, 0.8, 0.7], limits=(0, 1))
    assert good.samples == 5


def test_places_are_means_over_scores_with_shared_ties():
    ranked = {one.method: one for one in rank_methods(TABLE)}
    # auprc: good 1, control_edges 2, poor 3, control_centre 4;
    # pointing: good 3/4, edges 2.5/4, poor 1/3, centre 0
    assert {name: one.mean_rank for name, one in ranked.items()} == {
        "good": 1.0,
        "control_edges": 2.0,
        "poor": 3.0,
        "control_centre": 4.0,
    }
    tied = rank_methods([*rows("a", auprc=[0.5] * 5), *rows("b", auprc=[0.5] * 5), *rows("c", auprc=[0.1] * 5)])
    assert [(one.method, one.mean_rank) for one in tied] == [("a", 1.5), ("b", 1.5), ("c", 3.0)]


def test_floors_are_rows_and_the_best_is_the_measure_of_others():
    ranked = {one.method: one for one in rank_methods(TABLE)}
    assert [name for name, one in ranked.items() if one.floor] == ["control_edges", "control_centre"]
    assert ranked["good"].above_floor["auprc"] == bootstrap_difference([0.8, 0.6, 0.8, 0.7], [0.3] * 4, limits=(0, 1))
    assert ranked["good"].above_floor["auprc"].low > 0
    assert ranked["poor"].above_floor["auprc"].mean < 0
    assert ranked["control_edges"].above_floor == {}


def test_lower_may_be_better():
    table = [*rows("a", deletion=[0.1] * 5), *rows("control_random", deletion=[0.4] * 5)]
    first, second = rank_methods(table, scores={"deletion": False})
    assert (first.method, second.method) == ("a", "control_random")
    assert first.above_floor["deletion"].mean == pytest.approx(0.3)


def test_a_score_that_nobody_has_takes_no_place_and_one_that_some_lack_takes_none_of_theirs():
    table = [*rows("a", auprc=[0.5] * 5, iou=[None] * 5), *rows("b", auprc=[float("nan")] * 5)]
    first, second = rank_methods(table)
    assert list(first.scores) == ["auprc"]
    assert math.isnan(second.scores["auprc"])
    assert math.isnan(second.mean_rank)
    assert second.row()["auprc"] is None


def test_few_patients_have_no_interval():
    table = [row for row in TABLE if row["patient"] in ("p1", "p2")]
    row = rank_methods(table)[0].row()
    assert row["auprc"] is not None
    assert row["auprc_low"] is None
    assert row["auprc_above_floor"] is None


def test_all_problems_of_the_rows_at_once():
    with pytest.raises(DataError) as caught:
        rank_methods([{"method": "a"}, {"patient": "p"}, *TABLE[:1], *TABLE[:1]])
    assert "row 0 has no patient" in str(caught.value)
    assert "row 1 has no method" in str(caught.value)
    assert "row 3: sample 's0' of method 'good'" in str(caught.value)
    with pytest.raises(DataError, match="no rows"):
        rank_methods([])
