"""`python train.py experiment=…`: train, validate, test on the best checkpoint, write maps and results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seewhy.cli.command import hydra_command

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["main"]


def _task(config: DictConfig) -> float | None:
    from seewhy.run.sweeps.member import needs_own_process, run_in_own_process

    if needs_own_process(config):
        return run_in_own_process(config)
    from seewhy.run.train import train

    return train(config)


main = hydra_command(_task, "train")

if __name__ == "__main__":
    main()
