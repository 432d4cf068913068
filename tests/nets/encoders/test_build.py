"""Encoders by name."""

import pytest
import torch

from seewhy.errors import ConfigError
from seewhy.nets.encoders import Encoder, build_encoder


@pytest.mark.parametrize("name", ["cnn", "mit_nano", "resnet18", "pvt_v2_b0"])
def test_every_encoder_says_what_it_gives(name):
    encoder = build_encoder(name, in_channels=2).eval()
    assert isinstance(encoder, Encoder)
    with torch.no_grad():
        features = encoder(torch.randn(1, 2, 50, 70), attention=True)
    assert [x.shape[1] for x in features.maps] == encoder.channels
    sizes = [(-(-50 // stride), -(-70 // stride)) for stride in encoder.strides]
    assert [tuple(x.shape[-2:]) for x in features.maps] == sizes
    assert encoder.strides == sorted(encoder.strides)
    assert sum(a.shape[1] for a in features.attention) == encoder.attention_heads
    assert encoder.in_channels == 2


@pytest.mark.parametrize(
    ("name", "nearest"), [("mit_b7", "'mit_b"), ("resnet19", "'resnet18'"), ("pvt_v2_b9", "'pvt_v2_b")]
)
def test_unknown_name_names_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=nearest):
        build_encoder(name)


@pytest.mark.parametrize(
    ("name", "option", "nearest"),
    [("cnn", "width", "'widths'"), ("mit_nano", "droppath", "'drop_path'"), ("resnet18", "no_such_option", "resnet18")],
)
def test_unknown_option_names_the_nearest(name, option, nearest):
    with pytest.raises(ConfigError, match=nearest):
        build_encoder(name, **{option: 1})


def test_attention_options_arrive():
    assert build_encoder("mit_nano", attention_blocks=1).attention_heads == 8
    weights = build_encoder("mit_nano", pre_softmax=False)(torch.randn(1, 1, 32, 32), True).attention[0]
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 8, 4))
