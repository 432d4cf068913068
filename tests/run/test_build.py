"""Mistakes in a configuration node are all named at once, before anything is built."""

import ctypes
import os
import subprocess
import sys

import pytest
from lightning_utilities.core.imports import RequirementCache
from omegaconf import OmegaConf

from seewhy.errors import ConfigError
from seewhy.run.build import build, build_callbacks, find_node_problems

BAR = "lightning.pytorch.callbacks.TQDMProgressBar"


def test_builds_plain_data():
    built = build(OmegaConf.create({"_target_": "collections.OrderedDict", "a": [1, {"b": 2}]}), "thing")
    assert type(built["a"]) is list
    assert type(built["a"][1]) is dict


def test_all_unknown_keys_are_named_with_the_nearest():
    node = OmegaConf.create({"_target_": BAR, "refresh_rat": 1, "leav": True})
    with pytest.raises(ConfigError, match=r"bar\.refresh_rat\b.*'refresh_rate'.*bar\.leav\b.*'leave'"):
        build(node, "bar")


def test_a_node_without_target_is_refused():
    with pytest.raises(ConfigError, match=r"callbacks\.half has no _target_"):
        build_callbacks(OmegaConf.create({"half": {"patience": 3}}))


def test_an_entry_set_to_null_is_left_out():
    assert build_callbacks(OmegaConf.create({"a": None})) == []


def test_missing_values_and_nested_nodes_are_checked():
    node = OmegaConf.create({"_target_": BAR, "refresh_rate": "???", "leave": {"_target_": "no.such.Thing"}})
    problems = find_node_problems(node, "bar")
    assert problems[0] == "bar.refresh_rate must be given"
    assert "bar.leave._target_='no.such.Thing' cannot be imported" in problems[1]


def test_an_unchosen_group_says_what_to_do():
    with pytest.raises(ConfigError, match="model is not chosen; choose an experiment"):
        build(None, "model")


def test_a_value_the_class_refuses_is_one_line():
    node = OmegaConf.create({"_target_": "lightning.pytorch.Trainer", "precision": "33"})
    with pytest.raises(ConfigError, match=r"trainer\.precision=.*33"):
        build(node, "trainer")


def test_a_missing_extra_is_named(monkeypatch):
    absent = RequirementCache("mlflow>=1000")
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", absent)
    node = OmegaConf.create({"_target_": "lightning.pytorch.loggers.MLFlowLogger"})
    with pytest.raises(ConfigError, match=r"^logger\.mlflow: .*pip install 'seewhy\[mlflow\]'$"):
        build(node, "logger.mlflow")


COUNT = """
import resource
import numpy as np
from seewhy.run.build import keep_freed_memory

applied = keep_freed_memory() if {keep} else None

def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(3 * 2**20, np.uint8) for _ in range(40)]
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    del blocks
    return faults

first, *others = [use() for _ in range(4)]
print(applied, first, max(others))
"""


def count(*, keep, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(keep=keep)], capture_output=True, text=True, check=True,
        env={**kept, **environment},
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc")
def test_blocks_that_were_freed_are_used_again_without_new_pages():
    applied, first, later = count(keep=True)
    assert applied == "True"
    assert int(first) > 5_000
    assert int(later) < 0.05 * int(first)
    assert int(count(keep=False)[2]) > 0.5 * int(first)


def test_the_environment_has_the_last_word():
    assert count(keep=True, MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"
