"""The files of the gradient methods choose what their classes are by themselves, and say every option."""

import inspect

import pytest
from omegaconf import OmegaConf

from seewhy.explain.gradient.base import GradientExplainer
from seewhy.explain.gradient.noise_tunnel import NoiseTunnel
from seewhy.run.build import build
from seewhy.run.folder import conf_dir

PLAIN = [
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "gradient_shap",
    "deep_lift",
    "occlusion",
]
TUNNELS = {"smooth_grad": "saliency", "var_grad": "saliency", "noise_tunnel_ig": "integrated_gradients"}


def load(name):
    return OmegaConf.load(conf_dir() / "explainer" / f"{name}.yaml")


@pytest.mark.parametrize("name", PLAIN)
def test_file_and_class_agree(name):
    node = load(name)
    explainer = build(node, f"explainer.{name}")
    assert isinstance(explainer, GradientExplainer)
    assert explainer.method == name
    options = OmegaConf.to_container(node)
    options.pop("_target_")
    defaults = {key: one.default for key, one in inspect.signature(type(explainer)).parameters.items()}
    assert options == {key: list(one) if isinstance(one, tuple) else one for key, one in defaults.items()}


@pytest.mark.parametrize("name", TUNNELS)
def test_tunnels_hold_the_explainer_of_their_name_and_share_its_budget(name):
    node = load(name)
    node.memory_budget = "3MiB"
    explainer = build(node, f"explainer.{name}")
    assert isinstance(explainer, NoiseTunnel)
    assert (explainer.method, explainer.explainer.method) == (name, TUNNELS[name])
    assert explainer.budget.size == explainer.explainer.budget.size == 3 * 2**20
    assert set(node) - {"_target_"} == set(inspect.signature(NoiseTunnel).parameters)
    assert explainer.gather == ("variance" if name == "var_grad" else "smooth")
