"""The commands as a user types them, in processes of their own."""

import os
import resource
import signal
import subprocess
import sys
from argparse import Namespace

import pytest

from seewhy.cli.main import main

PROBE = """
import sys, runpy
sys.argv = {argv!r}
try:
    runpy.run_path({script!r}, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules, "torch was imported"
"""


def command(repository, *words):
    environment = {**os.environ, "PYTHONPATH": ""}
    environment.pop("HYDRA_FULL_ERROR", None)
    return subprocess.run(
        [sys.executable, *words], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("script", ["train.py", "predict.py", "explain.py"])
@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"]])
def test_help_and_config_leave_torch_alone(repository, script, words):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = command(repository, "-c", PROBE.format(argv=[script, *words], script=script))
    assert done.returncode == 0, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 10  # a hang, not a speed test


def test_module_help_lists_the_commands(repository):
    code = "import sys; sys.path.insert(0, 'src'); import seewhy.cli.main as m; m.main(['--help'])"
    done = command(repository, "-c", code)
    for name in ("train", "predict", "explain", "prepare", "check", "import"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["experiment=bratz"], "error: experiment='bratz' does not exist; nearest: 'brats'"),
        (["experiment=brats", "trainer.max_epoch=3"], "error: option 'trainer.max_epoch' does not exist; nearest: "),
        (["experiment=brats", "data.rot=x"], "error: option 'data.rot' does not exist; nearest: 'data.root'"),
        (["experiment=brats", "see=1"], "error: option 'see' does not exist; nearest: 'seed'"),
        (["experiment=brats", "seed=one"], "error: "),
        pytest.param([], "error: data is not chosen; choose an experiment", marks=pytest.mark.slow),
        pytest.param(["experiment=brats"], "data.root must be given", marks=pytest.mark.slow),
        (["experiment=brats", "logger=null"], "error: a group of options cannot be null; leave it out with ~logger"),
        (
            ["experiment=brats", "add=5"],
            "error: add=5: a group of options takes the name of a choice",
        ),
        (["experiment=brats", "data.root=/nowhere"], "/nowhere"),
        (["experiment=brats", "data.root=.", "+model.colour=red"], "model.colour"),
    ],
)
def test_a_mistake_gets_one_clear_message(run_command, tmp_path, words, expected):
    done = run_command("train.py", *words, f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_folder_that_cannot_be_made_gets_one_clear_message(run_command, tmp_path):
    (tmp_path / "file").write_text("")
    done = run_command("train.py", "experiment=demo/brats", f"hydra.run.dir={tmp_path}/file/run")
    assert done.returncode == 1
    assert f"{tmp_path}/file/run cannot be opened or written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("script", ["predict.py", "explain.py"])
def test_a_run_must_exist(run_command, script, tmp_path):
    assert "error: run=<run folder> must be given" in run_command(script).stderr
    done = run_command(script, f"run={tmp_path}")
    assert done.returncode == 1
    assert "holds no config.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_ends_other_commands_with_a_line(monkeypatch, capsys):
    options = Namespace(run=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr("argparse.ArgumentParser.parse_args", lambda *_: options)
    with pytest.raises(SystemExit) as end:
        main(["check", "x"])
    assert end.value.code == 143
    assert capsys.readouterr().err == "ended by SIGTERM; run the same command again\n"
