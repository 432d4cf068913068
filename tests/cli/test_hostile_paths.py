"""Commands that are given a pipe, a device, an empty folder or a file of something else: one line, nothing written."""

import os

import pytest

from seewhy.cli.main import main

COMMANDS = {
    "prepare brats": ("prepare", "brats", "IN", "OUT"),
    "prepare lasc": ("prepare", "lasc", "IN", "OUT"),
    "prepare domains": ("prepare", "domains", "IN", "OUT"),
    "check": ("check", "IN"),
    "pool": ("pool", "IN"),
    "import afa": ("import", "afa", "IN", "OUT"),
    "import cyclegan": ("import", "cyclegan", "IN", "OUT"),
    "blend": ("blend", "IN", "OUT"),
    "finalize": ("finalize", "IN", "OUT"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["pipe", "device", "empty", "text", "missing"])
def test_one_line_and_nothing_written(tmp_path, capsys, command, kind):
    path, out = tmp_path / "in.pth", tmp_path / "out"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "empty":
        path.mkdir()
    elif kind == "text":
        path.write_text("not what was asked for")
    before = sorted(tmp_path.iterdir())
    words = [str({"IN": path, "OUT": out}.get(word, word)) for word in COMMANDS[command]]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 1
    shown = capsys.readouterr()
    assert "in.pth" in (shown.err + shown.out).replace("\n", "")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", ["prepare brats", "check", "pool", "import afa", "blend", "finalize"])
@pytest.mark.parametrize("kind", ["long name", "long path", "loop of links", "below a file"])
def test_paths_that_cannot_exist(tmp_path, capsys, command, kind):
    paths = {"long name": "a" * 5000, "long path": "a/" * 2500 + "x.pth", "loop of links": "loop.pth"}
    path, out = tmp_path / paths.get(kind, "file/x.pth"), tmp_path / "out"
    (tmp_path / "file").write_text("")
    (tmp_path / "loop.pth").symlink_to("loop.pth")
    with pytest.raises(SystemExit) as end:
        main([str({"IN": path, "OUT": out}.get(word, word)) for word in COMMANDS[command]])
    assert end.value.code == 1
    assert str(tmp_path)[:40] in "".join(capsys.readouterr()).replace("\n", "")
    assert not out.exists()
