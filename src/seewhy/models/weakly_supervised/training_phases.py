"""When a weakly-supervised training begins to learn pixels, and from which labels."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from seewhy.errors import ConfigError

__all__ = ["Phase", "Phases"]


class Phase(IntEnum):
    """What is learned; each phase includes the ones before."""

    CLASSIFICATION = 0
    CAM_LABELS = 1
    WALK_LABELS = 2

    def __str__(self) -> str:
        return ("classification only", "pixel labels from CAM", "pixel labels from CAM and random walk")[self]


class Phases:
    """Borders between the phases of a training, in optimiser steps counted from 0.

    A border is an int, a number of steps, or a float in [0, 1], a share of all steps of the fit (so `1` is one
    step and `1.0` the end); None is never.

    Args:
        cam_iters: step from which pixel losses count, with labels from the CAM.
        walk_iters: step from which their labels come from the random walk.
    """

    def __init__(self, *, cam_iters: int | float | None, walk_iters: int | float | None) -> None:
        self.borders = {"cam_iters": cam_iters, "walk_iters": walk_iters}
        for name, border in self.borders.items():
            if border is not None and (border < 0 or (isinstance(border, float) and border > 1)):
                raise ConfigError(
                    f"model.{name}={border!r} is neither a number of steps (an int ≥ 0) nor a share of all steps "
                    "(a float in 0 … 1)"
                )
        self._steps: tuple[float, float] | None = None

    def settle(self, total: Callable[[], int]) -> None:
        """Turn shares into steps.

        Args:
            total: gives the number of steps of the fit; asked only where a border is a share.

        Raises:
            ConfigError: the walk would begin before the CAM labels.
        """
        cam, walk = (
            float("inf") if border is None else round(border * total()) if isinstance(border, float) else border
            for border in self.borders.values()
        )
        if walk < cam:
            raise ConfigError(
                f"model.walk_iters={self.borders['walk_iters']!r} (step {walk:g}) lies before "
                f"model.cam_iters={self.borders['cam_iters']!r} (step {cam:g})"
            )
        self._steps = (cam, walk)

    def at(self, step: int) -> Phase:
        """The phase of a step; `settle` comes first."""
        if self._steps is None:
            raise RuntimeError("Phases.settle must be called before Phases.at")
        return Phase(sum(step >= border for border in self._steps))
