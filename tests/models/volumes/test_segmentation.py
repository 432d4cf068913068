import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from seewhy.errors import ConfigError
from seewhy.losses.segmentation import DiceCrossEntropy
from seewhy.models.volumes.networks import build_volume_network
from seewhy.models.volumes.segmentation import VolumeSegmentation

OPTIMIZER = {"optimizer": {"name": "adamw", "lr": 1e-3}, "scheduler": {"name": "constant"}}
DYNUNET = {"name": "dynunet", "filters": [4, 8, 8], "deep_supervision": True}
NETWORKS = [
    {"name": "unet", "channels": [4, 8, 8], "strides": [2, 2], "norm": ["INSTANCE", {"affine": True}]},
    {"name": "dynunet", "filters": [4, 8, 8], "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]]},
    {"name": "segresnet", "init_filters": 8, "blocks_down": [1, 1, 1], "blocks_up": [1, 1]},
    {"name": "swinunetr", "feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
]


def model(**options):
    torch.manual_seed(0)
    given = {"network": DYNUNET, "classes": ["background", "a", "b"], "patch": [16, 16, 16], **OPTIMIZER}
    return VolumeSegmentation(**{**given, **options})


@pytest.mark.parametrize("options", NETWORKS, ids=lambda one: one["name"])
def test_networks_by_name_say_which_patches_they_take_and_where_they_are_innermost(options):
    found = build_volume_network(options, in_channels=2, out_channels=3)
    size = [2 * step for step in found.steps]
    seen = []
    dict(found.module.named_modules())[found.layer].register_forward_hook(lambda *args: seen.append(args[2].shape))
    with torch.no_grad():
        assert found.module.eval()(torch.randn(1, 2, *size)).shape == (1, 3, *size)
    assert list(seen[0][2:]) == [2, 2, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "dynuet"}, "nearest: 'dynunet'"),
        (
            {"name": "dynunet", "filters": [4, 8, 8], "res_blocks": True},
            r"res_blocks` .*'res_block'",
        ),
        ({"name": "dynunet"}, "filters"),
        ({"name": "unet", "channels": [4, 8]}, "must give strides"),
        ({"name": "unet", "channels": [4, 8, 8], "strides": [2]}, "strides"),
        ({"name": "segresnet", "init_filters": 8, "norm": "NONSENSE"}, "segresnet does not take"),
    ],
)
def test_wrong_networks_are_answered(options, said):
    with pytest.raises(ConfigError, match=said):
        build_volume_network(options, in_channels=1, out_channels=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"patch": [16, 18, 16]}, r"nearest: data.patch=\[16, 16, 16\]"),
        ({"patch": [4, 4, 4]}, r"two along some axis; nearest: data.patch=\[8, 8, 8\]"),
        ({"classes": ["background"]}, "background and one class"),
        ({"regions": {"whole": [1, 3]}}, "labels from 1 to 2"),
        ({"mirror_axes": [3]}, "mirror_axes"),
        ({"loss": {"dice": 1}}, "unknown option `model.loss.dice`"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        model(**options)


def test_deep_supervision_has_several_outputs_in_training_and_one_otherwise():
    own = model(network={**DYNUNET, "filters": [4, 8, 8, 8]})
    image, mask = torch.randn(2, 1, 16, 16, 16), torch.randint(0, 3, (2, 16, 16, 16))
    outputs = own.train()._outputs(image)
    assert [tuple(one.shape) for one in outputs] == [(2, 3, 16, 16, 16)] * 3
    loss = DiceCrossEntropy()
    expected = sum(w * loss(one, mask) for w, one in zip((4 / 7, 2 / 7, 1 / 7), outputs, strict=True))
    torch.testing.assert_close(own.loss(outputs, mask), expected)
    assert [tuple(one.shape) for one in own.eval()._outputs(image)] == [(2, 3, 16, 16, 16)]
    assert own(image).shape == (2, 3, 16, 16, 16)


class Pointwise(nn.Module):
    """Logits that depend on each voxel alone, so that windows agree wherever they lie."""

    def forward(self, image):
        return torch.cat([0 * image, image, 2 * image - 1], dim=1)


def test_whole_volumes_are_what_a_network_without_context_gives_voxel_by_voxel():
    own = model()
    own.network = Pointwise()
    image = torch.randn(1, 21, 34, 17)
    expected = Pointwise()(image[None])[0].softmax(dim=0)[1:]
    torch.testing.assert_close(own.probabilities(image), expected, atol=1e-5, rtol=1e-5)
    regions = model(regions={"whole": [1, 2], "core": [2], "edge": [1]})
    regions.network = Pointwise()
    torch.testing.assert_close(
        regions.probabilities(image), Pointwise()(image[None])[0].sigmoid(), atol=1e-5, rtol=1e-5
    )


def test_whole_volumes_are_near_monais_sliding_windows_and_training_goes_on():
    own = model(window="gaussian")
    own.train()
    image = torch.randn(1, 32, 24, 40)
    found = own.probabilities(image)
    assert own.network.training
    own.eval()
    with torch.no_grad():
        logits = sliding_window_inference(image[None], (16, 16, 16), 2, own, overlap=0.5, mode="gaussian")
    apart = (found - logits[0].softmax(dim=0)[1:])[:, 8:-8, 8:-8, 8:-8].abs()
    assert float(apart.mean()) < 0.01  # MONAI cuts small weights off, which moves single voxels further
    assert float(apart.max()) < 0.1


def test_masks_are_the_most_likely_class_or_every_likely_region():
    probability = torch.tensor([[0.2, 0.6, 0.3, 0.45], [0.3, 0.3, 0.4, 0.45]])[:, None, None]
    assert torch.equal(
        model().probability_masks(probability)[:, 0, 0].int(), torch.tensor([[0, 1, 0, 1], [0, 0, 1, 0]]).int()
    )
    regions = model(regions={"whole": [1, 2], "core": [2]})
    assert torch.equal(
        regions.probability_masks(probability)[:, 0, 0].int(), torch.tensor([[0, 1, 0, 0], [0, 0, 0, 0]]).int()
    )
    labels = torch.tensor([[[0, 1, 2]]])
    assert regions.label_masks(labels)[:, 0, 0].tolist() == [[False, True, True], [False, False, True]]
    assert model().label_masks(labels)[:, 0, 0].tolist() == [[False, True, False], [False, False, True]]
    assert regions.heads == {"mode": "regions", "channels": 2, "class_order": [2, 2]}


@pytest.mark.parametrize("ignore", [None, 9])
def test_an_evaluation_scores_what_it_predicts(ignore):
    own = model(ignore_label=ignore)
    own.network = Pointwise()
    image = torch.randn(1, 1, 18, 18, 18) * 3
    mask = (
        own.probability_masks(own.probabilities(image[0]))
        .to(torch.uint8)
        .mul(torch.tensor([1, 2])[:, None, None, None])
        .sum(0)
    )
    if ignore is not None:
        mask[:4] = ignore
    batch = {
        "image": image, "mask": mask[None].to(torch.uint8), "id": ["v"], "patient": ["p"],
        "spacing": torch.tensor([[2.0, 1.0, 1.0]]),
    }  # fmt: skip
    own._evaluate(batch, "val")
    rows = own.patient_scores["val"].rows()
    assert [row["dice"] for row in rows] == [1.0, 1.0, 1.0]
    prediction = own.predict_step(batch)
    assert prediction["maps"]["segmentation"].shape == (1, 2, 18, 18, 18)
    assert np.isclose(float(prediction["maps"]["segmentation"].sum(1).max()), 1, atol=1)
