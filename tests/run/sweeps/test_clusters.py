"""Members as jobs: on this machine for real, and what a job of SLURM is asked for."""

import pytest
from hydra import compose, initialize_config_dir

from seewhy.cli.compose import store_schemas
from seewhy.run.folder import RunFolder, conf_dir


@pytest.mark.slow
def test_members_as_jobs_of_this_machine(command, home, tiny, record):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    folder = home / "jobs"
    words = ["-m", *tiny, "trainer.max_epochs=1", "seed=1,2", "cluster=local", f"hydra.sweep.dir={folder}"]
    command("train.py", *words)
    rows = record.table(folder / "sweep.csv")
    assert [(row["seed"], row["state"]) for row in rows] == [("1", "COMPLETE"), ("2", "COMPLETE")]
    assert (folder / "sweep.html").is_file()
    assert list((folder / ".submitit").glob("*/*.out"))


@pytest.mark.slow
def test_a_search_of_jobs(command, home, tiny, record):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    pytest.importorskip("optuna")
    folder = home / "search_jobs"
    words = [*tiny, "trainer.max_epochs=1", "hparams_search=optuna", "data.batch_size=4", "cluster=local"]
    command("train.py", *words, "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2", f"hydra.sweep.dir={folder}")
    rows = record.table(folder / "sweep.csv")
    assert [row["state"] for row in rows] == ["COMPLETE"] * 3
    assert len({row["model.optimizer.lr"] for row in rows}) == 3
    for row in rows:
        assert record.results(folder / row["member"])["objective"] == float(row["objective"])


def test_what_a_job_of_slurm_is_asked_for():
    """The text that submitit writes for sbatch, from the options of conf/cluster/slurm.yaml."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    slurm = pytest.importorskip("submitit.slurm.slurm")
    store_schemas()
    words = ["experiment=demo/brats", "cluster=slurm", "hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=90"]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        launcher = compose("train", overrides=words, return_hydra_config=True).hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert launcher.max_num_timeout == 10
    text = slurm._make_sbatch_string(
        "train", "folder", partition=launcher.partition, time=launcher.timeout_min, nodes=launcher.nodes,
        ntasks_per_node=launcher.tasks_per_node, gpus_per_node=launcher.gpus_per_node,
        cpus_per_task=launcher.cpus_per_task, mem=f"{launcher.mem_gb}GB",
        additional_parameters=dict(launcher.additional_parameters),
    )  # fmt: skip
    for line in ("partition=gpu", "time=90", "gpus-per-node=1", "ntasks-per-node=1", "cpus-per-task=8", "requeue"):
        assert f"#SBATCH --{line}" in text


def test_a_requeued_job_continues_from_its_last_epoch(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from seewhy.errors import ConfigError
    from seewhy.run.continuing import find_checkpoint

    folder, config = RunFolder(tmp_path), SimpleNamespace(ckpt_path=None)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert find_checkpoint(config, folder) is None
    folder.checkpoints.mkdir()
    (folder.checkpoints / "last.ckpt").touch()
    assert find_checkpoint(config, folder) == folder.checkpoints / "last.ckpt"
    (tmp_path / "hpc_ckpt_2.ckpt").touch()
    assert find_checkpoint(config, folder) == tmp_path / "hpc_ckpt_2.ckpt"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    with pytest.raises(ConfigError, match="already holds a run"):
        find_checkpoint(config, folder)


@pytest.mark.parametrize("word", ["cluster=slurm", "hydra/launcher=submitit_local"])
def test_a_missing_submitit_is_answered_with_its_extra(word, monkeypatch):
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException

    from seewhy.cli.hydra_errors import describe_error

    store_schemas()
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    kept = {name: node for name, node in launchers.items() if not name.startswith("submitit")}
    monkeypatch.setitem(ConfigStore.instance().repo["hydra"], "launcher", kept)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())), pytest.raises(HydraException) as error:
        compose("train", overrides=[word])
    assert "pip install 'seewhy[sweep]'" in describe_error(error.value, "train")
