"""A module is given back as it was, and is explained wherever it stands."""

import subprocess
import sys

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

import seewhy.explain as explain
from seewhy.errors import ConfigError

CLASSES = ["GradCAM", "GradCAMPlusPlus", "HiResCAM", "LayerCAM", "XGradCAM", "EigenCAM", "ScoreCAM", "FinerCAM"]
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def hooks(module):
    return sum(len(getattr(part, kind)) for part in module.modules() for kind in HOOKS)


def state(module):
    """All that an explanation might change."""
    return {
        "hooks": hooks(module),
        "training": [part.training for part in module.modules()],
        "requires_grad": [parameter.requires_grad for parameter in module.parameters()],
        "grad": [None if p.grad is None else (id(p.grad), p.grad.sum().item()) for p in module.parameters()],
        "values": [value.double().sum().item() for value in module.state_dict().values()],
        "versions": [value._version for value in module.state_dict().values()],
        "parts": [id(part) for part in module.modules()],
    }


@pytest.fixture
def net(nets, images):
    """A network in the middle of a training: some parts frozen, some in evaluation mode, gradients at hand."""
    net = nets.Net()
    net.train()
    net.features[1].eval()
    net.features[0].weight.requires_grad_(False)
    net(images).sum().backward()
    return net


@pytest.mark.parametrize("name", CLASSES)
def test_nothing_is_left_behind(net, images, name):
    before = state(net)
    given = images.clone()
    getattr(explain, name)(layers="features.4").for_targets(net, given, [0, 1])
    assert state(net) == before
    assert torch.equal(given, images)
    assert not given.requires_grad
    assert before["grad"][0] is None
    assert before["grad"][1] is not None


class BreakingError(Exception):
    pass


class Breaking(nn.Module):
    """Lets a number of forwards pass, then fails; or fails in each backward."""

    def __init__(self, when, after=0):
        super().__init__()
        self.when, self.left = when, after

    def forward(self, x):
        if self.when == "forward":
            self.left -= 1
            if self.left < 0:
                raise BreakingError
        return Fails.apply(x) if self.when == "backward" else x


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise BreakingError


@pytest.mark.parametrize("when", ["forward", "backward"])
@pytest.mark.parametrize("name", CLASSES)
def test_nothing_is_left_behind_after_an_exception(net, images, name, when):
    broken = nn.Sequential(net, Breaking(when))
    before = state(broken)
    with pytest.raises(BreakingError):
        getattr(explain, name)(layers="0.features.4")(broken, images, target=1)
    assert state(broken) == before
    assert torch.is_grad_enabled()


def test_nothing_is_left_behind_in_the_middle_of_score_cam(net, images):
    broken = nn.Sequential(net, Breaking("forward", after=3))
    before = state(broken)
    with pytest.raises(BreakingError):
        explain.ScoreCAM(layers="0.features.4", memory_budget=1)(broken, images, target=1)
    assert state(broken) == before


def test_nothing_is_left_behind_after_a_wrong_target(net, images):
    before = state(net)
    with pytest.raises(ConfigError, match="target"):
        explain.GradCAM(layers="features.4")(net, images, target=7)
    assert state(net) == before


def test_maps_do_not_depend_on_the_mode_of_the_module(nets, images):
    net = nets.Net()
    training = explain.GradCAM(layers="features.4")(net.train(), images, target=1)
    evaluating = explain.GradCAM(layers="features.4")(net.eval(), images, target=1)
    assert torch.equal(training.maps["image"], evaluating.maps["image"])


@pytest.mark.parametrize("name", CLASSES)
def test_frozen_modules_are_explained(nets, images, name):
    net = nets.Net()
    free = getattr(explain, name)(layers="features.4")(net, images, target=1)
    net.requires_grad_(False)
    frozen = getattr(explain, name)(layers="features.4")(net, images, target=1)
    assert torch.equal(free.maps["image"], frozen.maps["image"])


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_explained_without_gradients_around(nets, images, name, mode):
    net = nets.Net()
    outside = getattr(explain, name)(layers="features.4")(net, images, target=1)
    with mode():
        inside = getattr(explain, name)(layers="features.4")(net, images.clone(), target=torch.tensor([1, 1, 1]))
    assert torch.equal(outside.maps["image"], inside.maps["image"])
    assert not inside.maps["image"].requires_grad
    assert not inside.scores.requires_grad


def test_autocast_around_is_left(nets, images):
    net = nets.Net()
    outside = explain.GradCAM(layers="features.4")(net, images, target=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = explain.GradCAM(layers="features.4")(net, images, target=1)
    assert torch.equal(outside.maps["image"], inside.maps["image"])


@pytest.mark.parametrize("layer", ["features.0", "features.1", "features.3"])
def test_what_works_in_place_behind_the_layer_does_not_reach_its_activations(nets, images, layer):
    net = nets.Net()
    found = explain.HiResCAM(layers=layer)(net, images, target=1)
    for part in net.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    expected = explain.HiResCAM(layers=layer)(net, images, target=1)
    assert torch.equal(found.maps["image"], expected.maps["image"])
    assert (found.maps["image"] != 0).any()


class Explained(LightningModule):
    """Explains in its own predict step, as a user would."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(image)

    def predict_step(self, image, _):
        assert torch.is_inference_mode_enabled()
        return explain.GradCAM(layers="net.features.4")(self, image, target=1).maps["image"]


def test_explained_inside_lightnings_predict(nets, images, tmp_path):
    module = Explained(nets.Net())
    outside = explain.GradCAM(layers="net.features.4")(module, images, target=1).maps["image"]
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    found = trainer.predict(module, DataLoader(list(images), batch_size=3))
    assert torch.equal(found[0], outside)
    assert hooks(module) == 0


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_explained_after_torch_compile(nets, images, backend):
    """Compiled code does not see new hooks, so what is compiled runs as it was written, and stays compiled."""
    net = nets.Net().eval()
    expected = explain.GradCAM(layers="features.4")(net, images, target=1)
    wrapper = torch.compile(net, backend=backend)
    with torch.no_grad():
        scores = wrapper(images)
    for layer in ("features.4", "_orig_mod.features.4", wrapper.features[4]):
        found = explain.GradCAM(layers=layer)(wrapper, images, target=1)
        assert torch.equal(found.maps["image"], expected.maps["image"])
        assert found.layers == {"image": "features.4"}
    torch.testing.assert_close(expected.scores, scores)


def test_explained_after_compile_in_place(nets, images):
    net = nets.Net().eval()
    expected = explain.GradCAM(layers="features.4")(net, images, target=1)
    net.compile(backend="aot_eager")
    compiled = net._compiled_call_impl
    with torch.no_grad():
        net(images)
    found = explain.GradCAM(layers="features.4")(net, images, target=1)
    assert torch.equal(found.maps["image"], expected.maps["image"])
    assert net._compiled_call_impl is compiled


def test_explained_with_a_compiled_part(nets, images):
    """The part is found under the name it has without its wrapper."""
    net = nets.Net().eval()
    expected = explain.GradCAM(layers="features.4")(net, images, target=1)
    net.features = torch.compile(net.features, backend="aot_eager")
    with torch.no_grad():
        net(images)
    for layer in ("features.4", "features"):
        found = explain.GradCAM(layers=layer)(net, images, target=1)
        assert torch.equal(found.maps["image"], expected.maps["image"])


PROBE = """
import sys
from seewhy.explain import {name}
heavy = ("captum", "lightning", "timm", "monai", "torch._dynamo", "matplotlib")
loaded = [name for name in heavy if name in sys.modules]
assert not loaded, loaded
files = sorted(name for name in sys.modules if name.startswith("seewhy.explain."))
print(*files)
"""


def test_importing_one_class_imports_no_other(repository):
    code = PROBE.format(name="GradCAM")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=repository)
    assert done.returncode == 0, done.stderr
    assert "seewhy.explain.cam.grad_cam" in done.stdout.split()
    assert not {"hires_cam", "integrated_gradients", "score_cam"} & {n.split(".")[-1] for n in done.stdout.split()}


def test_a_mistyped_class_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match="'GradCAM'"):
        explain.GradCAMM  # noqa: B018
