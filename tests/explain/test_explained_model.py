"""Modules are called as they were written, whatever they take and give."""

from collections import namedtuple

import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError, SeewhyError
from seewhy.explain import (
    Attention,
    DeepLift,
    Explainable,
    ExplainedModel,
    GradCAM,
    Occlusion,
    Saliency,
    ScoreCAM,
)

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
        lambda scores: [scores[0, 0], scores],
        lambda scores: {"features": scores * 0, "logits": scores},
        lambda scores: {"aux": scores * 0, "out": scores},
        lambda scores: {"anything": scores},
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


def test_scores_of_one_sample_without_a_batch_axis_are_its_row(nets, images):
    plain = GradCAM(layers="features.4")(nets.Net(), images[:1])
    squeezed = GradCAM(layers="net.features.4")(Returns(nets.Net(), torch.squeeze), images[:1])
    assert torch.equal(squeezed.scores, plain.scores)
    assert torch.equal(squeezed.maps["image"], plain.maps["image"])


@pytest.mark.parametrize("method", [GradCAM(layers="net.features.4"), Saliency(), Occlusion(), DeepLift()])
@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda scores: (scores[:, :2], scores), r"0: \(3, 2\), 1: \(3, 4\).*logits"),
        (lambda scores: (scores.sum(1), scores), r"0: \(3,\), 1: \(3, 4\).*logits"),
        (lambda scores: {"a": scores, "b": scores}, r"a: \(3, 4\), b: \(3, 4\).*logits"),
        (lambda scores: {}, "nothing"),
        (lambda scores: None, "NoneType"),
        (lambda scores: scores.argmax(1), r"\(3,\) int64.*floating-point"),
        (lambda scores: scores[:, None], r"\(3, 1, 4\) for 3 samples"),
        (lambda scores: scores.mean(0, keepdim=True), r"\(1, 4\) for 3 samples.*\[3, K\]"),
        (lambda scores: scores.mean(0)[:3], "mixes samples.*pooled over the batch"),
        (lambda scores: scores.mean(0).expand(len(scores), -1), "mixes samples.*one sample at a time"),
        (lambda scores: scores.log() * torch.nan, r"sample 0, 1, 2 of 3 .*not finite.*nan"),
        (lambda scores: scores @ torch.eye(3), "Returns .float32. with image .3, 1, 20, 28. float32 fails"),
    ],
)
def test_an_output_that_is_not_the_scores_of_the_samples_is_refused(nets, images, wrap, words, method):
    with pytest.raises(SeewhyError, match=words):
        method(Returns(nets.Net(classes=4), wrap), images)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (torch.Tensor.byte, "image uint8.*float"),
        (torch.Tensor.double, r"Net .float32. with image .3, 1, 20, 28. float64"),
        (lambda image: image[:0], r"\(0, 1, 20, 28\).*at least 1"),
        (torch.Tensor.numpy, "image ndarray.*tensors"),
        (lambda image: {"image": image.tolist()}, "image list.*tensors"),
    ],
)
def test_inputs_that_cannot_be_explained_are_described(nets, images, change, words):
    for method in (GradCAM(layers="features.4"), Saliency(), Occlusion()):
        with pytest.raises(ConfigError, match=words):
            method(nets.Net(), change(images))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_modules_of_other_precision_have_maps_near_those_of_float32(nets, images, dtype):
    plain = GradCAM(layers="features.4")(nets.Net(), images, target=1)
    other = GradCAM(layers="features.4")(nets.Net().to(dtype), images.to(dtype), target=1)
    assert other.maps["image"].dtype == torch.float32
    torch.testing.assert_close(other.maps["image"], plain.maps["image"], atol=0.01, rtol=0.05)


def test_a_traced_module_is_explained_from_outside_only(nets, images):
    net = nets.Net().eval()
    traced = torch.jit.trace(net, images)
    assert torch.allclose(Saliency()(traced, images).maps["image"], Saliency()(net, images).maps["image"], atol=1e-6)
    for method in (GradCAM(layers="features.4"), DeepLift(), Attention()):
        with pytest.raises(ConfigError, match=r"scripted.*saliency"):
            method(traced, images)


def test_what_is_no_module_or_cannot_change_its_mode_is_refused(nets, images):
    class Exported(nets.Net):
        def eval(self):
            raise NotImplementedError("as the modules of torch.export do")

    with pytest.raises(ConfigError, match=r"Exported is exported.*nn\.Module"):
        Saliency()(Exported(), images)
    with pytest.raises(ConfigError, match=r"function.*nn\.Module"):
        Saliency()(lambda image: image.mean((1, 2, 3)), images)


class Named(nn.Module):
    """Says the names of its classes."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def explainable(self):
        return Explainable(layers={"image": "net.features.4"}, classes=("normal", "early", "advanced"))

    def forward(self, image):
        return self.net(image)


def test_targets_may_be_names(nets, images):
    net = Named(nets.Net())
    by_index = GradCAM()(net, images, target=[2, 0, 2])
    by_name = GradCAM()(net, images, target=["advanced", "normal", 2])
    assert by_name.target.tolist() == [2, 0, 2]
    assert torch.equal(by_name.maps["image"], by_index.maps["image"])
    assert GradCAM()(net, images, target="early").target.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("advancd", "'advancd'.*nearest: 'advanced'"),
        ("3", "0 to 2"),
        (-1, "0 to 2"),
        (True, "True.*0 to 2"),
        ({"image": 1}, "one class, or one for each of 3"),
        (torch.tensor(1.0), "one class, or one for each of 3"),
        (["early"], "one class, or one for each of 3"),
    ],
)
def test_targets_that_are_no_class(nets, images, target, words):
    with pytest.raises(ConfigError, match=words):
        GradCAM()(Named(nets.Net()), images, target=target)


def test_the_proposed_layer_is_one_that_the_scores_depend_on(nets, images):
    class Side(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.decoder = nets.Net(), nn.Conv2d(8, 1, 3, padding=1)

        def forward(self, image):
            features = self.net.features(image)
            self.reconstruction = self.decoder(features)
            return self.net.head(features.mean((2, 3)))

    with pytest.raises(ConfigError, match=r"layers='net\.features\.4'"):
        GradCAM()(Side(), images)


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
    with pytest.raises(ConfigError, match=r"target=4.*0 to 3 \(no, a little, more, much\)"):
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


def test_one_column_of_scores_has_a_note_for_the_reader(nets, images):
    maps = GradCAM(layers="features.4")(nets.Net(classes=1), images, target=1)
    assert "target=1 explains the value of a regression" in " ".join(maps.notes)


@pytest.mark.parametrize(("classes", "several"), [(1, False), (3, False), (3, True)])
def test_probabilities_are_those_of_calibrated_scores(classes, several):
    class Calibrated(nn.Module):
        def explainable(self):
            return Explainable(multi_label=several, temperature=4.0)

        def forward(self, image):
            return image.mean((2, 3)).repeat(1, classes) * torch.arange(1, classes + 1)

    images = torch.tensor([2.0, -1.0]).reshape(2, 1, 1, 1).expand(2, 1, 4, 4)
    model = ExplainedModel(Calibrated(), images)
    scores = model.scores(model.inputs)
    target = torch.tensor([0, 1]) if classes == 1 else torch.tensor([0, 2])
    whole = scores / 4
    if classes == 1:
        expected = torch.stack([(-whole[0, 0]).sigmoid(), whole[1, 0].sigmoid()])
    else:
        each = whole.sigmoid() if several else whole.softmax(1)
        expected = torch.stack([each[0, 0], each[1, 2]])
    assert torch.allclose(model.probabilities(scores, target), expected)
