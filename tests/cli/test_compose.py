"""Overrides of open mappings, written in every way that Hydra takes, and finished runs as the base."""

import sys

import pytest
from omegaconf import OmegaConf

from seewhy.cli import hydra_commands
from seewhy.cli.compose import compose_train, expand_overrides, register_run
from seewhy.errors import ConfigError


@pytest.mark.parametrize("sign", ["", " ", "+", " +", "++"])
def test_a_mapping_of_labels_replaces_the_one_of_the_file(sign):
    config = compose_train("experiment=mri", f"{sign}data.labels={{healthy: 0, ill: 1}}")
    assert config.data.labels == {"healthy": 0, "ill": 1}


@pytest.mark.parametrize("sign", ["", " ", "+", "++"])
def test_options_of_explainers_may_be_new(sign):
    config = compose_train("experiment=demo/brats", f"{sign}explain.options.grad_cam.relu=false")
    assert config.explain.options.grad_cam.relu is False


def test_other_words_stay():
    words = ["seed=3", "+new=1", "~logger", "--config-dir", "my/conf", "-m", "data.labels=null"]
    assert expand_overrides(words) == words


@pytest.mark.parametrize("word", ["run={}", " run={}", "+run='{}'"])
def test_a_run_is_the_base(tmp_path, word):
    OmegaConf.save({"config": {"name": "mine", "seed": 5, "paths": {"log_dir": "x"}}}, tmp_path / "config.yaml")
    register_run([word.format(tmp_path)])
    from hydra.core.config_store import ConfigStore

    stored = ConfigStore.instance().load("saved_run.yaml").node
    assert stored == {"name": "mine", "seed": 5}


@pytest.mark.parametrize("trust", ["trust=false", "trust=True_", "trust=true trust=false", "~trust=true"])
def test_only_an_explicit_last_word_trusts_a_run(tmp_path, trust):
    OmegaConf.save({"config": {"model": {"_target_": "os.system"}}}, tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"os\.system.*trust=true"):
        register_run([f"run={tmp_path}", *trust.split()])


def test_a_task_sees_the_whole_command_line(tmp_path, monkeypatch):
    """Lightning starts the other ranks with `sys.argv`; `python -m seewhy ARGS` needs the command among them."""
    from seewhy.cli.main import main

    seen = []
    monkeypatch.setitem(hydra_commands.TASKS, "train", (__name__, "record"))
    monkeypatch.setattr(sys.modules.setdefault(__name__, sys), "record", lambda _: seen.extend(sys.argv), raising=False)
    monkeypatch.setattr(sys, "argv", ["seewhy"])
    monkeypatch.setenv("SEEWHY_TRACEBACK", "1")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    main(["train", "experiment=demo/brats", f"hydra.run.dir={tmp_path}"])
    assert seen == ["seewhy", "train", "experiment=demo/brats", f"hydra.run.dir={tmp_path}"]


def test_a_run_and_an_experiment_exclude_each_other(tmp_path):
    with pytest.raises(ConfigError, match=r"run=.* and experiment=brats exclude each other"):
        register_run([f"run={tmp_path}", "experiment=brats"])
