import json
import math

import pytest

from seewhy.errors import DataError
from seewhy.run.translation.score_table import COLUMNS, read_samples, write_samples


def row(**given):
    plain = dict.fromkeys(COLUMNS, "x") | {"slice": 3, "value": 0.25}
    return {**plain, **given}


def test_round_trip(tmp_path):
    rows = [row(), row(slice=4, value=1 / 3), row(value=math.inf)]
    path = write_samples(tmp_path / "evaluation", rows)
    assert path == tmp_path / "evaluation" / "samples.parquet"
    assert read_samples(path.parent) == rows
    told = json.loads((path.parent / "samples.json").read_text())
    assert told == [rows[0], rows[1], {**rows[2], "value": None}]
    assert sorted(file.name for file in path.parent.iterdir()) == ["samples.json", "samples.parquet"]


def test_further_columns_are_kept(tmp_path):
    write_samples(tmp_path, [row(method="identity")])
    assert read_samples(tmp_path)[0]["method"] == "identity"


def test_no_rows_are_a_table_too(tmp_path):
    write_samples(tmp_path, [])
    assert read_samples(tmp_path) == []
    assert json.loads((tmp_path / "samples.json").read_text()) == []


def test_missing_and_damaged_files_are_said(tmp_path):
    with pytest.raises(DataError, match="seewhy evaluate run="):
        read_samples(tmp_path / "evaluation")
    (tmp_path / "samples.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_samples(tmp_path)


def test_other_tables_are_refused(tmp_path):
    import pandas as pd

    pd.DataFrame({"slice": [1]}).to_parquet(tmp_path / "samples.parquet")
    with pytest.raises(DataError, match="has no columns subject"):
        read_samples(tmp_path)


def test_text_columns_hold_nothing_else(tmp_path):
    import pandas as pd

    for wrong in ({"a": 1}, 5, None):
        pd.DataFrame([row(id=wrong), row(id=wrong)]).to_parquet(tmp_path / "samples.parquet")
        with pytest.raises(DataError, match="stores id as"):
            read_samples(tmp_path)
