"""Words of a command line that Hydra would answer with its usage."""

import pytest

from seewhy.cli.hydra_commands import _correct_flags
from seewhy.errors import ConfigError


def test_options_written_as_flags_name_the_right_words():
    """`wandb agent` writes options like this."""
    with pytest.raises(ConfigError, match=r"seed=1 model\.optimizer\.lr=0\.1 .*args_no_hyphens"):
        _correct_flags(["--seed=1", "experiment=amd", "--model.optimizer.lr=0.1"])


@pytest.mark.parametrize("words", [["--config-dir=mine", "-m", "seed=1"], ["--cfg", "job", "--resolve"], ["--help"]])
def test_flags_of_hydra_are_kept(words):
    assert _correct_flags(words) == words


@pytest.mark.parametrize("words", [["--cfg", "hydra"], ["--cfg=hydra"], ["-c", "hydra"]])
def test_the_configuration_of_hydra_is_resolved_within_that_of_the_job(words):
    assert _correct_flags(["seed=1", *words, "--resolve"]) == [
        "seed=1", "--resolve", "--cfg", "all", "--package", "hydra",
    ]  # fmt: skip
