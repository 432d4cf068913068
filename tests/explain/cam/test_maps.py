"""What must be equal among maps: inputs, targets, batches, dimensions."""

import pytest
import torch
from torch import nn

import seewhy.explain as explain

CLASSES = ["GradCAM", "GradCAMPlusPlus", "HiResCAM", "LayerCAM", "XGradCAM", "EigenCAM", "ScoreCAM", "FinerCAM"]
OF_GRADIENTS = [name for name in CLASSES if name not in ("EigenCAM", "ScoreCAM")]


def build(name, **options):
    return getattr(explain, name)(**options)


class Alone(nn.Module):
    """One input of a network with several, the others fixed."""

    def __init__(self, net, inputs, own):
        super().__init__()
        self.net, self.inputs, self.own = net, inputs, own

    def forward(self, image):
        rows = len(image) // len(self.inputs[self.own])
        everything = {name: one.repeat(rows, 1, 1, 1) for name, one in self.inputs.items()}
        return self.net(**{**everything, self.own: image})


@pytest.mark.parametrize("name", CLASSES)
def test_maps_of_several_inputs_equal_runs_on_each(nets, three, name):
    net = nets.Branches()
    options = {"references": 2} if name == "FinerCAM" else {}
    layers = {key: f"backbones.{number}" for number, key in enumerate(three)}
    every = build(name, layers=layers, **options)(net, three, target=[2, 0, 1])
    assert set(every.maps) == set(three)
    for key, layer in layers.items():
        if name == "ScoreCAM":  # whose chunks of masked inputs mix samples
            single = build(name, layers={key: layer})(net, three, target=[2, 0, 1])
            key_alone = key
        else:
            single = build(name, layers=f"net.{layer}", **options)(Alone(net, three, key), three[key], target=[2, 0, 1])
            key_alone = "image"
        assert torch.equal(every.maps[key], single.maps[key_alone])
        assert torch.equal(every.evidence()[key], single.evidence()[key_alone])
        assert every.maps[key].abs().max() > 0


def test_inputs_by_position_equal_inputs_by_name(nets, three):
    net, layers = nets.Branches(), ["backbones.0", "backbones.1", "backbones.2"]
    named = explain.GradCAM(layers=layers)(net, three, target=1)
    placed = explain.GradCAM(layers=layers)(net, tuple(three.values()), target=1)
    for one, other in zip(named.maps.values(), placed.maps.values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", CLASSES)
def test_a_shared_backbone_gives_each_input_its_own_map(nets, three, name):
    shared, apart = nets.Branches(shared=True), nets.Branches()
    for backbone in apart.backbones:
        backbone.load_state_dict(shared.backbones[0].state_dict())
    apart.head.load_state_dict(shared.head.state_dict())
    one = build(name, layers="backbones.0")(shared, three, target=1)
    other = build(name, layers=["backbones.0", "backbones.1", "backbones.2"])(apart, three, target=1)
    for key in three:
        assert torch.equal(one.maps[key], other.maps[key])


def test_the_order_of_a_mapping_does_not_matter(nets, three):
    shared = nets.Branches(shared=True)
    straight = explain.GradCAM(layers=dict.fromkeys(three, "backbones.0"))(shared, three, target=1)
    turned = explain.GradCAM(layers=dict.fromkeys(reversed(three), "backbones.0"))(shared, three, target=1)
    for key in three:
        assert torch.equal(straight.maps[key], turned.maps[key])


def test_the_order_of_named_inputs_does_not_matter(nets, three):
    """The calls of a shared backbone belong to the inputs in the order of the forward, not of the dict."""
    shared = nets.Branches(shared=True)
    straight = explain.GradCAM(layers="backbones.0")(shared, three, target=1)
    turned = explain.GradCAM(layers="backbones.0")(shared, dict(reversed(three.items())), target=1)
    for key in three:
        assert torch.equal(straight.maps[key], turned.maps[key])


@pytest.mark.parametrize("name", CLASSES)
def test_several_targets_equal_separate_calls(nets, images, name):
    net, explainer = nets.Net(), build(name, layers="features.4")
    together = explainer.for_targets(net, images, [0, 2, None, [1, 0, 2]])
    for target, found in zip([0, 2, None, [1, 0, 2]], together, strict=True):
        single = explainer(net, images, target)
        assert torch.equal(found.maps["image"], single.maps["image"])
        assert torch.equal(found.target, single.target)
        assert torch.equal(found.probability, single.probability)


@pytest.mark.parametrize("name", CLASSES)
def test_a_batch_equals_its_samples(nets, images, name):
    net, explainer = nets.Net(), build(name, layers="features.4")
    together = explainer(net, images, target=[2, 0, 1])
    for row, target in enumerate([2, 0, 1]):
        single = explainer(net, images[row : row + 1], target=target)
        torch.testing.assert_close(together.maps["image"][row], single.maps["image"][0], rtol=1e-5, atol=1e-6)
        assert together.target[row] == target


@pytest.mark.parametrize("name", CLASSES)
def test_results_next_to_the_maps(nets, images, name):
    net = nets.Net().eval()
    maps = build(name, layers="features.4")(net, images)
    with torch.no_grad():
        scores = net(images)
    torch.testing.assert_close(maps.scores, scores)
    assert torch.equal(maps.target, scores.argmax(dim=1))
    torch.testing.assert_close(maps.probability, scores.softmax(dim=1).amax(dim=1))
    assert maps.layers == {"image": "features.4"}
    assert maps.maps["image"].shape == (3, 20, 28)
    assert maps.maps["image"].dtype == torch.float32
    assert maps.evidence()["image"].min() >= 0


@pytest.mark.parametrize("name", [name for name in OF_GRADIENTS if name != "FinerCAM"])
def test_one_column_of_scores_is_a_yes_and_a_no(nets, images, name):
    """The map of a single logit's class 1 is that of class 1 minus class 0, and class 0 has the gradient's negative."""
    net = nets.Net(classes=1)
    yes, no = build(name, layers="features.4").for_targets(net, images, [1, 0])
    torch.testing.assert_close(yes.probability + no.probability, torch.ones(3))
    if name in ("GradCAM", "HiResCAM", "XGradCAM"):  # linear in the gradient
        assert torch.equal(yes.maps["image"], -no.maps["image"])
    predicted = build(name, layers="features.4")(net, images)
    assert torch.equal(predicted.target, (predicted.scores[:, 0] > 0).long())
    assert (predicted.probability >= 0.5).all()


@pytest.mark.parametrize("name", CLASSES)
def test_volumes_of_one_slice_equal_images(nets, images, name):
    flat, deep = nets.Net(), nets.Net(3, strides=((1, 2, 2), (1, 2, 2)))
    state = flat.state_dict()
    for key, value in state.items():
        if value.ndim == 4:  # the middle of a 3 × 3 × 3 kernel is all that sees a single slice
            state[key] = torch.stack([torch.zeros_like(value), value, torch.zeros_like(value)], dim=2)
    deep.load_state_dict(state)
    planar = build(name, layers="features.4")(flat, images, target=[0, 1, 2])
    spatial = build(name, layers="features.4")(deep, images[:, :, None], target=[0, 1, 2])
    torch.testing.assert_close(spatial.maps["image"][:, 0], planar.maps["image"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["GradCAM", "HiResCAM", "LayerCAM", "XGradCAM"])
def test_slices_seen_singly_equal_images(nets, images, name):
    """The scores' mean over slices hands each slice its own gradient, divided by their number."""
    volume = torch.stack([images, images.flip(2)], dim=2)  # [3, 1, 2, 20, 28]
    net = nets.Net()
    stacked = build(name, layers="net.features.4")(nets.Slices(net), volume, target=1)
    assert stacked.maps["image"].shape == (3, 2, 20, 28)
    for number in range(2):
        single = build(name, layers="features.4")(net, volume[:, :, number], target=1)
        torch.testing.assert_close(2 * stacked.maps["image"][:, number], single.maps["image"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["EigenCAM", "ScoreCAM"])
def test_slices_seen_singly_are_one_volume(nets, images, name):
    """The same volume with its slices turned about has the same maps, turned about."""
    volume = torch.stack([images, images.flip(2), images * 0.1], dim=2)
    net = nets.Slices(nets.Net())
    straight = build(name, layers="net.features.4")(net, volume, target=1).maps["image"]
    turned = build(name, layers="net.features.4")(net, volume.flip(2), target=1).maps["image"]
    torch.testing.assert_close(straight.flip(1), turned, rtol=1e-4, atol=1e-5)
    assert straight.shape == (3, 3, 20, 28)


@pytest.mark.parametrize("name", CLASSES)
def test_slices_as_channels_share_a_map_and_say_so(nets, images, name):
    volume = torch.stack([images, images.flip(2), images * 0.1], dim=2)
    net = nets.AsChannels(3)
    maps = build(name, layers="net.features.4")(net, volume, target=1)
    assert maps.maps["image"].shape == (3, 3, 20, 28)
    assert torch.equal(maps.maps["image"][:, 0], maps.maps["image"][:, 2])
    assert maps.notes == ("one map for all slices",)
    if name != "ScoreCAM":  # which masks what the other network does not have
        planar = build(name, layers="features.4")(net.net, volume[:, 0], target=1)
        torch.testing.assert_close(maps.maps["image"][:, 1], planar.maps["image"])


def test_grad_cam_of_a_linear_head_is_its_class_activation(nets, images):
    net = nets.Net()
    net.head = nn.Linear(8, 3)
    maps = explain.HiResCAM(layers="features.4")(net, images, target=2)
    with torch.no_grad():
        features = net.eval().features(images)
    expected = torch.einsum("c,nchw->nhw", net.head.weight[2], features) / features[0, 0].numel()
    expected = nn.functional.interpolate(expected[:, None], size=(20, 28), mode="bilinear")[:, 0]
    torch.testing.assert_close(maps.maps["image"], expected.detach())
    torch.testing.assert_close(explain.GradCAM(layers="features.4")(net, images, target=2).maps, maps.maps)
    # What the map sums to is the score less its bias (HiResCAM's promise), before enlarging.
    coarse = torch.einsum("c,nchw->n", net.head.weight[2], features) / features[0, 0].numel()
    torch.testing.assert_close(coarse, maps.scores[:, 2] - net.head.bias[2])


def test_grad_cam_plus_plus_without_eps_is_the_papers_formula(nets, images):
    """α = 1 ÷ (2 + ΣA · G), whatever the scale of the gradients, and it differs where the package's 1e-6 does harm."""
    net = nets.Net()
    net.head = nn.Linear(8, 3)
    exact = explain.GradCAMPlusPlus(layers="features.4", eps=0)(net, images, target=2)
    with torch.no_grad():
        features = net.eval().features(images)
    gradient = (net.head.weight[2] / features[0, 0].numel()).detach()  # the same at all places
    sums = features.sum(dim=(2, 3))
    alpha = 1 / (2 + sums * gradient)
    weights = alpha * gradient.relu() * features[0, 0].numel()
    expected = torch.einsum("nc,nchw->nhw", weights, features)
    expected = nn.functional.interpolate(expected[:, None], size=(20, 28), mode="bilinear")[:, 0]
    torch.testing.assert_close(exact.maps["image"], expected)
    net.head.weight.data.mul_(1e-3)
    small = explain.GradCAMPlusPlus(layers="features.4")(net, images, target=2)
    exact = explain.GradCAMPlusPlus(layers="features.4", eps=0)(net, images, target=2)
    assert small.maps["image"].max() < 0.1 * exact.maps["image"].max()


def test_an_input_without_influence_has_an_empty_map_and_a_note(nets, three):
    net, layers = nets.Branches(), ["backbones.0", "backbones.1", "backbones.2"]
    net.head[0].weight.data[:, 8:16] = 0
    for name in CLASSES:
        maps = build(name, layers=layers)(net, three, target=1)
        assert not maps.maps["second"].any()
        assert maps.maps["first"].any()
        assert maps.notes == ("the score does not depend on backbones.1 of second: its map is empty",)
        assert maps.shares()["second"].tolist() == [0, 0, 0]


def test_eigen_cam_is_bright_where_the_network_is_active(nets, images):
    net = nets.Net().eval()
    with torch.no_grad():
        active = net.features(images).mean(dim=1)
    found = explain.EigenCAM(layers="features.4")(net, images).maps["image"]
    mirrored = nn.Sequential(net.features, Negative(), net.dropout, Pooled(net))
    dark = explain.EigenCAM(layers="1")(mirrored, images).maps["image"]
    active = nn.functional.interpolate(active[:, None], size=(20, 28), mode="bilinear")[:, 0]
    for row in range(3):
        assert torch.corrcoef(torch.stack([found[row].flatten(), active[row].flatten()]))[0, 1] > 0
        # Negative activations are bright where they are least negative.
        assert torch.corrcoef(torch.stack([dark[row].flatten(), active[row].flatten()]))[0, 1] < 0


class Negative(nn.Module):
    def forward(self, image):
        return -image


class Pooled(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.head = net.head

    def forward(self, features):
        return self.head(features.mean(dim=(2, 3)))


@pytest.mark.parametrize("shape", [(8, 5, 7), (40, 5, 3)])
def test_eigen_cam_projects_on_the_first_right_singular_vector(shape):
    """Whether there are more places or more channels."""
    activation = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    found = explain.EigenCAM().combine(activation, activation)
    for row in range(2):
        places = activation[row].flatten(1).T
        places = places - places.mean(dim=0)
        first = torch.linalg.svd(places.double()).Vh[0].float()
        expected = (places @ first).reshape(shape[1:])
        sign = torch.sign((expected * activation[row].mean(dim=0)).sum())
        torch.testing.assert_close(found[row], sign * expected, rtol=1e-4, atol=1e-5)


def test_score_cam_does_not_depend_on_its_memory(nets, three):
    net, layers = nets.Branches(), ["backbones.0", "backbones.1", "backbones.2"]
    wide = explain.ScoreCAM(layers=layers)(net, three, target=[0, 1, 3])
    narrow = explain.ScoreCAM(layers=layers, memory_budget=1)(net, three, target=[0, 1, 3])
    for key in three:
        torch.testing.assert_close(wide.maps[key], narrow.maps[key])


def test_score_cam_by_hand(nets, images):
    net = nets.Net(strides=(1, 1)).eval()
    maps = explain.ScoreCAM(layers="features.4")(net, images, target=2)
    with torch.no_grad():
        features = net.features(images)
        scores = torch.empty(3, 8)
        for row in range(3):
            for channel in range(8):
                mask = features[row, channel]
                mask = (mask - mask.min()) / (mask.max() - mask.min() + 1e-8)
                scores[row, channel] = net((images[row] * mask)[None])[0, 2]
    expected = torch.einsum("nc,nchw->nhw", scores.softmax(dim=1), features)
    torch.testing.assert_close(maps.maps["image"], expected)


def test_score_cam_of_some_channels_takes_those_that_vary(nets, images):
    net = nets.Net(strides=(1, 1)).eval()
    with torch.no_grad():
        features = net.features(images)
    every = explain.ScoreCAM(layers="features.4", channels=8)(net, images, target=2)
    assert torch.equal(every.maps["image"], explain.ScoreCAM(layers="features.4")(net, images, target=2).maps["image"])
    one = explain.ScoreCAM(layers="features.4", channels=1)(net, images, target=2)
    taken = features.flatten(2).std(dim=2).argmax(dim=1)
    torch.testing.assert_close(one.maps["image"], features[torch.arange(3), taken])


def test_score_cam_counts_the_no_of_a_single_logit(nets, images):
    net = nets.Net(classes=1, strides=(1, 1))
    two = nn.Sequential(net, Margin())
    for target in (0, 1):
        one = explain.ScoreCAM(layers="features.4", channels=5)(net, images, target=target)
        other = explain.ScoreCAM(layers="0.features.4", channels=5)(two, images, target=target)
        torch.testing.assert_close(one.maps["image"], other.maps["image"])


class Margin(nn.Module):
    def forward(self, logit):
        return torch.cat([-logit, logit], dim=1)


def test_finer_cam_of_one_reference_is_grad_cam_of_the_difference(nets, images):
    net = nets.Net()
    finer = explain.FinerCAM(layers="features.4", references=[2, 0], alpha=0.6)(net, images, target=[0, 2, 0])
    plain = explain.GradCAM(layers="features.4")
    two, zero = (one.maps["image"] for one in plain.for_targets(net, images, [2, 0]))
    expected = torch.stack([zero[0] - 0.6 * two[0], two[1] - 0.6 * zero[1], zero[2] - 0.6 * two[2]])
    torch.testing.assert_close(finer.maps["image"], expected)


def test_finer_cam_compares_with_the_nearest_in_score(nets, images):
    net = nets.Net(classes=5)
    scores = explain.GradCAM(layers="features.4")(net, images).scores
    distance = (scores - scores[:, 3:4]).abs()
    distance[:, 3] = torch.inf
    nearest = distance.argmin(dim=1).tolist()
    counted = explain.FinerCAM(layers="features.4", references=1)(net, images, target=3)
    for row, reference in enumerate(nearest):
        named = explain.FinerCAM(layers="features.4", references=[reference])(net, images, target=3)
        torch.testing.assert_close(counted.maps["image"][row], named.maps["image"][row])


def test_finer_cam_of_a_single_logit_is_grad_cam(nets, images):
    net = nets.Net(classes=1)
    finer = explain.FinerCAM(layers="features.4")(net, images, target=0)
    assert torch.equal(finer.maps["image"], explain.GradCAM(layers="features.4")(net, images, target=0).maps["image"])


def test_nested_layers_are_both_explained(nets, images):
    """A second layer in the graph of the first is not cut off from it."""

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.early, self.late, self.head = nets.Net(seed=1), nets.Net(seed=2, channels=8), nn.Linear(8, 3)

        def forward(self, first, second):
            early = self.early.features(first)
            return self.head(self.late.features(early + second).mean(dim=(2, 3)))

    inputs = {"first": images, "second": torch.zeros(3, 8, 5, 7)}
    both = explain.GradCAM(layers=["early.features.4", "late.features.4"])(Chain(), inputs, target=1)
    first = explain.GradCAM(layers={"first": "early.features.4"})(Chain(), inputs, target=1)
    second = explain.GradCAM(layers={"second": "late.features.4"})(Chain(), inputs, target=1)
    assert torch.equal(both.maps["first"], first.maps["first"])
    assert torch.equal(both.maps["second"], second.maps["second"])
    assert first.maps["first"].any()
    assert second.maps["second"].any()


def test_tokens_that_only_the_class_token_reads_are_said_to_have_no_say():
    """Behind a transformer's last layer only the class token counts: a known trap, answered instead of a blank."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, in_chans=1, num_classes=3, depth=2)
    image = torch.randn(2, 1, 32, 32)
    last = explain.GradCAM(layers="norm")(net, image, target=1)
    assert last.notes == ("the score does not depend on norm of image: its map is empty",)
    assert not last.maps["image"].any()
    before = explain.GradCAM(layers="blocks.1.norm1")(net, image, target=1)
    assert before.notes == ()
    assert before.maps["image"].any()


def test_windowed_transformers_give_their_channels_last():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    options = {"img_size": (64, 96), "window_size": 2, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2)}
    net = timm.create_model("swin_tiny_patch4_window7_224", in_chans=1, num_classes=3, **options)
    image = torch.randn(2, 1, 64, 96)
    told = explain.GradCAM(layers="norm", reshape=lambda x: x.permute(0, 3, 1, 2))(net, image, target=1)
    found = explain.GradCAM(layers="norm")(net, image, target=1)
    assert torch.equal(found.maps["image"], told.maps["image"])
    assert found.maps["image"].any()


def test_finer_cam_that_takes_nothing_off_is_grad_cam(nets, images):
    finer = explain.FinerCAM(layers="features.4", alpha=0)(nets.Net(), images, target=1)
    plain = explain.GradCAM(layers="features.4")(nets.Net(), images, target=1)
    torch.testing.assert_close(finer.maps["image"], plain.maps["image"])
