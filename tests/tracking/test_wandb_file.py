"""Files of offline W&B runs, as W&B itself writes them, with rows removed."""

import pytest
import wandb
from wandb_reader import wait_for_end

from seewhy.errors import DataError
from seewhy.tracking.wandb_file import drop_history_from, read_records


@pytest.fixture
def written(tmp_path):
    """A run of W&B whose records cross the borders of blocks."""
    run = wandb.init(mode="offline", dir=tmp_path, settings={"silent": True}, config={"text": "x" * 100_000})
    for step in range(6):
        run.log({"loss": step / 2, "trainer/global_step": step, "long": "y" * 20_000})
    run.finish()
    [path] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    wait_for_end(path)
    return path


def kinds(path):
    return [record.WhichOneof("record_type") for record in read_records(path)]


def test_rows_from_a_step_on_are_removed_and_the_rest_stays(written):
    before = list(read_records(written))
    assert kinds(written).count("history") == 6
    assert drop_history_from(written, 4) == 2
    after = list(read_records(written))
    others = [record for record in before if record.WhichOneof("record_type") != "history"]
    assert [record for record in after if record.WhichOneof("record_type") != "history"] == others
    assert kinds(written).count("history") == 4
    assert drop_history_from(written, 4) == 0


def test_a_file_that_was_cut_off_is_read_up_to_there(written):
    whole = written.read_bytes()
    written.write_bytes(whole[: len(whole) // 2])
    assert 0 < len(kinds(written)) < 30
    assert drop_history_from(written, 0) > 0
    assert "history" not in kinds(written)
    assert "run" in kinds(written)


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "run.wandb"
    path.write_bytes(b"something else")
    with pytest.raises(DataError, match=r"run\.wandb is not the file of a W&B run"):
        list(read_records(path))
