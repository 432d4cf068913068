"""metrics.csv survives a second start in the same folder."""

import csv
import os

import pytest

from seewhy.errors import DataError
from seewhy.tracking.csv_log import MetricsCSV, drop_rows_from


def rows(path):
    with path.open() as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def test_a_second_logger_appends_also_with_new_columns(tmp_path):
    first = MetricsCSV(str(tmp_path))
    first.log_metrics({"a": 1.0}, step=0)
    first.log_metrics({"a": 2.0, "b": 3.0}, step=1)
    first.finalize("success")
    second = MetricsCSV(str(tmp_path))
    second.log_metrics({"c": 4.0}, step=2)
    second.finalize("success")
    assert rows(tmp_path / "metrics.csv") == [
        {"a": "1.0", "step": "0"},
        {"a": "2.0", "b": "3.0", "step": "1"},
        {"c": "4.0", "step": "2"},
    ]


def test_rows_that_will_come_again_are_dropped(tmp_path):
    logger = MetricsCSV(str(tmp_path))
    for step in range(5):
        logger.log_metrics({"a": float(step)}, step=step)
    logger.finalize("success")
    drop_rows_from(tmp_path / "metrics.csv", 3)
    assert [row["step"] for row in rows(tmp_path / "metrics.csv")] == ["0", "1", "2"]
    drop_rows_from(tmp_path / "none.csv", 3)
    assert not (tmp_path / "none.csv").exists()


def test_a_file_that_was_continued_equals_one_of_a_single_run(tmp_path):
    def log(folder, steps):
        logger = MetricsCSV(str(tmp_path / folder))
        for step in steps:
            logger.log_metrics({"loss": -0.5 * step} | ({"val": 1.5} if step % 3 == 2 else {}), step=step)
            logger.save()
        logger.finalize("success")

    log("single", range(7))
    log("continued", range(5))
    drop_rows_from(tmp_path / "continued" / "metrics.csv", 3)
    log("continued", range(3, 7))
    single, continued = ((tmp_path / name / "metrics.csv").read_bytes() for name in ("single", "continued"))
    assert single == continued
    assert b"\r" not in single


def test_new_columns_leave_the_rows_where_the_disk_is_full(tmp_path, monkeypatch):
    logger = MetricsCSV(str(tmp_path))
    logger.log_metrics({"a": 1.0}, step=0)
    logger.save()
    before = (tmp_path / "metrics.csv").read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    logger.log_metrics({"b": 1.0}, step=1)
    with pytest.raises(OSError, match="No space"):
        logger.save()
    monkeypatch.undo()
    assert (tmp_path / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"epoch,step\n0,x\n", b"epoch\n0\n", b"\xff\xfe", b"step,step\n1,2\n", b'step\n"1']
)
def test_a_damaged_file_is_named_and_kept(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"metrics\.csv"):
        drop_rows_from(path, 1)
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["pipe", "folder", "bytes"])
def test_what_is_no_table_is_neither_waited_for_nor_appended_to(tmp_path, kind):
    path = tmp_path / "metrics.csv"
    {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir, "bytes": lambda: path.write_bytes(b"\xff\xfe")}[kind]()
    with pytest.raises(DataError, match=r"metrics\.csv"):
        MetricsCSV(str(tmp_path)).log_metrics({"a": 1.0}, step=0)
    with pytest.raises(DataError, match=r"metrics\.csv"):
        drop_rows_from(path, 1)
