"""`python explain.py run=<run folder>`: the maps of a trained run, again or on other data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seewhy.cli.command import hydra_command
from seewhy.cli.saved_run import register_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["main"]


def _task(config: DictConfig) -> None:
    from seewhy.run.explain import explain

    explain(config)


main = hydra_command(_task, "explain", before=register_run)

if __name__ == "__main__":
    main()
