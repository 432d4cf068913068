"""`python -m seewhy import afa FILE`: other people's checkpoints as checkpoints of ours."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser("import", help="bring another system's checkpoint into a Lightning checkpoint")
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", required=True)
    afa = kinds.add_parser("afa", help="a reference (AFA / medical_afa) checkpoint of the weakly-supervised model")
    afa.add_argument("file", type=Path, help="wetr_iter_N.pth or best.pth, bare or module.-prefixed")
    afa.add_argument("folder", type=Path, help="run folder to make, e.g. lightning_logs/imported/afa")
    afa.add_argument("--experiment", default="brats", help="whose data settings the run gets (default brats)")
    afa.add_argument("--root", help="folder of the data set; may be given later with data.root=…")
    afa.add_argument("--pooling", default="gmp", help="pooling it was trained with, which the file does not say (gmp)")
    afa.add_argument("--overwrite", action="store_true", help="replace a run that is there")
    afa.set_defaults(run=_afa)


def _afa(options: argparse.Namespace) -> int:
    from rich.console import Console

    from seewhy.cli.conf import compose_train
    from seewhy.run.importing import import_afa

    config = compose_train(f"experiment={options.experiment}", "model=afa")
    summary = import_afa(
        options.file,
        options.folder,
        config,
        pooling=options.pooling,
        root=options.root,
        overwrite=options.overwrite,
    )
    Console().print(summary)
    return 0
