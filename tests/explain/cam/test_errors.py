"""Wrong layers, targets and inputs are answered in words."""

import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError
from seewhy.explain import EigenCAM, FinerCAM, GradCAM, GradCAMPlusPlus, ScoreCAM
from seewhy.explain.grid import arrange_by_sample, enlarge, to_grid


@pytest.mark.parametrize("target", [3, -1, [0, 1, 3]])
def test_a_target_out_of_range(nets, images, target):
    with pytest.raises(ConfigError, match="0 to 2"):
        GradCAM(layers="features.4")(nets.Net(), images, target=target)


@pytest.mark.parametrize("target", [[0, 1], 1.0, torch.zeros(3, 1, dtype=torch.long)])
def test_a_target_of_the_wrong_shape(nets, images, target):
    with pytest.raises(ConfigError, match=r"(?s)target.*3 samples"):
        GradCAM(layers="features.4")(nets.Net(), images, target=target)


def test_a_layer_that_does_not_exist_is_answered_with_the_nearest(nets, images):
    with pytest.raises(ConfigError, match=r"Net has no layer 'feature\.4'; nearest: 'features\.4'"):
        GradCAM(layers="feature.4")(nets.Net(), images)


def test_all_wrong_layers_at_once(nets, three):
    with pytest.raises(ConfigError, match=r"'backbone\.0'.*'backbone\.2'"):
        GradCAM(layers=["backbone.0", "backbones.1", "backbone.2"])(nets.Branches(), three)


def test_a_layer_of_another_module(nets, images):
    with pytest.raises(ConfigError, match=r"Conv2d.*Net"):
        GradCAM(layers=nn.Conv2d(1, 1, 1))(nets.Net(), images)


def test_the_module_itself_is_no_layer(nets, images):
    net = nets.Net()
    for layer in (net, ""):
        with pytest.raises(ConfigError, match=r"Net"):
            GradCAM(layers=layer)(net, images)


def test_another_number_of_layers_than_inputs(nets, three, images):
    with pytest.raises(ConfigError, match=r"2 layers.*first, second, third"):
        GradCAM(layers=["backbones.0", "backbones.1"])(nets.Branches(), three)
    with pytest.raises(ConfigError, match=r"2 layers.*image"):
        GradCAM(layers=["features.0", "features.4"])(nets.Net(), images)


def test_a_layer_of_an_input_that_does_not_exist(nets, three):
    with pytest.raises(ConfigError, match=r"'fist'.*nearest: 'first'"):
        GradCAM(layers={"fist": "backbones.0"})(nets.Branches(), three)


def test_a_layer_that_runs_more_often_than_inputs_name_it(nets, three):
    net = nets.Branches(shared=True)
    with pytest.raises(ConfigError, match=r"'backbones.0' ran 3 times .*\(first\)"):
        GradCAM(layers={"first": "backbones.0"})(net, three)


def test_a_layer_that_does_not_run(nets, images):
    net = nets.Net()
    net.spare = nn.Conv2d(1, 1, 1)
    with pytest.raises(ConfigError, match="'spare'"):
        GradCAM(layers="spare")(net, images)


def test_a_layer_whose_output_has_no_places(nets, images):
    with pytest.raises(ConfigError, match=r"\(3, 5\) .*reshape"):
        GradCAM(layers="head.0")(nets.Net(), images)


def test_a_layer_that_gives_no_tensor(nets, images):
    class Both(nn.Module):
        def forward(self, x):
            return {"features": x}

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.both, self.net = Both(), nets.Net()

        def forward(self, x):
            return self.net(self.both(x)["features"])

    with pytest.raises(ConfigError, match=r"'both'.*dict"):
        GradCAM(layers="both")(Wrapped(), images)


def test_no_layer_is_given_proposes_the_last_that_has_places(nets, images, three):
    net = nets.Net()
    with pytest.raises(ConfigError, match=r"layers='features\.4'"):
        GradCAM()(net, images)
    volume = images[:, :, None].expand(-1, -1, 3, -1, -1)
    with pytest.raises(ConfigError, match=r"layers='net\.features\.4'"):
        GradCAM()(nets.AsChannels(3), volume)
    assert not any(part._forward_hooks for part in net.modules())


def test_a_forward_without_gradients(nets, images):
    class Closed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nets.Net()

        def forward(self, image):
            with torch.no_grad():
                return self.net(image)

    with pytest.raises(ConfigError, match="no_grad"):
        GradCAM(layers="net.features.4")(Closed(), images)
    # What needs no gradients works there too.
    maps = EigenCAM(layers="net.features.4")(Closed(), images)
    assert torch.equal(maps.maps["image"], EigenCAM(layers="features.4")(nets.Net(), images).maps["image"])


def test_inputs_that_are_no_images(nets, images):
    with pytest.raises(ConfigError, match=r"image \(1, 20, 28\).*\[B, C, H, W\]"):
        GradCAM(layers="features.4")(nets.Net(), images[0])


def test_batches_of_different_sizes(nets, three):
    three["second"] = three["second"][:2]
    with pytest.raises(ConfigError, match=r"second \(2, 1, 20, 28\).*batch sizes"):
        GradCAM(layers="backbones.0")(nets.Branches(), three)


def test_scores_that_are_maps(nets, images):
    with pytest.raises(ConfigError, match=r"\(3, 8, 5, 7\).*\[B, K\]"):
        GradCAM(layers="0")(nets.Net().features, images)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: GradCAMPlusPlus(eps=-1), "eps=-1"),
        (lambda: ScoreCAM(channels=0), "channels=0"),
        (lambda: ScoreCAM(memory_budget="much"), "memory_budget='much'"),
        (lambda: FinerCAM(references=0), "references=0"),
        (lambda: FinerCAM(references=[]), "references=\\[\\]"),
    ],
)
def test_options_out_of_range(build, said):
    with pytest.raises(ConfigError, match=said):
        build()


def test_references_that_are_no_classes_or_the_target_alone(nets, images):
    with pytest.raises(ConfigError, match=r"references.*\[5\].*0 to 2"):
        FinerCAM(layers="features.4", references=[0, 5])(nets.Net(), images, target=1)
    with pytest.raises(ConfigError, match=r"target.*\[1\]"):
        FinerCAM(layers="features.4", references=[1])(nets.Net(), images, target=[0, 1, 2])


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [
        (196, (224, 224), (14, 14)),
        (197, (224, 224), (14, 14)),
        (201, (224, 224), (14, 14)),
        (24, (64, 96), (4, 6)),
        (26, (64, 96), (4, 6)),
        (216 + 1, (96, 96, 96), (6, 6, 6)),
        (4 * 6 * 2 + 1, (8, 16, 24), (2, 4, 6)),
        (24 + 1, (115, 64, 96), (4, 6)),
    ],
)
def test_tokens_become_the_images_grid(tokens, size, grid):
    """Row by row; leading tokens, which stand for no place, are dropped."""
    image = torch.zeros(2, 1, *size)
    values = torch.arange(2 * tokens * 3).reshape(2, tokens, 3)
    found = to_grid(values, image)
    assert found.shape == (2, 3, *grid)
    count = found[0, 0].numel()
    assert torch.equal(found[1, 2].flatten(), values[1, tokens - count :, 2])


def test_tokens_of_no_grid_or_of_two():
    with pytest.raises(ConfigError, match="reshape"):
        to_grid(torch.zeros(2, 23, 3), torch.zeros(2, 1, 64, 96))
    with pytest.raises(ConfigError, match=r"any of \[\(8, 8\), \(4, 4, 4\)\]"):
        to_grid(torch.zeros(2, 64, 3), torch.zeros(2, 1, 32, 32, 32))


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((2, 7, 7, 768), (224, 224), (2, 768, 7, 7)),
        ((2, 768, 7, 7), (224, 224), (2, 768, 7, 7)),
        ((2, 10, 13, 96), (304, 400), (2, 96, 10, 13)),
        ((2, 1280, 10, 13), (304, 400), (2, 1280, 10, 13)),
        ((2, 7, 7, 7), (224, 224), (2, 7, 7, 7)),
        ((2, 4, 5, 4, 32), (64, 80, 64), (2, 32, 4, 5, 4)),
        ((2, 32, 4, 5, 4), (64, 80, 64), (2, 32, 4, 5, 4)),
        ((2, 8, 8, 96), (115, 128, 128), (2, 96, 8, 8)),
        ((2, 32, 115, 8, 8), (115, 128, 128), (2, 32, 115, 8, 8)),
    ],
)
def test_channels_that_come_last_are_told_by_proportion(shape, size, expected):
    assert to_grid(torch.zeros(shape), torch.zeros(2, 1, *size)).shape == expected


def test_maps_that_are_not_of_these_samples():
    with pytest.raises(ConfigError, match="4 maps"):
        arrange_by_sample(torch.zeros(4, 5, 7), torch.zeros(3, 1, 20, 28))
    with pytest.raises(ConfigError, match="3 maps"):
        arrange_by_sample(torch.zeros(3, 2, 5, 7), torch.zeros(3, 1, 20, 28))
    with pytest.raises(ConfigError, match="for 2 inputs"):
        arrange_by_sample(torch.zeros(5, 5, 7), torch.zeros(2, 1, 3, 20, 28))


def test_planes_and_volumes_enlarge_alike():
    """A volume whose depth is unchanged is enlarged plane by plane; the result is that of three axes at once."""
    coarse = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = nn.functional.interpolate(coarse[:, None], size=(6, 16, 15), mode="trilinear", align_corners=False)
    torch.testing.assert_close(enlarge(coarse, (6, 16, 15)), expected[:, 0])
    one = enlarge(coarse[:, :1], (6, 16, 15))
    torch.testing.assert_close(one, expected_of_one(coarse))
    assert enlarge(coarse, (6, 4, 5)) is coarse


def expected_of_one(coarse):
    return nn.functional.interpolate(coarse[:, None, :1], size=(6, 16, 15), mode="trilinear", align_corners=False)[:, 0]
