"""Sweep files for `wandb agent`: one per experiment, whose commands are those that W&B's own agent makes of them."""

import json
import os
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from seewhy.cli.compose import compose_train
from seewhy.metrics.direction import find_mode
from seewhy.run.checks import check_config
from seewhy.run.folder import conf_dir

ROOT = conf_dir() / "hparams_search" / "wandb"
EXPERIMENTS = conf_dir() / "experiment"
FILES = sorted(ROOT.rglob("*.yaml"))


def test_every_experiment_has_one():
    """Except benchmarks, which are sweeps themselves, and their members."""
    names = {path.relative_to(ROOT) for path in FILES}
    others = {
        Path("demo/travelling.yaml"),
        *(path.relative_to(EXPERIMENTS) for path in EXPERIMENTS.glob("benchmark/*")),
    }
    assert names == {path.relative_to(EXPERIMENTS) for path in EXPERIMENTS.rglob("*.yaml")} - others


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_agents_command_trains_with_the_values_of_the_sweep(path, monkeypatch):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    monkeypatch.setenv("DATA_ROOT", "/somewhere")
    sweep = yaml.safe_load(path.read_text())
    values = {}
    for name, choice in sweep["parameters"].items():
        values[name] = choice["values"][0] if "values" in choice else choice["min"]
    arguments = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    words = []
    for word in create_sweep_command(list(sweep["command"])):
        key = str(word).removeprefix("${").removesuffix("}")
        words += (arguments.get(key) or ["/usr/bin/env"]) if str(word).startswith("${") else [word]
    assert words[:3] == ["/usr/bin/env", "seewhy", "train"]
    config = compose_train(*words[3:], "++paths.output_dir=here")
    check_config(config, "phantom", "data", "model", "callbacks", "explain", "trainer", "logger")
    assert {name: OmegaConf.select(config, name) for name in values} == values
    assert config.logger.wandb.offline is False
    assert config.name == str(path.relative_to(ROOT).with_suffix(""))
    metric = sweep["metric"]
    assert metric["name"] == f"best/{config.callbacks.best.monitor}"
    assert metric["goal"] == {"min": "minimize", "max": "maximize"}[find_mode(config.callbacks.best.monitor)]


def test_a_run_of_an_agent_has_the_agents_id(tmp_path, monkeypatch):
    from seewhy.tracking.run import TrackedRun
    from seewhy.tracking.wandb_run import WandbRun

    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "agent7")
    run = TrackedRun(
        folder=tmp_path, job="train", jobs=["train"], title="x", group="folder", config={}, facts={},
        earlier=json.loads('{"id": "older"}'),
    )  # fmt: skip
    logger = WandbRun(save_dir=str(tmp_path))
    assert logger.begin_run(run)["id"] == "agent7"
    assert logger._wandb_init["group"] is None
    assert os.listdir(tmp_path) == []
