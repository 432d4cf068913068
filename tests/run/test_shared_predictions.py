"""Predictions and evaluations that several processes share: the files of one process, whatever happens to them."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from blank_figures import blank_figures

from seewhy.callbacks.sharing import SharedBatches
from seewhy.cli.compose import compose_saved
from seewhy.errors import ConfigError, DataError
from seewhy.run.predict import predict
from seewhy.run.translation.evaluate import evaluate

WORDS = ("data.predict_on=all", "callbacks.predictions.npz=true", "trainer.enable_progress_bar=false")
QUICK = (
    "data.predict_on=all", "evaluate.baselines=[identity,histogram]", "evaluate.probe.steps=5",
    "evaluate.probe.seeds=1", "evaluate.distances.resamples=20", "trainer.enable_progress_bar=false",
)  # fmt: skip


def predict_here(run, out, *words):
    with blank_figures():
        predict(compose_saved("predict", run, *WORDS, f"paths.output_dir={out}", *words))
    return out / "predictions"


def evaluate_here(run, out, *words):
    evaluate(compose_saved("evaluate", run, *QUICK, f"evaluate.folder={out}", *words))
    return out / "evaluation_all"


def read_all(folder):
    """Every file but the notes as bytes, without its folder, its time and the random identity of a zarr store."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(".sharing"):
            content = path.read_bytes().replace(str(folder.parent).encode(), b"OUT")
            content = re.sub(rb'("(written|evaluation_timestamp)": )"[^"]*"', rb"\1", content)
            content = re.sub(rb'"id": "[0-9a-f]{32}"', b"", content) if path.name == "zarr.json" else content
            contents[name] = re.sub(rb"20\d\d-\d\d-\d\dT[0-9:+]*", b"", content) if path.suffix == ".html" else content
    return contents


def compare(ours, theirs):
    ours, theirs = read_all(ours), read_all(theirs)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def count_done(folder):
    return sum(1 for path in folder.glob(".sharing/*/round-*/tasks-*") for _ in path.open())


def stop_after(count, call, *arguments):
    """Let a process fail in the batch after `count` batches."""
    whole = SharedBatches.complete

    def stop(self, part):
        if self.predicted == count:
            raise DataError("stopped here")
        whole(self, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SharedBatches, "complete", stop)
        with pytest.raises(DataError, match="stopped here"):
            call(*arguments)


@pytest.mark.parametrize("system", ["brats", "amd", "mri", "cyclegan", "volume"])
def test_a_stopped_prediction_is_continued_and_writes_what_one_process_writes(system, run_of, tmp_path, capsys):
    run, _ = run_of(system)
    words = ["data.eval_batch_size=3"] if system in ("amd", "mri") else []
    words += ["data.domain=both"] if system == "cyclegan" else []
    alone = predict_here(run, tmp_path / "alone", *words)
    stop_after(2, predict_here, run, tmp_path / "shared", *words, "job.shared=true")
    folder = tmp_path / "shared" / "predictions"
    assert not (folder / "predictions.csv").exists()
    assert count_done(folder) == 2
    capsys.readouterr()
    predict_here(run, tmp_path / "shared", *words, "job.shared=true")
    total = len((alone / "predictions.csv").read_text().splitlines())
    assert total > 3
    predicted, batches = map(int, re.search(r"this process: (\d+) of (\d+) batches", capsys.readouterr().out).groups())
    assert predicted == batches - 2  # the batch that was stopped is predicted again, and no other
    compare(folder, alone)


def test_a_stopped_evaluation_is_continued_and_writes_what_one_process_writes(run_of, tmp_path):
    run, _ = run_of("cyclegan")
    alone = evaluate_here(run, tmp_path / "alone")
    stop_after(4, evaluate_here, run, tmp_path / "shared", "job.shared=true")
    shared = evaluate_here(run, tmp_path / "shared", "job.shared=true")
    compare(shared, alone)
    assert not list(shared.glob(".sharing/**/*.npz"))  # features and pictures of subjects are not kept


def test_results_of_others_in_the_same_folder_are_not_continued(run_of, tmp_path, capsys):
    run, _ = run_of("amd")
    alone = predict_here(run, tmp_path / "alone")
    for between in (["data.predict_on=test"], ["job.shared=true", "data.predict_on=test"]):
        stop_after(1, predict_here, run, tmp_path / "shared", "job.shared=true", "data.eval_batch_size=2")
        predict_here(run, tmp_path / "shared", *between)
        capsys.readouterr()
        predict_here(run, tmp_path / "shared", "job.shared=true", "data.eval_batch_size=2")
        assert re.search(r"this process: (\d+) of \1 batches", capsys.readouterr().out)
        assert {path.name for path in (tmp_path / "shared/predictions/cases").glob("*")} == {
            path.name for path in (alone / "cases").glob("*")
        }


@pytest.mark.parametrize(
    ("system", "pattern"),
    [
        ("brats", "cases/*.json"),
        ("cyclegan", "*/*.nii.gz"),
        ("brats", "*.npz"),
        ("cyclegan", "*.npz"),
        ("volume", "*.zarr/**/c/**/[0-9]*"),
        ("volume", "*.zarr/labels/**/zarr.json"),
    ],
)
def test_files_that_were_removed_meanwhile_are_written_by_the_next_call(system, pattern, run_of, tmp_path):
    run, _ = run_of(system)
    alone = predict_here(run, tmp_path / "alone")
    stop_after(2, predict_here, run, tmp_path / "shared", "job.shared=true")
    folder = tmp_path / "shared" / "predictions"
    doomed = min(path for path in folder.glob(pattern) if path.is_file())  # of a batch that is done
    doomed.unlink()
    with pytest.raises(DataError, match=rf"{doomed.name} was removed .* start the same command again"):
        predict_here(run, tmp_path / "shared", "job.shared=true")
    predict_here(run, tmp_path / "shared", "job.shared=true")
    compare(folder, alone)
    doomed.unlink()  # between two calls
    predict_here(run, tmp_path / "shared", "job.shared=true")
    compare(folder, alone)


def test_a_prediction_that_is_not_shared_takes_the_trainers_options(run_of, tmp_path, record):
    run, _ = run_of("brats")
    predict_here(run, tmp_path, "+trainer.limit_predict_batches=1")
    assert len({row["patient"] for row in record.table(tmp_path / "predictions" / "predictions.csv")}) == 1


def test_mistakes_are_said_in_words(run_of, tmp_path):
    run, _ = run_of("brats")
    with pytest.raises(ConfigError, match=r"job\.lease=0 must be"):
        predict_here(run, tmp_path, "job.lease=0")
    with pytest.raises(ConfigError, match=r"volume\.job\.executor=submitit"):
        predict_here(run, tmp_path, "job.shared=true", "volume.input=a.zarr", "volume.output=b.zarr")
    with pytest.raises(ConfigError, match=r"explain\.after_predict=true"):
        predict_here(run, tmp_path, "job.shared=true", "explain.methods=[grad_cam]", "explain.after_predict=true")
    with pytest.raises(ConfigError, match=r"trainer\.limit_predict_batches"):
        predict_here(run, tmp_path, "job.shared=true", "+trainer.limit_predict_batches=2")
    with pytest.raises(ConfigError, match=r"nothing to predict"):
        predict_here(run, tmp_path, "job.shared=true", "data.predict_on=val", "data.fractions=[0.5,0,0.5]")


def start(repository, command, run, *words):
    line = [sys.executable, *command, f"run={run}", "job.shared=true", "job.lease=5", *words]
    return subprocess.Popen(line, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(2))
def test_processes_that_are_killed_are_replaced(repository, run_of, tmp_path, trial):
    """Two processes, one of which is killed at a random moment."""
    run, _ = run_of("brats")
    alone = tmp_path / "alone"
    predict(compose_saved("predict", run, *WORDS, f"paths.output_dir={alone}"))
    words = [*WORDS, f"paths.output_dir={tmp_path / 'shared'}"]
    running = [start(repository, ["predict.py"], run, *words) for _ in range(2)]
    folder = tmp_path / "shared" / "predictions"
    wanted, deadline = random.Random(trial).randint(1, 6), time.monotonic() + 300
    while count_done(folder) < wanted:
        assert time.monotonic() < deadline
        assert any(process.poll() is None for process in running)
        time.sleep(0.02)
    os.kill(running[trial].pid, signal.SIGKILL)
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running][1 - trial] == 0, outputs
    compare(folder, alone / "predictions")


@pytest.mark.slow
def test_jobs_of_submitit_share_a_prediction_and_an_evaluation(run_of, tmp_path, capsys):
    pytest.importorskip("submitit")
    jobs = ["job.executor=submitit", "job.num_parts=2", "job.submitit={cluster: local, timeout_min: 10}"]
    run, _ = run_of("cyclegan")
    predict(compose_saved("predict", run, *WORDS, f"paths.output_dir={tmp_path / 'alone'}"))
    compare(predict_here(run, tmp_path / "shared", *jobs), tmp_path / "alone" / "predictions")
    printed = capsys.readouterr().out
    assert "2 jobs (" in printed
    assert printed.endswith(f"output: {tmp_path / 'shared' / 'predictions'}\n")
    evaluate(compose_saved("evaluate", run, *QUICK, f"evaluate.folder={tmp_path / 'alone'}"))
    compare(evaluate_here(run, tmp_path / "shared", *jobs), tmp_path / "alone" / "evaluation_all")
    assert capsys.readouterr().out.endswith(f"output: {tmp_path / 'shared' / 'evaluation_all'}\n")
    record = json.loads((tmp_path / "shared" / "evaluation_all" / "evaluation.json").read_text())
    assert record["subjects"] == {"a": 3, "b": 3}
