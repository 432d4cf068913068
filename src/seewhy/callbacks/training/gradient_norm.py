"""Log the norm of the gradients."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.tracking.media import find_step

__all__ = ["LogGradientNorm"]


class LogGradientNorm(Callback):
    """Logs the norm of all gradients of an optimiser before they are clipped, every `trainer.log_every_n_steps` steps.

    `train/gradient_norm`; of several optimisers `train/gradient_norm/<parts>`, the parts of the model that it trains.
    """

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the norm."""
        if (find_step(trainer) + 1) % max(1, int(trainer.log_every_n_steps)):  # type: ignore[attr-defined]
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        name = "train/gradient_norm"
        if len(trainer.optimizers) > 1:
            own = {id(parameter) for parameter in parameters}
            parts = [part for part, child in pl_module.named_children() if own & set(map(id, child.parameters()))]
            name = f"{name}/{'_'.join(parts)}"
        pl_module.log(name, norm, batch_size=1)
