import pytest
import torch
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.nets.cam import MultiScaleCAM, View, min_max
from seewhy.nets.heads import ClassificationHead


class Blur:
    """A shift-equivariant network of one class: local logits are 2x average-pooled intensities."""

    def __init__(self):
        self.batches = []

    def __call__(self, image, attention):
        self.batches.append(tuple(image.shape))
        local = F.avg_pool2d(image.mean(1, keepdim=True), 2, ceil_mode=True)
        return View(local, [torch.full((len(image), 1, 1, 1), float(image.shape[-1]))] if attention else [])


def test_activation_map_of_a_linear_feature():
    # Channel 0 is 1 on the left half, channel 1 on the right; the classifier is 3·left - 2·right.
    features = torch.zeros(1, 2, 4, 6)
    features[:, 0, :, :3] = 1
    features[:, 1, :, 3:] = 1
    head = ClassificationHead(2, 1, "gap", bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([3.0, -2.0]).view(1, 2, 1, 1))
    local = head.activation_map(features)
    assert torch.equal(local[0, 0, :, :3], torch.full((4, 3), 3.0))
    assert torch.equal(local[0, 0, :, 3:], torch.full((4, 3), -2.0))
    torch.testing.assert_close(head(features), local.mean(dim=(2, 3)))


@pytest.mark.parametrize("normalize", ["sigmoid", "minmax"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (17, 50)])
def test_flipping_the_image_flips_the_map(normalize, size):
    image = torch.randn(2, 3, *size)
    cam = MultiScaleCAM(normalize=normalize)
    straight, _ = cam(Blur(), image)
    mirrored, _ = cam(Blur(), image.flip(-1))
    assert straight.shape == (2, 1, *size)
    torch.testing.assert_close(mirrored, straight.flip(-1))


@pytest.mark.parametrize("normalize", ["sigmoid", "minmax"])
def test_order_of_scales_does_not_matter(normalize):
    image = torch.randn(2, 1, 30, 41)
    results = []
    for scales in ([1, 0.5, 1.5], [1.5, 1, 0.5], [0.5, 1.5, 1]):
        maps, largest = MultiScaleCAM(scales=scales, normalize=normalize)(Blur(), image, attention=True)
        assert float(largest.attention[0].max()) == round(41 * 1.5)  # the attention is of the largest scale
        results.append(maps)
    for maps in results[1:]:
        torch.testing.assert_close(maps, results[0])


@pytest.mark.parametrize("scales", [[1, 0.5, 1.5], [0.5, 1.5, 1], [0.5, 1]])
@pytest.mark.parametrize("flip", [True, False])
def test_a_known_view_is_not_computed_again(scales, flip):
    image = torch.randn(2, 1, 32, 32)
    cam = MultiScaleCAM(scales=scales, flip=flip)
    plain, first = Blur(), Blur()(image, True)
    expected, _ = cam(plain, image, attention=True)
    network = Blur()
    found, largest = cam(network, image, first=first, attention=True)
    torch.testing.assert_close(found, expected)
    views = 2 if flip else 1
    assert sum(shape[0] for shape in plain.batches) == 2 * views * len(scales)
    assert sum(shape[0] for shape in network.batches) == 2 * views * len(scales) - 2
    assert len(largest.attention) == 1
    assert len(largest.attention[0]) == 2


def test_views_keep_no_gradient():
    weight = torch.ones(1, requires_grad=True)
    local = View(torch.randn(1, 1, 8, 8) * weight)
    maps, largest = MultiScaleCAM(scales=[1, 2])(lambda x, _: View(x * weight), torch.randn(1, 1, 8, 8), first=local)
    assert not maps.requires_grad
    assert not largest.local.requires_grad


def test_views_of_parts_join_to_the_whole():
    whole = View(torch.randn(5, 1, 4, 4), [torch.randn(5, 2, 16, 16), torch.randn(5, 3, 16, 16)])
    joined = View.join([whole[:2], whole[2:]])
    assert torch.equal(joined.local, whole.local)
    assert all(torch.equal(a, b) for a, b in zip(joined.attention, whole.attention, strict=True))


def test_sigmoid_leaves_a_healthy_slice_dark_and_minmax_does_not():
    image = torch.cat([torch.full((1, 1, 16, 16), -6.0), torch.full((1, 1, 16, 16), 6.0)])
    image += 0.1 * torch.randn(image.shape)
    sigmoid, _ = MultiScaleCAM()(Blur(), image)
    assert sigmoid[0].max() < 0.01
    assert sigmoid[1].min() > 0.99
    stretched = min_max(image)
    assert stretched[0].min() == 0
    assert stretched[0].max() > 0.99


def test_min_max_by_hand():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    expected = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]]) / (4 + 1e-5)
    torch.testing.assert_close(min_max(maps), expected)
    assert torch.equal(min_max(torch.full((1, 1, 3, 3), 7.0)), torch.zeros(1, 1, 3, 3))


def test_minmax_takes_the_larger_view_and_cuts_negatives():
    image = torch.tensor([[-1.0, 2.0, 4.0, -3.0]]).view(1, 1, 1, 4)
    # A network that is not mirror-symmetric, so the view turned back differs: image + [3, 2, 1, 0].
    ramp = torch.tensor([0.0, 1.0, 2.0, 3.0]).view(1, 1, 1, 4)
    maps, _ = MultiScaleCAM(scales=[1.0], normalize="minmax")(lambda x, _: View(x + ramp - 3), image)
    positive = torch.tensor([0.0, 1.0, 3.0, 0.0]).view(1, 1, 1, 4)  # max(image + ramp, turned) - 3, cut at 0
    torch.testing.assert_close(maps, positive / (3 + 1e-5))
    maps, _ = MultiScaleCAM(scales=[1.0], normalize="sigmoid")(lambda x, _: View(x + ramp), image)
    torch.testing.assert_close(maps, torch.sigmoid(image + 1.5))


@pytest.mark.parametrize("scales", [[], [0.0], [-1, 1], [1, 1]])
def test_wrong_scales_are_refused(scales):
    with pytest.raises(ConfigError, match="scales"):
        MultiScaleCAM(scales=scales)


def test_mistyped_normalization_names_the_nearest():
    with pytest.raises(ConfigError, match="'minmax'"):
        MultiScaleCAM(normalize="min_max")
