"""`seewhy prepare domains SRC DST`: subjects of two sites to memory-mapped arrays."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seewhy.data.domains.preparation import DomainStore

__all__ = ["add_parser", "run"]


def add_parser(kinds: Any) -> None:
    """Add the kind of source `domains`.

    Args:
        kinds: the sub-commands of `prepare`.
    """
    parser = kinds.add_parser(
        "domains",
        help="two folders of subjects with t1, t1ce, t2 and flair (BraTS names or MSD 4D), unpaired",
        description="Write each subject's slices, tissue and measured intensities as memory-mapped arrays, read "
        "afterwards by data=brats_domains with data.root=DST. Training prepares them itself where this was not done.",
    )
    parser.add_argument("source", metavar="SRC", help="folder that holds the folders of both domains")
    parser.add_argument("destination", metavar="DST", help="folder to make")
    parser.add_argument("--a", default="a", metavar="FOLDER", help="domain a, relative to SRC; default %(default)s")
    parser.add_argument("--b", default="b", metavar="FOLDER", help="domain b, relative to SRC; default %(default)s")
    parser.add_argument(
        "--counterparts",
        default="counterparts",
        metavar="FOLDER",
        help="the same subjects as the other domain's scanner saw them, in a/ and b/ there, for evaluation only; used "
        "where it exists; default %(default)s",
    )
    parser.add_argument(
        "--patient-pattern", metavar="REGEX", help="finds the patient in a subject's name; default: one subject each"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare and print what came out.

    Returns:
        0; problems are raised as `SeewhyError`.
    """
    from seewhy.data.dataset_info import read_info
    from seewhy.data.domains.preparation import domain_folders, prepare_domains

    source = Path(args.source)
    store = prepare_domains(
        domain_folders(source, {"a": args.a, "b": args.b}, args.counterparts),
        Path(args.destination),
        patient_pattern=args.patient_pattern,
        phantom=bool(read_info(source / "dataset.json").get("phantom", False)),
        progress=not args.quiet,
    )
    if not args.quiet:
        _show(store)
    return 0


def _show(store: DomainStore) -> None:
    """Counts as a small table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(store.root), title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("count", justify="right")
    for domain in ("a", "b"):
        own = store.of_domain(domain)
        table.add_row(f"subjects of domain {domain}", str(len(own)))
        table.add_row("  slices with tissue", str(sum(len(subject.content) for subject in own)))
        table.add_row("  with an annotation", str(sum(bool(subject.record["segmentation"]) for subject in own)))
    table.add_row("counterparts", str(len(store.counterparts)))
    table.add_row("prepared now", str(store.written))
    Console().print(table)
