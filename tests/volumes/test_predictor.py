"""Folds, mirrors and what a network may refuse."""

import pytest
import torch
from torch import nn

from seewhy.errors import CheckpointError, ConfigError
from seewhy.volumes.predictor import PatchPredictor


@pytest.fixture
def image():
    return torch.randn(2, 1, 8, 6, 4, generator=torch.Generator().manual_seed(1))


def test_mirrors_are_averaged_over_all_combinations(make_network, image):
    net = make_network()
    mirrored = [(), (2,), (4,), (2, 4)]
    expected = torch.stack([net(image.flip(axes)).flip(axes) for axes in mirrored]).mean(0)
    found = PatchPredictor([net], mirror_axes=(2, 0))(image)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, net(image), atol=1e-3)


def test_a_symmetric_network_does_not_mind_mirrors(image):
    class Squared(nn.Module):
        def forward(self, x):
            return torch.cat([x, x**2], 1)

    assert torch.allclose(PatchPredictor([Squared()], mirror_axes=(0, 1, 2))(image), Squared()(image), atol=1e-6)


def test_folds_are_averaged_and_put_into_evaluation(make_network, image):
    nets = [nn.Sequential(make_network(seed=seed), nn.Dropout(0.9)).train() for seed in (0, 1, 2)]
    expected = torch.stack([net[0](image) for net in nets]).mean(0)
    assert torch.allclose(PatchPredictor(nets)(image), expected, atol=1e-6)


def test_deep_supervision_gives_its_first_output(make_network, image):
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make_network()

        def forward(self, x):
            logits = self.net(x)
            return [logits, logits[..., ::2, ::2, ::2]]

    deep = Deep()
    assert torch.equal(PatchPredictor([deep])(image), deep.net(image))


def test_autocast_gives_float32_close_to_plain(make_network, image):
    plain, half = (PatchPredictor([make_network()], precision=precision)(image) for precision in ("32", "bf16"))
    assert half.dtype == torch.float32
    assert 0 < (half - plain).abs().max() < 0.05 * plain.abs().max()


def test_probe_counts_classes(make_network):
    assert PatchPredictor([make_network(2, 5)]).probe(2, (4, 4, 4)) == 5


def test_probe_names_the_wrong_number_of_channels(make_network):
    with pytest.raises(CheckpointError, match=r"takes 1 input channel\(s\), the volume has 3"):
        PatchPredictor([make_network()]).probe(3, (4, 4, 4))


def test_probe_refuses_what_is_no_segmentation(make_network):
    with pytest.raises(CheckpointError, match="no logits"):
        PatchPredictor([nn.Flatten()]).probe(1, (4, 4, 4))
    with pytest.raises(CheckpointError, match="expected its size"):
        PatchPredictor([nn.MaxPool3d(2)]).probe(1, (4, 4, 4))
    with pytest.raises(CheckpointError, match=r"numbers of classes: \[2, 3\]"):
        PatchPredictor([make_network(), make_network(classes=3)]).probe(1, (4, 4, 4))
    with pytest.raises(CheckpointError, match="does not take a patch"):
        PatchPredictor([nn.MaxPool3d(8)]).probe(1, (4, 4, 4))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"networks": []}, "at least one network"),
        ({"precision": "8"}, "precision='8'"),
        ({"mirror_axes": (3,)}, "mirror axes"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_choices_are_refused(choices, words):
    given = {"networks": [nn.Identity()]} | choices
    with pytest.raises(ConfigError, match=words):
        PatchPredictor(given.pop("networks"), **given)
