"""Tasks that processes share: each is done once, in order of its needs, whatever happens to its process."""

import multiprocessing
import os
import signal
import time

import pytest

from seewhy.sharing.notes import Notes, list_differences
from seewhy.sharing.tasks import SharedTasks, Task
from seewhy.sharing.workers import Workers

CONTEXT = multiprocessing.get_context("fork")
PYRAMID = [Task("top", frozenset({"left", "right"})), *(Task(f"leaf-{i}") for i in range(20))]
PYRAMID += [
    Task(side, frozenset(f"leaf-{i}" for i in range(begin, 20, 2))) for begin, side in ((0, "left"), (1, "right"))
]


def work(folder, pause, results=None, start=None):
    if start is not None:
        start.wait()  # else the first process may have done everything before the last one is there
    workers, mine = Workers(folder, lease=5.0), []
    with workers.present():
        tasks = SharedTasks(folder, workers, kind="sums")
        for task in tasks.each(PYRAMID):
            assert all((folder / f"{key}.done").exists() for key in task.needs)
            time.sleep(pause)
            (folder / f"{task.key}.done").touch()
            mine.append(task.key)
        tasks.close()
    if results is not None:
        results.put(mine)
    return mine


def test_processes_share_the_tasks_and_none_is_done_twice(tmp_path):
    results = CONTEXT.Queue()
    start = CONTEXT.Barrier(3)
    processes = [CONTEXT.Process(target=work, args=(tmp_path, 0.02, results, start)) for _ in range(3)]
    for process in processes:
        process.start()
    done = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(key for keys in done for key in keys) == sorted(task.key for task in PYRAMID)
    assert all(done)
    assert work(tmp_path, 0.0) == []  # a later process finds the notes


def test_tasks_of_a_killed_process_are_done_by_another(tmp_path):
    process = CONTEXT.Process(target=work, args=(tmp_path, 0.1))
    process.start()
    while len(list(tmp_path.glob("*.done"))) < 3:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    before = {path.stem for path in tmp_path.glob("*.done")}
    mine = work(tmp_path, 0.0)
    assert len(mine) == len(set(mine))
    assert len(PYRAMID) - len(before) <= len(mine) <= len(PYRAMID) - len(before) + 1
    assert before | set(mine) == {task.key for task in PYRAMID}


def test_a_task_that_failed_here_is_tried_again_and_other_lines_are_skipped(tmp_path):
    workers = Workers(tmp_path)
    with workers.present():
        tasks = SharedTasks(tmp_path, workers, kind="sums")
        assert next(tasks.each([Task("a")])).key == "a"  # claimed, and never completed
        assert tasks.done == {}
        (tmp_path / "sums-0077.jsonl").write_bytes(b'\xff{\n["b", {"n": 1}]\n[5]\n["c"')
        assert [task.key for task in tasks.each([Task("a"), Task("b"), Task("c")])] == ["a", "c"]
        assert tasks.done == {"a": None, "b": {"n": 1}, "c": None}


def test_lines_are_read_once_and_differences_named(tmp_path):
    with Notes(tmp_path, "done") as notes:
        notes.open("0001")
        notes.append([1, 2])
        reader = Notes(tmp_path, "done")
        assert [line for line, _ in reader.read_new_lines()] == [b"[1, 2]"]
        assert list(reader.read_new_lines()) == []
        notes.append("x")
        [(line, where)] = reader.read_new_lines()
        assert (line, where) == (b'"x"', f"{tmp_path / 'done-0001.jsonl'}, line 1 after byte 7")
    with pytest.raises(ValueError, match="call open"):
        notes.append("y")
    assert list_differences({"a": {"b": 1}}, {"a": {"b": 1}}) == []
