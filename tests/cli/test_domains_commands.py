import argparse
import json

import pytest

from seewhy.cli import check, prepare
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.errors import ConfigError, DataError
from seewhy.phantoms.scanners import write_scanner_phantom


@pytest.fixture
def source(tmp_path):
    return write_scanner_phantom(tmp_path / "source", subjects=[3, 3], shape=[24, 24, 24])


def call(command, *words):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    options = parser.parse_args([str(word) for word in words])
    return options.run(options)


def test_prepare_and_train_on_what_was_prepared(source, tmp_path, capsys):
    assert call(prepare, "prepare", "domains", source, tmp_path / "out") == 0
    assert "prepared now" in capsys.readouterr().out
    module = BraTSDomainsDataModule(root=str(tmp_path / "out"), batch_size=2)
    module.setup("fit")
    assert module.is_phantom
    assert next(iter(module.train_dataloader()))["a"]["image"].shape == (2, 12, 24, 24)
    assert len(module.store.counterparts) == 6
    assert call(check, "check", tmp_path / "out") == 0


def test_folders_can_have_other_names(source, tmp_path):
    (source / "a").rename(source / "siteX")
    words = ("domains", source, tmp_path / "out", "--a", "siteX", "--counterparts", "none", "--quiet")
    assert call(prepare, "prepare", *words) == 0
    assert len(BraTSDomainsDataModule(root=str(tmp_path / "out")).subjects) == 6
    with pytest.raises(DataError, match="/a "):
        call(prepare, "prepare", "domains", source, tmp_path / "other", "--quiet")


def found(capsys, *words):
    status = call(check, "check", *words, "--json")
    (report,) = json.loads(capsys.readouterr().out)
    return status, report


def test_check_reads_all_and_writes_nothing(source, capsys):
    before = sorted(source.rglob("*"))
    status, report = found(capsys, source)
    assert (status, report["errors"], report["warnings"]) == (0, 0, 0)
    assert report["counts"]["subjects"] == {"a": 3, "b": 3, "counterparts/a": 3, "counterparts/b": 3}
    assert sorted(source.rglob("*")) == before


def test_check_names_what_is_wrong(source, capsys):
    (source / "a" / "A001" / "A001_t2.nii.gz").unlink()
    for path in (source / "a" / "A002").iterdir():
        copy = source / "b" / "B009" / path.name.replace("A002", "B009")
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (source / "b" / "B002" / "B002_t1.nii.gz").write_bytes(b"no volume")
    (source / "split.json").write_text(json.dumps({"train": ["A002"], "val": ["Z001"], "test": []}))
    status, report = found(capsys, source, "--split", source / "split.json")
    messages = [f"{finding['kind']} {finding['file']} {finding['message']}" for finding in report["findings"]]
    assert status == 1
    expected = ["A001 has no t2", "b/B009 same content as a/A002", "B002_t1.nii.gz", "no patient 'Z001'"]
    for text in expected:
        assert any(text in message for message in messages), text
    assert report["errors"] == len(expected)


def test_check_opens_what_was_prepared(source, tmp_path, capsys):
    call(prepare, "prepare", "domains", source, tmp_path / "out", "--quiet")
    (tmp_path / "out" / "a" / "A001" / "body.npy").write_bytes(b"")
    (tmp_path / "out" / "b" / "B001" / "subject.json").write_text("{")
    status, report = found(capsys, tmp_path / "out")
    assert status == 1
    assert any("subject.json is not valid JSON" in finding["message"] for finding in report["findings"])


def test_options_for_slices_are_refused(source):
    with pytest.raises(ConfigError, match="are for slices"):
        call(check, "check", source, "--pattern", "x")
