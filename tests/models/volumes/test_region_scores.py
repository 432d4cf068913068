import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError
from seewhy.explain.cam.grad_cam import GradCAM
from seewhy.explain.gradient.integrated_gradients import IntegratedGradients
from seewhy.explain.gradient.saliency import Saliency
from seewhy.models.volumes.networks import RegionScores


class Small(nn.Module):
    """One convolution, a rectifier, and one weight per feature and class: Grad-CAM of it can be written down."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Conv3d(4, 3, 1)

    def forward(self, image):
        return [self.head(self.features(image)), "a coarser output"]


@pytest.fixture
def case():
    voxels = torch.zeros(5, 6, 7, dtype=torch.bool)
    voxels[1:3, 2:5, 3:6] = True
    network = Small().eval()
    return RegionScores(network, voxels=voxels, classes=["none", "a", "b"], layer="features"), torch.randn(
        2, 2, 5, 6, 7
    )


def test_scores_are_mean_logits_of_the_region(case):
    scores, image = case
    logits = scores.network(image)[0]
    expected = torch.stack([logits[:, :, 1:3, 2:5, 3:6].mean(dim=(2, 3, 4))]).squeeze(0)
    torch.testing.assert_close(scores(image), expected)
    torch.testing.assert_close(scores({"image": image}), expected)


@pytest.mark.parametrize("target", [0, 1, 2])
def test_grad_cam_is_the_one_written_down_by_hand(target, case):
    """∂score/∂A_c is w_c/n at the n voxels of the region and zero elsewhere, so its mean over all N is w_c / N."""
    scores, image = case
    maps = GradCAM()(scores, image, target)
    features = scores.network.features(image)
    weights = scores.network.head.weight[target, :, 0, 0, 0] / scores.voxels.numel()
    expected = torch.einsum("c,bczyx->bzyx", weights, features)
    torch.testing.assert_close(maps.maps["image"], expected.detach(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(maps.scores[:, target], scores(image)[:, target].detach())
    assert maps.layers == {"image": "network.features"}


def test_gradients_are_those_of_autograd_and_stay_within_reach_of_the_region(case):
    scores, image = case
    leaf = image.clone().requires_grad_()
    scores(leaf)[:, 2].sum().backward()
    found = Saliency()(scores, image, 2).maps["image"]
    torch.testing.assert_close(found, leaf.grad.sum(dim=1), rtol=1e-4, atol=1e-7)
    outside = torch.ones(5, 6, 7, dtype=torch.bool)
    outside[0:4, 1:6, 2:7] = False  # one voxel around the region: the convolution's reach
    assert not found[:, outside].any()
    assert found[:, scores.voxels].abs().min() > 0


def test_attributions_add_up_to_the_difference_of_scores(case):
    scores, image = case
    maps = IntegratedGradients(steps=64, baseline="zero")(scores, image, 1)
    difference = scores(image)[:, 1] - scores(torch.zeros_like(image))[:, 1]
    torch.testing.assert_close(maps.maps["image"].sum(dim=(1, 2, 3)), difference.detach(), rtol=0.05, atol=0.02)


def test_regions_that_cannot_be_scored_are_refused(case):
    scores, image = case
    with pytest.raises(ConfigError, match="no voxel"):
        RegionScores(scores.network, voxels=torch.zeros(5, 6, 7, dtype=torch.bool), classes=["a"])
    with pytest.raises(ConfigError, match="logits of"):
        scores(image[..., :-1])
    bare = RegionScores(scores.network, voxels=scores.voxels, classes=["none", "a", "b"])
    with pytest.raises(ConfigError, match=r"network\.head"):
        GradCAM()(bare, image, 1)
    assert GradCAM(layers="network.features")(bare, image, 1).maps["image"].shape == (2, 5, 6, 7)
