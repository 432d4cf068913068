"""Curve-2.5D: a CycleGAN-2.5D whose generators can only change intensities by monotone curves, which can be undone."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from seewhy.batch import Batch, Prediction
from seewhy.errors import ConfigError
from seewhy.models.translation.cyclegan_25d import CycleGAN25D
from seewhy.models.translation.step import cut_out
from seewhy.models.translation.unpaired import direction_of
from seewhy.nets.generators.curve import CurveGenerator25D, invert_curves

__all__ = ["Curve25D"]


class Curve25D(CycleGAN25D):
    """Unpaired translation by monotone curves; options, losses and use are those of `CycleGAN25D`.

    The curves of a slice undo its translation exactly, which the scores report as `inverse`, next to the `cycle` by the
    learned way back. See `CurveGenerator25D` for what it cannot do to a scan.

    Raises:
        ConfigError: `generator.name` is not `curve`.

    Example:
        >>> import torch
        >>> model = Curve25D(
        ...     optimizer={"name": "adam", "lr": 2e-4}, scheduler={"name": "constant"},
        ...     generator={"name": "curve", "width": 4},
        ... ).eval()
        >>> stack = torch.rand(2, 12, 32, 32) * 2 - 1
        >>> translated = model.translate(stack, domain="a")
        >>> torch.allclose(model.undo(translated, stack, domain="a"), stack[:, 4:8], atol=1e-5)
        True
    """

    def configure_nets(self) -> None:
        """Build the networks; the generators must have curves."""
        name = self.hparams["generator"].get("name")
        if name != "curve":
            raise ConfigError(
                f"model.generator.name={name!r}: this model undoes curves, so it takes only 'curve'; for other "
                "generators choose model=cyclegan_25d"
            )
        super().configure_nets()

    @torch.no_grad()
    def undo(self, translated: Tensor, stack: Tensor, *, domain: str, body: Tensor | None = None) -> Tensor:
        """Undo a translation by the inverse of the curves of its stacks.

        Args:
            translated: [B, M, H, W], result of `translate`.
            stack: [B, 3 * M, H, W], what was translated.
            domain: domain of the stacks.
            body: see `translate`.

        Returns:
            [B, M, H, W], the centre slices of the stacks up to rounding; -1 outside the tissue.
        """
        generator = cast(CurveGenerator25D, self.generators[direction_of(domain)])
        size = int(self.hparams["slice_batch"])
        parts = [
            invert_curves(image, generator.curves(part))
            for image, part in zip(translated.split(size), stack.split(size), strict=True)
        ]
        inside = torch.ones_like(stack[:, 0], dtype=torch.bool) if body is None else body
        return cut_out(torch.cat(parts), inside[:, None])

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Prediction:
        """Translate a subject, translate it back, and undo its translation."""
        result = super().predict_step(batch, batch_idx)
        if "translated" in result:
            stack, domain = cast(Tensor, batch["image"]), batch["domain"][0]
            result["inverted"] = self.undo(result["translated"], stack, domain=domain, body=batch["body"])
        return result
