"""AtriumPhantom: the tumour phantom's machinery with a large bright chamber, as slices named like LASC."""

from __future__ import annotations

from pathlib import Path

from seewhy.phantoms.slices import Recipe, write_phantom

__all__ = ["ATRIUM", "write_atrium_phantom"]

ATRIUM = Recipe(
    radius=(0.22, 0.34),
    depth=(0.50, 0.80),
    contrast=(0.24, 0.38),
    softness=(0.12, 0.20),
    mottle=0.25,
    noise=0.05,
    bias=0.18,
    min_share=0.006,
    # Everybody has an atrium: what differs between slices is whether they meet it.
    healthy_every=1_000_000,
)


def write_atrium_phantom(
    root: str | Path,
    *,
    patients: int = 40,
    slices: int = 16,
    size: int = 128,
    seed: int = 0,
    modality: str = "lge",
) -> Path:
    """Write a phantom data set `atrium<id>_<slice>_<label>.npy`; nothing happens if it is there already.

    Args:
        root: the data set's folder.
        patients: number of patients.
        slices: slices per patient; about half of them meet the atrium.
        size: pixels per side.
        seed: the same seed gives the same bytes.
        modality: name told in the manifest.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number that draws no patient.
        DataError: `root` holds another phantom or data that is none.
    """
    return write_phantom(
        root, name="atrium", file_name=_lasc_name, recipe=ATRIUM, modality=modality,
        patients=patients, slices=slices, size=size, seed=seed,
    )  # fmt: skip


def _lasc_name(number: int, index: int, label: int) -> tuple[str, str]:
    patient = f"atrium{number + 1:03d}"
    return f"{patient}_{index:03d}_{label}.npy", patient
