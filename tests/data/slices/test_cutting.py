import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy.data.slices.cutting import LabelRule
from seewhy.errors import ConfigError


@pytest.mark.parametrize(
    ("rule", "area", "pixels", "label"),
    [
        (LabelRule("any"), 0, 100, 0),
        (LabelRule("any"), 1, 100, 1),
        (LabelRule("area", min_area=5), 4, 100, 0),
        (LabelRule("area", min_area=5), 5, 100, 1),
        (LabelRule("fraction"), 1, 100, 0),  # AME-CAM: more than 1 %
        (LabelRule("fraction"), 2, 100, 1),
        (LabelRule("fraction", min_fraction=0.5), 50, 100, 0),
        (LabelRule("fraction", min_fraction=0), 1, 100, 1),
    ],
)
def test_labels(rule, area, pixels, label):
    assert rule.label(area, pixels) == label


@given(st.one_of(
    st.just(LabelRule("any")),
    st.integers(1, 99).map(lambda area: LabelRule("area", min_area=area)),
    st.floats(0, 0.99).map(lambda share: LabelRule("fraction", min_fraction=share)),
))  # fmt: skip
def test_record_round_trip_and_monotony(rule):
    assert LabelRule.from_record({"name": "BraTS", **rule.record()}) == rule
    labels = [rule.label(area, 100) for area in range(101)]
    assert labels == sorted(labels)
    assert labels[0] == 0


def test_records_of_others_state_no_rule():
    assert LabelRule.from_record({}) is None
    assert LabelRule.from_record({"label_rule": "mine"}) is None
    assert LabelRule.from_record({"label_rule": "area", "min_area": None}) is None


@pytest.mark.parametrize(
    "options",
    [("some",), ("any", 3), ("any", None, 0.1), ("area",), ("area", 0), ("area", 3, 0.1), ("fraction", None, 1.0)],
)
def test_numbers_nobody_reads_are_refused(options):
    with pytest.raises(ConfigError):
        LabelRule(*options)
