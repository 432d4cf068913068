"""Modules are called as they were written, whatever they take and give."""

from collections import namedtuple

import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError
from seewhy.explain import Explainable, ExplainedModel, GradCAM, ScoreCAM

Output = namedtuple("Output", ["logits", "loss"])


class Returns(nn.Module):
    """A network whose scores come in some wrapping."""

    def __init__(self, net, wrap):
        super().__init__()
        self.net, self.wrap = net, wrap

    def forward(self, image):
        return self.wrap(self.net(image))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda scores: (scores, None),
        lambda scores: [scores, scores * 0],
        lambda scores: Output(scores, None),
        lambda scores: Output(logits=scores, loss=scores.sum()),
    ],
)
def test_scores_are_found_in_what_modules_return(nets, images, wrap):
    net = nets.Net()
    plain = GradCAM(layers="features.4")(net, images, target=1)
    found = GradCAM(layers="net.features.4")(Returns(net, wrap), images, target=1)
    assert torch.equal(found.maps["image"], plain.maps["image"])
    assert torch.equal(found.scores, plain.scores)


def test_scores_without_a_class_axis_are_a_column(nets, images):
    net = nets.Net(classes=1)
    plain = GradCAM(layers="features.4")(net, images, target=0)
    found = GradCAM(layers="net.features.4")(Returns(net, lambda scores: scores[:, 0]), images, target=0)
    assert torch.equal(found.maps["image"], plain.maps["image"])
    assert found.scores.shape == (3, 1)


class Bundle(nn.Module):
    """A layer that gives more than its activations."""

    def __init__(self, features, kind):
        super().__init__()
        self.features, self.kind = features, kind

    def forward(self, image):
        return self.kind([self.features(image), "more"])


@pytest.mark.parametrize("kind", [tuple, list, Output._make])
def test_layers_may_give_more_than_activations(nets, images, kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nets.Net()
            self.bundle = Bundle(self.net.features, kind)

        def forward(self, image):
            bundle = self.bundle(image)
            assert type(bundle) in (tuple, list, Output)
            assert bundle[1] == "more"
            return self.net.head(bundle[0].mean(dim=(2, 3)))

    found = GradCAM(layers="bundle")(Net(), images, target=1)
    plain = GradCAM(layers="features.4")(nets.Net(), images, target=1)
    assert torch.equal(found.maps["image"], plain.maps["image"])


class Gated(nn.Module):
    """Third party: images and a [B, 3] constant, by keyword."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, gate, first, second, third):
        return self.net(first, second, third) * gate.sum(dim=1, keepdim=True)


class Ours(nn.Module):
    """The same, called with one dict, saying of itself what is an image."""

    def __init__(self, net):
        super().__init__()
        self.net = Gated(net)

    def explainable(self):
        names = ("first", "second", "third")
        layers = {name: f"net.net.backbones.{number}" for number, name in enumerate(names)}
        return Explainable(inputs=names, layers=layers, classes=("no", "a little", "more", "much"))

    def forward(self, image):
        return self.net(**{"gate": torch.ones(len(image["first"]), 3), **image})


LAYERS = {"first": "net.backbones.0", "second": "net.backbones.1", "third": "net.backbones.2"}


@pytest.mark.parametrize("method", [GradCAM, ScoreCAM])
def test_what_is_no_image_is_held_constant(nets, three, method):
    gate = torch.rand(3, 3)
    net = nets.Branches()
    named = method(layers=LAYERS)(Gated(net), {**three, "gate": gate}, target=1)
    placed = method(layers=["net.backbones.0", "net.backbones.1", "net.backbones.2"])(
        Gated(net), (gate, *three.values()), target=1
    )
    ours = method()(Ours(net), {**three, "gate": gate}, target=1)
    assert set(named.maps) == set(ours.maps) == set(three)
    for one, other, third in zip(named.maps.values(), placed.maps.values(), ours.maps.values(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_inputs_of_ours_may_come_by_position(nets, three):
    net = Ours(nets.Branches())
    placed = GradCAM()(net, tuple(three.values()), target=1)
    named = GradCAM()(net, three, target=1)
    for name in three:
        assert torch.equal(placed.maps[name], named.maps[name])
    with pytest.raises(ConfigError, match=r"2 inputs.*first, second, third"):
        GradCAM()(net, tuple(three.values())[:2], target=1)


def test_a_missing_input_is_named(nets, three):
    del three["second"]
    with pytest.raises(ConfigError, match=r"first, second, third.*: second$"):
        GradCAM()(Ours(nets.Branches()), three)


def test_classes_are_named_where_a_target_is_none_of_them(nets, three):
    with pytest.raises(ConfigError, match=r"target \[4\].*0 to 3 \(no, a little, more, much\)"):
        GradCAM()(Ours(nets.Branches()), three, target=[0, 4, 1])


def test_rows_of_changed_inputs_keep_their_constants(nets, three):
    gate = torch.rand(3, 3)
    subject = ExplainedModel(Ours(nets.Branches()).eval(), {**three, "gate": gate})
    rows = torch.tensor([2, 0, 0, 1])
    with torch.no_grad():
        found = subject.scores({name: one[rows] for name, one in subject.inputs.items()}, rows=rows)
        torch.testing.assert_close(found, subject.scores(subject.inputs)[rows])
    assert subject.batch == 3
    assert not any(one.data_ptr() == three[name].data_ptr() for name, one in subject.inputs.items())


def test_several_labels_are_sigmoids_of_their_own(nets, images):
    net = nets.Net()
    net.explainable = lambda: Explainable(layers={"image": "features.4"}, multi_label=True)
    maps = GradCAM()(net, images, target=[0, 1, 2])
    torch.testing.assert_close(maps.probability, maps.scores.sigmoid().diagonal())
