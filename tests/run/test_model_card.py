"""The card that lies next to the checkpoints of a run."""

import json

import pytest
from omegaconf import OmegaConf
from torch import nn

from seewhy.errors import DataError
from seewhy.io.atomic import write_json
from seewhy.run.folder import RunFolder
from seewhy.run.model_card import CARD, USE, write_model_card

CONFIG = {
    "name": "demo/tiny",
    "seed": 5,
    "data": {"_target_": "seewhy.data.brats.BraTSDataModule", "root": "/home/someone/secret/heads"},
    "model": {"network": {"name": "unet"}},
}
RESULTS = {
    "phantom": False,
    "checkpoint": "ab" * 32,
    "choice": "chosen on the validation split: the checkpoint by val/AUPRC (0.25)",
    "metrics": {"test/refined/dice": 0.8, "test/refined/dice_low": 0.7, "test/refined/dice_high": 0.9,
                "test/floor_otsu/dice": 0.3},
    "warnings": ["Patient P3: the map paints the whole head"],
    "versions": {"torch": "2.14.1"},
}  # fmt: skip


class Tiny(nn.Module):
    """Tells one thing
    from another.

    More about it.
    """

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(999, 2)


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(tmp_path)
    run.write_config(OmegaConf.create(CONFIG), data="d" * 64, split="e" * 64)
    write_json(run.path / "split.json", {"hash": "e" * 64, "train": ["a", "b", "c"], "val": ["d"], "test": ["e", "f"]})
    return run


def section(text, heading):
    return text.split(f"## {heading}\n")[1].split("\n## ")[0]


def test_a_tested_run_has_data_scores_and_limits(folder):
    write_json(folder.path / "results.json", RESULTS)
    path = write_model_card(folder, Tiny())
    assert path == folder.path / "checkpoints" / CARD
    text = path.read_text()
    assert "\n# demo/tiny\n\nTells one thing from another.\n\nTiny, 2,000 parameters, network `unet`.\n" in text
    assert USE in section(text, "Intended use")
    data = section(text, "Data")
    assert "`BraTSDataModule` from the folder `heads`" in data
    assert "3 for training, 1 for validation, 2 for test" in data
    assert "d" * 64 in data
    assert "e" * 64 in data
    scores = section(text, "Scores")
    assert "| 0.800 (95 % interval [0.70, 0.90]) | best floor: 0.300 (Otsu) |" in scores
    assert RESULTS["checkpoint"] in scores
    assert "Chosen on the validation split: the checkpoint by val/AUPRC (0.25)." in scores
    assert RESULTS["warnings"][0] in section(text, "Limits")
    assert "torch 2.14.1" in section(text, "How it was made")
    assert "secret" not in text
    assert "synthetic" not in text


def test_scores_of_phantoms_are_called_so_twice(folder):
    write_json(folder.path / "results.json", {**RESULTS, "phantom": True})
    text = write_model_card(folder, Tiny()).read_text()
    assert "synthetic" in section(text, "Data")
    assert "synthetic" in section(text, "Limits")


def test_a_run_that_was_not_tested_claims_nothing(folder):
    text = write_model_card(folder, Tiny()).read_text()
    assert section(text, "Scores").strip().startswith("Not tested yet")
    assert "0.8" not in text
    write_json(folder.path / "results.json", {**RESULTS, "metrics": {"val/loss": 0.25}})
    text = write_model_card(folder, Tiny()).read_text()
    assert section(text, "Scores").strip().startswith("Not tested")


def test_a_damaged_record_is_an_error_instead_of_a_card_with_holes(folder):
    (folder.path / "results.json").write_text(json.dumps({"metrics": "many"}))
    with pytest.raises(DataError, match="results"):
        write_model_card(folder, Tiny())
    assert not (folder.path / "checkpoints" / CARD).exists()
