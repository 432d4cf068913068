"""Options that depend on the number of processes."""

import pytest
from omegaconf import OmegaConf

from seewhy.cli.compose import compose_train
from seewhy.errors import ConfigError
from seewhy.run.build import build_trainer
from seewhy.run.processes.environment import (
    ANY_GRADIENTS,
    fit_trainer_options,
    read_rank,
    read_torchrun,
    set_batch_size,
)

VARIABLES = (
    "RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID",
)  # fmt: skip


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "2"}, 2),
        ({"RANK": "5", "LOCAL_RANK": "1"}, 5),
        ({"SLURM_PROCID": "3"}, 3),
        ({"NODE_RANK": "1"}, 1),
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, 0),
    ],
)
def test_the_first_process_has_number_0(monkeypatch, variables, rank):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert read_rank() == rank


def test_the_numbers_of_torchrun_count(monkeypatch):
    assert read_torchrun() is None
    for name, value in {"TORCHELASTIC_RUN_ID": "7", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    one = {"devices": 1, "num_nodes": 1, "strategy": "auto", "accelerator": "cpu"}
    assert fit_trainer_options(one) == {"devices": 4, "num_nodes": 2, "strategy": ANY_GRADIENTS}
    same = {"devices": 4, "num_nodes": 2, "strategy": "ddp", "accelerator": "cpu"}
    assert fit_trainer_options(same) == {}


def test_a_single_process_keeps_its_options():
    assert fit_trainer_options(compose_train("experiment=demo/amd").trainer) == {}


@pytest.mark.parametrize("trainer", ["ddp", "ddp_cpu"])
def test_processes_on_cpus_have_no_shared_batch_statistics(trainer):
    options = compose_train("experiment=demo/amd", f"trainer={trainer}", "trainer.accelerator=cpu").trainer
    assert options.sync_batchnorm
    assert fit_trainer_options(options) == {"sync_batchnorm": False}


@pytest.mark.parametrize(
    ("words", "batch"),
    [
        (["experiment=demo/amd"], 24),
        (["experiment=demo/amd", "trainer=ddp_cpu", "trainer.devices=4"], 6),
        (["experiment=demo/amd", "trainer=ddp_cpu", "trainer.num_nodes=2", "trainer.accumulate_grad_batches=3"], 2),
        (["experiment=demo/cyclegan", "trainer=ddp_cpu", "model.accumulate=3"], 4),
    ],
)
def test_batch_of_each_process(words, batch):
    config = compose_train(*words, "effective_batch_size=24")
    set_batch_size(config)
    assert config.data.batch_size == batch


def test_without_a_wish_the_batch_stays():
    config = compose_train("experiment=demo/amd", "trainer=ddp_cpu")
    set_batch_size(config)
    assert config.data.batch_size == 16


def test_samples_that_cannot_be_divided_are_refused():
    config = OmegaConf.create(
        {"effective_batch_size": 10, "data": {"batch_size": 3}, "trainer": {"devices": 4, "accelerator": "cpu"}}
    )
    with pytest.raises(ConfigError, match=r"effective_batch_size=10 .* 4 processes .* 8 or 12"):
        set_batch_size(config)
    assert config.data.batch_size == 3


def test_fsdp_on_a_cpu_is_refused(tmp_path):
    config = compose_train("experiment=demo/amd", "trainer.strategy=fsdp", f"trainer.default_root_dir={tmp_path}")
    with pytest.raises(ConfigError, match=r"trainer: .*fsdp.* requires a GPU"):
        build_trainer(config, [], [])
