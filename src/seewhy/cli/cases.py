"""`python -m seewhy cases run=<run folder>`: best, worst and other cases of a translating run, with their figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seewhy.cli.command import hydra_command
from seewhy.cli.saved_run import register_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["main"]


def _task(config: DictConfig) -> None:
    from seewhy.run.translation.cases import cases

    cases(config)


main = hydra_command(_task, "cases", before=register_run)

if __name__ == "__main__":
    main()
