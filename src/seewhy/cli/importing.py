"""`python -m seewhy import KIND FILE FOLDER`: other people's checkpoints as checkpoints of ours."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser("import", help="bring another system's checkpoint into a Lightning checkpoint")
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", required=True)
    _add_afa(kinds)
    _add_amd(kinds)
    _add_mri(kinds)
    _add_cyclegan(kinds)


def _add_afa(kinds: Any) -> None:
    afa = kinds.add_parser("afa", help="a reference (AFA / medical_afa) checkpoint of the weakly-supervised model")
    afa.add_argument("file", type=Path, help="wetr_iter_N.pth or best.pth, bare or module.-prefixed")
    _add_common(afa, "afa")
    afa.add_argument("--experiment", default="brats", help="whose data settings the run gets (default brats)")
    afa.add_argument("--pooling", default="gmp", help="pooling it was trained with, which the file does not say (gmp)")
    afa.set_defaults(run=_afa)


def _add_amd(kinds: Any) -> None:
    amd = kinds.add_parser("amd", help="a Lightning checkpoint of the four-input AMD grading reference (2D)")
    amd.add_argument("file", type=Path, help="….ckpt with out.to3, out.backbone1 … and out.classifier")
    _add_common(amd, "amd")
    amd.add_argument(
        "--inputs",
        nargs="+",
        default=["mnv", "fluid", "ga", "drusen"],
        metavar="NAME",
        help="images in the order of its backbones (mnv fluid ga drusen)",
    )
    amd.add_argument(
        "--classes",
        nargs="+",
        default=["normal", "early", "intermediate", "advanced"],
        metavar="NAME",
        help="names of the grades in order (normal early intermediate advanced)",
    )
    amd.add_argument(
        "--normalize",
        choices=("oct", "bio"),
        default="oct",
        help="what was done to its images, which the file does not say; the reference's code does oct to both (oct)",
    )
    amd.set_defaults(run=_amd)


def _add_mri(kinds: Any) -> None:
    mri = kinds.add_parser("mri", help="a checkpoint of the MRI saliency reference (slices as channels)")
    mri.add_argument("file", type=Path, help="best_model.pth")
    _add_common(mri, "mri")
    mri.add_argument("--parameters", type=Path, help="its run's parameters.json")
    mri.add_argument(
        "--classes", nargs="+", default=["HC", "TLE"], metavar="NAME", help="names of class 0 and class 1 (HC TLE)"
    )
    mri.set_defaults(run=_mri)


def _add_cyclegan(kinds: Any) -> None:
    cyclegan = kinds.add_parser("cyclegan", help="a checkpoint of SA-CycleGAN-2.5D (harmonisation) or of its baseline")
    cyclegan.add_argument("file", type=Path, help="checkpoint_best.pth, checkpoint_0100.npz or a generator alone")
    _add_common(cyclegan, "cyclegan")
    cyclegan.add_argument(
        "--direction",
        choices=("A2B", "B2A"),
        default="A2B",
        help="of a generator that stands alone and unnamed in the file (A2B)",
    )
    cyclegan.set_defaults(run=_cyclegan)


def _add_common(parser: argparse.ArgumentParser, kind: str) -> None:
    parser.add_argument("folder", type=Path, help=f"run folder to make, e.g. lightning_logs/imported/{kind}")
    parser.add_argument("--root", help="folder of the data set; may be given later with data.root=…")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that is there")


def _afa(options: argparse.Namespace) -> int:
    from seewhy.cli.conf import compose_train
    from seewhy.run.importing.reference import import_afa

    config = compose_train(f"experiment={options.experiment}", "model=afa")
    return _say(
        import_afa(
            options.file,
            options.folder,
            config,
            pooling=options.pooling,
            root=options.root,
            overwrite=options.overwrite,
        )
    )


def _amd(options: argparse.Namespace) -> int:
    from seewhy.cli.conf import compose_train
    from seewhy.run.importing.reference import import_amd

    return _say(
        import_amd(
            options.file,
            options.folder,
            compose_train("experiment=amd"),
            inputs=options.inputs,
            classes=options.classes,
            normalize=options.normalize,
            root=options.root,
            overwrite=options.overwrite,
        )
    )


def _mri(options: argparse.Namespace) -> int:
    from seewhy.cli.conf import compose_train
    from seewhy.run.importing.reference import import_mri

    return _say(
        import_mri(
            options.file,
            options.folder,
            compose_train("experiment=mri"),
            parameters=options.parameters,
            classes=options.classes,
            root=options.root,
            overwrite=options.overwrite,
        )
    )


def _cyclegan(options: argparse.Namespace) -> int:
    from seewhy.cli.conf import compose_train
    from seewhy.run.importing.cyclegan import import_cyclegan

    return _say(
        import_cyclegan(
            options.file,
            options.folder,
            compose_train("data=brats_domains", "model=cyclegan_25d", "callbacks=translation", "name=cyclegan"),
            direction=options.direction,
            root=options.root,
            overwrite=options.overwrite,
        )
    )


def _say(summary: str) -> int:
    from rich.console import Console

    Console().print(summary)
    return 0
