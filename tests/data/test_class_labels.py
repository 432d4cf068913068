import pytest

from seewhy.data.table import ClassLabels
from seewhy.errors import ConfigError


def test_a_map_with_classes_put_together():
    labels = ClassLabels({"HC": 0, "left": 1, "right": 1, 3: 0})
    assert [labels.index(text) for text in ("HC", "left", "right", "3", "3.0")] == [0, 1, 1, 0, 0]
    assert labels.num_classes == 2
    with pytest.raises(ValueError, match=r"the label 'lft' is unknown; nearest: 'left'"):
        labels.index("lft")


def test_whole_numbers():
    labels = ClassLabels().resolve(["0", "2", "1.0", ""])
    assert labels.num_classes == 3
    assert [labels.index(text) for text in ("0", "1.0", "2")] == [0, 1, 2]
    for text in ("3", "-1", "1.5", "x", ""):
        with pytest.raises(ValueError, match="label"):
            labels.index(text)


def test_names_in_alphabetical_order_where_nothing_is_a_number():
    labels = ClassLabels().resolve(["wet", "dry", "wet", "none"])
    assert labels.to_dict() == {"dry": 0, "none": 1, "wet": 2}
    # One number among them makes the names mistakes, not classes.
    with pytest.raises(ValueError, match="wet"):
        ClassLabels().resolve(["0", "1", "wet"]).index("wet")


def test_named_classes_as_labels_and_as_numbers():
    labels = ClassLabels(classes=["normal", "early", "late"]).resolve(["late"])
    assert [labels.index(text) for text in ("late", "1", "normal")] == [2, 1, 0]
    assert labels.num_classes == 3
    with pytest.raises(ValueError, match="nearest: 'early'"):
        labels.index("erly")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": {"a": 0, "b": 2}, "num_classes": 2}, r"holds b: 2; expected .* from 0 to 1"),
        ({"labels": {"a": 0, "b": True}}, "b: True"),
        ({"labels": {"a": "0"}}, "a: '0'"),
        ({"labels": {}}, "holds nothing"),
        ({"num_classes": 1}, "2 classes or more"),
        ({"classes": ["a", "a"]}, "different names"),
        ({"classes": ["a", "b"], "num_classes": 3}, "num_classes=3"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        ClassLabels(**options)
