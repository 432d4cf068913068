"""Every key of every config is read by something, and every file can be chosen."""

import re
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from seewhy.cli.compose import TrainConfig, compose_train
from seewhy.explain import Explainer
from seewhy.run.build import build, find_node_problems
from seewhy.run.checks import check_config
from seewhy.run.folder import conf_dir

CONF = conf_dir()
EXPERIMENTS = sorted(
    str(path.relative_to(CONF / "experiment").with_suffix("")) for path in (CONF / "experiment").rglob("*.yaml")
)
BUILT = sorted(
    path
    for group in ("data", "model", "phantom", "trainer", "callbacks", "logger")
    for path in (CONF / group).glob("*.yaml")
)


def nodes(node: DictConfig, name: str):
    """All outermost nodes with a `_target_`, and the names of all that lies outside of them."""
    if "_target_" in node:
        yield name, node
        return
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            yield from nodes(child, f"{name}.{key}")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_key_of_an_experiment_is_an_option_of_its_class(experiment):
    config = compose_train(f"experiment={experiment}", "++data.root=somewhere", "++paths.output_dir=here")
    check_config(config, "phantom", "data", "model", "callbacks", "explain", "trainer", "logger")


BASE = {
    "amd": "amd", "demo_amd": "amd", "mri": "mri", "demo_mri": "mri",
    **dict.fromkeys(("cyclegan_25d", "cyclegan_25d_plain", "curve_25d", "cut_25d"), "cyclegan"),
    **dict.fromkeys(("demo_cut", "demo_cyclegan"), "cyclegan"),
    **dict.fromkeys(("volume_segmentation", "demo_volume"), "demo/volume"),
}  # fmt: skip
"""The experiment that a choice belongs to, where it reads other choices of it."""
EXPLAINERS = sorted((CONF / "explainer").glob("*.yaml"))


@pytest.mark.parametrize("path", EXPLAINERS, ids=lambda path: path.stem)
def test_every_explainer_names_real_options_and_is_called_like_its_file(path):
    node = OmegaConf.load(path)
    assert find_node_problems(node, path.stem) == []
    explainer = build(node, path.stem)
    assert isinstance(explainer, Explainer)
    assert explainer.method == path.stem


@pytest.mark.parametrize("path", BUILT, ids=lambda path: str(path.relative_to(CONF)))
def test_every_choice_composes_and_names_real_options(path):
    group, choice = path.parent.name, path.stem
    override = "+callbacks@callbacks.maps=maps" if choice == "maps" else f"{group}={choice}"
    experiment = BASE.get(choice, "brats")
    config = compose_train(f"experiment={experiment}", "data.root=here", "++paths.output_dir=here", override)
    node = config[group]
    assert list(nodes(node, group)), f"{path} builds nothing"
    problems = [
        p for name, part in nodes(node, group) for p in find_node_problems(part, name) if "must be given" not in p
    ]
    assert problems == []


def test_every_path_is_used():
    text = "\n".join(path.read_text() for path in CONF.rglob("*.yaml"))
    for key in OmegaConf.load(CONF / "paths" / "default.yaml"):
        assert re.search(rf"\$\{{paths\.{key}\}}", text), f"paths.{key} is read nowhere"


def test_every_root_key_is_read():
    source = "\n".join(path.read_text() for path in (Path(__file__).parents[1] / "src" / "seewhy").rglob("*.py"))
    source += "\n".join(path.read_text() for path in CONF.rglob("*.yaml"))
    for key in TrainConfig.__dataclass_fields__:
        assert re.search(rf"config\.{key}\b|\$\{{{key}\}}|config\.get\(\"{key}\"", source), f"{key} is read nowhere"


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_file_begins_with_what_it_is(path):
    text = path.read_text()
    assert text.endswith("\n")
    OmegaConf.load(path)
    first = next(line for line in text.splitlines() if not line.startswith("# @package"))
    assert re.search(r"# \w+", first), f"{path} must begin with a comment on what it is"


DATA = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))


@pytest.mark.parametrize("choice", DATA)
def test_every_data_set_has_the_shared_options(choice):
    shared = OmegaConf.load(CONF / "data" / "shared" / "base.yaml")
    config = compose_train(f"experiment={BASE.get(choice, 'brats')}", "data.root=here", f"data={choice}")
    assert set(shared) <= set(config.data)
    assert config.data.fractions == [0.6, 0.15, 0.25]
