"""Training of generators and discriminators in turn, with two optimisers, by hand.

One scale of half-precision gradients for several optimisers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.models.base import BaseModule, build_optimizer, learning_rate_factor

__all__ = ["AccumulationWindow", "AdversarialModule", "SharedGradScaler", "frozen"]


class SharedGradScaler(torch.amp.GradScaler):
    """A scaler that changes its scale only after every optimiser has stepped.

    Lightning updates the scale after each optimiser's step. The gradients of the next optimiser, which were made with
    the scale before, would then be divided by another one.

    Args:
        scaler: whose settings are taken over.
        optimizers: how many share the scale.
        device: type of the gradients' device.
    """

    def __init__(self, scaler: torch.amp.GradScaler, *, optimizers: int, device: str) -> None:
        super().__init__(
            device=device,
            init_scale=scaler.get_scale() if scaler.is_enabled() else 1.0,
            growth_factor=scaler.get_growth_factor(),
            backoff_factor=scaler.get_backoff_factor(),
            growth_interval=scaler.get_growth_interval(),
            enabled=scaler.is_enabled(),
        )
        self._optimizers = optimizers
        self._asked = 0

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Update at every n-th call, once for all optimisers."""
        self._asked += 1
        if self._asked % self._optimizers == 0:
            super().update(new_scale)


OPTIMIZERS = 2


class AccumulationWindow(NamedTuple):
    """A batch's place among those that make one optimiser step.

    Attributes:
        first: whether it is the first of them.
        last: whether the step follows it.
        length: how many they are; fewer at the end of an epoch.
    """

    first: bool
    last: bool
    length: int


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module without any for its parameters."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


class AdversarialModule(BaseModule):
    """Two optimisers that step together: the generators' and the discriminators'.

    Lightning leaves to a model with two optimisers what it does for others: accumulation, clipping and schedules are
    here. Both optimisers step after all gradients of a window of batches are there, so it does not matter which is
    first, n batches of a window make the step of one batch n times as large, and the scale of half-precision
    gradients changes for both at once. `trainer.global_step` counts the steps of both.

    Expected hyperparameters, besides those of `BaseModule`:
        discriminator_optimizer: options in which the discriminators' optimiser differs from `optimizer`; may be None.
        accumulate: batches per step.
        clip: largest norm of all gradients of an optimiser; None clips nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def generator_parameters(self) -> list[nn.Parameter]:
        """What the first optimiser moves."""
        raise NotImplementedError

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """What the second optimiser moves."""
        raise NotImplementedError

    def configure(self) -> None:
        """Fill the slots.

        Raises:
            ConfigError: numbers with which nothing could be trained.
        """
        accumulate, clip = self.hparams["accumulate"], self.hparams["clip"]
        problems = [f"model.accumulate={accumulate} must be 1 or more batches"] * (accumulate < 1)
        problems += [f"model.clip={clip} must be above 0, or null"] * (clip is not None and clip <= 0)
        if problems:
            raise ConfigError("; ".join(problems))
        super().configure()

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """No callbacks; this is the first hook, before Lightning refuses what is refused here with a remedy."""
        told = "with two optimisers set model.{} instead"
        problems = []
        if (count := self.trainer.accumulate_grad_batches) != 1:
            problems.append(f"trainer.accumulate_grad_batches={count}: {told.format('accumulate')}")
        if (norm := self.trainer.gradient_clip_val) is not None:
            problems.append(f"trainer.gradient_clip_val={norm}: {told.format('clip')}")
        if problems:
            raise ConfigError("; ".join(problems))
        return super().configure_callbacks()

    def setup(self, stage: str) -> None:
        """Let one scale of half-precision gradients serve both optimisers."""
        plugin = self.trainer.precision_plugin
        if stage == "fit" and isinstance(plugin, MixedPrecision) and plugin.scaler is not None:
            plugin.scaler = SharedGradScaler(plugin.scaler, optimizers=OPTIMIZERS, device=plugin.device)

    def total_steps(self) -> int:
        """Steps of either optimiser in this fit."""
        trainer = self.trainer
        estimated = trainer.estimated_stepping_batches  # also makes the loaders, which an epoch's length is known from
        if math.isinf(estimated):
            raise ConfigError("trainer.max_epochs=-1 has no end for model.scheduler to reach; set a number of epochs")
        limit = trainer.max_steps // OPTIMIZERS if trainer.max_steps != -1 else math.inf
        epochs = trainer.max_epochs
        if epochs is None or epochs < 0 or math.isinf(trainer.num_training_batches):
            return int(limit)
        per_epoch = math.ceil(trainer.num_training_batches / self.hparams["accumulate"])
        return int(min(per_epoch * max(epochs, 1), limit))

    def configure_optimizers(self) -> Any:
        """Both optimisers, with the same course of learning rates."""
        options = dict(self.hparams["optimizer"])
        other = {**options, **(self.hparams["discriminator_optimizer"] or {})}
        optimizers = [
            build_optimizer(options, [{"params": self.generator_parameters()}]),
            build_optimizer(
                other, [{"params": self.discriminator_parameters()}], where="model.discriminator_optimizer"
            ),
        ]
        factor = partial(learning_rate_factor, total=self.total_steps(), **self.hparams["scheduler"])
        return optimizers, [
            {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor), "name": f"lr-{name}"}
            for optimizer, name in zip(optimizers, ("generator", "discriminator"), strict=True)
        ]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Tie draws to (seed, batch, rank): batches of one window have the same step and must not draw alike."""
        seed, number = int(self.hparams["seed"]), self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed((seed * 1_000_003 + number) * 1_024 + self.global_rank)

    def window(self, batch_idx: int) -> AccumulationWindow:
        """Where a batch stands; the last batch of an epoch always ends its window."""
        first = batch_idx - batch_idx % self.hparams["accumulate"]
        end = int(min(first + self.hparams["accumulate"], self.trainer.num_training_batches))
        return AccumulationWindow(batch_idx == first, batch_idx + 1 == end, end - first)

    def gathering(self, window: AccumulationWindow) -> AbstractContextManager[None]:
        """Backward passes of a batch; under DDP, ranks exchange gradients at the end of a window only."""
        blocked = getattr(self.trainer.strategy, "block_backward_sync", None)
        if window.last or blocked is None or self.trainer.world_size == 1:
            return nullcontext()
        found: AbstractContextManager[None] = blocked()
        return found

    def step_optimizers(self) -> None:
        """Step both optimisers and their schedules, and forget the gradients."""
        optimizers: Any = self.optimizers()
        schedulers: Any = self.lr_schedulers()
        for optimizer in optimizers:
            optimizer.step()
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            scheduler.step()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip; gradients of half precision have their own scale again by now."""
        if self.hparams["clip"] is not None:
            own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(own, self.hparams["clip"])
