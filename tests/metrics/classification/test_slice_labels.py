import math
import warnings

import pytest
import torch
from torchmetrics.functional.classification import (
    binary_auroc,
    multiclass_auroc,
    multiclass_f1_score,
    multilabel_auroc,
    multilabel_f1_score,
)

from seewhy.metrics.classification.slice_labels import (
    PositionFloors,
    SliceLabelScores,
    describe_slices,
    fit_presence_threshold,
)


def feed(scores, probability, label, *, names=None):
    names = names or [f"s{i}" for i in range(len(probability))]
    batch = {"id": names, "patient": [n.split("_")[0] for n in names], "label": label}
    scores.update({"probability": probability}, batch)
    return scores


def test_binary_scores_and_floors_by_hand():
    probability = torch.tensor([[0.9], [0.6], [0.4], [0.2]])
    label = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    found = feed(SliceLabelScores(), probability, label).compute()
    assert found == {
        "auroc": 0.75,
        "f1": 0.5,
        "accuracy": 0.5,
        "floor_chance/auroc": 0.5,
        "floor_majority/accuracy": 0.5,
        "floor_positive/f1": pytest.approx(2 / 3),
        "samples": 4.0,
    }


def test_f1_is_of_the_data_set_and_not_a_mean_over_samples():
    # The mean over samples would be TP/N = .25; a miss and a false alarm each count here.
    probability = torch.tensor([[0.9], [0.1], [0.9], [0.1]])
    label = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    scores = SliceLabelScores()
    for i in range(4):
        feed(scores, probability[i : i + 1], label[i : i + 1], names=[f"s{i}"])
    assert scores.compute()["f1"] == 0.5


def test_the_order_of_batches_does_not_matter_and_repeats_count_once():
    torch.manual_seed(0)
    probability, label = torch.rand(30, 1), (torch.rand(30, 1) > 0.6).float()
    names = [f"p{i % 3}_{i}" for i in range(30)]
    whole = feed(SliceLabelScores(), probability, label, names=names)
    parts = SliceLabelScores()
    for rows in (list(range(29, 9, -1)), list(range(15))):
        feed(parts, probability[rows], label[rows], names=[names[r] for r in rows])
    assert parts.compute() == whole.compute()
    assert [row["id"] for row in parts.rows()] == [row["id"] for row in whole.rows()]


def test_floor_of_accuracy_is_the_more_frequent_answer():
    label = torch.tensor([[0.0]] * 9 + [[1.0]])
    found = feed(SliceLabelScores(), torch.zeros(10, 1), label).compute()
    assert found["floor_majority/accuracy"] == found["accuracy"] == 0.9
    assert found["floor_positive/f1"] == pytest.approx(2 / 11)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_class_leaves_auroc_out_and_says_why(value):
    scores = feed(SliceLabelScores(), torch.rand(5, 1), torch.full((5, 1), value))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = scores.compute()
    assert any("auroc is left out: class 0" in str(warning.message) for warning in caught)
    assert "auroc" not in found
    assert ("f1" in found) == (value == 1.0)
    assert "samples are positive" in scores.omitted["auroc"]
    assert all(v == v for v in found.values())


def test_multi_label_is_macro():
    torch.manual_seed(1)
    probability, label = torch.rand(40, 3), (torch.rand(40, 3) > 0.5).float()
    found = feed(SliceLabelScores(), probability, label).compute()
    assert found["auroc"] == pytest.approx(float(multilabel_auroc(probability, label.long(), num_labels=3)))
    assert found["f1"] == pytest.approx(float(multilabel_f1_score(probability, label.long(), num_labels=3)))


def test_a_class_that_never_occurs_does_not_drag_the_mean_down():
    probability, label = torch.tensor([[0.9, 0.2], [0.1, 0.3]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert feed(SliceLabelScores(), probability, label).compute()["auroc"] == 1.0


def test_multi_class_is_macro_over_one_against_the_rest():
    torch.manual_seed(2)
    probability, label = torch.rand(60, 4).softmax(dim=1), torch.randint(0, 4, (60,))
    found = feed(SliceLabelScores(), probability, label).compute()
    assert found["auroc"] == pytest.approx(float(multiclass_auroc(probability, label, num_classes=4)), abs=1e-5)
    expected = multiclass_f1_score(probability, label, num_classes=4, average="macro")
    assert found["f1"] == pytest.approx(float(expected), abs=1e-5)
    assert found["accuracy"] == float((probability.argmax(1) == label).double().mean())
    most = float(torch.bincount(label).max()) / 60
    assert found["floor_majority/accuracy"] == pytest.approx(most)
    assert found["floor_majority/f1"] == pytest.approx(2 * most / (1 + most) / 4)


def test_reset_forgets_and_nothing_gives_nothing():
    scores = feed(SliceLabelScores(), torch.rand(3, 1), torch.tensor([[1.0], [0.0], [1.0]]))
    scores.reset()
    assert scores.compute() == {}
    assert scores.rows() == []


def odds_quarter(low, high):
    logit = 0.75 * math.log(low / (1 - low)) + 0.25 * math.log(high / (1 - high))
    return 1 / (1 + math.exp(-logit))


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        # Healthy patients b and c; the healthy slices of patient a do not count.
        ({"a": [(0.9, 1), (0.8, 0)], "b": [(0.3, 0), (0.1, 0)], "c": [(0.2, 0)]}, odds_quarter(0.3, 0.9)),
        # All are ill: their slices without the class take the place of healthy patients.
        ({"a": [(0.9, 1), (0.2, 0)], "b": [(0.7, 1), (0.1, 0)]}, odds_quarter(0.2, 0.7)),
        # One healthy patient is above the weakest ill one: the median of the healthy, and nobody ill is lost.
        ({"a": [(0.6, 1)], "b": [(0.7, 0)], "c": [(0.2, 0)], "d": [(0.3, 0)]}, odds_quarter(0.3, 0.6)),
        ({"a": [(0.1, 1)], "b": [(0.7, 0)], "c": [(0.2, 0)]}, 0.0),
        ({"a": [(0.9, 1)], "b": [(0.8, 1)]}, 0.0),
        ({"a": [(0.9, 0)]}, 0.0),
        ({}, 0.0),
        ({"a": [(1.0, 1)], "b": [(0.0, 0)]}, odds_quarter(1e-6, 1 - 1e-6)),
    ],
)
def test_presence_threshold_by_hand(slices, expected):
    rows = [(p, y, name) for name, values in slices.items() for p, y in values]
    found = fit_presence_threshold(*([row[i] for row in rows] for i in range(3)))
    assert found == pytest.approx(expected)


def test_presence_thresholds_are_per_class():
    scores = SliceLabelScores()
    probability = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.1, 0.3]])
    label = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    feed(scores, probability, label, names=["a_0", "b_0", "c_0"])
    assert scores.presence_thresholds() == pytest.approx([odds_quarter(0.2, 0.9), odds_quarter(0.3, 0.8)])
    assert SliceLabelScores().presence_thresholds() == []


def patient(areas, labels, name="p"):
    body = torch.zeros(len(areas), 10, 10, dtype=torch.bool)
    for plane, area in zip(body, areas, strict=True):
        plane.view(-1)[:area] = True
    ids = [f"{name}_{i}" for i in range(len(areas))]
    return {"id": ids, "body": body, "label": torch.tensor(labels, dtype=torch.float32).reshape(len(areas), -1)}


def test_slices_are_described_by_place_and_area():
    rows = describe_slices(patient([10, 40, 80, 20, 0], [0, 1, 1, 0, 0]))
    assert [row["position"] for row in rows] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [row["from_middle"] for row in rows] == [1.0, 0.25, 0.0, 0.25, 1.0]
    assert [row["area"] for row in rows] == [0.125, 0.5, 1.0, 0.25, 0.0]
    assert [row["label"] for row in rows] == [[0.0], [1.0], [1.0], [0.0], [0.0]]


@pytest.mark.parametrize("missing", ["body", "label"])
def test_slices_without_body_or_labels_have_no_description(missing):
    batch = patient([10, 40], [0, 1])
    del batch[missing]
    assert describe_slices(batch) == []


def test_one_slice_has_a_position():
    assert describe_slices(patient([10], [1]))[0]["position"] == 0.0


def test_lesions_in_the_middle_are_found_by_position_and_large_ones_by_area():
    train = describe_slices(patient([10, 30, 60, 60, 30, 10], [0, 0, 1, 1, 0, 0], "a"))
    # Of the test patient's slices, area does not tell which has the lesion, position does.
    test = describe_slices(patient([50, 50, 50, 50, 50, 50], [0, 0, 1, 1, 0, 0], "b"))
    scores = PositionFloors(train).score(test)
    assert scores["floor_position/auroc"] == 1.0
    assert scores["floor_area/auroc"] == 0.5
    # And the other way round.
    moved = describe_slices(patient([90, 90, 10, 10, 10, 10], [1, 1, 0, 0, 0, 0], "c"))
    scores = PositionFloors(train).score(moved)
    assert scores["floor_area/auroc"] == 1.0
    assert scores["floor_position/auroc"] < 0.5


def test_area_alone_has_the_auroc_of_the_area():
    generator = torch.Generator().manual_seed(0)
    areas = torch.randint(1, 99, (40,), generator=generator)
    labels = (areas + torch.randint(0, 60, (40,), generator=generator) > 80).long()
    rows = describe_slices(patient(areas.tolist(), labels.tolist()))
    expected = float(binary_auroc(areas / 100, labels))
    assert PositionFloors(rows).score(rows)["floor_area/auroc"] == pytest.approx(expected)


def test_classes_without_both_kinds_are_left_out():
    both = [[0, 1], [1, 1], [0, 1]]
    rows = describe_slices(patient([10, 90, 20], both))
    assert PositionFloors(rows).score(rows)["floor_area/auroc"] == 1.0  # of the first class alone
    assert PositionFloors(rows).score(describe_slices(patient([10, 20], [[0, 1], [0, 0]]))) == {}
    assert PositionFloors([]).score(rows) == PositionFloors(rows).score([]) == {}
