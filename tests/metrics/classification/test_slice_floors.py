import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from seewhy.metrics.classification.slice_floors import PositionFloors, describe_slices


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
