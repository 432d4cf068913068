import hashlib
import json
import os
import signal

import pytest

from seewhy.errors import describe_system_error
from seewhy.io.atomic import (
    TEMPORARY_PREFIX,
    atomic_folder,
    atomic_path,
    create_json,
    file_sha256,
    list_files,
    temporary_folder,
    write_csv,
    write_json,
)


def test_file_appears_whole_and_keeps_its_ending(tmp_path):
    final = tmp_path / "new" / "scan.nii.gz"
    with atomic_path(final) as temporary:
        assert temporary.parent == final.parent
        assert temporary.name.endswith("scan.nii.gz")
        assert temporary.name.startswith(TEMPORARY_PREFIX)
        temporary.write_text("whole")
        assert not final.exists()
    assert final.read_text() == "whole"
    assert list(final.parent.iterdir()) == [final]


def test_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    final = tmp_path / "results.json"
    final.write_text("old")

    def fail():
        with atomic_path(final) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        fail()
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_two_writers_do_not_meet(tmp_path):
    final = tmp_path / "a.txt"
    with atomic_path(final) as first, atomic_path(final) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert final.read_text() == "1"  # the outer block ends last


def test_folder_appears_whole_or_not_at_all(tmp_path):
    final = tmp_path / "set"

    def fail():
        with atomic_folder(final) as temporary:
            (temporary / "x").write_text("1")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(final) as temporary:
        (temporary / "x").write_text("1")
        assert not final.exists()
    assert (final / "x").read_text() == "1"


def test_folder_does_not_replace_a_filled_one(tmp_path):
    final = tmp_path / "set"
    final.mkdir()
    (final / "theirs").write_text("kept")
    with pytest.raises(OSError), atomic_folder(final) as temporary:
        (temporary / "ours").write_text("1")
    assert [path.name for path in final.iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [final]


def test_json_refuses_nan_before_touching_the_file(tmp_path):
    path = write_json(tmp_path / "a.json", {"b": [1, 2.5, None]})
    assert json.loads(path.read_text()) == {"b": [1, 2.5, None]}
    with pytest.raises(ValueError):
        write_json(path, {"b": float("nan")})
    assert json.loads(path.read_text()) == {"b": [1, 2.5, None]}


def test_csv(tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"y": 2, "x": "a,b"}], columns=("x", "y"))
    assert path.read_text() == 'x,y\n"a,b",2\n'
    with pytest.raises(ValueError, match="z"):
        write_csv(path, [{"x": 1, "y": 2, "z": 3}], columns=("x", "y"))
    assert path.read_text() == 'x,y\n"a,b",2\n'
    rows = [{"x": 1}, {"y": "b\r", "x": None}]
    assert write_csv(path, iter(rows)).read_bytes() == b'x,y\n1,\n"","b\r"\n'
    assert write_csv(path, rows, columns=("y", "x")).read_bytes() == b'y,x\n,1\n"b\r",""\n'


def test_digest_is_that_of_the_content_and_not_of_the_name(tmp_path):
    content = bytes(range(256)) * 10_000
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(content)
        assert file_sha256(tmp_path / name) == hashlib.sha256(content).hexdigest()
    (tmp_path / "b").write_bytes(content[:-1])
    assert file_sha256(str(tmp_path / "b")) != file_sha256(tmp_path / "a")


def kill_inside(block):
    """Enter a block in a process that is then killed."""
    child = os.fork()
    if child == 0:
        with block as path:
            (path / "half" if path.is_dir() else path).write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_what_a_killed_process_left_is_removed_by_the_next_writer(tmp_path):
    for block, name in ((atomic_folder, "set"), (atomic_path, "last.ckpt")):
        kill_inside(block(tmp_path / name))
        assert [path.name[-len(name) :] for path in tmp_path.iterdir()] == [name]  # the second removed the first
    with atomic_path(tmp_path / "running") as other:
        other.write_text("1")
        child = os.fork()
        if child == 0:
            with atomic_path(tmp_path / "last.ckpt") as temporary:
                temporary.write_text("whole")
            os._exit(0)
        os.waitpid(child, 0)
        assert list(tmp_path.glob(f"{TEMPORARY_PREFIX}*")) == [other]  # of a process that runs
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "running"}


def test_what_another_machine_left_is_removed_after_a_week(tmp_path):
    old, new = (tmp_path / f"{TEMPORARY_PREFIX}00000000-{number}-abcd1234-last.ckpt" for number in (1, 2))
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    with atomic_path(tmp_path / "last.ckpt") as temporary:
        temporary.touch()
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", new.name}


def test_the_temporary_folder_of_a_killed_process_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    child = os.fork()
    if child == 0:
        (temporary_folder() / "unpacked").write_text("1")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    [left] = tmp_path.iterdir()
    folder = temporary_folder()
    assert list(tmp_path.iterdir()) == [folder] != [left]


def test_files_that_were_being_written_are_not_listed(tmp_path):
    for name in ("b.png", "a.png", "below/c.png", ".tmp-0a1b2c3d-7-d.png", "below/.tmp-0a1b2c3d-7-e/f.png", "g.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_files(tmp_path, "*.png")] == ["a.png", "b.png"]
    assert [path.name for path in list_files(tmp_path, "**/*.png")] == ["a.png", "b.png", "c.png"]
    assert list_files(tmp_path / "missing", "*") == []


def test_a_folder_below_a_hidden_one_is_listed(tmp_path):
    (tmp_path / ".runs").mkdir()
    (tmp_path / ".runs" / "a.png").touch()
    assert [path.name for path in list_files(tmp_path / ".runs", "*.png")] == ["a.png"]


def test_a_process_killed_while_it_creates_a_json_file_leaves_nothing_for_the_next(tmp_path, monkeypatch):
    child = os.fork()
    if child == 0:
        os.link = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
        create_json(tmp_path / "run.json", {"a": 1})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    assert create_json(tmp_path / "run.json", {"a": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert not create_json(tmp_path / "run.json", {"a": 3})
    assert json.loads((tmp_path / "run.json").read_text()) == {"a": 2}


def test_a_file_that_cannot_be_replaced_is_named_and_not_its_temporary_name(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError, match=r"a\.json") as caught:
        write_json(tmp_path / "a.json", {})
    assert describe_system_error(caught.value) == f"{tmp_path / 'a.json'} cannot be opened or written: Is a directory"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
