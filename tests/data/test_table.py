import pytest

from seewhy.data.table import ClassLabels, missing_columns, read_table
from seewhy.errors import ConfigError, DataError


def written(tmp_path, content, name="cases.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_delimiters_and_byte_order_mark(tmp_path, delimiter, mark):
    lines = ["caseID,label,note", "P1,0,a", 'P2,1,"b, c; d"']
    text = "\r\n".join([*(line.replace(",", delimiter) for line in lines[:2]), f'P2{delimiter}1{delimiter}"b, c; d"'])
    rows = read_table(written(tmp_path, mark + text.encode()))
    assert [list(row.cells) for row in rows] == [["caseID", "label", "note"]] * 2
    assert [dict(row.cells) for row in rows] == [
        {"caseID": "P1", "label": "0", "note": "a"},
        {"caseID": "P2", "label": "1", "note": "b, c; d"},
    ]


def test_rows_are_numbered_as_in_a_spreadsheet(tmp_path):
    rows = read_table(written(tmp_path, "id,label\n\n a , 1 \n,\nb\n"), part="val")
    assert [(row.number, row["id"], row["label"], row.part) for row in rows] == [
        (3, "a", "1", "val"),
        (5, "b", "", "val"),
    ]
    assert rows[0].where == "cases.csv, row 3"


def test_one_column(tmp_path):
    assert [row["file"] for row in read_table(written(tmp_path, "file\na.nii\nb.nii\n"))] == ["a.nii", "b.nii"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; expected a header"),
        ("\n , \n", "is empty; expected a header"),
        ("id,label\n", r"no rows below the header \(id, label\)"),
        (b"id\n\xff\xfe\n", "not UTF-8 text"),
        ('id,label\n"a,1\n', "cannot be read as CSV"),
    ],
)
def test_files_that_are_no_table(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_table(written(tmp_path, content))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv does not exist; set data\.table"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)


def test_all_problems_at_once(tmp_path):
    with pytest.raises(DataError) as caught:
        read_table(written(tmp_path, "id,label,id\na,1,b\nb,1,c,d\nc,1,d,\ne,2,f,g,h\n"))
    facts = [("row 1", "'id'"), ("row 3", "4 cells", "header 3", "quotes"), ("row 5", "5 cells", "header 3", "quotes")]
    assert len(caught.value.problems) == len(facts)
    for problem, words in zip(caught.value.problems, facts, strict=True):
        assert all(word in problem for word in words)


def test_missing_columns_name_the_nearest(tmp_path):
    rows = read_table(written(tmp_path, "case_id,grade\na,1\n"))
    [problem] = missing_columns(rows, [("data.id_column", "caseID"), ("data.label_column", "grade")])
    assert all(word in problem for word in ("cases.csv", "'caseID'", "data.id_column", "nearest: 'case_id'"))


def test_a_map_with_classes_put_together():
    labels = ClassLabels({"HC": 0, "left": 1, "right": 1, 3: 0})
    assert [labels.index(text) for text in ("HC", "left", "right", "3", "3.0")] == [0, 1, 1, 0, 0]
    assert labels.num_classes == 2
    with pytest.raises(ValueError, match=r"the label 'lft' is unknown; nearest: 'left'"):
        labels.index("lft")


def test_whole_numbers():
    labels = ClassLabels().resolve(["0", "2", "1.0", ""])
    assert labels.num_classes == 3
    assert [labels.index(text) for text in ("0", "1.0", "2")] == [0, 1, 2]
    for text in ("3", "-1", "1.5", "x", ""):
        with pytest.raises(ValueError, match="label"):
            labels.index(text)


def test_names_in_alphabetical_order_where_nothing_is_a_number():
    labels = ClassLabels().resolve(["wet", "dry", "wet", "none"])
    assert labels.to_dict() == {"dry": 0, "none": 1, "wet": 2}
    # One number among them makes the names mistakes, not classes.
    with pytest.raises(ValueError, match="wet"):
        ClassLabels().resolve(["0", "1", "wet"]).index("wet")


def test_named_classes_as_labels_and_as_numbers():
    labels = ClassLabels(classes=["normal", "early", "late"]).resolve(["late"])
    assert [labels.index(text) for text in ("late", "1", "normal")] == [2, 1, 0]
    assert labels.num_classes == 3
    with pytest.raises(ValueError, match="nearest: 'early'"):
        labels.index("erly")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": {"a": 0, "b": 2}, "num_classes": 2}, r"holds b: 2; expected .* from 0 to 1"),
        ({"labels": {"a": 0, "b": True}}, "b: True"),
        ({"labels": {"a": "0"}}, "a: '0'"),
        ({"labels": {}}, "holds nothing"),
        ({"num_classes": 1}, "2 classes or more"),
        ({"classes": ["a", "a"]}, "different names"),
        ({"classes": ["a", "b"], "num_classes": 3}, "num_classes=3"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        ClassLabels(**options)


@pytest.mark.parametrize("mark", [";", ",", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_the_line_of_excel_states_the_delimiter_and_counts_as_a_row(mark, start, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"{start}sep={mark}\ncaseID{mark}label\nP1{mark}None\n", encoding="utf-8")
    (row,) = read_table(path)
    assert (row.where, row["caseID"], row["label"]) == ("t.csv, row 3", "P1", "None")
