"""Commands that Hydra configures: train, predict, explain, evaluate and cases."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from seewhy.cli.compose import (
    check_train_log,
    expand_overrides,
    expand_runs,
    register_run,
    split_override,
    store_schemas,
)
from seewhy.errors import ConfigError, SeewhyError, describe_system_error
from seewhy.run.folder import conf_dir
from seewhy.run.processes.environment import read_rank
from seewhy.run.processes.messages import describe_lost_process, print_error, share_messages
from seewhy.termination import Terminated, end_on_sigterm

__all__ = ["TASKS", "explain", "predict", "run_hydra_command", "run_script", "train"]

TASKS = {
    "train": ("seewhy.run.sweeps.members", "run_member"),
    "predict": ("seewhy.run.predict", "predict"),
    "explain": ("seewhy.run.explanations.explain", "explain"),
    "export": ("seewhy.run.exports.export", "export"),
    "evaluate": ("seewhy.run.translation.evaluate", "evaluate"),
    "cases": ("seewhy.run.translation.cases", "cases"),
}
"""Command → module and name of the function that takes its configuration; imported only when it runs."""


def run_hydra_command(name: str, *, prefix: Sequence[str] = ()) -> None:
    """Compose the configuration of a command from `sys.argv` and run it.

    Errors that a user can fix are printed as one line on stderr, with exit status 1. With `HYDRA_FULL_ERROR=1` set by
    the user the traceback is shown instead.

    Args:
        name: one of `TASKS`; also the name of its root configuration.
        prefix: words between the program and the overrides, e.g. `["train"]` in `seewhy train seed=1`. Hydra must not
            see them, but the processes that Lightning starts repeat the whole command line.
    """
    if {"--help", "-h"} & set(sys.argv[1 + len(prefix) :]):
        from seewhy.cli.help import format_help, name_program

        sys.stdout.write(format_help(name, name_program(prefix)))
        return
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from seewhy.run.processes.new_folder import RefusedFolder

    # Makes Hydra raise exceptions instead of printing them; processes that we start inherit the user's own choice.
    full = os.environ.setdefault("SEEWHY_TRACEBACK", os.environ.get("HYDRA_FULL_ERROR", "0")) == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    store_schemas()
    share_messages()
    task = _Task(name, prefix)
    try:
        words = _correct_flags(sys.argv[1 + len(prefix) :])
        if name == "train":
            check_train_log(words)
        elif name == "evaluate":
            words = expand_runs(words)
        sys.argv[1:] = expand_overrides(words if name == "train" else register_run(words))
        with end_on_sigterm():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(task.guarded())()
        if task.error is not None:
            raise task.error
    except Terminated as end:
        if read_rank() == 0:
            sys.stderr.write(f"ended by SIGTERM; {end.advice}\n")
        raise
    except RefusedFolder as end:
        _exit(str(end.error), end.error, full)
    except SeewhyError as error:
        _exit(str(error), error, full)
    except (HydraException, OmegaConfBaseException) as error:
        from seewhy.cli.hydra_errors import describe_error

        _exit(describe_error(error, name), error, full)
    except (OSError, MemoryError) as error:
        message = describe_system_error(error, any_code=not task.started)  # before, Hydra makes its folder
        if message is None:
            raise
        _exit(message, error, full)
    except ValueError as error:
        # Hydra's own check that a choice of a group is a text or a list; errors of the task itself are not meant.
        if task.started:
            raise
        if groups := _groups_set_to_null(sys.argv[1:]):
            words = [f"~{group}" for group in groups]
            _exit(f"a group of options cannot be null; leave it out with {' '.join(words)}", error, full)
        if not (wrong := _groups_without_name(sys.argv[1:])):
            raise
        _exit(f"{wrong[0]}: a group of options takes the name of a choice, or a list of names", error, full)


train = partial(run_hydra_command, "train")
predict = partial(run_hydra_command, "predict")
explain = partial(run_hydra_command, "explain")


def run_script(name: str) -> None:
    """Run a command from `train.py`, `predict.py` or `explain.py` of a checkout.

    The first entry of `sys.path` is the checkout's `src/`; the processes that Lightning starts find it by PYTHONPATH.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [sys.path[0], os.environ.get("PYTHONPATH", "")]))
    run_hydra_command(name)


class _Task:
    """Calls the function of a command.

    Attributes:
        started: whether composing has succeeded.
        error: a user error of a single run. It is raised after Hydra has returned, because Hydra would print lines
            of its own around it.
    """

    def __init__(self, name: str, prefix: Sequence[str]) -> None:
        self.name, self.prefix = name, list(prefix)
        self.started = False
        self.error: SeewhyError | None = None

    def guarded(self) -> Callable[[Any], Any]:
        """The function that Hydra calls; a plain function, since Hydra looks at its module and name."""

        def task(config: Any) -> Any:
            from hydra.core.hydra_config import HydraConfig
            from hydra.types import RunMode
            from hydra.utils import get_method

            self.started = True
            overrides = sys.argv[1:]
            sys.argv[1:] = [*self.prefix, *overrides]
            module, function = TASKS[self.name]
            try:
                return get_method(f"{module}.{function}")(config)
            except (SeewhyError, RuntimeError) as failure:
                error = failure if isinstance(failure, SeewhyError) else _describe_outer_cause(failure)
                if error is None:
                    raise
                if HydraConfig.get().mode is RunMode.MULTIRUN:
                    raise SeewhyError(f"sweep member {HydraConfig.get().runtime.output_dir}: {error}") from error
                self.error = error
                return None
            finally:
                sys.argv[1:] = overrides

        return task


FLAGS = {"config-path", "config-name", "config-dir", "cfg", "package", "info", "experimental-rerun"}
"""Flags of Hydra that take a value."""
TAKES_VALUE = (*(f"--{name}" for name in sorted(FLAGS)), "-cp", "-cn", "-cd", "-c", "-p", "-i")


def _correct_flags(words: Sequence[str]) -> list[str]:
    """Refuse options that are written as flags, and let Hydra resolve its own configuration where that is asked for.

    Raises:
        ConfigError: all words like `--seed=1`, as `wandb agent` writes them.
    """
    wrong = [word for word in words if word.startswith("--") and "=" in word]
    wrong = [word for word in wrong if word[2:].partition("=")[0] not in FLAGS]
    if wrong:
        right = " ".join(word.lstrip("-") for word in wrong)
        raise ConfigError(
            f"options are written without --: {right} (in a W&B sweep, `command` must use ${{args_no_hyphens}})"
        )
    text = " ".join(words)
    if "--resolve" in words and ("--cfg hydra" in text or "--cfg=hydra" in text or "-c hydra" in text):
        # Hydra cuts its node out before it resolves it, and then finds none of the other options.
        kept = [word for word in words if word not in ("--cfg", "-c", "hydra", "--cfg=hydra")]
        words = [*kept, "--cfg", "all", "--package", "hydra"]
    return _put_overrides_first(words)


def _put_overrides_first(words: Sequence[str]) -> list[str]:
    """Put overrides before flags: Hydra's parser refuses `experiment=amd --multirun seed=0,1`."""
    overrides: list[str] = []
    flags: list[str] = []
    for number, word in enumerate(words):
        after_flag = number > 0 and words[number - 1] in TAKES_VALUE
        (flags if word.startswith("-") or after_flag else overrides).append(word)
    return [*overrides, *flags]


def _groups_set_to_null(words: Sequence[str]) -> list[str]:
    """Config groups that overrides set to null, e.g. `logger=null`; those of `--config-dir` included."""
    overrides = [override for override in map(split_override, words) if override is not None]
    return [key for _, key, value in overrides if value.strip() == "null" and "." not in key]


def _groups_without_name(words: Sequence[str]) -> list[str]:
    """Overrides that give a config group a number or a truth value."""
    overrides = [override for override in map(split_override, words) if override is not None]
    plain = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?|true|false|nan|[+-]?inf", re.IGNORECASE)
    return [f"{key}={v}" for _, key, v in overrides if plain.fullmatch(v.strip()) and (conf_dir() / key).is_dir()]


def _describe_outer_cause(error: RuntimeError) -> SeewhyError | None:
    """Return one message for a lost connection to a process that has ended, or for another reason outside seewhy."""
    from hydra.core.hydra_config import HydraConfig

    message = describe_system_error(error)
    if message is not None:
        return SeewhyError(message)
    if not re.search(r"gloo|nccl|ProcessGroup", str(error), re.IGNORECASE):
        return None
    return SeewhyError(describe_lost_process(HydraConfig.get().runtime.output_dir))


def _exit(message: str, error: Exception, full: bool) -> None:
    """Print one message and exit with status 1, or raise the error where the user asked for tracebacks."""
    if full:
        raise error
    print_error(message)
    raise SystemExit(1) from None
