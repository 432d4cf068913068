"""What is stored for known logits."""

import math

import numpy as np
import pytest
import torch

from seewhy.errors import ConfigError
from seewhy.volumes.output_format import OutputFormat, exponential, sigmoid, softmax


def column(*classes):
    """Logits [K, n, 1, 1]."""
    return torch.tensor(classes, dtype=torch.float32)[:, :, None, None]


def flat(stored):
    return stored.reshape(-1).tolist()


def test_binary_of_one_and_of_two_channels():
    logits = [0.0, math.log(3), -20.0, 20.0]
    expected = [128, 191, 0, 255]  # 127.5 to the even neighbour, 0.75 * 255 = 191.25
    assert flat(OutputFormat(mode="binary", channels=1)(column(logits))) == expected
    two = column([5.0, 1.0, 10.0, -10.0], [5.0, 1 + math.log(3), -10.0, 10.0])
    assert flat(OutputFormat(mode="binary", channels=2)(two)) == expected


def test_uint16_keeps_its_bits_in_int16():
    stored = OutputFormat(mode="binary", channels=1, stored="uint16")(column([0.0, math.log(3), 20.0]))
    assert stored.dtype == torch.int16
    assert stored.numpy().view(np.uint16).ravel().tolist() == [32768, 49151, 65535]


def test_threshold_is_exact_at_its_own_logit():
    cut = OutputFormat(mode="threshold", channels=1, threshold=0.2).cut
    assert cut == pytest.approx(math.log(0.25))
    above = float(np.nextafter(np.float32(cut), np.float32(1)))
    assert flat(OutputFormat(mode="threshold", channels=1, threshold=0.2)(column([cut, above, -9.0]))) == [0, 1, 0]


def test_multiclass_labels_and_probabilities():
    logits = column([0.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 5.0])
    assert flat(OutputFormat(mode="multiclass", channels=3, stored="labels")(logits)) == [1, 0, 2]
    output_format = OutputFormat(mode="multiclass", channels=3, stored="float32")
    assert output_format.planes == 3
    assert torch.allclose(output_format(logits), logits.softmax(0), atol=1e-7)


def test_regions_overlap_and_later_ones_win():
    logits = column([3.0, 3.0, -3.0], [-3.0, 3.0, -3.0])
    assert flat(OutputFormat(mode="regions", channels=2, stored="labels", class_order=(2, 1))(logits)) == [2, 1, 0]
    stored = OutputFormat(mode="regions", channels=2)(logits)
    assert stored.shape == (2, 3, 1, 1)
    assert flat(stored[0]) == [243, 243, 12]


def test_logits_are_halves():
    output_format = OutputFormat(mode="multiclass", channels=2, stored="logits")
    assert output_format(column([0.1], [-7.0])).dtype == torch.float16
    assert output_format.dtype == np.float16


@pytest.mark.parametrize("mode", ["binary", "multiclass", "regions"])
@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("stored", ["uint8", "uint16", "labels"])
def test_a_skipped_patch_is_background_in_every_mode(mode, channels, stored):
    if (mode == "binary" and channels > 2) or (mode == "multiclass" and channels == 1):
        return
    output_format = OutputFormat(mode=mode, channels=channels, stored=stored)
    stored_values = output_format(output_format.empty_logits()[:, None, None, None])
    background = stored_values[1:] if mode == "multiclass" and output_format.planes else stored_values
    assert not background.any()


def test_labels_take_the_type_they_need():
    assert OutputFormat(mode="multiclass", channels=256, stored="labels").dtype == np.uint8
    assert OutputFormat(mode="multiclass", channels=257, stored="labels").dtype == np.uint16
    assert OutputFormat(mode="regions", channels=1, stored="labels", class_order=(300,)).dtype == np.uint16
    assert OutputFormat(mode="threshold", channels=1).labels


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"mode": "binry"}, "'binary'"),
        ({"mode": "binary", "channels": 3}, "mode=multiclass"),
        ({"mode": "multiclass", "channels": 1}, "mode=binary"),
        ({"mode": "binary", "stored": "uint9"}, "'uint8'"),
        ({"mode": "binary", "threshold": 1.5}, "threshold=1.5"),
        ({"mode": "regions", "class_order": (1,)}, "class_order has 1"),
        ({"mode": "binary", "empty_logit": 0}, "empty_logit=0"),
    ],
)
def test_bad_choices_are_refused(choices, words):
    with pytest.raises(ConfigError, match=words):
        OutputFormat(**({"channels": 2} | choices))


def test_exponential_has_the_same_bits_wherever_a_value_stands():
    values = torch.randn(100_003)
    whole = exponential(values)
    for start, stop in ((1, 100_003), (17, 40_000), (99_990, 100_003)):
        assert torch.equal(exponential(values[start:stop].clone()), whole[start:stop])
    assert torch.allclose(whole, values.exp())
    assert torch.allclose(sigmoid(values), values.sigmoid(), atol=1e-7)
    assert torch.allclose(softmax(values[:90].view(9, 10)), values[:90].view(9, 10).softmax(0), atol=1e-7)
    assert sigmoid(torch.tensor([-200.0, 200.0])).tolist() == [0.0, 1.0]
