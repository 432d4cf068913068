"""Hydra's entry point with the errors a user can cause in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from seewhy.cli.conf import expand_overrides, store_schemas
from seewhy.run.configs import conf_dir

__all__ = ["hydra_command"]


def hydra_command(
    task: Callable[[Any], Any], config_name: str, *, before: Callable[[list[str]], list[str]] | None = None
) -> Callable[[], None]:
    """Make a Hydra command whose user errors are one line on stderr and exit status 1.

    Args:
        task: takes the composed configuration.
        config_name: file in the config folder.
        before: called with the command line before Hydra composes, e.g. to register a run's configuration; gives
            the command line for Hydra.
    """

    def main() -> None:
        import hydra
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        from seewhy.errors import SeewhyError

        # Exceptions reach us instead of being printed by Hydra; what the user wished goes on to processes we start.
        full = os.environ.setdefault("SEEWHY_TRACEBACK", os.environ.get("HYDRA_FULL_ERROR", "0")) == "1"
        os.environ["HYDRA_FULL_ERROR"] = "1"
        store_schemas()
        errors: list[Exception] = []
        try:
            sys.argv[1:] = expand_overrides(sys.argv[1:] if before is None else before(sys.argv[1:]))
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(_held(task, errors))()
            if errors:
                raise errors[0]
        except SeewhyError as error:
            _fail(str(error), error, full)
        except (HydraException, OmegaConfBaseException) as error:
            from seewhy.cli.hydra_errors import explain

            _fail(explain(error, config_name), error, full)
        except ValueError as error:
            if "Config group override must be" not in str(error):
                raise
            words = [word.split("=")[0] for word in sys.argv[1:] if word.endswith("=null")]
            _fail(
                f"a group of options cannot be null; leave it out with {' '.join('~' + w for w in words)}", error, full
            )

    return main


def _held(task: Callable[[Any], Any], errors: list[Exception]) -> Callable[[Any], Any]:
    """The task with a user error of a single run put aside, since Hydra would print lines of its own around it."""

    def guarded(config: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from seewhy.errors import SeewhyError

        try:
            return task(config)
        except SeewhyError as error:
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                raise SeewhyError(f"sweep member {HydraConfig.get().runtime.output_dir}: {error}") from error
            errors.append(error)
            return None

    return guarded


def _fail(message: str, error: Exception, full: bool) -> None:
    """Print one message and exit; with HYDRA_FULL_ERROR=1 set by the user, show the traceback instead."""
    if full:
        raise error
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(1) from None
