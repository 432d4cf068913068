"""TumourPhantom: synthetic brains with and without a tumour, as slices named like BraTS."""

from __future__ import annotations

from pathlib import Path

from seewhy.phantoms.slices import Recipe, write_phantom

__all__ = ["TUMOUR", "write_tumour_phantom"]

TUMOUR = Recipe()


def write_tumour_phantom(
    root: str | Path,
    *,
    patients: int = 40,
    slices: int = 16,
    size: int = 128,
    seed: int = 0,
    modality: str = "flair",
) -> Path:
    """Write a phantom data set `BRATS_<id>_<slice>_<label>.npy`; nothing happens if it is there already.

    Every slice has a bright rim, vessels and a pair of bright sharp-edged organs, a bias field and Rician
    noise; a slice of label 1 has besides a soft-edged, mottled blob about as bright as those. Thresholds and
    the position in the image therefore tell little, the look of the structures tells all. One patient in
    seven is healthy.

    Args:
        root: the data set's folder.
        patients: number of patients.
        slices: slices per patient, along which body and lesion change as in a volume.
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
        root, name="tumour", file_name=_brats_name, recipe=TUMOUR, modality=modality,
        patients=patients, slices=slices, size=size, seed=seed,
    )  # fmt: skip


def _brats_name(number: int, index: int, label: int) -> tuple[str, str]:
    patient = f"{number + 1:03d}"
    return f"BRATS_{patient}_{index}_{label}.npy", patient
