"""A table with pictures as W&B keeps it on disk."""

import json

import numpy as np
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from seewhy.tracking.media import log_table, takes_tables


def test_a_table_of_pictures_and_scores_is_kept_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="seewhy")
    assert takes_tables([CSVLogger(tmp_path), logger])
    picture = np.zeros((8, 6, 3), np.uint8)
    rows = [{"id": "a", "map": picture, "energy": 0.5}, {"id": "b", "map": picture, "warnings": "incomplete"}]
    log_table([CSVLogger(tmp_path), logger], "explanations", rows)
    logger.experiment.finish()
    table = json.loads(next(tmp_path.rglob("explanations*.table.json")).read_text())
    assert table["columns"] == ["id", "map", "energy", "warnings"]
    assert [[row[0], row[2], row[3]] for row in table["data"]] == [["a", 0.5, None], ["b", None, "incomplete"]]
    assert all("image" in str(row[1]).lower() for row in table["data"])  # the pictures lie in the table's artifact


def test_without_such_a_logger_nothing_is_made(tmp_path):
    assert not takes_tables([CSVLogger(tmp_path)])
