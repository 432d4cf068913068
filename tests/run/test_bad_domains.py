"""Everything that is wrong with the scans of two sites is said at once, by the real commands, before any training."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("heads", ROOT / "tests" / "data" / "domains" / "conftest.py")
heads = importlib.util.module_from_spec(spec)
spec.loader.exec_module(heads)

SAID = (
    "a/MISSING: MISSING has no flair",
    "a/SHAPE/SHAPE_t2.nii.gz does not lie on SHAPE_t1.nii.gz: shape (19, 24, 10)",
    "a/AFFINE/AFFINE_t1ce.nii.gz does not lie on AFFINE_t1.nii.gz: another affine",
    "a/NAN/NAN_t1.nii.gz (t1) holds 1 voxels that are NaN",
    "b/TEXT/TEXT_t1.nii.gz is no readable NIfTI",
    "b/ZERO/ZERO_flair.nii.gz (flair) holds the value 0 everywhere",
    "b/COLOUR/COLOUR_t1ce.nii.gz holds colours (R, G, B)",
    "b/PAGES/PAGES_t2.nii.gz has 3 channels",
    "b/NOISE: NOISE: 99.",
    "b/CUT/CUT_t2.nii.gz is cut off or damaged",
    "b/CUT/CUT_flair.nii.gz is cut off or damaged",
)
"""What must be named, each with its file."""


@pytest.fixture
def spoilt(tmp_path):
    """A good subject in each domain, and one for every way of being wrong."""
    root = tmp_path / "set"
    for domain, names in (
        ("a", ("GOOD", "MISSING", "SHAPE", "AFFINE", "NAN")),
        ("b", ("WHOLE", "TEXT", "ZERO", "COLOUR", "PAGES", "NOISE", "CUT")),
    ):
        for name in names:
            heads.write_subject(root / domain, name, heads.head(), seg=False)

    def file(name, modality):
        domain = "a" if (root / "a" / name).is_dir() else "b"
        return root / domain / name / f"{name}_{modality}.nii.gz"

    def save(name, modality, values, affine=heads.LPS):
        nib.save(nib.Nifti1Image(values, affine), file(name, modality))

    volume = heads.head()["t2"]
    moved, holed = heads.LPS.copy(), volume.astype(np.float32)
    moved[0, 3], holed[8, 9, 4] = 3, np.nan
    colours = np.zeros(volume.shape, dtype=[(name, "u1") for name in "RGB"])
    random = np.random.default_rng(1)
    file("MISSING", "flair").unlink()
    save("SHAPE", "t2", volume[:-1])
    save("AFFINE", "t1ce", volume, moved)
    save("NAN", "t1", holed)
    file("TEXT", "t1").write_bytes(b"no volume at all")
    save("ZERO", "flair", np.zeros_like(volume))
    save("COLOUR", "t1ce", colours)
    save("PAGES", "t2", np.stack([volume] * 3, axis=-1))
    for modality in heads.MODALITIES:
        save("NOISE", modality, random.integers(50, 250, volume.shape).astype(np.int16))
    for modality in ("t2", "flair"):
        file("CUT", modality).write_bytes(file("CUT", modality).read_bytes()[:-60])
    return root


def run(*words, cwd):
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_training_names_everything_at_once(spoilt, tmp_path):
    words = ("experiment=cyclegan", "trainer=cpu", f"data.root={spoilt}", f"hydra.run.dir={tmp_path / 'run'}")
    done = run(ROOT / "train.py", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert f"{len(SAID)} problems" in done.stderr
    for text in SAID:
        assert text in done.stderr, text
    assert "GOOD" not in done.stderr
    assert "WHOLE" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_check_names_the_same(spoilt, tmp_path):
    done = run("-m", "seewhy", "check", spoilt, "--json", cwd=tmp_path)
    assert done.returncode == 1
    (report,) = json.loads(done.stdout)
    messages = [finding["message"] for finding in report["findings"] if finding["kind"] == "subject"]
    assert len(messages) == len(SAID)
    for text in SAID:
        assert any(text in message for message in messages), text


def test_an_empty_domain_is_named_with_the_rest(tmp_path):
    heads.write_subject(tmp_path / "set" / "a", "ONE", heads.head(), seg=False)
    heads.write_subject(tmp_path / "set" / "a", "TWO", heads.head(), seg=False)
    (tmp_path / "set" / "a" / "TWO" / "TWO_t1.nii.gz").write_bytes(b"")
    (tmp_path / "set" / "b").mkdir()
    with pytest.raises(DataError, match=r"(?s)2 problems.*/b holds no subject; expected.*TWO_t1\.nii\.gz"):
        BraTSDomainsDataModule(root=str(tmp_path / "set")).setup("fit")
