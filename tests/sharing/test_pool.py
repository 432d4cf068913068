"""A function of many items in several processes: results in order, and no process that outlives the iteration."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seewhy.errors import ConfigError, DataError
from seewhy.sharing.pool import map_in_processes


def test_results_are_in_order_from_all_processes_and_functions_need_no_pickle():
    results = list(map_in_processes(lambda n: (n, os.getpid(), time.sleep(0.02)), range(30), "waiting", jobs=3))
    assert [n for n, *_ in results] == list(range(30))
    assert len({pid for _, pid, _ in results}) > 1
    assert os.getpid() not in {pid for _, pid, _ in results}
    assert list(map_in_processes(abs, [], "nothing", jobs=4)) == []
    assert list(map_in_processes(lambda _: os.getpid(), [1], "one", jobs=4)) == [os.getpid()]
    with pytest.raises(ConfigError, match="jobs=0"):
        map_in_processes(abs, [1], "none", jobs=0)


def refuse(number):
    if number == 3:
        raise DataError(["a is empty", "b is cut off"], where="folder")
    return number


def test_an_error_keeps_its_problems_and_ends_all_processes():
    with pytest.raises(DataError, match="folder: 2 problems") as refusal:
        list(map_in_processes(refuse, range(50), "refusing", jobs=2))
    assert refusal.value.problems == ["a is empty", "b is cut off"]
    assert multiprocessing.active_children() == []


def test_an_iteration_that_is_given_up_leaves_no_process():
    iteration = map_in_processes(lambda n: time.sleep(n and 60), range(4), "sleeping", jobs=2)
    next(iteration)
    began = time.monotonic()
    iteration.close()
    assert time.monotonic() - began < 10
    assert multiprocessing.active_children() == []


def test_a_killed_process_is_named():
    with pytest.raises(ConfigError, match="one of 2 processes was killed"):
        list(
            map_in_processes(lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == 2 else n, range(4), "dying", jobs=2)
        )


CODE = """
import os, sys, time
from seewhy.sharing.pool import map_in_processes
from seewhy.termination import end_on_sigterm

def sleep(number):
    open(f"{number}.pid", "w").write(str(os.getpid()))
    time.sleep(60)

with end_on_sigterm():
    list(map_in_processes(sleep, range(4), "sleeping", jobs=2))
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_their_parent(tmp_path, end):
    process = subprocess.Popen([sys.executable, "-c", CODE], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len(pids := [path.read_text() for path in tmp_path.glob("*.pid")]) < 2 or not all(pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(end)
    assert process.wait(20) == (143 if end == signal.SIGTERM else -signal.SIGKILL)
    while any(
        Path(f"/proc/{pid}/status").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text() for pid in pids
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
