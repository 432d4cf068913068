"""What does not learn: for good, or for the first epochs."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from seewhy.errors import ConfigError, nearest

__all__ = ["Freezing"]


class Freezing:
    """Freezes parameters by name for good, and whole parts of a module for some epochs.

    Batch normalisation follows its parameters: where these are frozen, its statistics are too.

    Args:
        module: whose parameters; those that match are frozen at once.
        patterns: `fnmatch` patterns of parameter names, e.g. `net.branches.*.conv_stem.*`.
        epochs: the parts do not learn in epochs below this.
        parts: submodules, e.g. the backbones.

    Raises:
        ConfigError: a pattern that no parameter matches, or a negative number of epochs.
    """

    def __init__(
        self, module: nn.Module, *, patterns: Sequence[str] = (), epochs: int = 0, parts: Sequence[nn.Module] = ()
    ) -> None:
        if epochs < 0:
            raise ConfigError(f"model.freeze_backbone_epochs={epochs} must be 0 or more")
        names = [name for name, _ in module.named_parameters()]
        missed = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
        if missed:
            raise ConfigError(
                "; ".join(f"model.freeze: no parameter matches {one!r}; {nearest(one, names)}" for one in missed)
            )
        self.epochs = epochs
        self.active = False
        """Whether the parts are frozen in the running epoch."""
        self._module, self._parts = [module], list(parts)  # in lists, for this is no owner of modules
        for name, parameter in module.named_parameters():
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                parameter.requires_grad_(False)
        self._later = [p for part in self._parts for p in part.parameters() if p.requires_grad]
        self._later_ids = {id(parameter) for parameter in self._later}

    def thaws(self, parameter: nn.Parameter) -> bool:
        """Whether a parameter that does not learn now will learn later."""
        return id(parameter) in self._later_ids

    def begin_epoch(self, epoch: int, *, distributed: bool) -> None:
        """Freeze or thaw the parts for this epoch, and put frozen normalisation into evaluation mode.

        Args:
            epoch: counted from 0.
            distributed: DDP asks every parameter for a gradient for all of the training, so there the parts get
                gradients and only `drop_gradients` keeps them from learning.
        """
        self.active = epoch < self.epochs
        if self.epochs:
            for parameter in self._later:
                parameter.requires_grad_(distributed or not self.active)
            for part in self._parts:
                part.train(not self.active)
        for layer in self._module[0].modules():
            own = list(layer.parameters(recurse=False))
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and own and not any(p.requires_grad for p in own):
                layer.eval()

    def drop_gradients(self) -> None:
        """Forget the gradients of what is frozen in this epoch: an optimiser passes over a parameter without one."""
        if self.active:
            for parameter in self._later:
                parameter.grad = None
