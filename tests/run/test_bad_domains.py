"""The real commands report all problems of the scans of two sites at once, before any training."""

import json
import re
import subprocess
import sys
from pathlib import Path

import domain_files
import nibabel as nib
import numpy as np
import pytest

from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.errors import DataError

ROOT = Path(__file__).resolve().parents[2]

EXPECTED = (
    "a/MISSING: .*flair",
    r"a/SHAPE/SHAPE_t2\.nii\.gz.*SHAPE_t1\.nii\.gz.*\(19, 24, 10\)",
    r"a/AFFINE/AFFINE_t1ce\.nii\.gz.*AFFINE_t1\.nii\.gz.*affine",
    r"a/NAN/NAN_t1\.nii\.gz \(t1\).* 1 voxels.*NaN",
    r"b/TEXT/TEXT_t1\.nii\.gz",
    r"b/ZERO/ZERO_flair\.nii\.gz \(flair\).*\b0\b",
    r"b/COLOUR/COLOUR_t1ce\.nii\.gz.*R, G, B",
    r"b/PAGES/PAGES_t2\.nii\.gz.*3 channels",
    r"b/NOISE: .*99\.",
    r"b/CUT/CUT_t2\.nii\.gz",
    r"b/CUT/CUT_flair\.nii\.gz",
)
"""Patterns of the problems: the file, and the fact about it."""


@pytest.fixture
def spoilt(tmp_path):
    """A good subject in each domain, and one for every way of being wrong."""
    root = tmp_path / "set"
    for domain, names in (
        ("a", ("GOOD", "MISSING", "SHAPE", "AFFINE", "NAN")),
        ("b", ("WHOLE", "TEXT", "ZERO", "COLOUR", "PAGES", "NOISE", "CUT")),
    ):
        for name in names:
            domain_files.write_subject(root / domain, name, domain_files.make_volumes(), seg=False)

    def file(name, modality):
        domain = "a" if (root / "a" / name).is_dir() else "b"
        return root / domain / name / f"{name}_{modality}.nii.gz"

    def save(name, modality, values, affine=domain_files.LPS):
        nib.save(nib.Nifti1Image(values, affine), file(name, modality))

    volume = domain_files.make_volumes()["t2"]
    moved, holed = domain_files.LPS.copy(), volume.astype(np.float32)
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
    for modality in domain_files.MODALITIES:
        save("NOISE", modality, random.integers(50, 250, volume.shape).astype(np.int16))
    for modality in ("t2", "flair"):
        file("CUT", modality).write_bytes(file("CUT", modality).read_bytes()[:-60])
    return root


def run(*words, cwd):
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_training_names_everything_at_once(run_command, spoilt, tmp_path):
    words = ("experiment=cyclegan", "trainer=cpu", f"data.root={spoilt}", f"hydra.run.dir={tmp_path / 'run'}")
    done = run_command("train.py", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert f"{len(EXPECTED)} problems" in done.stderr
    for pattern in EXPECTED:
        assert re.search(pattern, done.stderr), pattern
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
    assert len(messages) == len(EXPECTED)
    for pattern in EXPECTED:
        assert any(re.search(pattern, message) for message in messages), pattern


def test_an_empty_domain_is_named_with_the_rest(tmp_path):
    domain_files.write_subject(tmp_path / "set" / "a", "ONE", domain_files.make_volumes(), seg=False)
    domain_files.write_subject(tmp_path / "set" / "a", "TWO", domain_files.make_volumes(), seg=False)
    (tmp_path / "set" / "a" / "TWO" / "TWO_t1.nii.gz").write_bytes(b"")
    (tmp_path / "set" / "b").mkdir()
    with pytest.raises(DataError, match=r"(?s)2 problems.*/b .*TWO_t1\.nii\.gz"):
        BraTSDomainsDataModule(root=str(tmp_path / "set")).setup("fit")
