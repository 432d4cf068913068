"""Locks and signs of life of the processes of a sweep."""

import os
import signal
import time

import pytest

from seewhy.run.sweeps import workers
from seewhy.run.sweeps.workers import FileLock, Worker, is_locked


@pytest.fixture
def other(tmp_path):
    """Another process: `other(action)` runs it there and holds until it is killed; gives its number."""
    children = []

    def start(action):
        child = os.fork()
        if child == 0:
            try:
                with action():
                    (tmp_path / "ready").touch()
                    time.sleep(60)
            finally:
                os._exit(0)
        children.append(child)
        deadline = time.monotonic() + 20
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return child

    yield start
    for child in children:
        kill(child)


def kill(child):
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_a_lock_ends_with_its_process(tmp_path, other):
    path = tmp_path / "x.lock"
    assert is_locked(path) is False
    child = other(lambda: FileLock(path))
    assert is_locked(path) is True
    kill(child)
    assert is_locked(path) is False


def test_a_killed_worker_is_dead_and_a_living_one_is_not(tmp_path, other):
    here, there = Worker(tmp_path / "w"), Worker(tmp_path / "w")
    child = other(there.alive)
    with here.alive():
        assert [here.is_dead(name) for name in (here.name, there.name, None, "never")] == [False, False, True, True]
        kill(child)
        assert here.is_dead(there.name)
        assert not here.is_dead(here.name)
    assert [path.name for path in (tmp_path / "w").iterdir()] == [there.name]


def test_a_worker_of_another_machine_is_dead_after_some_time_without_sign(tmp_path, monkeypatch):
    """Its lock cannot be seen from here on every file system."""
    here = Worker(tmp_path)
    path = tmp_path / "there"
    path.write_text('{"host": "another", "pid": 1}')
    assert not here.is_dead("there")
    old = time.time() - workers.LOST - 60
    os.utime(path, (old, old))
    assert here.is_dead("there")
    monkeypatch.setattr(workers, "is_locked", lambda path: None)  # a file system without locks
    assert here.is_dead("there")
    os.utime(path)
    assert not here.is_dead("there")
