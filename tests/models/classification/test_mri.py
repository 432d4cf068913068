"""The MRI classifier: what it states of itself, what it is trained with, what it refuses."""

import pytest
import timm
import torch
from monai.networks import nets as monai_nets

from seewhy.errors import ConfigError
from seewhy.interop.weights import load_encoder_weights
from seewhy.models.classification.mri import MRIClassification

PLANAR = {"name": "test_efficientnet"}
SPATIAL = {"name": "resnet", "layers": [1, 1, 1, 1], "block_inplanes": [4, 4, 8, 8], "conv1_t_size": 3}
VIEWS = [("channels", PLANAR), ("slices", PLANAR), ("volume", SPATIAL)]


def build(view="slices", backbone=PLANAR, **options):
    torch.manual_seed(0)
    settings = {"optimizer": {"name": "adamw", "lr": 1e-3}, "scheduler": {"name": "constant"}, "slices": [10, 16]}
    return MRIClassification(view=view, backbone=backbone, **settings | options).eval()


def volumes(depth=6):
    return torch.randn(2, 1, depth, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("view", "backbone"), VIEWS)
def test_scores_probabilities_and_hyperparameters(view, backbone, tmp_path):
    model = build(view, backbone, classes=["HC", "left", "right"])
    batch = {"image": volumes(), "id": ["a", "b"], "patient": ["A", "B"], "source": ["", ""]}
    with torch.no_grad():
        found = model.predict_step(batch)
    assert found["logits"].shape == (2, 3)
    assert torch.allclose(found["probability"], found["logits"].softmax(dim=1))
    assert found["patient"] == ["A", "B"]
    torch.save({"hyper_parameters": dict(model.hparams)}, tmp_path / "plain.ckpt")
    torch.load(tmp_path / "plain.ckpt", weights_only=True)


@pytest.mark.parametrize(("view", "backbone"), VIEWS)
def test_the_layer_it_names_gives_the_map_that_is_pooled(view, backbone):
    model = build(view, backbone)
    seen = []
    layer = model.get_submodule(model.explainable().layers["image"])
    handle = layer.register_forward_hook(lambda module, args, output: seen.append(output))
    scores = model(volumes())
    handle.remove()
    assert len(seen) == 1
    shape = {"channels": (2, 256, 1, 1), "slices": (12, 256, 1, 1), "volume": (2, 8, 1, 2, 2)}[view]
    assert tuple(seen[0].shape) == shape
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), seen[0])
    assert (gradient != 0).any()


def test_one_logit_is_a_yes_and_a_no():
    model = build(loss={"name": "binary"})
    with torch.no_grad():
        found = model.predict_step({"image": volumes(), "id": ["a", "b"]})
    assert found["logits"].shape == (2, 1)
    assert torch.allclose(found["probability"][:, 1], found["logits"][:, 0].sigmoid())


def test_slice_weights_find_the_only_slice_that_differs():
    model = build()
    volume = torch.zeros(2, 1, 6, 32, 32)
    volume[0, 0, 4] = 3.0
    with torch.no_grad():
        weights = model.slice_weights(volume)
    assert torch.allclose(weights.sum(dim=1), torch.ones(2))
    assert torch.allclose(weights[1], torch.full((6,), 1 / 6))
    others = torch.cat([weights[0, :4], weights[0, 5:]])
    assert torch.allclose(others, others[0].expand(5))
    assert abs(float(weights[0, 4] - others[0])) > 1e-6


def test_every_parameter_of_the_network_is_in_one_group():
    model = build("volume", SPATIAL, layer_decay=0.5, head_lr=4.0)
    groups = model.parameter_groups()
    parameters = [parameter for group in groups for parameter in group["params"]]
    assert len(parameters) == len({id(p) for p in parameters}) == len(list(model.parameters()))
    # conv1, bn1, layer1 … layer4 are six depths.
    assert sorted(group["lr_scale"] for group in groups) == [0.5**k for k in range(5, -1, -1)] + [4.0]


@pytest.mark.parametrize(
    ("options", "depth"), [({"slices": [10, 125]}, 115), ({"depth": 7}, 7), ({"slices": None, "depth": 9}, 9)]
)
def test_channels_are_as_many_as_slices(options, depth):
    model = build("channels", **options)
    assert model.net.depth == depth


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: build("channels", slices=None), "data.slices"),
        (lambda: build("planes"), "model.view='planes'"),
        (lambda: build("volume", PLANAR), "'test_efficientnet'"),
        (lambda: build("channels").slice_weights(volumes()), "only view=slices"),
        (lambda: build(classes=["HC"]), "two or more"),
    ],
)
def test_mistakes_are_answered(call, words):
    with pytest.raises(ConfigError, match=words):
        call()


def test_published_weights_fit_every_view(tmp_path):
    """What `weights=<file>` does: the library's own layout, the head left out, the stem fitted to the channels."""
    torch.manual_seed(0)
    published = timm.create_model("test_efficientnet", in_chans=3, num_classes=7)
    torch.save(published.state_dict(), tmp_path / "timm.pth")
    for view, channels in (("channels", 6), ("slices", 1)):
        model = build(view)
        (backbone,) = model.backbones()
        load_encoder_weights(backbone, tmp_path / "timm.pth")
        stem, theirs = backbone.net.conv_stem.weight, published.conv_stem.weight
        assert torch.allclose(stem, theirs.sum(dim=1, keepdim=True).expand(-1, channels, -1, -1) / channels)
        assert torch.equal(backbone.net.conv_head.weight, published.conv_head.weight)
    published = monai_nets.ResNet("basic", [1, 1, 1, 1], [4, 4, 8, 8], n_input_channels=1, conv1_t_size=3)
    torch.save(published.state_dict(), tmp_path / "monai.pth")
    model = build("volume", SPATIAL)
    load_encoder_weights(model.backbones()[0], tmp_path / "monai.pth")
    ours = model.net.encoder.net.state_dict()
    assert ours
    assert all(torch.equal(tensor, published.state_dict()[name]) for name, tensor in ours.items())
