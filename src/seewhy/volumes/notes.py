"""What of a plan is written, by whichever part, and what is left to one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from seewhy.io.volume_base import Box
from seewhy.volumes.coverage import Coverage
from seewhy.volumes.ledger import OUTPUT, Ledger
from seewhy.volumes.plan import Plan
from seewhy.volumes.unit import Unit

__all__ = ["Notes"]


class Notes:
    """The ledger of a plan, or, without one, the memory of this process.

    Args:
        plan: tiles and owners.
        ledger: shared by all parts; None keeps nothing beyond this object.
    """

    def __init__(self, plan: Plan, ledger: Ledger | None) -> None:
        self.plan, self.ledger = plan, ledger
        self._boxes: list[Box] = []

    def start(
        self, fingerprint: Callable[[], Mapping[str, Any]], part: int, *, sink: Any = None
    ) -> list[tuple[Unit, int]]:
        """Begin, or go on with, one part.

        Args:
            fingerprint: gives what decides the output's bytes; asked for only where there is a ledger.
            part: of the plan.
            sink: told by its `reopen`, if it has one, that it is not finished, where not all is written.

        Returns:
            The tiles that are not complete, each with the first row that is not written.

        Raises:
            ConfigError: when the run was begun with other settings, or another process computes this part.
        """
        if self.ledger is not None:
            self.ledger.start({OUTPUT: getattr(sink, "identity", None), **fingerprint()})
            self.ledger.open_part(part, self.plan.parts)
            if not self.complete and hasattr(sink, "reopen"):
                self.ledger.reopen()
                sink.reopen()
        coverage = self.coverage()
        rows = [(unit, coverage.first_open_row(unit.core)) for unit in self.plan.of(part)]
        return [(unit, row) for unit, row in rows if row < unit.core[0].stop]

    def commit(self, box: Box) -> None:
        """Note a box whose writes have returned."""
        if self.ledger is not None:
            self.ledger.commit(box)
        self._boxes.append(box)

    def coverage(self) -> Coverage:
        """What all parts have written so far."""
        boxes = self._boxes if self.ledger is None else self.ledger.committed()
        return Coverage(shape=self.plan.costs.grid.shape, shard=self.plan.costs.shard, boxes=boxes)

    @property
    def complete(self) -> bool:
        """Whether all of the region is written."""
        return self.coverage().complete(self.plan.region)

    def finish(self, sink: Any) -> bool:
        """Let a sink finish, once, when all is written; any part may try.

        Args:
            sink: its `finish` is called, if it has one.

        Returns:
            Whether the output is complete.
        """
        if not self.complete:
            return False
        action = getattr(sink, "finish", None)
        if action is not None and self.ledger is not None:
            self.ledger.finish_once(action, region=self.plan.region)
        elif action is not None:
            action()
        return True

    def close(self) -> None:
        """Give the part's file back."""
        if self.ledger is not None:
            self.ledger.close()
