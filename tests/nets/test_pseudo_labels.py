import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError
from seewhy.nets.affinity import RandomWalk, attention_affinity
from seewhy.nets.cam import MultiScaleCAM, View
from seewhy.nets.encoders import build_encoder
from seewhy.nets.heads import ClassificationHead
from seewhy.nets.pseudo_labels import PseudoLabels, Walks, class_shares, label_shares, two_threshold_labels
from seewhy.nets.refinement import PixelAdaptiveRefinement

spec = importlib.util.spec_from_file_location("plain", Path(__file__).with_name("straightforward_labels.py"))
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)


def test_shares_of_present_classes_only():
    maps = torch.rand(2, 3, 4, 5)
    present = torch.tensor([[True, False, True], [False, False, False]])
    shares = class_shares(maps, present, 0.4)
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 4, 5))
    expected = torch.stack([torch.full((4, 5), 0.4), maps[0, 0], maps[0, 2]]).softmax(0)
    torch.testing.assert_close(shares[0, [0, 1, 3]], expected)
    assert torch.equal(shares[0, 2], torch.zeros(4, 5))
    assert torch.equal(shares[1, 0], torch.ones(4, 5))


def test_two_thresholds_truth_table():
    cam = torch.tensor([0.9, 0.5, 0.1]).view(1, 1, 1, 3)
    present = torch.ones(1, 1, dtype=torch.bool)
    labels = two_threshold_labels(class_shares(cam, present, 0.55), class_shares(cam, present, 0.35))
    assert labels.flatten().tolist() == [1, 255, 0]


def test_without_refinement_labels_are_the_thresholds():
    cam = torch.rand(2, 1, 9, 11)
    present = torch.tensor([[True], [False]])
    labels = PseudoLabels(low=0.3, background=0.5, high=0.6)(cam, cam, present, routes=["cam"])["cam"]
    expected = torch.where(cam[0, 0] > 0.6, 1, torch.where(cam[0, 0] <= 0.3, 0, 255))
    assert torch.equal(labels[0], expected)
    assert torch.equal(labels[1], torch.zeros(9, 11, dtype=torch.long))  # an image without a class is background


def test_walk_with_full_affinity_makes_one_label_of_an_image():
    cam = torch.zeros(1, 1, 8, 8)
    cam[..., :6] = 1
    walks = Walks(torch.ones(1, 16, 16), (4, 4))
    labels = PseudoLabels(walk=RandomWalk(radius=4))(
        cam, cam, torch.ones(1, 1, dtype=torch.bool), walks=walks, routes=["cam", "walk"]
    )
    assert labels["walk"].unique().numel() == 1
    assert labels["cam"].unique().numel() > 1


def test_soft_map_is_above_one_half_where_the_class_beats_the_background():
    torch.manual_seed(0)
    image, cam = torch.randn(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    walks = Walks(torch.eye(16).expand(2, 16, 16), (4, 4))
    maker = PseudoLabels(refine=PixelAdaptiveRefinement(), walk=RandomWalk())
    soft = maker.soft(image, cam, torch.tensor([[True], [False]]), walks)
    assert soft.shape == cam.shape
    assert soft.min() >= 0
    assert soft.max() <= 1
    assert torch.equal(soft[1], torch.zeros(1, 32, 32))
    shares = maker.walk(class_shares(plain.resize(cam, (4, 4)), torch.tensor([[True], [False]]), 0.45), walks.affinity)
    refined = plain.resize(
        plain.refine(plain.resize(image[:1], (16, 16)), plain.resize(shares[:1], (16, 16))), (32, 32)
    )
    assert torch.equal(soft[0, 0] > 0.5, refined[0, 1] > refined[0, 0])


def test_label_shares_by_hand():
    shares = label_shares({"cam": torch.tensor([[[0, 1], [255, 2]]])})
    assert shares == {"coverage_cam": torch.tensor(0.75), "foreground_cam": torch.tensor(0.5)}


@pytest.mark.parametrize("order", [(0.6, 0.5, 0.4), (-0.1, 0.5, 0.6), (0.3, 0.5, 1.2)])
def test_thresholds_out_of_order_are_refused(order):
    low, background, high = order
    with pytest.raises(ConfigError, match="thresholds"):
        PseudoLabels(low=low, background=background, high=high)


@pytest.mark.parametrize("size", [(64, 64), (50, 70)])
@pytest.mark.parametrize(("normalize", "classes"), [("minmax", 1), ("minmax", 2), ("sigmoid", 1)])
def test_labels_are_those_of_the_straightforward_version(size, normalize, classes):
    torch.manual_seed(3)
    encoder = build_encoder("mit_nano", drop_path=0.0).eval()
    classifier = ClassificationHead(128, classes, "gmp", False)
    projection = nn.Conv2d(encoder.attention_heads, 1, 1)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(4, 1, *size), 5, 1, 2)
    image, label = 3 * smooth, torch.tensor([[1, 0], [0, 0], [1, 1], [0, 1]])[:, :classes].float()

    with torch.no_grad():
        cam, attention, grid = plain.multi_scale_cam(encoder, classifier, image, normalize=normalize)
        affinity = attention_affinity(attention, projection).sigmoid()
        expected = {
            "cam": plain.pixel_labels(image, cam, label),
            "walk": plain.pixel_labels(image, cam, label, affinity=affinity, size=grid),
        }

        def encode(view, with_attention):
            features = encoder(view, attention=with_attention)
            return View(classifier.activation_map(features.maps[-1]), features.attention)

        found_cam, largest = MultiScaleCAM(normalize=normalize)(
            encode, image, first=encode(image, True), attention=True
        )
        walks = Walks(attention_affinity(largest.attention, projection).sigmoid(), tuple(largest.local.shape[-2:]))
        maker = PseudoLabels(refine=PixelAdaptiveRefinement(), walk=RandomWalk())
        found = maker(image, found_cam, label > 0.5, walks=walks, routes=["cam", "walk"])

    torch.testing.assert_close(found_cam, cam, atol=1e-4, rtol=1e-4)
    for route, labels in expected.items():
        # Sums in another order may turn a pixel that lies on a threshold to within rounding.
        assert (found[route] != labels).float().mean() < 1e-3, route
    assert 255 in expected["cam"]
    assert 0 in expected["cam"]


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_labels_are_those_of_the_highest_channel_also_where_channels_are_equal(channels):
    generator = torch.Generator().manual_seed(channels)
    strict, lenient = (torch.randint(0, 6, (3, channels, 20, 20), generator=generator).float() for _ in range(2))
    expected = strict.argmax(dim=1)
    unsure = (expected == 0) & (lenient.argmax(dim=1) != 0)
    assert torch.equal(two_threshold_labels(strict, lenient), expected.masked_fill(unsure, 255))
