"""What a continued training may change, what it refuses, and that nothing of before is lost."""

import json
import shutil

import pytest
import torch
from grading import GRADING

from seewhy.errors import CheckpointError, ConfigError
from seewhy.run.folder import RunFolder

FOLD = (*GRADING, "data.num_folds=4", "data.fold=0", "test=false")
EVIDENCE = ("config.yaml", "split.json", "metrics.csv")


@pytest.fixture(scope="module")
def begun(train_here, tmp_path_factory):
    """A training of one epoch."""
    folder = tmp_path_factory.mktemp("begun")
    train_here(folder, base=FOLD)
    return folder


@pytest.fixture
def copied(begun, tmp_path):
    """A copy of it."""
    return shutil.copytree(begun, tmp_path / "run")


def read(folder):
    return {name: (folder / name).read_bytes() for name in EVIDENCE}


@pytest.mark.parametrize(
    ("word", "fact"),
    [
        ("data.fold=2", "split.*data.fold.*test patients may have been trained on"),
        ("data.split_seed=5", "split"),
        ("phantom.cases=20", "another data set"),
        ("model.optimizer.lr=1e-5", r"model\.optimizer\.lr=1e-05, in the checkpoint 0\.00"),
        ("model.optimizer.weight_decay=0.5", r"model\.optimizer\.weight_decay=0\.5, in the checkpoint"),
        ("model.optimizer.name=adam", r"model\.optimizer\.name=adam, in the checkpoint adamw"),
        ("model.head_lr=7", r"model\.head_lr=7.*in the checkpoint"),
        ("callbacks.best.monitor=val/auroc", r"callbacks\.best\.monitor='val/auroc'.*val/loss"),
    ],
)
def test_what_the_checkpoint_contradicts_is_refused_and_nothing_is_written(copied, train_here, word, fact):
    before = read(copied)
    with pytest.raises(CheckpointError, match=rf"(?s)last\.ckpt.*{fact}"):
        train_here(copied, "ckpt_path=last", "trainer.max_epochs=2", word, base=FOLD)
    assert read(copied) == before
    assert not (copied / "earlier").exists()


def test_another_patience_is_refused(copied, train_here, tmp_path):
    stop = "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss, patience: %d}"
    folder = tmp_path / "patient"
    train_here(folder, stop % 3, base=FOLD)
    with pytest.raises(CheckpointError, match="patience=9 of EarlyStopping, trained with 3"):
        train_here(folder, "ckpt_path=last", "trainer.max_epochs=2", stop % 9, base=FOLD)


def test_other_names_of_the_classes_are_refused(copied, train_here):
    path = copied / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["classes"] = ["a", "b", "c", "d"]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"model\.classes=.*trained with \['a', 'b', 'c', 'd'\]"):
        train_here(copied, "ckpt_path=last", base=FOLD)


def test_what_the_checkpoint_does_not_hold_may_change_and_the_records_of_before_are_kept(copied, train_here, record):
    before = read(copied)
    train_here(copied, "ckpt_path=last", "trainer.max_epochs=2", "model.scheduler.name=constant", base=FOLD)
    assert read(copied / "earlier" / "1") == before
    rows = record.metrics(copied)
    assert rows[: len(record.metrics(copied / "earlier" / "1"))] == record.metrics(copied / "earlier" / "1")
    assert [row["epoch"] for row in rows if "val/loss" in row] == ["0", "1"]
    assert (copied / "split.json").read_bytes() == before["split.json"]


def test_a_moved_data_set_is_the_same_data_set(copied, begun, train_here, home, tmp_path):
    moved = shutil.copytree(home / "data", tmp_path / "moved")
    train_here(copied, "ckpt_path=last", f"paths.data_dir={moved}", base=FOLD)


def test_a_checkpoint_continues_in_a_new_folder_but_not_in_that_of_another_run(copied, begun, train_here, tmp_path):
    path = f"ckpt_path={begun / 'checkpoints' / 'last.ckpt'}"
    train_here(tmp_path / "new", path, "trainer.max_epochs=2", base=FOLD)
    assert torch.load(tmp_path / "new" / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    with pytest.raises(ConfigError, match=r"already holds a run; choose another hydra\.run\.dir"):
        train_here(copied, path, base=FOLD)


def test_rows_of_a_crash_before_the_first_checkpoint_do_not_mix_with_those_of_the_next_run(
    train_here, tmp_path, record
):
    crash = ("+callbacks.crash._target_=spies.Crash", "+logger.csv.flush_logs_every_n_steps=1")
    with pytest.raises(RuntimeError, match="boom"):
        train_here(tmp_path, *crash, "trainer.log_every_n_steps=1", "data.batch_size=2", base=FOLD)
    crashed = record.metrics(tmp_path)
    assert crashed
    train_here(tmp_path, base=FOLD)
    assert record.metrics(tmp_path / "earlier" / "1") == crashed
    assert len([row for row in record.metrics(tmp_path) if "val/loss" in row]) == 1


def test_a_requeued_job_continues_from_lightnings_checkpoint(begun, train_here, tmp_path, monkeypatch):
    folder = tmp_path / "requeued"
    folder.mkdir()
    shutil.copy(begun / "checkpoints" / "last.ckpt", folder / "hpc_ckpt_1.ckpt")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    train_here(folder, "trainer.max_epochs=2", base=FOLD)
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1


def test_records_are_numbered_and_a_folder_of_checkpoints_is_refused(tmp_path):
    run = RunFolder(tmp_path)
    assert run.keep_records(move=True) is None
    for text in "ab":
        (tmp_path / "results.json").write_text(json.dumps(text))
        run.keep_records(move=True)
        assert not (tmp_path / "results.json").exists()
    assert [(tmp_path / "earlier" / n / "results.json").read_text() for n in "12"] == ['"a"', '"b"']
    run.checkpoints.mkdir()
    (run.checkpoints / "x.ckpt").touch()
    with pytest.raises(ConfigError, match="already holds a run; add ckpt_path=last"):
        run.refuse_overwrite()


def test_a_run_that_was_killed_before_its_first_last_checkpoint_goes_on(copied, begun, train_here, tmp_path):
    undisturbed = shutil.copytree(begun, tmp_path / "undisturbed")
    checkpoints = copied / "checkpoints"
    (checkpoints / "last.ckpt").rename(checkpoints / ".tmp-0123abcd-99999999-0123abcd-last.ckpt")
    with pytest.raises(ConfigError, match="ckpt_path=last"):
        train_here(copied, base=FOLD)
    for folder in (copied, undisturbed):
        train_here(folder, "ckpt_path=last", "trainer.max_epochs=2", base=FOLD)
    first, second = (
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (copied, undisturbed)
    )
    assert all(torch.equal(value, second["state_dict"][name]) for name, value in first["state_dict"].items())
    assert (copied / "metrics.csv").read_text() == (undisturbed / "metrics.csv").read_text()


def test_a_checkpoint_that_is_half_written_is_no_run(train_here, tmp_path):
    litter = tmp_path / "run" / "checkpoints" / ".tmp-0123abcd-99999999-0123abcd-best.ckpt"
    litter.parent.mkdir(parents=True)
    litter.write_bytes(b"half")
    train_here(tmp_path / "run", base=FOLD)
    assert (litter.parent / "last.ckpt").is_file()
