"""Command `seewhy pool SWEEP`: compute one result over the folds of a cross-validation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command and its options to `commands`, the result of `ArgumentParser.add_subparsers`."""
    parser = commands.add_parser("pool", help="score the out-of-fold predictions of a multirun over data.fold together")
    parser.add_argument("folder", type=Path, help="of the sweep; gets pooled.json and pooled.csv")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap over patients (2000)")
    parser.set_defaults(run=_pool)


def _pool(options: argparse.Namespace) -> int:
    from seewhy.run.sweeps.pooling import pool_folds, print_pooled

    print_pooled(pool_folds(options.folder, resamples=options.resamples), options.folder)
    return 0
