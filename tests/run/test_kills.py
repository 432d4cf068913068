"""Commands that are killed or ended at random moments: what continues them, and that nothing is lost.

Half of the ends come at a random time, half just before a random change of the output folder. SEEWHY_KILLS sets the
number of SIGKILL of each command (default 2), SEEWHY_TERMS that of SIGTERM (default 1).
"""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from command_server import CommandServer

pytestmark = pytest.mark.slow

TRIALS = [
    (kind, number)
    for kind, variable, default in ((signal.SIGTERM, "SEEWHY_TERMS", "1"), (signal.SIGKILL, "SEEWHY_KILLS", "2"))
    for number in range(int(os.environ.get(variable, default)))
]
VARYING = re.compile(
    r"\.hydra|earlier|.*\.log|\.lock|report-\d+\.json|config\.yaml|report\.html|ranking\.png"
    r"|tracking\.json|claims-\w+|worker-\d+\.json|part-\d+\.jsonl"
)
"""Parts of paths whose content holds times, is of one command, or counts the attempts."""
VARYING_KEYS = {"seconds", "checkpoint", "sha256", "written"}
"""Keys of JSON with times and dates, and with the checksum of a checkpoint, which also holds states of callbacks."""
IDENTITY = re.compile(r"[0-9a-f]{32}")
"""Identities that are drawn for each new store."""


@dataclass
class Job:
    """A command, and its undisturbed result.

    Attributes:
        words: with `{out}` for the folder of its results.
        go_on: words to add when a checkpoint exists.
        seconds: processor time.
        writes: changes of its folder.
        result: path → checksum.
    """

    words: list
    go_on: tuple = ()
    seconds: float = 0.0
    writes: int = 0
    result: dict | None = None


@pytest.fixture(scope="module")
def server():
    server = CommandServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The folder of every result, under one path, since paths are recorded."""
    return tmp_path_factory.mktemp("kills")


@pytest.fixture(scope="module")
def run(server, repository, work):
    """Run a command in its own process: `run(words, stop=…)`."""
    temporary = work / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(repository / "tests" / "support"), "WANDB_MODE": "offline"}
    environment |= {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def call(words, stop=None):
        script, *rest = words
        head = [script] if script == "-m" else [repository / script]
        return server.run([*head, *rest], cwd=work, env=environment, stop=stop, timeout=300)

    return call


@pytest.fixture(scope="module")
def trained(run, work, tiny):
    """A finished run to predict and explain with."""
    folder = work / "trained"
    done = run(
        ["train.py", *tiny, "trainer.max_epochs=1", f"hydra.run.dir={folder}", f"paths.data_dir={work / 'data'}"]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def volume_run(run, work):
    """A finished run of volumes, and a volume."""
    import zarr

    folder = work / "volume_run"
    words = ["experiment=demo/volume", "phantom.volumes=4", "phantom.shape=[32,40,40]", "trainer.max_epochs=1"]
    words += ["data.batches_per_epoch=3", "data.fractions=[0.5,0.25,0.25]", "test=false"]
    words += ["trainer.enable_progress_bar=false", f"hydra.run.dir={folder}", f"paths.data_dir={work / 'data'}"]
    done = run(["train.py", *words])
    assert done.returncode == 0, done.stderr[-3000:]
    values = np.random.default_rng(0).normal(0, 200, (64, 48, 48)).astype("i2")
    zarr.create_array(str(work / "long.zarr"), data=values, chunks=(32, 32, 32))
    return folder


@pytest.fixture(scope="module")
def heads(work):
    """Heads of two scanners as NIfTI, BraTS names."""
    from seewhy.phantoms.scanners import write_scanner_phantom

    folder = work / "heads"
    write_scanner_phantom(folder, subjects=(3, 2), shape=(24, 28, 24))
    return folder


def describe(name, request):
    """The command of a job."""
    work, tiny = request.getfixturevalue("work"), request.getfixturevalue("tiny")
    out = work / "out"
    if name == "train":
        words = ["train.py", *tiny, f"hydra.run.dir={out}/run", f"paths.data_dir={out}/data"]
        return Job(words, go_on=("ckpt_path=last",))
    if name == "train_fast":
        words = ["train.py", *tiny, "callbacks.maps=null", "callbacks.cases=null", f"paths.data_dir={work}/data"]
        return Job([*words, "data.batches_per_epoch=1", f"hydra.run.dir={out}"], go_on=("ckpt_path=last",))
    if name in ("predict", "explain"):
        run = request.getfixturevalue("trained")
        samples = "all" if name == "predict" else "test"
        more = ["callbacks.predictions.npz=true"] if name == "predict" else ["explain.methods=[grad_cam]"]
        return Job([f"{name}.py", f"run={run}", f"data.predict_on={samples}", *more, f"paths.output_dir={out}"])
    if name in ("volume", "scan"):
        run = request.getfixturevalue("volume_run")
        words = ["predict.py", f"run={run}", "volume.inference.spacing=ignore", f"volume.input={work}/long.zarr"]
        return Job(
            [*words, "volume.preview=false", f"volume.output={out}/pred.{'zarr' if name == 'volume' else 'mha'}"]
        )
    heads = request.getfixturevalue("heads")
    if name == "prepare":
        words = ["brats", heads / "a", out / "set", "--modality", "flair"]
    else:
        words = ["domains", heads, out / "set"]
    return Job(["-m", "seewhy", "prepare", *words, "--quiet"])


@pytest.fixture(scope="module")
def jobs(request, run, work):
    """Name → job with its undisturbed result."""
    jobs = {}

    def call(name):
        if name not in jobs:
            job = describe(name, request)
            out = work / "out"
            shutil.rmtree(out, ignore_errors=True)
            done = run(job.words, {"watch": str(out)})
            assert done.returncode == 0, done.stderr[-3000:]
            job.seconds, job.writes = done.seconds, done.writes
            job.result = summarize(out)
            assert job.result
            print(f"{name}: {job.seconds:.1f} s, {job.writes} changes, {len(job.result)} files")
            jobs[name] = job
        return jobs[name]

    return call


def summarize(folder):
    """Relative path of each file → checksum of what has to be equal in it."""
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(VARYING.fullmatch(part) for part in path.relative_to(folder).parts)
    }


def digest(path):
    content = path.read_bytes()
    if path.suffix == ".ckpt":
        state = torch.load(path, weights_only=True)
        content = repr([(key, value.tolist()) for key, value in state["state_dict"].items()]).encode()
        content += repr((state["epoch"], state["global_step"])).encode()
    elif path.suffix == ".json":
        content = json.dumps(strip_varying(json.loads(content))).encode()
    elif path.suffix == ".npz":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = b"".join(archive.read(name) for name in sorted(archive.namelist()))
    return hashlib.sha256(content).hexdigest()


def strip_varying(record):
    if isinstance(record, dict):
        return {key: strip_varying(value) for key, value in record.items() if key not in VARYING_KEYS}
    if isinstance(record, list):
        timed = [isinstance(value, dict) and "seconds" in str(value.get("score")) for value in record]
        return [strip_varying(value) for value, is_time in zip(record, timed, strict=True) if not is_time]
    return None if isinstance(record, str) and IDENTITY.fullmatch(record) else record


COMMANDS = ["train_fast", "train", "predict", "explain", "volume", "scan", "prepare", "domains"]


@pytest.mark.parametrize(("kind", "trial"), TRIALS, ids=[f"{kind.name}-{trial}" for kind, trial in TRIALS])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_was_ended_goes_on_to_the_same_results(jobs, run, work, name, kind, trial):
    job, out = jobs(name), work / "out"
    shutil.rmtree(out, ignore_errors=True)
    rng = np.random.default_rng([trial, int(kind), COMMANDS.index(name)])
    if trial % 2:
        stop = {"signal": int(kind), "watch": str(out), "write": int(rng.integers(1, job.writes + 1))}
    else:
        stop = {"signal": int(kind), "after": float(rng.uniform(0.05, 1) * job.seconds)}
    ended = run(job.words, stop)
    print(name, stop, ended.returncode)
    print(ended.stderr[-2000:])
    if kind == signal.SIGKILL:
        assert ended.returncode in (-9, 0)
    elif ended.returncode:  # before the handler stands, the system ends the process
        assert ended.returncode in (143, -15)
        assert "Traceback" not in ended.stderr
        if ended.returncode == 143:
            assert len(ended.stderr.strip().splitlines()) >= 1
            assert "ended by SIGTERM" in ended.stderr
            assert "run the same command again" in ended.stderr or "continue with ckpt_path=last" in ended.stderr
    again = ended if ended.returncode == 0 else run(job.words)
    print(again.stderr[-2000:])
    if again.returncode:
        assert again.returncode == 1
        assert again.stderr.count("error:") == 1
        assert "Traceback" not in again.stderr
        assert job.go_on or "already exists" in again.stderr
        if job.go_on:
            assert job.go_on[0] in again.stderr
            again = run([*job.words, *job.go_on])
            assert again.returncode == 0, again.stderr[-3000:]
    result = summarize(out)
    assert sorted(result.keys() ^ job.result.keys()) == []
    assert [path for path in result if result[path] != job.result[path]] == []
    assert [path for path in out.rglob("*") if ".tmp" in path.name] == []
    assert list((work / "tmp").iterdir()) == []
