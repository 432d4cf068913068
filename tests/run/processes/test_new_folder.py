"""Folders of runs that start together, and of processes that belong to one run."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from seewhy.errors import ConfigError
from seewhy.run.folder import RunFolder
from seewhy.run.processes.new_folder import NewFolder, RefusedFolder, claim_folder


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_STEP_ID", "TORCHELASTIC_USE_AGENT_STORE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def start(folder, *words):
    config = OmegaConf.create(
        {"ckpt_path": None, "hydra": {"run": {"dir": str(folder)}, "overrides": {"hydra": list(words)}}}
    )
    NewFolder().on_run_start(config)
    return Path(config.hydra.run.dir)


def test_runs_of_one_second_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: claim_folder(str(tmp_path / "a" / "12-00-00")), range(16)))
    assert len(folders) == 16
    assert all(Path(folder).is_dir() for folder in folders)
    assert start(tmp_path / "run") == tmp_path / "run"
    assert start(tmp_path / "run") == tmp_path / "run_2"


def test_a_chosen_folder_is_not_changed(tmp_path):
    (tmp_path / "mine").mkdir()
    assert start(tmp_path / "mine", f"hydra.run.dir={tmp_path / 'mine'}") == tmp_path / "mine"


def test_the_tasks_of_a_slurm_job_share_a_folder(tmp_path, monkeypatch):
    for name, value in {"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "81"}.items():
        monkeypatch.setenv(name, value)
    assert start(tmp_path / "12-00-00") == start(tmp_path / "12-00-01") == tmp_path / "slurm_81_0"


def test_the_processes_of_torchrun_share_a_folder(tmp_path, monkeypatch):
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    words = {"TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    for name, value in {**words, "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    first = start(tmp_path / "12-00-00")
    monkeypatch.setenv("RANK", "1")
    assert start(tmp_path / "12-00-01") == first == tmp_path / "12-00-00"


def test_a_folder_in_use_is_refused_and_free_afterwards(tmp_path):
    """Locks belong to a process, so the other one is a fork."""
    import os

    def try_lock():
        child = os.fork()
        if child == 0:
            try:
                with RunFolder(tmp_path).lock():
                    os._exit(0)
            except ConfigError as error:
                os._exit(7 if str(tmp_path) in str(error) and "hydra.run.dir" in str(error) else 8)
            os._exit(9)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    with RunFolder(tmp_path).lock():
        assert try_lock() == 7
    assert try_lock() == 0


def test_a_chosen_folder_that_holds_a_run_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    config = {"ckpt_path": None, "hydra": {"run": {"dir": str(tmp_path)}, "overrides": {"hydra": ["hydra.run.dir=x"]}}}
    with pytest.raises(RefusedFolder) as refused:
        NewFolder().on_run_start(OmegaConf.create(config))
    assert "already holds a run" in str(refused.value.error)
    assert refused.value.code == 1
    NewFolder().on_run_start(OmegaConf.create({**config, "ckpt_path": "last"}))


def test_a_second_sweep_into_a_folder_is_refused_with_its_members(tmp_path):
    config = {"hydra": {"sweep": {"dir": str(tmp_path)}, "overrides": {"hydra": ["hydra.sweep.dir=x"]}}}
    NewFolder().on_multirun_start(OmegaConf.create(config))
    for number in "01":
        (tmp_path / number / ".hydra").mkdir(parents=True)
    with pytest.raises(RefusedFolder) as refused:
        NewFolder().on_multirun_start(OmegaConf.create(config))
    assert "members 0, 1" in str(refused.value.error)
