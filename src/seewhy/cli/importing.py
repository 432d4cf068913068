"""Command `seewhy import KIND FILE FOLDER`: import checkpoints of reference systems."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seewhy.cli.help import ExampleFormatter, format_examples

__all__ = ["add_parser"]

CONFIGS = {
    "afa": ("experiment={experiment}", "model=afa"),
    "amd": ("experiment=amd",),
    "mri": ("experiment=mri",),
    "cyclegan": ("data=brats_domains", "model=cyclegan_25d", "callbacks=translation", "name=cyclegan"),
}
"""Kind → overrides of the training configuration that its run folder gets."""


def add_parser(commands: Any) -> None:
    """Add the command and its options to `commands`, the result of `ArgumentParser.add_subparsers`."""
    parser = commands.add_parser("import", help="bring another system's checkpoint into a Lightning checkpoint")
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", required=True)

    afa = _add_kind(
        kinds,
        "afa",
        "a reference (AFA / medical_afa) checkpoint of the weakly-supervised model",
        file="wetr_iter_N.pth or best.pth, bare or module.-prefixed",
    )
    afa.add_argument("--experiment", default="brats", help="whose data settings the run gets (default brats)")
    afa.add_argument("--pooling", default="gmp", help="pooling of its training, which is not in the file (gmp)")

    amd = _add_kind(
        kinds,
        "amd",
        "a Lightning checkpoint of the four-input AMD grading reference (2D)",
        file="….ckpt with out.to3, out.backbone1 … and out.classifier",
    )
    _add_names(amd, "--inputs", ["mnv", "fluid", "ga", "drusen"], "images in the order of its backbones")
    _add_names(amd, "--classes", ["normal", "early", "intermediate", "advanced"], "names of the grades in order")
    amd.add_argument(
        "--normalize",
        choices=("oct", "bio"),
        default="oct",
        help="normalisation of its images, which is not in the file; the reference's code does oct to both (oct)",
    )

    mri = _add_kind(
        kinds, "mri", "a checkpoint of the MRI saliency reference (slices as channels)", file="best_model.pth"
    )
    mri.add_argument("--parameters", type=Path, help="its run's parameters.json")
    _add_names(mri, "--classes", ["HC", "TLE"], "names of class 0 and class 1")

    cyclegan = _add_kind(
        kinds,
        "cyclegan",
        "a checkpoint of SA-CycleGAN-2.5D (harmonisation) or of its baseline",
        file="checkpoint_best.pth, checkpoint_0100.npz or a single generator",
    )
    cyclegan.add_argument(
        "--direction",
        choices=("A2B", "B2A"),
        default="A2B",
        help="of a single generator without a name in the file (A2B)",
    )


def _add_kind(kinds: Any, kind: str, text: str, *, file: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(
        kind, help=text, epilog=format_examples(f"import {kind}"), formatter_class=ExampleFormatter
    )
    parser.add_argument("file", type=Path, help=file)
    parser.add_argument("folder", type=Path, help=f"run folder to create, e.g. lightning_logs/imported/{kind}")
    parser.add_argument("--root", help="folder of the data set; may be given later with data.root=…")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run")
    parser.set_defaults(run=_import, kind=kind)
    return parser


def _add_names(parser: argparse.ArgumentParser, option: str, names: list[str], text: str) -> None:
    parser.add_argument(option, nargs="+", default=names, metavar="NAME", help=f"{text} ({' '.join(names)})")


def _import(options: argparse.Namespace) -> int:
    from rich.console import Console

    from seewhy.cli.compose import compose_train
    from seewhy.options import check_choice
    from seewhy.run.folder import conf_dir
    from seewhy.run.importing import import_checkpoint

    if options.kind == "afa":
        folder = conf_dir() / "experiment"
        names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
        check_choice(options.experiment, names, "--experiment")
    arguments = {name: value for name, value in vars(options).items() if name != "run"}
    overrides = [override.format(**arguments) for override in CONFIGS[options.kind]]
    arguments.pop("experiment", None)
    Console().print(import_checkpoint(config=compose_train(*overrides), **arguments))
    return 0
