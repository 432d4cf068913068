"""Command `seewhy prepare brats|lasc|domains SRC DST`: convert volumes to the files that training reads."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seewhy.cli.help import ExampleFormatter, format_examples

if TYPE_CHECKING:
    from seewhy.data.domains.store import DomainStore
    from seewhy.data.prepare import Summary

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """Add `prepare` with one sub-command per kind of source.

    Args:
        commands: the result of `ArgumentParser.add_subparsers`.
    """
    parser = commands.add_parser(
        "prepare",
        help="cut volumes into the slices that training reads",
        description="Cut volumes into slices, masks and a manifest. A stopped call is continued by the next; "
        "nothing is overwritten without --overwrite.",
    )
    kinds = parser.add_subparsers(title="sources", metavar="SOURCE", required=True, dest="kind")
    brats = kinds.add_parser(
        "brats",
        epilog=format_examples("prepare brats"),
        formatter_class=ExampleFormatter,
        help="BraTS folders (<case>_<modality>.nii.gz, .nrrd or .mha, _seg) or MSD Task01_BrainTumour (4D NIfTI)",
        description="Write imageSlice/BRATS_<id>_<slice>_<label>.npy, maskSlice/, manifest.csv and dataset.json.",
    )
    brats.add_argument(
        "--modality",
        default="flair",
        help="flair, t1, t1ce (also t1gd, t1c) or t2, or several as channels: flair,t1,t1ce,t2; default %(default)s",
    )
    brats.add_argument(
        "--tumour", default="whole", help="region that counts as lesion: whole, core or enhancing; default %(default)s"
    )
    brats.add_argument(
        "--label-scheme",
        default="auto",
        help="meaning of the label values: brats2012 (to 2021), brats2023, brats2024 or peds2024; default: detected "
        "from names and values, and printed",
    )
    brats.add_argument(
        "--all-slices", action="store_true", help="keep slices with hardly any brain (< 1 %% of the pixels) too"
    )
    lasc = kinds.add_parser(
        "lasc",
        epilog=format_examples("prepare lasc"),
        formatter_class=ExampleFormatter,
        help="LASC 2018 folders (lgemri.nrrd, laendo.nrrd) or images/ and masks/ of <patient>_<slice>.png, .tif",
        description="Write imageSlice/<name>_<slice>_<label>.npy, maskSlice/, manifest.csv and dataset.json.",
    )
    for kind in (brats, lasc):
        _add_common(kind)
        kind.set_defaults(run=run)
    _add_domains(kinds)


def run(args: argparse.Namespace) -> int:
    """Prepare slices of BraTS or LASC and print a summary.

    Returns:
        0; problems are raised as `SeewhyError`.
    """
    from seewhy.data.prepare import prepare_brats, prepare_lasc

    common: dict[str, Any] = {
        "window": args.window,
        "dtype": args.dtype,
        "label_rule": _choose_label_rule(args),
        "min_area": args.min_area,
        "min_fraction": args.min_fraction,
        "every": args.every,
        "overwrite": args.overwrite,
        "progress": not args.quiet,
        "jobs": args.jobs,
    }
    if args.kind == "brats":
        summary = prepare_brats(
            args.source,
            args.destination,
            modality=args.modality,
            tumour=args.tumour,
            label_scheme=args.label_scheme,
            brain_only=not args.all_slices,
            **common,
        )
    else:
        summary = prepare_lasc(args.source, args.destination, **common)
    if not args.quiet:
        _show(summary)
    return 0


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that BraTS and LASC share."""
    parser.add_argument("source", metavar="SRC", help="folder to read")
    parser.add_argument("destination", metavar="DST", help="folder to create")
    parser.add_argument(
        "--window",
        default="minmax",
        help="intensities: minmax per volume to [0, 1], percentile (tissue's .5 to 99.5), none; default %(default)s",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        help="stored type: float32, float16, uint8 (window to 0..255), source (with --window none); "
        "default %(default)s",
    )
    parser.add_argument(
        "--label-rule",
        help="a slice is positive with any annotated pixel (any, the default), from --min-area pixels (area), or above "
        "--min-fraction of its pixels (fraction; AME-CAM)",
    )
    parser.add_argument("--min-area", type=int, metavar="PIXELS", help="chooses --label-rule area")
    parser.add_argument(
        "--min-fraction", type=float, metavar="SHARE", help="chooses --label-rule fraction, where .01 is the default"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="keep slices 0, N, 2N ...; default all")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set prepared with other settings")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")


def _choose_label_rule(args: argparse.Namespace) -> str:
    """Return the rule of `--label-rule`, or the one whose number is given."""
    if args.label_rule is not None:
        return str(args.label_rule)
    if args.min_area is not None:
        return "area"
    return "any" if args.min_fraction is None else "fraction"


def _show(summary: Summary) -> None:
    """Print the counts as a table, and the volumes that were left out."""
    from rich.console import Console

    rows = {
        "patients": summary.patients,
        "  written now": summary.written,
        "  there before": summary.kept,
        "slices": summary.slices,
        "  label 1": summary.positive,
        "  label 0": summary.slices - summary.positive,
    }
    if summary.negative_with_lesion:
        rows["  label 0 with annotated pixels"] = summary.negative_with_lesion
    _print_counts(str(summary.destination), rows.items())
    console = Console()
    if summary.labels:
        console.print(f"labels: {summary.labels}", markup=False, highlight=False)
    if summary.automatic:
        names = ", ".join(summary.automatic[:10]) + (" …" if len(summary.automatic) > 10 else "")
        console.print(f"masks made by software, not by an expert: {names}", markup=False, highlight=False)
    if summary.left_out:
        console.print(f"{len(summary.left_out)} left out:")
        for name, reason in list(summary.left_out.items())[:10]:
            console.print(f"  {name}: {reason}", markup=False, highlight=False)
        if len(summary.left_out) > 10:
            console.print("  … the others are listed in dataset.json")


def _print_counts(title: str, rows: Iterable[tuple[str, int]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("count", justify="right")
    for name, count in rows:
        table.add_row(name, str(count))
    Console().print(table)


def _add_domains(kinds: Any) -> None:
    """Add the kind of source `domains`."""
    parser = kinds.add_parser(
        "domains",
        epilog=format_examples("prepare domains"),
        formatter_class=ExampleFormatter,
        help="two folders of subjects with t1, t1ce, t2 and flair (BraTS names or MSD 4D), unpaired",
        description="Write each subject's slices, tissue and measured intensities as memory-mapped arrays, read "
        "afterwards by data=brats_domains with data.root=DST. Training does this itself if necessary.",
    )
    parser.add_argument("source", metavar="SRC", help="folder that holds the folders of both domains")
    parser.add_argument("destination", metavar="DST", help="folder to create")
    parser.add_argument("--a", default="a", metavar="FOLDER", help="domain a, relative to SRC; default %(default)s")
    parser.add_argument("--b", default="b", metavar="FOLDER", help="domain b, relative to SRC; default %(default)s")
    parser.add_argument(
        "--counterparts",
        default="counterparts",
        metavar="FOLDER",
        help="scans of the same subjects by the other domain's scanner, in a/ and b/ of this folder, for evaluation "
        "only; used if it exists; default %(default)s",
    )
    parser.add_argument(
        "--patient-pattern",
        metavar="REGEX",
        help="finds the patient in a subject's name; default: each subject is a patient",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    parser.set_defaults(run=_run_domains)


def _run_domains(args: argparse.Namespace) -> int:
    """Prepare subjects of two domains and print a summary."""
    from seewhy.data.dataset_info import read_info
    from seewhy.data.domains.preparation import locate_domain_folders, prepare_domains

    source = Path(args.source)
    store = prepare_domains(
        locate_domain_folders(source, {"a": args.a, "b": args.b}, args.counterparts),
        Path(args.destination),
        patient_pattern=args.patient_pattern,
        phantom=bool(read_info(source / "dataset.json").get("phantom", False)),
        progress=not args.quiet,
        jobs=args.jobs,
    )
    if not args.quiet:
        _show_domains(store)
    return 0


def _show_domains(store: DomainStore) -> None:
    """Print the counts of both domains as a table."""
    rows = []
    for domain in ("a", "b"):
        subjects = store.list_domain(domain)
        rows += [
            (f"subjects of domain {domain}", len(subjects)),
            ("  slices with tissue", sum(len(subject.content) for subject in subjects)),
            ("  with an annotation", sum(bool(subject.record["segmentation"]) for subject in subjects)),
        ]
    rows += [("counterparts", len(store.counterparts)), ("prepared now", store.written)]
    _print_counts(str(store.root), rows)
