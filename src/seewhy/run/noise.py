"""Messages of libraries that tell a user of ours nothing, kept out of the log and the terminal."""

from __future__ import annotations

import logging
import warnings

__all__ = ["quiet"]

ADVERTS = ("litlogger", "litmodels")
"""Products that Lightning recommends at every start."""

PASSED_OVER = (
    r".*It is recommended to use `self\.log\(.*sync_dist=True",  # scores are gathered over ranks before they are logged
    r".*does not have many workers",  # data.num_workers is a choice; 0 is right for small slices
    r".*is smaller than the logging interval",  # an epoch has as many steps as one asks for
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and torch
    r".*find_unused_parameters=True was specified",  # the phases of a training use different heads
)
"""Beginnings of warnings, as regular expressions."""


def quiet() -> None:
    """Leave Lightning's lines to Hydra's one handler, and drop advice that does not apply here."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
    spoken = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    if not any(isinstance(known, _NoAdverts) for known in spoken.filters):
        spoken.addFilter(_NoAdverts())
    for pattern in PASSED_OVER:
        warnings.filterwarnings("ignore", pattern)


class _NoAdverts(logging.Filter):
    """Lets everything pass but adverts."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a message."""
        message = record.getMessage()
        return not any(word in message for word in ADVERTS)
