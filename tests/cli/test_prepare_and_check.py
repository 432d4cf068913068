import argparse
import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from seewhy.cli import check, prepare
from seewhy.errors import ConfigError, DataError


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    for case in ("A", "B", "C"):
        folder = tmp_path / "src" / case
        folder.mkdir(parents=True)
        seg = np.zeros((10, 10, 4), np.uint8)
        seg[2:5, 2:5, 1:3] = 1
        seg[2, 2, 3] = 2
        image = np.pad(rng.integers(1, 900, (8, 8, 4)), ((1, 1), (1, 1), (0, 0))).astype(np.int16)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"{case}_flair.nii.gz")
        nib.save(nib.Nifti1Image(seg, np.eye(4)), folder / f"{case}_seg.nii.gz")
    return tmp_path / "src"


def call(*words):
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    prepare.add_parser(commands)
    check.add_parser(commands)
    options = parser.parse_args([str(word) for word in words])
    return options.run(options)


def test_prepare_then_check(source, tmp_path, capsys):
    out = tmp_path / "out"
    assert call("prepare", "brats", source, out, "--min-area", 2, "--dtype", "uint8", "--all-slices") == 0
    text = capsys.readouterr().out
    assert "label 0 with annotated pixels" in text
    assert json.loads((out / "dataset.json").read_text())["label_rule"] == "area"
    assert call("check", out) == 0
    assert "usable: 0 error(s)" in capsys.readouterr().out
    assert call("check", out, "--slice-split", 1, 2) == 1
    assert "divides patient" in "".join(capsys.readouterr().out.split("│")).replace("\n", " ")


def test_check_json_is_json_alone(source, tmp_path, capsys):
    out = tmp_path / "out"
    call("prepare", "brats", source, out, "--quiet")
    assert capsys.readouterr() == ("", "")
    (out / "imageSlice" / "BRATS_A_1_1.npy").write_bytes(b"")
    assert call("check", out, tmp_path / "none", "--json") == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    first, second = json.loads(captured.out)
    assert first["ok"] is False
    assert first["findings"][0]["kind"] == "unreadable"
    assert first["counts"]["files"] == 12
    assert second["findings"][0]["kind"] == "missing"


def test_many_findings_of_a_kind_share_a_row(source, tmp_path, capsys):
    out = tmp_path / "out"
    call("prepare", "brats", source, out, "--quiet")
    for path in (out / "imageSlice").iterdir():
        path.write_bytes(b"")
    assert call("check", out) == 1
    assert "and 7 more" in capsys.readouterr().out


def test_mistakes_are_errors_of_ours(source, tmp_path):
    with pytest.raises(ConfigError, match="flair"):
        call("prepare", "brats", source, tmp_path / "out", "--modality", "flare")
    with pytest.raises(ConfigError, match="label_rule='area' only"):
        call("prepare", "brats", source, tmp_path / "out", "--label-rule", "fraction", "--min-area", 3)
    with pytest.raises(DataError, match="none"):
        call("prepare", "lasc", tmp_path / "none", tmp_path / "out")
    with pytest.raises(ConfigError, match="needs the group"):
        call("check", source, "--pattern", "x")


def read_files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_several_processes_write_and_find_what_one_does(source, tmp_path, capsys):
    for jobs in (1, 3):
        call("prepare", "brats", source, tmp_path / str(jobs), "--quiet", "--jobs", jobs)
    assert read_files(tmp_path / "1") == read_files(tmp_path / "3")
    (tmp_path / "1" / "imageSlice" / "BRATS_A_1_1.npy").write_bytes(b"")
    (tmp_path / "1" / "maskSlice" / "BRATS_C_2_1.npy").write_bytes(b"cut")
    outputs = []
    for jobs in (1, 3):
        assert call("check", tmp_path / "1", "--json", "--jobs", jobs) == 1
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert {"BRATS_A_1_1.npy", "maskSlice/BRATS_C_2_1.npy"} <= {
        finding["file"] for finding in json.loads(outputs[1])[0]["findings"]
    }
    for case in ("A", "C"):
        (source / case / f"{case}_seg.nii.gz").write_bytes(b"none")
    problems = []
    for jobs in (1, 3):
        with pytest.raises(DataError) as refusal:
            call("prepare", "brats", source, tmp_path / "bad", "--quiet", "--jobs", jobs)
        problems.append(refusal.value.problems)
    assert problems[0] == problems[1]
    assert len(problems[1]) >= 2
    assert not list(tmp_path.glob("bad*"))
    with pytest.raises(ConfigError, match="jobs=0"):
        call("check", tmp_path / "1", "--jobs", 0)


def test_neither_command_loads_torch(source, tmp_path):
    code = (
        "import argparse, sys\n"
        "from seewhy.cli import check, prepare\n"
        "assert 'numpy' not in sys.modules\n"
        "parser = argparse.ArgumentParser(); commands = parser.add_subparsers()\n"
        "prepare.add_parser(commands); check.add_parser(commands)\n"
        f"source, out = {str(source)!r}, {str(tmp_path / 'o')!r}\n"
        "for words in (['prepare', 'brats', source, out], ['check', out]):\n"
        "    options = parser.parse_args(words); assert options.run(options) == 0\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
