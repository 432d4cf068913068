"""A module is given back as it was, and is explained wherever it stands."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from small_transformers import vit
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

import seewhy.explain as explain
from seewhy.errors import ConfigError

CAMS = ["GradCAM", "GradCAMPlusPlus", "HiResCAM", "LayerCAM", "XGradCAM", "EigenCAM", "ScoreCAM", "FinerCAM"]
ATTENTION = ["Attention", "AttentionRollout", "AttentionRelevance"]
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
        "fused": [getattr(part, "fused_attn", None) for part in module.modules()],
        "modes": torch._C._len_torch_function_stack(),
        "sdpa": functional.scaled_dot_product_attention,
    }


@pytest.fixture(params=[*CAMS, *ATTENTION])
def case(request, nets, images):
    """A method with a network that it can explain, and what the tests need of that network."""
    name = request.param
    if name in CAMS:
        net, explainer = nets.Net(), getattr(explain, name)(layers="features.4")
        return SimpleNamespace(
            net=net, images=images, explainer=explainer, part=net.features[1], frozen=net.features[0], late=net.head
        )
    net, explainer = vit(pos_drop_rate=0.2, attn_drop_rate=0.2), getattr(explain, name)()
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    return SimpleNamespace(
        net=net, images=images, explainer=explainer, part=net.blocks[0], frozen=net.patch_embed, late=net.blocks[1].mlp
    )


@pytest.fixture
def net(case):
    """The network in the middle of a training: some parts frozen, some in evaluation mode, gradients at hand."""
    case.net.train()
    case.part.eval()
    case.frozen.requires_grad_(False)
    case.net(case.images).sum().backward()
    return case.net


def test_nothing_is_left_behind(case, net):
    before = state(net)
    given = case.images.clone()
    case.explainer.for_targets(net, given, [0, 1])
    assert state(net) == before
    assert torch.equal(given, case.images)
    assert not given.requires_grad
    assert None in before["grad"]
    assert before["grad"][-1] is not None


class BreakingError(Exception):
    pass


class Breaking:
    """Hook that lets a number of forwards pass, then fails; or fails in each backward."""

    def __init__(self, when, after=0):
        self.when, self.left = when, after

    def __call__(self, module, given, output):
        if self.when == "forward":
            self.left -= 1
            if self.left < 0:
                raise BreakingError
        return Fails.apply(output) if self.when == "backward" else output


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise BreakingError


@pytest.mark.parametrize(
    ("case", "when"),
    [(name, when) for when in ("forward", "backward") for name in [*CAMS, *ATTENTION]
     if when == "forward" or name not in ("Attention", "AttentionRollout")],
    indirect=["case"],
)  # fmt: skip
def test_nothing_is_left_behind_after_an_exception(case, net, when):
    case.late.register_forward_hook(Breaking(when))
    before = state(net)
    with pytest.raises(BreakingError):
        case.explainer(net, case.images, target=1)
    assert state(net) == before
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("case", ["ScoreCAM"], indirect=True)
def test_nothing_is_left_behind_in_the_middle_of_score_cam(case, net):
    case.late.register_forward_hook(Breaking("forward", after=3))
    before = state(net)
    with pytest.raises(BreakingError):
        explain.ScoreCAM(layers="features.4", memory_budget=1)(net, case.images, target=1)
    assert state(net) == before


def test_nothing_is_left_behind_after_a_wrong_target(case, net):
    before = state(net)
    with pytest.raises(ConfigError, match="target"):
        case.explainer(net, case.images, target=9)
    assert state(net) == before


def test_maps_do_not_depend_on_the_mode_of_the_module_or_what_is_frozen(case):
    expected = case.explainer(case.net.eval(), case.images, target=1).maps["image"]
    assert expected.abs().sum() > 0
    for net in (case.net.train(), case.net.requires_grad_(False), case.net.eval()):
        assert torch.equal(case.explainer(net, case.images, target=1).maps["image"], expected)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_explained_without_gradients_around(case, mode):
    outside = case.explainer(case.net, case.images, target=1)
    with mode():
        targets = torch.ones(len(case.images), dtype=torch.long)
        inside = case.explainer(case.net, case.images.clone(), target=targets)
    assert torch.equal(outside.maps["image"], inside.maps["image"])
    assert not inside.maps["image"].requires_grad
    assert not inside.scores.requires_grad


def test_autocast_around_is_left(case):
    outside = case.explainer(case.net, case.images, target=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = case.explainer(case.net, case.images, target=1)
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

    def __init__(self, net, explainer):
        super().__init__()
        self.net, self.explainer = net, explainer

    def forward(self, image):
        return self.net(image)

    def predict_step(self, image, _):
        assert torch.is_inference_mode_enabled()
        return self.explainer(self, image, target=1).maps["image"]


@pytest.mark.parametrize(
    ("case", "options"), [("GradCAM", {"layers": "net.features.4"}), ("AttentionRelevance", {})], indirect=["case"]
)
def test_explained_inside_lightnings_predict(case, options, tmp_path):
    explainer = type(case.explainer)(**options)
    module = Explained(case.net, explainer)
    outside = explainer(module, case.images, target=1).maps["image"]
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    trainer = Trainer(accelerator="cpu", devices=1, default_root_dir=tmp_path, **quiet)
    (found,) = trainer.predict(module, DataLoader(list(case.images), batch_size=len(case.images)))
    assert torch.equal(found, outside)
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


@pytest.mark.parametrize("case", ATTENTION, indirect=True)
def test_a_transformer_is_explained_after_torch_compile(case):
    net, image, kind = case.net, case.images, type(case.explainer)
    expected = kind()(net, image, target=1)
    wrapper = torch.compile(net, backend="eager")
    with torch.no_grad():
        wrapper(image)
    found = [kind()(wrapper, image, target=1), kind(modules="_orig_mod.blocks")(wrapper, image, target=1)]
    net.blocks[1] = torch.compile(net.blocks[1], backend="eager")
    with torch.no_grad():
        net(image)
    for own in [*found, kind()(net, image, target=1)]:
        assert torch.equal(own.maps["image"], expected.maps["image"])
        assert own.layers == expected.layers


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
