"""The figure of an evaluation draws what there is, patient by patient, and nothing that there is not."""

import math
import warnings

import numpy as np
import pytest

from seewhy.figures.translation import evaluation as figure_module
from seewhy.figures.translation.evaluation import evaluation_figure
from seewhy.metrics.translation.similarity import DIRECTIONS
from seewhy.run.translation.evaluation.distances import MEASURES
from seewhy.run.translation.evaluation.tables import build_evaluation_table, summarize_lesions

CONTRASTS = {"p1": (1.0, 3.0), "p2": (5.0,), "p3": (math.nan,)}
"""Patient → contrast of the lesion in each of the scans."""
PANELS = 5


def lesion_rows(method, direction):
    head = {"method": method, "direction": direction, "modality": "flair", "contrast_source": 1.0}
    rest = dict.fromkeys(
        ("contrast_counterpart", "dice_source", "dice", "dice_counterpart", "relative_change", "volume_source",
         "volume", "volume_ratio")
    )  # fmt: skip
    return [
        {**head, **rest, "patient": patient, "contrast": value}
        for patient, values in CONTRASTS.items()
        for value in values
    ]


@pytest.fixture
def evaluation():
    """Of a model that translates a to b only, without pairs, and with too few patients for the rest."""
    lesions = [*lesion_rows("identity", "a2b"), *lesion_rows("model", "a2b"), *lesion_rows("identity", "b2a")]
    return {
        "name": "one way", "phantom": True, "methods": {"identity": "ok", "model": "ok"},
        "patients": {"a": 3, "b": 7}, "slices": {"a": 12, "b": 28}, "features": {"name": "statistics", "note": None},
        "similarity": {"identity": {}, "model": {}},
        "distances": {way: {"matched_patients": size, "floor": {}, "methods": {}} for way, size in
                      (("a2b", 3), ("b2a", 1))},
        "probes": {"not_estimated": "too few", "chance": 0.5, "summary": []},
        "lesions": {"modality": "flair", "summary": summarize_lesions(lesions)},
        "rows": {"lesions": lesions},
    }  # fmt: skip


def lesion_panels(figure):
    """Direction → rows of points, and the means with their place."""
    found = {}
    for direction, axes in zip(("a2b", "b2a"), figure.axes[PANELS - 1 :: PANELS], strict=True):
        points = [sorted(np.asarray(dots.get_offsets())[:, 0].tolist()) for dots in axes.collections]
        means = [tuple(np.ravel(line.get_data())) for line in axes.lines if line.get_marker() == "D"]
        found[direction] = points, means
    return found


def test_lesions_are_drawn_patient_by_patient_where_a_method_has_some(evaluation):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = lesion_panels(evaluation_figure(evaluation, build_evaluation_table(evaluation)))
    assert found["a2b"] == ([[2.0, 5.0]] * 2, [(3.5, 0), (3.5, 1)])
    assert found["b2a"] == ([[2.0, 5.0]], [(3.5, 0)])  # the model knows no way from b to a


def test_the_figure_knows_every_measure_and_direction():
    assert tuple(figure_module.MEASURES) == MEASURES
    assert list(figure_module.DIRECTIONS) == list(DIRECTIONS.values())


def test_it_says_between_how_many_patients_distances_are(evaluation):
    figure = evaluation_figure(evaluation, build_evaluation_table(evaluation))
    words = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert "equal numbers of patients (a → b: 3, b → a: 1)" in words
    assert [row["matched_patients"] for row in build_evaluation_table(evaluation)] == [3, 3, 3, 1, 1, 1]
