"""Make the pictures of the documentation again, from the commands that the pages name.

    python docs/generate/pictures.py                 # all; about an hour on two cores
    python docs/generate/pictures.py demo amd        # some of them

Each command runs in a folder of its own, and its picture replaces the one in `docs/images`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
RUN = "{folder}/run"


@dataclass(frozen=True)
class Recipe:
    """Commands that make a picture.

    Attributes:
        commands: words after `python`; `{folder}` is an empty folder, `{sweep}` that of a sweep that has ended in it.
        picture: pattern of the picture's path in that folder, which one file must match.
    """

    commands: tuple[tuple[str, ...], ...]
    picture: str


def train(experiment: str, *options: str) -> tuple[str, ...]:
    """Words of a training into `{folder}/run`; of a sweep, its members are in `{folder}/logs`."""
    return ("train.py", f"experiment={experiment}", "paths.data_dir={folder}/data", *options)


RECIPES = {
    "demo": Recipe((train("demo/brats", f"paths.output_dir={RUN}"),), "run/figures/cases.png"),
    "amd": Recipe(
        (train("demo/amd", f"paths.output_dir={RUN}"),), "run/explanations/grad_cam/P032_R*_visualization.png"
    ),
    "photograph": Recipe(
        (("benchmarks/pretrained.py", "photographs", "--pictures", "{folder}", "--methods", "grad_cam", "hires_cam",
          "score_cam", "eigen_cam", "integrated_gradients", "deep_lift", "occlusion"),), "classes.png"
    ),
    "benchmark": Recipe((train("benchmark/explanations", "paths.log_dir={folder}/logs"),), "logs/**/benchmark.png"),
    "travelling": Recipe(
        (train("demo/travelling", "paths.log_dir={folder}/logs"),
         ("-m", "seewhy", "evaluate", "run={sweep}")), "logs/**/comparison.png"
    ),
}  # fmt: skip


def make(name: str) -> Path:
    """Run the commands of a picture and copy it into `docs/images`."""
    recipe = RECIPES[name]
    with tempfile.TemporaryDirectory() as folder:
        for words in recipe.commands:
            sweep = next((str(path.parent) for path in Path(folder).glob("logs/**/sweep.csv")), "")
            command = [word.format(folder=folder, sweep=sweep) for word in words]
            subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
        found = list(Path(folder).glob(recipe.picture))
        if len(found) != 1:
            raise SystemExit(f"{name}: {len(found)} files match {recipe.picture}; expected one")
        shutil.copyfile(found[0], IMAGES / f"{name}.png")
    return IMAGES / f"{name}.png"


def main() -> None:
    """Make the pictures that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}; all by default")
    names = parser.parse_args().names or list(RECIPES)
    if unknown := set(names) - set(RECIPES):
        parser.error(f"no picture {', '.join(sorted(unknown))}; expected {', '.join(RECIPES)}")
    for name in names:
        begin = time.perf_counter()
        sys.stdout.write(f"{make(name)}: {time.perf_counter() - begin:.0f} s\n")


if __name__ == "__main__":
    main()
