"""Command `seewhy judge MODULE:FUNCTION DATA`: judge explanations of any network, without a run folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command and its options to `commands`, the result of `ArgumentParser.add_subparsers`."""
    parser = commands.add_parser(
        "judge",
        help="judge explanations of any nn.Module",
        description="Explain samples by several methods and judge the maps. The function that is named takes nothing "
        "and returns the nn.Module. Writes ranking.csv, ranking.png, report.html, maps and pictures.",
    )
    parser.add_argument("network", metavar="MODULE:FUNCTION", help="or FILE.py:FUNCTION; returns the module")
    parser.add_argument(
        "data",
        metavar="DATA",
        help=".npz or zarr (images, and label, mask, id, patient), .npy, a folder of images, or MODULE:FUNCTION of a "
        "loader",
    )
    parser.add_argument("--methods", nargs="+", default=[], help="files of conf/explainer; default: four common ones")
    parser.add_argument("--metrics", nargs="+", default=[], help="further measures or kinds of them, or all")
    parser.add_argument("--judge", default="auto", help="auto, all, cheap or none; default %(default)s")
    parser.add_argument("--target", help="class, label, all, or a contrast a-b; default: the predicted class")
    parser.add_argument("--layers", nargs="+", default=[], metavar="[INPUT=]LAYER", help="for class activation maps")
    parser.add_argument("--option", nargs="+", default=[], metavar="METHOD.NAME=VALUE", help="options of methods")
    parser.add_argument("--classes", nargs="+", default=[], help="names of the classes")
    parser.add_argument("--multi-label", action="store_true", help="each score has its own sigmoid")
    parser.add_argument("--masks", help=".npy or folder of masks, if DATA lacks them")
    parser.add_argument("--labels", help="table with the columns id and label, if DATA lacks them")
    parser.add_argument("--max-samples", type=int, default=50, help="0 is all; default %(default)s")
    parser.add_argument("--batch-size", type=int, default=8, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="default %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("judged"), help="gets the results; default %(default)s")
    parser.add_argument("--figures-format", default="png", help="png; pdf or svg are written next to it")
    parser.add_argument("--figures-dpi", type=int, help="pixels per inch, e.g. 300 for print; default: 150 and 100")
    parser.set_defaults(run=_judge)


def _judge(options: argparse.Namespace) -> int:
    from rich.console import Console

    from seewhy.figures.style import FigureOptions
    from seewhy.options import parse_options
    from seewhy.reporting.report import print_explanations
    from seewhy.reporting.selection import ExplanationSettings
    from seewhy.run.explanations.judge import JudgeOptions, judge

    target = int(options.target) if options.target is not None and options.target.isdecimal() else options.target
    settings = ExplanationSettings(
        target=target, max_samples=options.max_samples, batch_size=options.batch_size, judge=options.judge,
        metrics=options.metrics, seed=options.seed,
    )  # fmt: skip
    figures = parse_options(
        FigureOptions, {"format": options.figures_format, "dpi": options.figures_dpi}, where="--figures"
    )
    chosen = JudgeOptions(
        methods=options.methods, layers=_read_layers(options.layers), options=_read_options(options.option),
        masks=options.masks, labels=options.labels, classes=options.classes, multi_label=options.multi_label,
        settings=settings, folder=options.folder, figures=figures, device=options.device,
    )  # fmt: skip
    print_explanations(judge(options.network, options.data, chosen), Console())
    return 0


def _read_layers(words: list[str]) -> dict[str, str]:
    """Read `layer` or `input=layer`."""
    pairs = [word.partition("=")[::2] if "=" in word else ("image", word) for word in words]
    return dict(pairs)


def _read_options(words: list[str]) -> dict[str, dict[str, Any]]:
    """Read `method.name=value` with values as in YAML."""
    from omegaconf import OmegaConf

    from seewhy.errors import ConfigError

    wrong = [word for word in words if "=" not in word or "." not in word.split("=", 1)[0]]
    if wrong:
        raise ConfigError(f"--option {wrong[0]}: expected METHOD.NAME=VALUE, e.g. occlusion.window=12")
    plain: Any = OmegaConf.to_container(OmegaConf.from_dotlist(words))
    result: dict[str, dict[str, Any]] = plain
    return result
