"""Draw and write the travelling phantom: the same heads on four scanners, and other heads of each to train on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seewhy.errors import ConfigError
from seewhy.option_types import PositiveFloat, PositiveInt, Seed
from seewhy.phantoms.scanners import BRAIN, SCANNERS, PulseSequence, Scanner, draw_brain, write_scan
from seewhy.phantoms.writing import check_minimums, write_or_reuse
from seewhy.progress import track_slowly

__all__ = ["SITES", "write_travelling_phantom"]

VERSION = 1
"""Raised whenever the same settings draw other scans, so that older folders are not reused."""
SITES = {
    "s1": SCANNERS["a"],
    "s2": SCANNERS["b"],
    "s3": Scanner(
        sequences={
            "t1": PulseSequence(500, 10),
            "t1ce": PulseSequence(500, 10),
            "t2": PulseSequence(5500, 110),
            "flair": PulseSequence(10000, 130, 2600),
        },
        curve=1.25, shading=-0.12, bias=0.05, blur=0.50, noise=0.020, gain=(1500, 2500),
    ),
    "s4": Scanner(
        sequences={
            "t1": PulseSequence(700, 18),
            "t1ce": PulseSequence(700, 18),
            "t2": PulseSequence(3500, 85),
            "flair": PulseSequence(8000, 100, 2250),
        },
        curve=0.90, shading=0.10, bias=0.08, blur=0.90, noise=0.012, gain=(600, 900),
    ),
}  # fmt: skip
"""The four scanners: sharp and even (the reference); blurred, shaded and flat; noisy with a steep contrast; very
blurred, with fields that differ from scan to scan."""
REFERENCE = "s1"


def write_travelling_phantom(
    root: str | Path,
    *,
    travelling: PositiveInt = 8,
    own: PositiveInt = 10,
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (56, 64, 40),
    spacing: PositiveFloat = 3.0,
    seed: Seed = 0,
) -> Path:
    """Write `s1/` to `s4/` and `dataset.json`, or reuse those of an earlier call.

    `<scanner>/T001/`, … are travelling heads, scanned by all scanners and by the first one once more (`T001R`: other
    noise, field and gain). `s2/s2p001/`, … are heads that only this scanner has seen. Files, brains, contrast and
    orientation are those of `seewhy.phantoms.scanners.write_scanner_phantom`; all scans have the tumour's `seg`.

    Args:
        root: the data set's folder.
        travelling: number of travelling heads.
        own: number of other heads of each scanner.
        shape: voxels towards left, posterior and superior.
        spacing: mm between voxels.
        seed: the same seed gives the same bytes.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number below its minimum.
        DataError: `root` holds another phantom or other data.

    Example:
        >>> from seewhy.phantoms.travelling import write_travelling_phantom
        >>> root = write_travelling_phantom("travelling", travelling=1, own=1, shape=(24, 24, 24))
        >>> [sorted(path.name for path in (root / scanner).iterdir()) for scanner in ("s1", "s2")]
        [['T001', 'T001R', 's1p001'], ['T001', 's2p001']]
    """
    if len(shape) != 3:
        raise ConfigError(f"phantom.shape={list(shape)} must be three numbers")
    check_minimums({"travelling": (travelling, 1), "own": (own, 1), "shape": (min(shape), 24), "seed": (seed, 0)})
    settings = {
        "name": "travelling", "phantom": True, "version": VERSION, "travelling": travelling, "own": own,
        "shape": [int(n) for n in shape], "spacing": float(spacing), "seed": seed,
    }  # fmt: skip
    files = {f"{site}/*/*.nii.gz": 5 * (own + travelling * (1 + (site == REFERENCE))) for site in SITES}
    return write_or_reuse(root, settings, partial(_write_sites, settings=settings), files=files, kind="volumes")


def _write_sites(folder: Path, settings: dict[str, Any]) -> None:
    """Draw every head, and scan it on its scanners."""
    x, y, z = settings["shape"]
    heads = [("T", 0, number) for number in range(settings["travelling"])]
    heads += [(f"{site}p", 1 + place, number) for place, site in enumerate(SITES) for number in range(settings["own"])]
    for prefix, group, number in track_slowly(heads, "writing travelling phantom"):
        # A head does not depend on how many others are drawn.
        key = [settings["seed"], group, number]
        brain = draw_brain(BRAIN, shape=(x, y, z), rng=np.random.default_rng([*key, 0]))
        subject = f"{prefix}{number + 1:03d}"
        sites = list(SITES) if group == 0 else [list(SITES)[group - 1]]
        scans = [(site, subject, 1 + list(SITES).index(site)) for site in sites]
        scans += [(REFERENCE, f"{subject}R", 1 + len(SITES))] if group == 0 else []
        for site, name, draw in scans:
            write_scan(
                folder / site / name, brain, SITES[site],
                rng=np.random.default_rng([*key, draw]), spacing=settings["spacing"], labels=True,
            )  # fmt: skip
