"""What explanations name is looked for before a training."""

import pytest
import torch
from torch import nn

from seewhy.cli.compose import compose_train
from seewhy.errors import ConfigError
from seewhy.explain import Attention, CaptumMethod, Explainable, GradCAM, NoiseTunnel, Saliency
from seewhy.reporting.selection import ExplanationSettings
from seewhy.run.explanations.explainers import check_explanations, load_explainer_nodes


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features, self.head = nn.Conv2d(1, 2, 3), nn.Linear(2, 3)

    def explainable(self):
        return Explainable(layers={"image": "features"}, classes=("normal", "early", "late"))

    def forward(self, image):
        return self.head(torch.relu(self.features(image)).mean((2, 3)))


class Data:
    """Ids of samples by part."""

    def sample_ids(self, part):
        return {"val": ["v1", "v2"], "test": ["t1", "t2"]}[part]


def check(parts=("test",), explainers=None, **settings):
    explainers = {"grad_cam": GradCAM()} if explainers is None else explainers
    check_explanations(ExplanationSettings(**settings), explainers, Net(), Data(), parts)


def test_names_that_exist_pass():
    tunnel = NoiseTunnel(explainer=GradCAM(layers="features"))
    check(explainers={"tunnel": tunnel, "saliency": Saliency()}, target=["late", 0, "label"], samples=["t1"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "lat"}, "explain.target='lat'.*nearest: 'late'"),
        ({"target": 3}, "explain.target=3.*0 to 2"),
        ({"samples": ["t3"]}, "explain.samples.*'t3'.*'t1'"),
        ({"samples": ["t1"], "parts": ("val", "test")}, "explain.samples.*'t1'.*'v1'"),
        ({"explainers": {"a": GradCAM(layers={"image": "feature"})}}, "explain.options.a: .*'feature'.*'features'"),
        ({"explainers": {"a": Attention(modules=["hed"])}}, "explain.options.a: .*'hed'.*'head'"),
        ({"explainers": {"a": NoiseTunnel(explainer=GradCAM(layers="c"))}}, "explain.options.a: .*'c'"),
        ({"explainers": {"a": CaptumMethod(attribution="LayerGradCam", layer="c")}}, "explain.options.a: .*'c'"),
        ({"atlas": "/nowhere/atlas.nii"}, "explain.atlas=/nowhere/atlas.nii"),
    ],
)
def test_names_that_do_not_exist_are_answered_with_the_nearest(options, words):
    with pytest.raises(ConfigError, match=words):
        check(**options)


def test_all_of_them_are_in_one_message():
    with pytest.raises(ConfigError, match=r"explain\.target='x'.*explain\.options\.b: .*explain\.samples"):
        check(target="x", explainers={"b": GradCAM(layers="x")}, samples=["x"])


def test_explain_without_its_defaults_names_the_option_that_turns_it_off():
    config = compose_train("experiment=demo/amd", "~explain")
    with pytest.raises(ConfigError, match=r"explain\.methods=\[\]"):
        load_explainer_nodes(config.explain)
