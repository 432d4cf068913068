from pathlib import Path

import pytest

from seewhy.data.cases.case_list import Case, Columns, Files, list_cases, rarest_class, split_cases
from seewhy.data.table import ClassLabels, read_table
from seewhy.errors import ConfigError, DataError

OPTIONS = {"fractions": (0.6, 0.2, 0.2), "seed": 0}


def listed(tmp_path, text, columns, labels=None, part=None):
    path = tmp_path / "cases.csv"
    path.write_text(text)

    def locate(row):
        missing = [f"{row['file']} does not exist"] if row["file"].startswith("no") else []
        return Files(row[columns.id], {"image": Path(row["file"])}, {}, missing)

    return list_cases(read_table(path, part=part), columns, labels or ClassLabels(num_classes=3), locate)


def cases_of(labels, patient_of=lambda number: f"p{number}", **options):
    return [
        Case(f"c{number}", patient_of(number), label, {}, number + 2, **options) for number, label in enumerate(labels)
    ]


@pytest.mark.parametrize("name", ["x" * 300, "nul", "..", "a\\b", "ü" * 200])
def test_any_name_becomes_one_part_of_a_path(tmp_path, name):
    (case,) = listed(tmp_path, f"id,file\n{name},a.png\n", Columns("id"))
    (tmp_path / f"{case.id}_integrated_gradients_attributions.npy").touch()
    assert len(list(tmp_path.glob("*.npy"))) == 1


def test_names_are_safe_and_patients_found_by_pattern(tmp_path):
    columns = Columns("id", "label", patient_pattern=r"(P\d+)")
    cases = listed(tmp_path, "id,label,file\nP12 L,1,a.png\nP12/R,2,b.png\n../P3,0,c.png\n", columns)
    assert [(case.id, case.patient, case.label, case.row) for case in cases] == [
        ("P12_L", "P12", 1, 2),
        ("P12_R", "P12", 2, 3),
        ("_P3", "P3", 0, 4),
    ]
    assert cases[0].where == "cases.csv, row 2 (case P12_L)"
    assert cases[0].source == "a.png"


def test_the_patient_column_is_used_where_it_is_there(tmp_path):
    text = "id,label,file,patient\na,0,a.png,X\nb,1,b.png,X\n"
    assert [case.patient for case in listed(tmp_path, text, Columns("id", "label"))] == ["X", "X"]
    named = Columns("id", "label", patient_pattern=r"(?P<other>.)(?P<patient>.?)")
    assert [case.patient for case in listed(tmp_path, text.replace("a,0", "az,0"), named)] == ["z", "b"]


def test_all_problems_at_once_with_their_rows(tmp_path):
    text = """id,label,file,patient,fold
a,0,a.png,X,0
b,7,b.png,X,1
c,,no.png,Y,0
a b,1,d.png,,x
A_B,1,e.png,Z,1
,1,f.png,Z,1
"""
    with pytest.raises(DataError) as caught:
        listed(tmp_path, text, Columns("id", "label", "patient", fold="fold"))
    facts = [
        ("cases.csv, row 3 (case b)", "label '7'", "0 to 2", "data.labels"),
        ("cases.csv, row 4 (case c)", "no.png does not exist"),
        ("cases.csv, row 4 (case c)", "label is empty", "data.label_column=null"),
        ("cases.csv, row 5 (case a b)", "'patient' is empty"),
        ("cases.csv, row 5 (case a b)", "'fold' is 'x'"),
        ("cases.csv, row 7", "'id' is empty"),
        ("'a_b'", "cases.csv row 5, cases.csv row 6"),
        ("patient 'X'", "folds", "0 in cases.csv row 2, 1 in cases.csv row 3"),
    ]
    assert len(caught.value.problems) == len(facts)
    for problem, words in zip(caught.value.problems, facts, strict=True):
        assert all(word in problem for word in words), problem


def test_a_patient_written_in_two_ways_is_named_with_rows(tmp_path):
    text = "id,label,file,patient\na,0,a.png,007\nb,1,b.png,8\nc,0,c.png,7\n"
    with pytest.raises(DataError) as caught:
        listed(tmp_path, text, Columns("id", "label"))
    (problem,) = caught.value.problems
    assert "'007' in cases.csv row 2, '7' in cases.csv row 4" in problem


def test_parts_of_a_column(tmp_path):
    columns = Columns("id", "label", part="set")
    text = "id,label,file,set\na,0,a,train\nb,1,b,Val\nc,1,c,test\nd,1,d,train\n"
    split = split_cases(listed(tmp_path, text, columns), stratify=True, options=OPTIONS)
    assert (split.train, split.val, split.test) == (("a", "d"), ("b",), ("c",))
    with pytest.raises(DataError, match=r"row 3 \(case b\): 'set' is 'vall'; nearest: 'val'"):
        listed(tmp_path, text.replace("Val", "vall"), columns)


def test_two_ways_to_the_patient_are_refused():
    with pytest.raises(ConfigError, match="two ways to the patient"):
        Columns("id", patient="patient", patient_pattern=".")
    with pytest.raises(ConfigError, match=r"patient_pattern='\(' is not a regular expression"):
        Columns("id", patient_pattern="(")


def test_a_patient_counts_for_its_rarest_class():
    cases = cases_of([0, 2, 0, 0, 1, 1, 0], lambda number: f"p{number // 2}")
    # Patients by class: 0 in p0, p1, p3; 1 in p2; 2 in p0.
    assert rarest_class(cases) == {"p0": 2, "p1": 0, "p2": 1, "p3": 0}
    assert rarest_class([*cases, Case("x", "p9", None, {}, 9)]) is None


def test_splits_of_cases_hold_classes_alike_and_patients_whole():
    labels = [0] * 40 + [1] * 16 + [2] * 8
    cases = cases_of(labels, lambda number: f"p{number // 2}")
    split = split_cases(cases, stratify=True, options=OPTIONS)
    parts = {part: [case.label for case in cases if case.patient in split.part(part)] for part in ("val", "test")}
    assert {part: [found.count(label) for label in range(3)] for part, found in parts.items()} == {
        "val": [8, 4, 2],
        "test": [8, 2, 2],
    }
    assert split.made["stratified"] is True
    assert "stratified" not in split_cases(cases, stratify=False, options=OPTIONS).made


def test_tables_of_their_own_fill_their_parts_and_the_rest_is_dealt():
    cases = cases_of([0, 1] * 10) + [Case(f"t{n}", f"t{n}", n % 2, {}, n, part="test") for n in range(4)]
    split = split_cases(cases, stratify=True, options=OPTIONS)
    assert split.test == ("t0", "t1", "t2", "t3")
    assert (len(split.train), len(split.val)) == (15, 5)  # .6 and .2 of the shares, brought to 1
    assert split.made["by"] == "tables"
    both = [*cases, Case("v", "v", 0, {}, 1, part="val")]
    split = split_cases(both, stratify=True, options=OPTIONS)
    assert (len(split.train), split.val) == (20, ("v",))
    with pytest.raises(ConfigError, match=r"data\.fold, data\.num_folds; keep one way"):
        split_cases(both, stratify=True, options={**OPTIONS, "fold": 0, "num_folds": 3})


def test_folds_of_a_column_are_the_true_ones():
    cases = [case for fold in (1, 2, 3) for case in cases_of([0, 1], lambda n, fold=fold: f"f{fold}p{n}", fold=fold)]
    split = split_cases(cases, stratify=True, options={**OPTIONS, "fold": 3})
    assert (split.test, split.val, split.train) == (("f3p0", "f3p1"), ("f1p0", "f1p1"), ("f2p0", "f2p1"))
    assert split.made["fold"] == 3
    for options, message in (
        ({}, r"set data\.fold.* \[1, 2, 3\]"),
        ({"fold": 1, "num_folds": 5}, "num_folds=5, but data.fold_column holds the folds"),
        ({"fold": 1, "test_patients": ["f1p0"]}, "data.test_patients are two ways"),
    ):
        with pytest.raises(ConfigError, match=message):
            split_cases(cases, stratify=True, options={**OPTIONS, **options})
