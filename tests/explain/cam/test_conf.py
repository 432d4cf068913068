"""The files of the family choose what their classes are by themselves, and say every plain option."""

import inspect

import pytest
from omegaconf import OmegaConf

from seewhy.explain.cam.base import ActivationMap
from seewhy.run.build import build
from seewhy.run.folder import conf_dir

FAMILY = [
    "grad_cam",
    "grad_cam_plus_plus",
    "hires_cam",
    "layer_cam",
    "xgrad_cam",
    "eigen_cam",
    "score_cam",
    "finer_cam",
    "ablation_cam",
    "kpca_cam",
    "shapley_cam",
    "diff_cam",
]


@pytest.mark.parametrize("name", FAMILY)
def test_file_and_class_agree(name):
    node = OmegaConf.load(conf_dir() / "explainer" / f"{name}.yaml")
    explainer = build(node, f"explainer.{name}")
    assert isinstance(explainer, ActivationMap)
    assert explainer.method == name
    options = {key: node[key] for key in node if key != "_target_"}
    defaults = {key: one.default for key, one in inspect.signature(type(explainer)).parameters.items()}
    del defaults["reshape"]  # a function has no place in a file
    assert options == defaults


def test_layers_of_a_file_may_be_one_some_or_by_input():
    node = OmegaConf.load(conf_dir() / "explainer" / "grad_cam.yaml")
    for layers in ("a.b", ["a", "b"], {"mnv": "a"}):
        node.layers = layers
        explainer = build(node, "explainer.grad_cam")
        assert explainer.layers == layers
        assert type(explainer.layers) is type(layers)
