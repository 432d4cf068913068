"""The travelling phantom: the same heads on all scanners, other heads for training, and the same bytes again."""

import json

import nibabel as nib
import numpy as np
import pytest

from seewhy.batch import MODALITIES
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.errors import ConfigError
from seewhy.phantoms.travelling import SITES, write_travelling_phantom

SMALL = {"travelling": 2, "own": 3, "shape": [28, 32, 24]}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_travelling_phantom(tmp_path_factory.mktemp("p") / "travelling", **SMALL)


def volume(root, site, name, kind):
    return np.asarray(nib.load(root / site / name / f"{name}_{kind}.nii.gz").dataobj)


def test_heads_travel_and_others_stay(phantom):
    assert json.loads((phantom / "dataset.json").read_text())["phantom"] is True
    for site in SITES:
        names = {path.name for path in (phantom / site).iterdir()}
        assert names == {"T001", "T002", *(f"{site}p00{n}" for n in (1, 2, 3)), *(["T001R", "T002R"] * (site == "s1"))}
    outlines = {
        (volume(phantom, site, f"{site}p00{n}", "t1") > 0).tobytes() for site in SITES for n in (1, 2, 3)
    }  # fmt: skip
    assert len(outlines) == 12


def test_scans_of_a_head_have_its_anatomy_and_the_scanners_look(phantom):
    for name in ("T001", "T002"):
        labels = volume(phantom, "s1", name, "seg")
        for kind in MODALITIES:
            scans = [volume(phantom, site, name, kind) for site in SITES]
            assert all(np.array_equal(scan > 0, scans[0] > 0) for scan in scans)
            assert len({scan.tobytes() for scan in scans}) == 4
        assert all(np.array_equal(volume(phantom, site, name, "seg"), labels) for site in SITES)
        inside = volume(phantom, "s1", name, "t2") > 0
        again, other = volume(phantom, "s1", f"{name}R", "t2"), volume(phantom, "s2", name, "t2")
        first = volume(phantom, "s1", name, "t2")
        assert not np.array_equal(again, first)
        same, differs = (np.corrcoef(first[inside], scan[inside])[0, 1] for scan in (again, other))
        assert same > differs


def test_same_seed_same_bytes_and_more_heads_change_none(phantom, tmp_path):
    more = write_travelling_phantom(tmp_path / "more", **{**SMALL, "travelling": 3, "own": 4})
    for site, name in (("s1", "T002R"), ("s3", "T001"), ("s4", "s4p003")):
        np.testing.assert_array_equal(volume(more, site, name, "flair"), volume(phantom, site, name, "flair"))
    with pytest.raises(ConfigError, match="travelling"):
        write_travelling_phantom(tmp_path / "none", travelling=0)


def test_a_head_is_one_patient_in_one_part_and_each_pair_of_scanners_has_its_store(phantom):
    for site in ("s2", "s3"):
        data = BraTSDomainsDataModule(
            root=str(phantom), a=site, b="s1", counterparts=None, patient_pattern=r"^(T\d+|s\dp\d+)",
            val_patients=[f"{site}p003", "s1p003"], test_patients=["T001", "T002"],
        )  # fmt: skip
        data.setup("fit")
        assert [(subject.domain, subject.id) for subject in data.items_of("test")] == [
            ("a", "T001"), ("a", "T002"), ("b", "T001"), ("b", "T001R"), ("b", "T002"), ("b", "T002R"),
        ]  # fmt: skip
        assert {subject.patient for subject in data.items_of("test")} == {"T001", "T002"}
        assert not {"T001", "T002"} & {subject.patient for subject in data.items_of("train")}
        assert (phantom / f"prepared_{site}_s1" / "domains.json").is_file()
