import pytest
import timm
import torch
from torch import nn

from seewhy.errors import ConfigError
from seewhy.models.classification.base import depth_of_parameters
from seewhy.nets.classifiers.backbones import PlanarFeatures
from seewhy.nets.classifiers.multi_input import MultiInputClassifier

INPUTS = ("mnv", "fluid", "ga", "drusen")
SMALL = {"name": "test_efficientnet"}


def build(**options):
    torch.manual_seed(0)
    defaults = {"inputs": INPUTS, "num_outputs": 4, "backbone": SMALL, "hidden": 16}
    return MultiInputClassifier(**{**defaults, **options}).eval()


def images(batch=3, size=40, inputs=INPUTS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(batch, 1, size, size, generator=generator) for name in inputs}


@pytest.mark.parametrize(
    ("library", "name", "width"),
    [
        ("timm", "efficientnet_b0", 1280),
        ("timm", "efficientnet_b2", 1408),
        ("timm", "efficientnet_b5", 2048),
        ("timm", "efficientnet_b7", 2560),
        ("timm", "tf_efficientnet_lite4", 1280),
        ("torchvision", "efficientnet_b3", 1536),
        ("torchvision", "efficientnet_v2_s", 1280),
    ],
)
def test_the_head_is_as_wide_as_the_backbones(library, name, width):
    with torch.device("meta"):
        net = MultiInputClassifier(
            inputs=("a", "b"), num_outputs=4, backbone={"name": name, "library": library}, shared=True
        )
        scores = net.eval()({key: torch.zeros(2, 1, 64, 64) for key in ("a", "b")})
    assert net.head[0].in_features == 2 * width
    assert scores.shape == (2, 4)


def test_it_is_backbones_pooling_and_head():
    net, given = build(), images()
    pooled = [net.branches[name].net(given[name]).mean(dim=(2, 3)) for name in INPUTS]
    assert torch.equal(net(given), net.head(torch.cat(pooled, dim=1)))


def test_timm_networks_are_timms():
    net = build()
    reference = timm.create_model("test_efficientnet", in_chans=1, num_classes=0)
    assert net.branches["mnv"].net.state_dict().keys() == reference.state_dict().keys()


def test_shared_weights_are_one_backbone_called_in_order():
    separate, shared = build(), build(shared=True)
    one = sum(p.numel() for p in separate.branches["mnv"].parameters())
    counts = [sum(p.numel() for p in net.parameters()) for net in (separate, shared)]
    assert counts[0] - counts[1] == 3 * one
    assert shared.layers() == dict.fromkeys(INPUTS, "branches.shared")
    assert separate.layers() == {name: f"branches.{name}" for name in INPUTS}
    seen = []
    shared.branch("ga").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    given = images()
    shared(given)
    assert all(torch.equal(image, given[name]) for image, name in zip(seen, INPUTS, strict=True))


def test_a_shared_backbone_predicts_with_the_statistics_that_it_learned_with():
    """Inputs of other brightness and contrast: normalised one by one in training, they would look alike there only."""
    net = build(inputs=("dark", "bright"), shared=True, dropout=0.0)
    dark, bright = images(batch=32, inputs=("dark", "bright")).values()
    given = {"dark": 0.1 * dark - 2.0, "bright": 3.0 * bright + 5.0}
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # what is kept is of the last batch
    net.train()
    learned = net(given)
    torch.testing.assert_close(net.eval()(given), learned, rtol=0.02, atol=0.02)


def test_a_shared_backbone_learns_from_inputs_of_several_sizes_one_by_one():
    net = build(inputs=("small", "large"), shared=True).train()
    given = {"small": torch.rand(2, 1, 32, 32), "large": torch.rand(2, 1, 48, 48)}
    net(given).sum().backward()
    assert all(parameter.grad is not None for parameter in net.branch("small").parameters())


def test_a_missing_input_has_no_influence_and_no_gradient():
    net, given = build(), images()
    present = torch.ones(3, 4, dtype=torch.bool)
    present[1, 2] = False
    for image in given.values():
        image.requires_grad_()
    scores = net({**given, "present": present})
    gradients = torch.autograd.grad(scores.sum(), list(given.values()))
    assert (gradients[2][1] == 0).all()
    assert all((gradient[0] != 0).any() for gradient in gradients)
    other = {name: image.detach().clone() for name, image in given.items()}
    other["ga"][1] = 100.0
    again = net({**other, "present": present})
    assert torch.equal(again, scores)
    assert not torch.equal(net(given), scores)


def test_empty_images_do_not_move_batch_statistics():
    """In training, a case without an input stands aside: the backbone sees images that are there only."""
    present = torch.tensor([[True, True], [False, True], [True, True]])
    given = images(inputs=("a", "b"))
    given["a"][1] = 0.0
    net = build(inputs=("a", "b")).train()
    seen = []
    net.branch("a").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net({**given, "present": present})
    assert torch.equal(seen[0], given["a"][[0, 0, 2]])
    net({**given, "present": torch.zeros(3, 2, dtype=torch.bool)})  # nothing to stand in
    assert torch.equal(seen[1], given["a"])


def test_inputs_are_dropped_in_training_only_and_never_all():
    net = build(input_dropout=0.7)
    given = images(batch=400, size=8)
    assert net._get_present(given).all()
    net.train()
    torch.manual_seed(0)
    left = net._get_present(given)
    assert left.any(dim=1).all()
    # Where all four would go (0.7^4 of the cases), all four stay.
    assert left.float().mean() == pytest.approx(0.3 + 0.7**4, abs=0.05)
    absent = torch.ones(400, 4, dtype=torch.bool)
    absent[:, 1] = False
    assert not net._get_present({**given, "present": absent})[:, 1].any()


def test_the_stem_is_one_convolution_for_all_inputs():
    net = build(stem="conv1x1")
    assert net.stem.weight.shape == (3, 1, 1, 1)
    assert net.branches["ga"].net.conv_stem.in_channels == 3
    given = images()
    pooled = [net.branches[name].net(net.stem(given[name])).mean(dim=(2, 3)) for name in INPUTS]
    assert torch.equal(net(given), net.head(torch.cat(pooled, dim=1)))


def test_the_layout_of_torchvision():
    with torch.device("meta"):
        net = build(backbone={"name": "efficientnet_b0", "library": "torchvision"}, stem="conv1x1")
        reference = __import__("torchvision").models.efficientnet_b0(weights=None)
    names = {f"features.{name}" for name in reference.features.state_dict()}
    assert set(net.branches["mnv"].net.state_dict()) == names
    assert set(net.head.state_dict()) == {"0.weight", "0.bias", "3.weight", "3.bias"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inputs": ("a", "a")}, "different names"),
        ({"inputs": ("a", "present")}, ": present"),
        ({"inputs": ("a", "x.y")}, ": x.y"),
        ({"stem": "conv3"}, "conv1x1 or null"),
        ({"input_dropout": 1.0}, "input_dropout=1.0"),
        ({"backbone": {"name": "efficientnet_b99"}}, "efficientnet_b"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        build(**options)


def test_wrong_images_are_told():
    net, given = build(), images()
    with pytest.raises(ConfigError, match="drusen"):
        net({name: given[name] for name in INPUTS[:3]})
    with pytest.raises(ConfigError, match=r"present.* \(3, 2\).* \(3, 4\)"):
        net({**given, "present": torch.ones(3, 2, dtype=torch.bool)})


@pytest.mark.parametrize(
    ("backbone", "first", "last"),
    [
        (SMALL, "net.conv_stem", "net.conv_head"),
        ({"name": "efficientnet_b0", "library": "torchvision"}, "net.features.0.", "net.features.8."),
    ],
)
def test_depth_runs_from_the_image_to_the_features(backbone, first, last):
    with torch.device("meta"):
        depths = depth_of_parameters(PlanarFeatures(**backbone, in_channels=1))
        names = [name for name, _ in PlanarFeatures(**backbone, in_channels=1).named_parameters()]
    assert set(depths) == set(names)
    assert sorted(set(depths.values())) == list(range(max(depths.values()) + 1))
    assert all(depth == 0 for name, depth in depths.items() if name.startswith(first))
    assert all(depth == max(depths.values()) for name, depth in depths.items() if name.startswith(last))


def test_depth_of_a_plain_network():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    depths = depth_of_parameters(nn.Sequential(net))
    assert {name: depth for name, depth in depths.items() if name.endswith("weight")} == {
        "0.0.weight": 0, "0.2.0.weight": 1, "0.2.1.weight": 1
    }  # fmt: skip
