"""Text that a spreadsheet would run as a formula is marked in CSV files, and read back as it was."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy.data.table import read_table
from seewhy.errors import DataError
from seewhy.io.atomic import write_csv
from seewhy.io.documents import read_csv
from seewhy_run.names import protect_cell, unprotect_cell

FORMULAS = ["=1+1", "+1+1", "@SUM(A1)", "-1+1", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "'=1", "''+1", "-", "=", "+5"]
PLAIN = ["P01", "-5", "-1.5e-3", "", "'quoted'", "a=b", "x@y", "5", "a\nb", 'say "hi"', "ä;ö,ü"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_marked(tmp_path, text):
    path = write_csv(tmp_path / "a.csv", [{"id": text, text: 1}], columns=("id", text))
    with path.open(newline="") as file:
        header, row = csv.reader(file)
    for cell in (header[1], row[0]):
        assert cell[0] not in "=+@-\t\r"
    assert read_csv(path).rows == [{"id": text, text: "1"}]


@pytest.mark.parametrize("value", [*PLAIN, -5, -0.5, None, True, float("-inf")])
def test_everything_else_stays(value):
    assert protect_cell(value) is value


@given(st.text())
def test_marks_are_removed_exactly(text):
    assert unprotect_cell(protect_cell(text)) == text


def test_tables_of_cases_are_read_without_marks(tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"caseID": "=P1", "label": "-x"}], columns=("caseID", "label"))
    (row,) = read_table(path)
    assert (row["caseID"], row["label"]) == ("=P1", "-x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,2,3\n", "row 2"),
        (b"a,a\n1,2\n", "'a' appears twice"),
        (b"\xff\xfea", "UTF-8"),
        (b'a\n"b', "CSV"),
        (b'a\n"b"c\n', "CSV"),
        (b"a\n" + b"x" * 200_000, "CSV"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, content, words):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.csv.*{words}"):
        read_csv(tmp_path / "a.csv")


def test_short_and_blank_rows(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffa,b\n\n1\n")
    table = read_csv(tmp_path / "a.csv")
    assert table.columns == ["a", "b"]
    assert table.rows == [{"a": "1", "b": ""}]
    assert table.numbers == [3]
