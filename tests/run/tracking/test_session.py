"""Names of runs, and what a later command finds of them."""

import json

import pytest
from omegaconf import OmegaConf

from seewhy.run.folder import RunFolder
from seewhy.run.tracking.session import begin_session, find_sweep
from seewhy.tracking.csv_log import MetricsCSV
from seewhy.tracking.wandb_run import WandbRun

CONFIG = {"name": "demo/amd", "data": {"fold": 2}, "logger": {"tags": ["a"], "notes": None, "group": None}}


def begin(path, *, job="train", resumed=False, **config):
    settings = {**CONFIG, **config}
    logger = WandbRun(save_dir=str(path), tags=settings["logger"]["tags"])
    session = begin_session(
        OmegaConf.create(settings), [MetricsCSV(str(path)), logger], job=job, folder=RunFolder(path),
        resumed=resumed,
    )  # fmt: skip
    session.write_record()
    return logger._wandb_init, json.loads((path / "tracking.json").read_text())


def test_members_of_a_sweep_share_a_group_and_differ_in_name(tmp_path):
    sweep = tmp_path / "sweep_1"
    (sweep / "0").mkdir(parents=True)
    assert find_sweep(sweep / "0") is None
    (sweep / "multirun.yaml").write_text("{}")
    assert find_sweep(sweep / "0") == "sweep_1"
    given = [begin(sweep / name)[0] for name in "01"]
    assert [item["group"] for item in given] == ["sweep_1"] * 2
    assert [item["name"] for item in given] == ["demo/amd/sweep_1/0", "demo/amd/sweep_1/1"]
    assert given[0]["id"] != given[1]["id"]
    assert given[0]["config"]["fold"] == 2


def test_runs_of_one_folder_are_numbered_and_a_continued_one_keeps_its_id(tmp_path):
    first, record = begin(tmp_path / "run")
    assert first["name"] == "demo/amd/run"
    again, record = begin(tmp_path / "run", resumed=True, logger={"tags": [], "notes": "later"})
    assert (again["id"], again["name"], again["tags"]) == (first["id"], first["name"], ["a"])
    assert record["jobs"] == ["train"]
    assert record["tags"] == ["a"]
    RunFolder(tmp_path / "run").keep_records(move=True)
    second, record = begin(tmp_path / "run")
    assert second["name"] == "demo/amd/run #2"
    assert second["id"] != first["id"]
    assert record["number"] == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"title": 3}'])
def test_a_damaged_record_starts_a_new_run(tmp_path, text):
    (tmp_path / "tracking.json").write_text(text)
    given, record = begin(tmp_path, job="explain", resumed=True)
    assert record["jobs"] == ["explain"]
    assert given["job_type"] == "explain"


def test_an_id_that_is_no_id_is_not_used(tmp_path):
    begin(tmp_path)
    path = tmp_path / "tracking.json"
    record = json.loads(path.read_text())
    record["trackers"]["wandb"]["id"] = "../../elsewhere"
    path.write_text(json.dumps(record))
    given, _ = begin(tmp_path, resumed=True)
    assert given["id"].isalnum()
