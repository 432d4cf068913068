"""The lesion check of a run: rows, logged scores, warnings, and their way into results and report."""

import csv
import json

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf

from seewhy.batch import MODALITIES
from seewhy.callbacks.translation.lesions import LesionCheck
from seewhy.errors import ConfigError
from seewhy.figures.translation.results import lesion_blocks, lesion_table
from seewhy.run.folder import RunFolder
from seewhy.run.results import write_results


def subject(flair=1.0, *, mask=True, name="P1"):
    """Batch and prediction of one head with a ball that is bright in all modalities, and `flair` after."""
    rng = np.random.default_rng(0)
    scan = rng.normal(-0.5, 0.05, (12, 4, 32, 32)).astype(np.float32)
    z, y, x = np.indices((12, 32, 32))
    ball = (z - 6) ** 2 + (y - 16) ** 2 + (x - 16) ** 2 <= 16
    scan[np.broadcast_to(ball[:, None], scan.shape)] = 0.5
    after = scan.copy()
    after[:, 3][ball] = -0.5 + flair
    batch = {
        "image": torch.from_numpy(np.tile(scan, (1, 3, 1, 1))), "body": torch.ones(12, 32, 32, dtype=torch.bool),
        "id": [f"a_{name}_{number:03d}" for number in range(12)], "patient": [name] * 12, "domain": ["a"] * 12,
    }  # fmt: skip
    if mask:
        batch["mask"] = torch.from_numpy(ball.astype(np.uint8))
    return {"translated": torch.from_numpy(after)}, batch


@pytest.mark.parametrize("mask", [True, False])
def test_a_dark_tumour_is_found_in_its_modality_only(mask, tmp_path):
    check = LesionCheck(folder=str(tmp_path))
    rows = check.check(*subject(-0.5, mask=mask))
    wrong = [row for row in rows if row["place"] in ("mask", "brightest before") and row["problem"]]
    assert [(row["patient"], row["modality"], row["sign_change"]) for row in wrong] == [("P1", "flair", True)]
    assert {row["modality"] for row in rows} == set(MODALITIES)
    assert not any(row["problem"] for row in check.check(*subject(1.0, mask=mask)))


def test_an_invented_lesion_is_found_without_a_mask(tmp_path):
    prediction, batch = subject(1.0, mask=False)
    prediction["translated"][2:8, 3, 4:10, 4:10] = 1.0
    rows = LesionCheck(folder=str(tmp_path)).check(prediction, batch)
    invented = [row for row in rows if row["place"] == "brightest after" and row["modality"] == "flair"]
    assert "more than 50% apart" in invented[0]["problem"]


class Module(torch.nn.Module):
    """Stands for the LightningModule that logs."""

    def __init__(self):
        super().__init__()
        self.logged = {}

    def log_dict(self, values, **_):
        self.logged |= values


def run_check(tmp_path, *subjects):
    check, module, trainer = LesionCheck(folder=str(tmp_path)), Module(), Trainer(logger=False, accelerator="cpu")
    check.on_test_epoch_start(trainer, module)
    for outputs, batch in subjects:
        check.on_test_batch_end(trainer, module, outputs, batch, 0)
    check.on_test_epoch_end(trainer, module)
    return module.logged


def test_the_warning_names_patient_and_modality_and_reaches_results_and_report(tmp_path):
    with pytest.warns(UserWarning, match=r"lesion check: P2, flair \(mask\): the lesion changed its sign") as caught:
        logged = run_check(tmp_path, subject(1.0), subject(-0.5, name="P2"))
    assert len([one for one in caught if "P1" in str(one.message)]) == 0
    assert logged["test/a2b/lesion/flair/sign_changes"] == 1
    assert logged["test/a2b/lesion/t1/problems"] == 0
    assert logged["test/a2b/lesion/flair/contrast_before"] > logged["test/a2b/lesion/flair/contrast_after"]
    with (tmp_path / "lesions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["patient"], row["modality"]) for row in rows if row["sign_change"] == "True"} == {("P2", "flair")}
    config = OmegaConf.create({"name": "x", "seed": 0})
    write_results(RunFolder(tmp_path), logged, [], config, phantom=False)
    warnings = json.loads((tmp_path / "results.json").read_text())["warnings"]
    assert any("Patient P2, flair, a2b: the lesion changed its sign" in line for line in warnings)
    assert "Patient P2, flair, a2b" in (tmp_path / "report.html").read_text()
    table = lesion_table(logged, phantom=True)
    assert table.row_count == 4
    assert "PHANTOM" in lesion_blocks(logged, phantom=True)[0].caption


def test_a_domain_that_is_not_translated_is_not_checked(tmp_path):
    assert run_check(tmp_path, ({"id": []}, subject()[1])) == {}
    assert not (tmp_path / "lesions.csv").exists()


def test_an_unknown_modality():
    with pytest.raises(ConfigError, match=r"callbacks.lesions.modality='flare' is unknown; .*flair"):
        LesionCheck(folder=".", modality="flare")
