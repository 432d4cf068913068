"""Description, for a runner without torch, of how the files of a case become a network's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Reading"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The step that reads a case.

    Attributes:
        step: a step of `seewhy_run.steps`.
        inputs: names of a case's files, in order.
        optional: whether a case may lack some of them.
        size: spatial size of every image, [H, W] or [D, H, W]; None where it differs from case to case.
        domain: whose scans are read, for models that translate between two.
    """

    step: Any
    inputs: tuple[str, ...]
    optional: bool = False
    size: tuple[int, ...] | None = None
    domain: str = ""
