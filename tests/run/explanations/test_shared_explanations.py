"""Samples that several processes explain: the files and numbers of one process, whatever happens to the processes."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
from blank_figures import blank_figures

from seewhy.cli.compose import compose_saved
from seewhy.errors import ConfigError, DataError
from seewhy.reporting import shared
from seewhy.reporting.session import Session
from seewhy.run.explanations.explain import explain

TINY_MRI = (
    "experiment=demo/mri",
    "phantom.cases=12",
    "data.slices=[12,36]",
    "trainer.max_epochs=1",
    "data.batch_size=4",
    "explain.methods=[]",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
)
WORDS = (
    "explain.methods=[grad_cam,saliency]",
    "explain.judge=cheap",
    "explain.max_samples=0",
    "explain.batch_size=2",
    "data.predict_on=all",
    "data.eval_batch_size=1",
    "trainer.enable_progress_bar=false",
)
TIMES = ("seconds",)


@pytest.fixture(scope="module")
def trained(train_here, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train_here(folder, base=TINY_MRI)
    return folder


def explain_here(run, out, *words, drawn=False):
    with nullcontext() if drawn else blank_figures():
        explain(compose_saved("explain", run, *WORDS, f"paths.output_dir={out}", *words))
    return out / "explanations"


@pytest.fixture(scope="module")
def alone(trained, tmp_path_factory):
    """Explanations by one process that shares nothing, without the contents of figures."""
    return explain_here(trained, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def drawn(trained, tmp_path_factory):
    """Explanations by one process that shares nothing."""
    return explain_here(trained, tmp_path_factory.mktemp("drawn"), drawn=True)


def without_times(value):
    """Plain data without the measured seconds."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    if isinstance(value, list):
        timed = [isinstance(item, dict) and "seconds" in str(item.get("score")) for item in value]
        return [without_times(item) for item, is_time in zip(value, timed, strict=True) if not is_time]
    return value


def read_all(folder):
    """Every file but the notes: bytes, or what a table or record says apart from the seconds that it took."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name.startswith(".sharing"):
            continue
        if path.suffix == ".json":
            contents[name] = without_times(json.loads(path.read_text()))
        elif path.suffix == ".csv":
            with path.open(newline="") as file:
                rows = csv.DictReader(file)
                contents[name] = [{key: row[key] for key in row if "seconds" not in key} for row in rows]
        elif path.name not in ("report.html", "ranking.png"):  # tables of them show the seconds
            contents[name] = path.read_bytes()
    return contents


def test_one_process_that_shares_writes_what_one_that_does_not(alone, trained, tmp_path, capsys):
    folder = explain_here(trained, tmp_path, "job.shared=true")
    assert "12 of 12 samples, 0 tasks of lost processes" in capsys.readouterr().out
    ours, theirs = read_all(folder), read_all(alone)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert any(name.endswith("_summary.png") for name in ours)


@pytest.mark.slow
def test_a_stopped_process_is_continued_and_a_second_call_repairs(alone, trained, tmp_path, monkeypatch):
    calls, whole = [], Session.explain

    def stop(self, batch, chosen):
        calls.append(batch["id"])
        if len(calls) == 10:
            raise DataError("stopped here")
        whole(self, batch, chosen)

    monkeypatch.setattr(Session, "explain", stop)
    with pytest.raises(DataError, match="stopped here"):
        explain_here(trained, tmp_path, "job.shared=true")
    explain_here(trained, tmp_path, "job.shared=true")
    assert len(calls) == 13  # the batch that was stopped is explained again, and no other
    folder = tmp_path / "explanations"
    assert read_all(folder) == read_all(alone)
    doomed = next(folder.rglob("*_attributions.npy"))
    doomed.unlink()
    explain_here(trained, tmp_path, "job.shared=true")
    assert doomed.is_file()
    assert read_all(folder) == read_all(alone)
    assert len(list((folder / ".sharing").glob("*/round-*"))) == 2


def test_a_lost_map_of_the_first_samples_leaves_the_verdict_on_all(alone, trained, tmp_path):
    folder = shutil.copytree(alone, tmp_path / "explanations")
    doomed = min(folder.rglob("*_attributions.npy"))
    doomed.unlink()
    explain_here(trained, tmp_path)
    assert doomed.is_file()
    assert read_all(folder) == read_all(alone)


@pytest.mark.slow
def test_files_that_were_removed_meanwhile_are_written_by_the_next_call(alone, trained, tmp_path, monkeypatch):
    """Each kind of file, removed when all samples are drawn and before the tables are written."""
    whole, folder = shared.write_tables, tmp_path / "explanations"

    def stop(*arguments):
        raise SystemExit

    for pattern in ("**/*_attributions.npy", "cache/*.npz", "records/floors/*.json", "grad_cam/**/*_summary.png"):
        monkeypatch.setattr(shared, "write_tables", stop)
        with pytest.raises(SystemExit):
            explain_here(trained, tmp_path, "job.shared=true")
        doomed = min(folder.glob(pattern))
        doomed.unlink()
        monkeypatch.setattr(shared, "write_tables", whole)
        with pytest.raises(DataError, match=rf"{doomed.name} was removed .* start the same command again"):
            explain_here(trained, tmp_path, "job.shared=true")
        explain_here(trained, tmp_path, "job.shared=true")
        assert read_all(folder) == read_all(alone), pattern


def test_mistakes_are_said_in_words(trained, tmp_path):
    with pytest.raises(ConfigError, match=r"job\.lease=0 must be"):
        explain_here(trained, tmp_path, "job.lease=0")
    with pytest.raises(ConfigError, match=r"job\.executor"):
        explain_here(trained, tmp_path, "job.executor=dask")
    with pytest.raises(ConfigError, match=r"explain\.own_maps=null"):
        explain_here(trained, tmp_path, "job.shared=true", "explain=weakly_supervised")


def start(repository, trained, out, *words):
    line = [sys.executable, str(repository / "explain.py"), f"run={trained}", *WORDS, "job.shared=true", "job.lease=5"]
    return subprocess.Popen(
        [*line, f"paths.output_dir={out}", *words], cwd=out, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(3))
def test_processes_that_are_killed_are_replaced(repository, drawn, trained, tmp_path, trial):
    """Three processes, one of which is killed at a random moment, and one of which comes late."""
    draw = random.Random(trial)
    running = [start(repository, trained, tmp_path) for _ in range(2)]
    wanted, deadline = draw.randint(1, 9), time.monotonic() + 300
    while sum(1 for path in tmp_path.glob("explanations/.sharing/*/round-*/tasks-*") for _ in path.open()) < wanted:
        assert time.monotonic() < deadline
        assert any(process.poll() is None for process in running)
        time.sleep(0.02)
    os.kill(running[trial % 2].pid, signal.SIGKILL)
    running.append(start(repository, trained, tmp_path))
    outputs = [process.communicate(timeout=300)[0] for process in running]
    codes = [process.returncode for process in running]
    assert codes[trial % 2] == -signal.SIGKILL
    assert sorted(codes) == [-signal.SIGKILL, 0, 0], outputs
    folder = tmp_path / "explanations"
    ours, theirs = read_all(folder), read_all(drawn)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.slow
def test_jobs_of_submitit_share_the_samples(drawn, trained, tmp_path, capsys):
    pytest.importorskip("submitit")
    words = ["job.executor=submitit", "job.num_parts=2", "job.submitit={cluster: local, timeout_min: 10}"]
    folder = explain_here(trained, tmp_path, *words)
    printed = capsys.readouterr().out
    assert "2 jobs (" in printed
    assert printed.endswith(f"output: {folder}\n")
    assert read_all(folder) == read_all(drawn)
    with pytest.raises(ConfigError, match=r"job\.submitit: .*timeout_mins"):
        explain_here(trained, tmp_path, *words[:2], "job.submitit={cluster: local, timeout_mins: 10}")
