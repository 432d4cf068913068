"""What a sweep member asks for, and the table over members."""

import json
import runpy
import sys
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from seewhy.errors import ConfigError
from seewhy.run.processes.environment import count_processes
from seewhy.run.sweeps import members
from seewhy.run.sweeps.table import sweep_rows
from seewhy.run.train import check_objective


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({}, 1),
        ({"devices": 1}, 1),
        ({"devices": 4}, 4),
        ({"devices": "2"}, 2),
        ({"devices": [0, 3]}, 2),
        ({"devices": "0,1,2"}, 3),
        ({"devices": 2, "num_nodes": 3}, 6),
        ({"devices": "auto"}, -1),
        ({"devices": "auto", "accelerator": "cpu"}, 1),
        ({"devices": -1}, -1),
    ],
)
def test_processes_a_trainer_asks_for(trainer, expected):
    assert count_processes(OmegaConf.create(trainer)) == expected


def test_rows_in_order_of_members(tmp_path):
    for number in (10, 2):
        folder = tmp_path / str(number)
        (folder / ".hydra").mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps({"metrics": {"test/dice": number / 10}}))
        (folder / ".hydra" / "overrides.yaml").write_text(f"- seed={number}\n- +x.y=a=b\n- hydra.mode=RUN\n")
    assert sweep_rows(tmp_path) == [
        {"member": "2", "state": "COMPLETE", "seed": "2", "x.y": "a=b", "test/dice": 0.2},
        {"member": "10", "state": "COMPLETE", "seed": "10", "x.y": "a=b", "test/dice": 1.0},
    ]


def test_an_unknown_objective_names_what_was_measured():
    assert check_objective({"a": 0.5}, None) is None
    assert check_objective({"a": 0.5}, "a") == 0.5
    with pytest.raises(ConfigError, match="objective='b' was not measured; measured: a"):
        check_objective({"a": 0.5}, "b")


def test_the_command_of_a_member_with_several_processes_trains(tmp_path, monkeypatch):
    """The command is run in this process, up to the function that trains."""
    commands, trained = [], []
    task = ["experiment=demo/brats", "trainer=ddp_cpu", "seed=7"]
    hydra = SimpleNamespace(
        overrides=SimpleNamespace(task=task, hydra=["hydra.sweep.dir=x", "hydra.sweeper.max_batch_size=3"]),
        runtime=SimpleNamespace(output_dir=str(tmp_path), config_sources=[], cwd=str(tmp_path)),
    )
    (tmp_path / "results.json").write_text(json.dumps({"metrics": {}, "objective": 0.25}))

    class Process:
        def __init__(self, command, **_):
            commands.append(command)

        def wait(self):
            return 0

    monkeypatch.setattr(members, "HydraConfig", SimpleNamespace(get=lambda: hydra))
    monkeypatch.setattr(members.subprocess, "Popen", Process)
    assert members._run_process() == 0.25
    monkeypatch.undo()

    [[python, flag, module, *words]] = commands
    assert "hydra.sweeper.max_batch_size=3" in words
    assert "hydra.sweep.dir=x" not in words
    assert (python, flag) == (sys.executable, "-m")
    monkeypatch.setattr(
        members,
        "run_member",
        lambda config: trained.append((config.seed, config.trainer.devices, config.paths.output_dir)),
    )
    monkeypatch.setattr(sys, "argv", ["seewhy", *words])
    monkeypatch.chdir(tmp_path)
    runpy.run_module(module, run_name="__main__")
    assert trained == [(7, 2, str(tmp_path))]
