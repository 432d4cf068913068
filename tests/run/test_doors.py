"""Two processes through every door, and ends by a signal: same folder, same results, one message."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
DDP = ("trainer=ddp_cpu", "trainer.devices=2", "trainer.max_epochs=1", "callbacks.maps=null", "callbacks.cases=null")
DOORS = {
    "train.py": lambda repository: [sys.executable, repository / "train.py"],
    "seewhy train": lambda _: [BIN / "seewhy", "train"],
    "seewhy-train": lambda _: [BIN / "seewhy-train"],
    "python -m seewhy train": lambda _: [sys.executable, "-m", "seewhy", "train"],
    "torchrun": lambda repository: [BIN / "torchrun", "--standalone", "--nproc-per-node=2", repository / "train.py"],
    "multirun": lambda repository: [sys.executable, repository / "train.py", "-m"],
}


@pytest.fixture
def start(repository, home):
    """Start a command in the folder of the runs: `start(command, *words)`."""

    def call(command, *words):
        paths = [repository / "src", repository / "tests" / "support"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
        words = [str(word) for word in [*command, *words]]
        return subprocess.Popen(
            words, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return call


@pytest.fixture(scope="module")
def results():
    """Door → metrics, to compare them."""
    return {}


@pytest.mark.parametrize("door", list(DOORS))
def test_every_door_trains_with_two_processes_to_the_same_results(start, repository, home, tiny, results, door):
    parent = home / f"door_{door.replace(' ', '_')}"
    words = [*tiny, *DDP, f"paths.log_dir={parent}", "name=run"]
    process = start(DOORS[door](repository), *words)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr[-3000:]
    [folder] = (path.parent for path in parent.rglob("results.json"))
    assert len(list(parent.rglob("train*.log"))) >= 1
    assert [path.parent for path in parent.rglob("checkpoints")] == [folder]
    results[door] = json.loads((folder / "results.json").read_text())["metrics"]
    assert results[door] == next(iter(results.values()))


def test_two_machines_that_torchrun_joins_train_to_the_same_results(start, repository, home, tiny, results):
    """Two launchers on this machine, which find each other as those of two machines do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = home / "machines"
    launcher = [BIN / "torchrun", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=seewhy"]
    words = [f"--rdzv-endpoint=127.0.0.1:{port}", repository / "train.py", *tiny, *DDP, "trainer.num_nodes=2"]
    processes = [start(launcher, *words, f"hydra.run.dir={folder}") for _ in range(2)]
    for process in processes:
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr[-3000:]
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    assert metrics == next(iter(results.values()), metrics)


@pytest.mark.parametrize(("rank", "how"), [(1, "kill"), (0, "kill"), (1, "error")])
def test_a_rank_that_ends_ends_the_others_with_one_message_and_a_checkpoint_to_continue_from(
    start, repository, home, tiny, command, record, rank, how
):
    folder, twin = home / f"dies_{rank}_{how}", home / "lives"
    words = [*tiny, *DDP, "trainer.max_epochs=2", "data.batches_per_epoch=6"]
    dies = ["+callbacks.dies._target_=spies.Dies", f"+callbacks.dies.rank={rank}", "+callbacks.dies.epoch=1"]
    process = start(
        DOORS["train.py"](repository), *words, *dies, f"+callbacks.dies.how={how}", f"hydra.run.dir={folder}"
    )
    wait_for(folder / "checkpoints" / "last.ckpt", process)
    _, stderr = process.communicate(timeout=60)  # until the last process has closed its end
    assert process.returncode == (1 if rank else -9), stderr[-3000:]
    assert stderr.count("error:") == 1
    assert ("RuntimeError: boom" in stderr) == (how == "error")  # no user error: with its traceback
    assert stderr.count(f"continue with ckpt_path=last hydra.run.dir={folder}") == 1
    if how == "kill":
        assert "Traceback" not in stderr
    command("train.py", *words, f"hydra.run.dir={folder}", "ckpt_path=last")
    if not twin.exists():
        command("train.py", *words, f"hydra.run.dir={twin}")
    assert record.results(folder)["metrics"] == record.results(twin)["metrics"]
    assert record.metrics(folder) == record.metrics(twin)
    assert not list(folder.rglob(".tmp-*"))


def wait_for(path, process):
    end = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)


@pytest.mark.parametrize("devices", [1, 2])
def test_sigterm_ends_a_training_and_it_continues_to_the_same_results(
    start, repository, home, tiny, record, command, devices
):
    folder, twin = home / f"term_{devices}", home / f"untermed_{devices}"
    words = [*tiny, "trainer.max_epochs=6", *(DDP[:2] if devices == 2 else ())]
    process = start(DOORS["train.py"](repository), *words, f"hydra.run.dir={folder}")
    wait_for(folder / "checkpoints" / "last.ckpt", process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 143
    assert stderr.count(f"continue with ckpt_path=last hydra.run.dir={folder}") == 1
    assert "Traceback" not in stderr
    command("train.py", *words, f"hydra.run.dir={folder}", "ckpt_path=last")
    command("train.py", *words, f"hydra.run.dir={twin}")
    assert record.results(folder)["metrics"] == record.results(twin)["metrics"]
    assert record.metrics(folder) == record.metrics(twin)


def test_sigterm_ends_a_prediction(start, repository, single, tmp_path):
    slow = ["+callbacks.slow._target_=spies.Slow", f"+callbacks.slow.file={tmp_path / 'started'}"]
    words = [f"run={single}", "data.predict_on=all", *slow, f"paths.output_dir={tmp_path}"]
    process = start([sys.executable, repository / "predict.py"], *words)
    wait_for(tmp_path / "started", process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 143
    assert stderr.count("run the same command again") == 1
    assert not list(tmp_path.rglob("predictions.csv"))


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_volume_continues_to_the_same_bytes(start, repository, home, command, kill):
    import zarr

    words = ["experiment=demo/volume", "phantom.volumes=4", "phantom.shape=[32,40,40]", "trainer.max_epochs=1"]
    words += ["data.batches_per_epoch=3", "data.fractions=[0.5,0.25,0.25]", "test=false"]
    run = home / "volume_run"
    if not run.exists():
        command("train.py", *words, "trainer.enable_progress_bar=false", f"hydra.run.dir={run}")
    values = np.random.default_rng(0).normal(0, 200, (192, 64, 64)).astype("i2")
    source = home / "long.zarr"
    if not source.exists():
        zarr.create_array(str(source), data=values, chunks=(32, 32, 32))
    options = [f"run={run}", "volume.inference.spacing=ignore", f"volume.input={source}"]
    whole, stopped = home / "whole.zarr", home / f"stopped_{int(kill)}.zarr"
    if not whole.exists():
        command("predict.py", *options, f"volume.output={whole}")
    process = start([sys.executable, repository / "predict.py"], *options, f"volume.output={stopped}")
    wait_for(stopped, process)
    time.sleep(1.5)
    process.send_signal(kill)
    process.communicate(timeout=20)
    assert process.returncode in (143 if kill == signal.SIGTERM else -9, 0)
    command("predict.py", *options, f"volume.output={stopped}")
    first, second = (zarr.open(str(path), mode="r") for path in (whole, stopped))
    names = [name for name, item in first.members(max_depth=None) if isinstance(item, zarr.Array)]
    assert names
    for name in names:
        assert np.array_equal(first[name][...], second[name][...]), name
