"""One message for all processes of a run, and ends of processes that wait for others."""

import os
import subprocess
import sys
import time

import pytest

from seewhy.run.processes import launcher as launching
from seewhy.run.processes.launcher import WatchedLauncher
from seewhy.run.processes.messages import describe_lost_process, print_error, share_messages


@pytest.fixture(autouse=True)
def shared(monkeypatch, tmp_path):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "TORCHELASTIC_RUN_ID", "SEEWHY_FIRST_ERROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("atexit.register", lambda *_: None)
    monkeypatch.setenv("SEEWHY_FIRST_ERROR", "that of an earlier run")


def test_the_first_process_speaks_for_all(capsys, monkeypatch):
    share_messages()
    monkeypatch.setenv("LOCAL_RANK", "1")
    share_messages()  # as in a process that the first one has started
    print_error("no file")
    monkeypatch.setenv("LOCAL_RANK", "0")
    print_error("another process has ended")
    assert capsys.readouterr().err == "error: process 1: no file\n"


def test_every_run_has_its_own_message(capsys):
    for _ in range(2):
        share_messages()
        print_error("no file")
    assert capsys.readouterr().err == "error: no file\n" * 2


def test_processes_of_torchrun_agree(capsys, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a/b")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        share_messages()
        print_error("no file")
    assert capsys.readouterr().err == "error: no file\n"


def test_the_message_tells_how_to_continue(tmp_path):
    assert "run the same command again" in describe_lost_process(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert f"ckpt_path=last hydra.run.dir={tmp_path}" in describe_lost_process(tmp_path)


WAITS = """
import subprocess, sys, threading, time
from seewhy.run.processes import launcher
launcher.PERIOD, launcher.GRACE = 0.05, 0.3
codes = ("raise SystemExit(3)", "import time; time.sleep(60)")
procs = [subprocess.Popen([sys.executable, "-c", code]) for code in codes]
print(procs[1].pid, flush=True)
launcher._watch(lambda: launcher._find_failed(procs), lambda: launcher._kill(procs), ".")
time.sleep(60)  # as in a collective that waits for the process that has ended
"""


def test_a_process_that_waits_for_a_dead_one_is_ended_with_one_message(tmp_path):
    done = subprocess.run([sys.executable, "-c", WAITS], cwd=tmp_path, capture_output=True, text=True, timeout=55)
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
    assert "another process of this run has ended" in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_children_end_with_the_first_process(monkeypatch):
    monkeypatch.setattr(launching, "GRACE", 0.2)
    launcher = WatchedLauncher.__new__(WatchedLauncher)
    launcher.procs = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])]
    start = time.monotonic()
    launcher._end_children()
    assert time.monotonic() - start < 10
    assert launcher.procs[0].returncode == -9
