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
