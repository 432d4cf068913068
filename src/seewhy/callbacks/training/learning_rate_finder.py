"""Find the learning rate by a range test before training."""

from __future__ import annotations

import logging
from typing import Annotated, Any, TypeAlias

from annotated_types import Ge
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.utilities.seed import isolate_rng

from seewhy.errors import ConfigError
from seewhy.option_types import PositiveFloat

__all__ = ["FindLearningRate"]

LOGGER = logging.getLogger(__name__)

Steps: TypeAlias = Annotated[int, Ge(13)]
"""Lightning leaves out the first ten and the last, and needs two for a slope."""


class FindLearningRate(LearningRateFinder):
    """Raises the learning rate over some steps (Smith 2017), takes the one where the loss falls most, and starts again.

    The weights, the order of the samples and all draws are those of a training without it. The rates of all groups of
    parameters are scaled together. A continued training keeps the rate of its checkpoint.

    Args:
        min_lr: first rate.
        max_lr: last rate.
        steps: number of steps, of which the first ten and the last do not count; a rate whose loss is four times the
            best one ends the test.

    Raises:
        ConfigError: a model with several optimisers.
    """

    def __init__(self, *, min_lr: PositiveFloat = 1e-6, max_lr: PositiveFloat = 1.0, steps: Steps = 100) -> None:
        if min_lr >= max_lr:
            raise ConfigError(f"callbacks.lr_finder.min_lr={min_lr} must be below max_lr={max_lr}")
        super().__init__(min_lr=min_lr, max_lr=max_lr, num_training_steps=steps, update_attr=False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is one optimiser, which Lightning steps."""
        if stage == "fit" and not pl_module.automatic_optimization:
            raise ConfigError(
                f"callbacks.lr_finder: {type(pl_module).__name__} has several optimisers, whose losses work against "
                "each other; set model.optimizer.lr instead"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the rate and set it."""
        if trainer.ckpt_path is not None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        with isolate_rng():
            self.lr_find(trainer, pl_module)
        found = None if self.optimal_lr is None else self.optimal_lr.suggestion()
        options: dict[str, Any] = pl_module.hparams["optimizer"]
        if found is None:
            LOGGER.warning(
                "no learning rate was found in %d steps; %g is kept", self._num_training_steps, options["lr"]
            )
            return
        scale = found / options["lr"]
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= scale
                group["initial_lr"] *= scale
        for entry in trainer.lr_scheduler_configs:
            entry.scheduler.base_lrs = [rate * scale for rate in entry.scheduler.base_lrs]
        LOGGER.info("learning rate %.3g found, in place of model.optimizer.lr=%g", found, options["lr"])
        options["lr"] = float(found)
