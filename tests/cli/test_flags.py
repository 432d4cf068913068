"""Words of a command line that Hydra would answer with its usage."""

import pytest

from seewhy.cli.hydra_commands import _correct_flags
from seewhy.errors import ConfigError


def test_options_written_as_flags_name_the_right_words():
    """`wandb agent` writes options like this."""
    with pytest.raises(ConfigError, match=r"seed=1 model\.optimizer\.lr=0\.1 .*args_no_hyphens"):
        _correct_flags(["--seed=1", "experiment=amd", "--model.optimizer.lr=0.1"])


@pytest.mark.parametrize("words", [["seed=1", "--config-dir=mine", "-m"], ["--cfg", "job", "--resolve"], ["--help"]])
def test_flags_of_hydra_are_kept(words):
    assert _correct_flags(words) == words


@pytest.mark.parametrize("words", [["--cfg", "hydra"], ["--cfg=hydra"], ["-c", "hydra"]])
def test_the_configuration_of_hydra_is_resolved_within_that_of_the_job(words):
    assert _correct_flags(["seed=1", *words, "--resolve"]) == [
        "seed=1", "--resolve", "--cfg", "all", "--package", "hydra",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a=1", "--multirun", "b=1,2", "~c"], ["a=1", "b=1,2", "~c", "--multirun"]),
        (["--config-dir", "x=y", "a=1"], ["a=1", "--config-dir", "x=y"]),
        (["-c", "job", "a=1", "--resolve"], ["a=1", "-c", "job", "--resolve"]),
    ],
)
def test_overrides_may_stand_after_flags(words, expected):
    assert _correct_flags(words) == expected
