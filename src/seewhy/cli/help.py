"""Help of the commands that Hydra configures: examples, choices and options, without composing a configuration.

Hydra's own help copies all search paths for each group of options, which takes seconds with this many groups.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from seewhy.run.folder import conf_dir

__all__ = [
    "EXAMPLES",
    "OWN_OPTIONS",
    "ExampleFormatter",
    "OptionComment",
    "format_examples",
    "format_help",
    "list_choices",
    "name_program",
    "read_option_comments",
    "read_purpose",
]

EXAMPLES = {
    "train": (
        "experiment=demo/brats",
        "experiment=brats data.root=data/BraTS trainer.max_epochs=50",
        "experiment=amd data.root=data/AMD seed=0,1,2 --multirun",
        "experiment=mri data.root=data/MRI trainer=ddp trainer.devices=4 logger=wandb",
    ),
    "predict": (
        "run=lightning_logs/demo/brats/2026-01-31_12-00-00",
        "run=lightning_logs/volume/2026-01-31_12-00-00 volume.input=scan.zarr volume.output=labels.zarr",
    ),
    "explain": (
        "run=lightning_logs/demo/amd/2026-01-31_12-00-00",
        "run=lightning_logs/amd/2026-01-31_12-00-00 'explain.methods=[grad_cam,saliency]' explain.samples=worst",
    ),
    "export": ("run=lightning_logs/demo/mri/2026-01-31_12-00-00 format=onnx",),
    "evaluate": ("run=lightning_logs/demo/cyclegan/2026-01-31_12-00-00 'evaluate.baselines=[identity,histogram]'",),
    "cases": ("run=lightning_logs/demo/cyclegan/2026-01-31_12-00-00",),
    "prepare": ("brats downloads/BraTS2021 data/BraTS --modality flair", "lasc downloads/LASC2018 data/LASC --jobs 2"),
    "prepare brats": (
        "downloads/BraTS2021 data/BraTS",
        "downloads/Task01_BrainTumour data/BraTS_t1c --modality t1ce --tumour enhancing --jobs 2",
    ),
    "prepare lasc": ("downloads/LASC2018 data/LASC --label-rule area --min-area 20",),
    "prepare domains": ("data/scanners data/prepared --a siemens --b philips",),
    "check": ("data/BraTS", "data/BraTS --split lightning_logs/brats/2026-01-31_12-00-00/split.json --json"),
    "import": (
        "afa wetr_iter_20000.pth lightning_logs/imported/afa --root data/BraTS",
        "cyclegan checkpoint_best.pth lightning_logs/imported/cyclegan --root data/scanners",
    ),
    "import afa": ("wetr_iter_20000.pth lightning_logs/imported/afa --root data/BraTS",),
    "import amd": ("best.ckpt lightning_logs/imported/amd --inputs mnv fluid ga drusen",),
    "import mri": ("best_model.pth lightning_logs/imported/mri --parameters parameters.json --classes HC TLE",),
    "import cyclegan": ("checkpoint_best.pth lightning_logs/imported/cyclegan --root data/scanners",),
    "pool": ("lightning_logs/multirun/amd/2026-01-31_12-00-00",),
    "agree": ("lightning_logs/multirun/amd/2026-01-31_12-00-00/0 lightning_logs/multirun/amd/2026-01-31_12-00-00/1",),
    "report": ("lightning_logs/demo/brats/2026-01-31_12-00-00",),
    "compare": ("lightning_logs/brats/2026-01-31_12-00-00 lightning_logs/brats/2026-02-01_12-00-00",),
    "judge": (
        "my_network.py:build images.npz",
        "my_network.py:build my_network.py:loader --methods grad_cam lrp --metrics infidelity --judge cheap",
    ),
    "serve": (
        "run=lightning_logs/demo/amd/2026-01-31_12-00-00",
        "run=lightning_logs/mri/2026-01-31_12-00-00 --port 8080 --methods grad_cam saliency",
    ),
    "blend": ("logits.zarr blended.zarr", "logits.zarr labels.zarr --dtype labels --delete-logits"),
    "finalize": ("blended.zarr labels.nii.gz --dtype labels",),
}
"""Command → words after it that show its use."""
GROUPS = {
    "train": ("experiment", "data", "model", "trainer", "logger", "callbacks", "phantom", "add", "hparams_search",
              "cluster", "debug"),
    "explain": ("logger", "trainer"),
    "predict": ("experiment", "trainer"),
}  # fmt: skip
"""Command → groups of options from which its user chooses."""
OWN_OPTIONS = {
    "train": ("figures",),
    "predict": ("volume", "job", "figures"),
    "explain": ("explain", "job", "figures"),
    "evaluate": ("evaluate", "job", "figures"),
    "export": (),
    "cases": ("cases", "job", "figures"),
}
"""Command → groups whose options are its own."""
FLAGS = (
    ("--cfg job", "print the composed configuration and stop"),
    ("--multirun, -m", "run all combinations of comma-separated values"),
    ("--info defaults", "print which files the configuration comes from"),
    ("--config-dir DIR", "a folder with files of your own beside those of conf/"),
    ("--hydra-help", "all flags of Hydra"),
)
LINE = re.compile(r"(?P<indent> *)(?P<key>[\w.]+):(?: (?P<value>[^#]*?))?(?: +# (?P<comment>.*))?")


def format_help(name: str, program: str) -> str:
    """Format the help of a command.

    Args:
        name: of the command, with a file `conf/<name>.yaml`.
        program: as the user called it, e.g. `python train.py`.

    Example:
        >>> print(format_help("cases", "seewhy cases").splitlines()[0])
        usage: seewhy cases [OPTION=VALUE ...] [FLAG ...]
    """
    root = conf_dir()
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    lines = [f"usage: {program} [OPTION=VALUE ...] [FLAG ...]", ""]
    lines += [textwrap.fill(line, width) for line in read_purpose(root / f"{name}.yaml")]
    lines += ["", format_examples(name, program)]
    groups = [(group, ", ".join(list_choices(root / group))) for group in GROUPS.get(name, ())]
    if name == "explain":
        groups.insert(0, ("explain.methods", ", ".join(list_choices(root / "explainer"))))
    if groups:
        lines += ["", "choices (GROUP=NAME):", *_format_rows(groups, width)]
    lines += ["", "options (=default):", *_format_options(root / f"{name}.yaml", "", width)]
    for group in OWN_OPTIONS[name]:
        lines += ["", f"{group} options:", *_format_options(root / group / "default.yaml", f"{group}.", width)]
    further = "of the chosen groups" if name == "train" else "of the run"
    lines += ["", f"Any further option {further} can be given too; --cfg job prints them all."]
    lines += ["", "flags:", *_format_rows(FLAGS, width)]
    return "\n".join(lines) + "\n"


def format_examples(name: str, program: str = "") -> str:
    """Format the examples of a command.

    Args:
        name: of the command, with its kind if it has kinds.
        program: as the user called it; by default `seewhy` with the name.
    """
    return "\n".join(["examples:", *(f"  {program or f'seewhy {name}'} {words}" for words in EXAMPLES[name])])


class ExampleFormatter(argparse.HelpFormatter):
    """Wraps descriptions, and keeps the lines of examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


def list_choices(folder: Path) -> list[str]:
    """List the names of a group of options; those of its sub-folders are `folder/name`."""
    files = sorted(folder.rglob("*.yaml"), key=lambda file: (len(file.parts), file))
    names = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
    return [name for name in names if not name.startswith(("shared/", "wandb/"))]


def _format_options(path: Path, prefix: str, width: int) -> list[str]:
    return _format_rows(
        ((f"{prefix}{one.key}={one.value}", one.comment) for one in read_option_comments(path) if one.value), width
    )


def _format_rows(rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Format names with texts; a text begins at column 30 or, after a long name, in a line of its own."""
    lines = []
    for name, text in rows:
        body = textwrap.wrap(text, width - 30) or [""]
        if len(name) > 26:
            lines += [f"  {name}", *(" " * 30 + line for line in body if line)]
        else:
            lines += [f"  {name:<28}{body[0]}".rstrip(), *(" " * 30 + line for line in body[1:])]
    return lines


def name_program(prefix: Sequence[str]) -> str:
    """Name the program as the user called it."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return " ".join(["python -m seewhy", *prefix])
    return " ".join([f"python {called.name}" if called.suffix == ".py" else called.name, *prefix])


@dataclass(frozen=True, kw_only=True)
class OptionComment:
    """One key of a configuration file.

    Attributes:
        key: with the keys around it, e.g. `store.dtype`.
        value: default as text; empty for a key with further keys.
        comment: text after the value; empty if there is none.
    """

    key: str
    value: str
    comment: str


def read_purpose(path: Path) -> list[str]:
    """Read the comment lines at the beginning of a configuration file.

    Example:
        >>> from seewhy.run.folder import conf_dir
        >>> read_purpose(conf_dir() / "explain.yaml")[0].split(":")[0]
        'Explain the predictions of a finished run'
    """
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("# @package"):
            if lines or not line.startswith("#"):
                break
            continue
        lines.append(line[2:])
    return lines


def read_option_comments(path: Path) -> list[OptionComment]:
    """Read the keys of a configuration file in their order, without its defaults list.

    Example:
        >>> from seewhy.run.folder import conf_dir
        >>> [one.key for one in read_option_comments(conf_dir() / "volume/default.yaml")][-2:]
        ['job.keep_logits', 'job.estimate']
    """
    found: list[OptionComment] = []
    around: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = LINE.fullmatch(line.rstrip())
        if match is None:
            continue
        depth = len(match["indent"])
        around = [one for one in around if one[0] < depth]
        key = ".".join([*(name for _, name in around), match["key"]])
        around.append((depth, match["key"]))
        if not key.startswith("defaults"):
            found.append(OptionComment(key=key, value=(match["value"] or "").strip(), comment=match["comment"] or ""))
    return found
