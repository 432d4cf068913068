"""AMDPhantom: synthetic eyes whose grade is shown by one of their images, in the format of AMD grading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seewhy.errors import ConfigError, nearest
from seewhy.io.atomic import write_csv, write_json
from seewhy.io.image import write_image
from seewhy.phantoms.eye import EYE, INPUTS, draw_eye
from seewhy.phantoms.once import check_least, counted, write_once

__all__ = ["AMD_VERSION", "write_amd_phantom"]

AMD_VERSION = 3
"""Raised whenever the same settings would draw other pictures, so that old folders are not taken for new ones."""
GRADES = 4


@dataclass(frozen=True)
class _Eye:
    """One row of the table."""

    number: int
    patient: str
    side: str
    grade: int

    @property
    def name(self) -> str:
        return f"{self.patient}_{self.side}"


def write_amd_phantom(
    root: str | Path,
    *,
    cases: int = 160,
    size: int = 96,
    seed: int = 0,
    carrier: str = "fluid",
    two_eyes_every: int = 3,
) -> Path:
    """Write `labels.csv`, `<caseID>_<input>.png` and `masks/`; nothing happens if they are there already.

    All four images of an eye have the same vessels, and each its own tissue, bright blobs, discs and noise. The
    carrier has besides striped, sharp-edged lesions, at random places: none at grade 0, and more, larger and
    brighter ones the higher the grade. Only stripes tell them from the discs. The other images
    are drawn without looking at the grade, so a map that finds a reason in them is wrong.

    Args:
        root: the data set's folder.
        cases: number of eyes; the four grades are equally frequent.
        size: pixels per side.
        seed: the same seed gives the same bytes.
        carrier: the image that shows the grade: mnv, fluid, ga or drusen.
        two_eyes_every: one patient in so many has both eyes in the data set; 0 gives everyone one eye.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number that draws no eye, or a carrier that does not exist.
        DataError: `root` holds another phantom or data that is none.
    """
    check_least({"cases": (cases, 1), "size": (size, 32), "seed": (seed, 0), "two_eyes_every": (two_eyes_every, 0)})
    if carrier not in INPUTS:
        raise ConfigError(f"phantom.carrier={carrier!r} is unknown; {nearest(carrier, INPUTS)}")
    settings = {
        "name": "amd", "phantom": True, "version": AMD_VERSION, "cases": cases, "size": size, "seed": seed,
        "carrier": carrier, "two_eyes_every": two_eyes_every,
    }  # fmt: skip
    eyes = _eyes(cases, seed, two_eyes_every)

    def write(folder: Path) -> None:
        (folder / "masks").mkdir()
        for place in counted(len(eyes), "writing amd phantom"):
            eye = eyes[place]
            images, mask = draw_eye(EYE, grade=eye.grade, carrier=carrier, size=size, seed=seed, number=eye.number)
            for name, image in images.items():
                write_image(folder / f"{eye.name}_{name}.png", image)
            write_image(folder / "masks" / f"{eye.name}_{carrier}_mask.png", mask > 0)
        rows = [{"caseID": eye.name, "label": eye.grade, "patient": eye.patient} for eye in eyes]
        write_csv(folder / "labels.csv", rows, columns=("caseID", "label", "patient"))
        write_json(folder / "dataset.json", settings)

    files = {f"*_{name}.png": cases for name in INPUTS} | {"masks/*_mask.png": cases}
    return write_once(root, settings, write, files=files, kind="pictures")


def _eyes(cases: int, seed: int, two_eyes_every: int) -> list[_Eye]:
    """Eyes of patient after patient; every four in a row have the four grades in random order."""
    eyes: list[_Eye] = []
    patient = 0
    while len(eyes) < cases:
        both = two_eyes_every > 0 and patient % two_eyes_every == two_eyes_every - 1
        sides = "LR" if both else "LR"[patient % 2]
        for side in sides[: cases - len(eyes)]:
            block, place = divmod(len(eyes), GRADES)
            order = np.random.default_rng([seed, block]).permutation(GRADES)
            eyes.append(_Eye(len(eyes), f"P{patient + 1:03d}", side, int(order[place])))
        patient += 1
    return eyes
