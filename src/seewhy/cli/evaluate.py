"""`python -m seewhy evaluate run=<run folder>`: a finished translation judged beside floors and simple methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seewhy.cli.command import hydra_command
from seewhy.cli.saved_run import register_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["main"]


def _task(config: DictConfig) -> None:
    from seewhy.run.translation.evaluate import evaluate

    evaluate(config)


main = hydra_command(_task, "evaluate", before=register_run)

if __name__ == "__main__":
    main()
