"""Messages about wrong overrides, and the texts of Hydra and OmegaConf that they are read from."""

import re
import shlex

import pytest
from hydra import compose, initialize_config_dir

from seewhy.cli.compose import compose_train, store_schemas
from seewhy.cli.hydra_errors import describe_error, quote_override
from seewhy.run.folder import conf_dir


def error_of(*overrides):
    with pytest.raises(Exception) as caught:
        compose_train(*overrides)
    return caught.value


@pytest.mark.parametrize(
    ("overrides", "text", "facts"),
    [
        (["experiment=bratz"], "", ["experiment='bratz'", "'brats'"]),
        (
            ["trainer.max_epoch=3"],
            "Could not override 'trainer.max_epoch'",
            ["max_epoch'", "trainer.max_epochs"],
        ),
        (["~trainer.max_epoch"], "Could not delete from config. 'trainer.max_epoch'", ["'trainer.max_epoch'"]),
        (["+seed=1"], "Could not append to config. An item is already at 'seed'", ["'seed'"]),
        (["add={a: 1}"], "Could not override 'add'", ["add takes the name of a choice", "early_stopping"]),
        (["see=1"], "Could not override 'see'", ["'see'", "'seed'"]),
        (["see=1"], "Key 'see' not in 'TrainConfig'", ["'see'", "'seed'"]),
        (["experiment=brats", "data.rot=1"], "Key 'rot' is not in struct\n    full_key: data.rot", ["'data.root'"]),
    ],
)
def test_texts_of_hydra_are_as_expected(monkeypatch, overrides, text, facts):
    monkeypatch.setattr("sys.argv", ["train.py", *overrides])
    error = error_of(*overrides)
    assert text in f"{error} {error.__cause__}"
    message = describe_error(error, "train")
    assert "\n" not in message
    for fact in facts:
        assert fact in message


def test_a_mandatory_value_is_named():
    config = compose_train("experiment=brats")
    with pytest.raises(Exception, match=r"Missing mandatory value: data\.root") as caught:
        _ = config.data.root
    assert "data.root=…" in describe_error(caught.value, "train")


def test_a_group_without_a_choice_is_named(tmp_path):
    (tmp_path / "root.yaml").write_text("defaults:\n  - colour: ???\n")
    (tmp_path / "colour").mkdir()
    (tmp_path / "colour" / "red.yaml").write_text("name: red\n")
    with (
        initialize_config_dir(version_base="1.3", config_dir=str(tmp_path)),
        pytest.raises(Exception, match="You must specify 'colour'") as caught,
    ):
        compose("root")
    assert "colour=…" in describe_error(caught.value, "train")


@pytest.mark.parametrize("override", ["logger=null", "trainer=3"])
def test_a_group_takes_texts_only(override):
    """`run_hydra_command` expects this type of error before the task has started, whatever its text."""
    store_schemas()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())), pytest.raises(ValueError):
        compose("train", overrides=[override])


PATHS = [
    "/tmp/Schädel/scan.nii.gz", "/tmp/Scan (1).nii.gz", "/tmp/a=b.nii.gz", "/tmp/left, right.nii.gz",
    "/tmp/[old] scan.nii.gz", "/tmp/it's.nii.gz", "/tmp/{a}.nii.gz", 'C:\\My Scans (1)\\"x"\\', "/tmp/`$HOME`!.nii",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_the_quoting_of_a_message_works_in_the_shell_and_in_hydra(path):
    word = f"weights={path}"
    message = describe_error(error_of(word), "train")
    assert path in message
    assert "\n" not in message
    (quoted,) = shlex.split(re.search(r"quote it twice: (.*) \(a list is", message)[1])
    assert compose_train(quoted).weights == path


def test_quoted_run_folders_are_found(tmp_path):
    from seewhy.cli.compose import register_run
    from seewhy.errors import ConfigError

    folder = tmp_path / "it's (1)"
    (word,) = shlex.split(quote_override("", "run", str(folder)))
    with pytest.raises(ConfigError, match=re.escape(f"run={folder} holds no config.yaml")):
        register_run([word])
