"""The files of an answer are those of predict.py, byte for byte; and what else an answer says."""

import base64
import csv
import gzip
import io
import json
import shutil
import zipfile
from pathlib import Path

import bad_files as bad
import numpy as np
import pytest

from seewhy.batch import MODALITIES
from seewhy.cli.compose import compose_saved
from seewhy.reporting.page import read_explanations
from seewhy.run.predict import predict
from seewhy.run.serving.served_run import read_verdict

QUIET = ("trainer.enable_progress_bar=false", "callbacks.browser=null", "callbacks.scores=null")


def post(client, files, *, path="/predict", **texts):
    """The answer to files by field; several files of a field are a list."""
    pairs = [(field, one) for field, given in files.items() for one in (given if isinstance(given, list) else [given])]
    opened = [(field, (one.name, one.read_bytes())) for field, one in pairs]
    answer = client.post(path, files=opened, data=texts)
    assert answer.status_code == 200, answer.text
    return answer


def files_of(client, files, **texts):
    """Name → bytes, the same in the JSON answer and in the zip file."""
    listed = post(client, files, **texts).json()["files"]
    inside = {entry["name"]: base64.b64decode(entry["content"]) for entry in listed}
    with zipfile.ZipFile(io.BytesIO(post(client, files, path="/predict.zip", **texts).content)) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    assert packed == inside
    return inside


def predicted(run, folder, *words):
    """Name → bytes of what predict.py writes."""
    options = [*QUIET, f"callbacks.predictions.folder={folder}", "callbacks.predictions.npz=true"]
    predict(compose_saved("predict", run, *options, *words))
    pages = ("report.html", "results.json", "doubts.csv")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*") if path.is_file() and path.name not in pages
    }  # fmt: skip


def without(content, *, columns=()):
    """Rows of a table without columns, and with the names of source files alone."""
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    for row in rows:
        row["source"] = row["source"].rpartition("/")[2]
    return [{key: value for key, value in row.items() if key not in columns} for row in rows]


def test_amd(run_of, serve, tmp_path, monkeypatch):
    run, datamodule = run_of("amd")
    case = datamodule.items_of("test")[0]
    files = {name: path for name, path in case.files.items() if path is not None and name != "ga"}
    for path in files.values():
        shutil.copy(path, tmp_path)
    (tmp_path / "cases.csv").write_text(f"caseID\n{case.id}\n")
    monkeypatch.chdir(tmp_path)  # so that sources have no folder
    words = ["data.root=.", "data.table=cases.csv", "data.id_column=caseID", "data.label_column=null"]
    words += ["data.patient_column=null", "data.patient_pattern=null", "data.masks=null", "data.missing=allow"]
    theirs = predicted(run, tmp_path / "theirs", *words, "data.predict_on=all")
    assert files_of(serve("amd"), files, method="none") == theirs
    assert list(theirs) == ["predictions.csv"]


def test_mri(run_of, serve, tmp_path, monkeypatch):
    run, datamodule = run_of("mri")
    path = datamodule.items_of("test")[0].files["image"]
    shutil.copy(path, tmp_path)
    (tmp_path / "cases.csv").write_text(f"id,file\nP1,{path.name}\n")
    monkeypatch.chdir(tmp_path)
    words = ["data.root=.", "data.table=cases.csv", "data.id_column=id", "data.file_column=file"]
    words += [
        "data.label_column=null",
        "data.patient_column=null",
        "data.mask_column=null",
        "data.patient_pattern=null",
    ]
    theirs = predicted(run, tmp_path / "theirs", *words, "data.predict_on=all")
    assert files_of(serve("mri"), {"image": path}, method="none", name="P1") == theirs


@pytest.mark.parametrize("system", ["brats", "lasc"])
def test_slices(run_of, serve, tmp_path, system):
    run, datamodule = run_of(system)
    group = datamodule.items_of("test")[0]
    patient, files = group[0].patient, [record.path for record in group]
    theirs = predicted(run, tmp_path / "theirs", f"data.test_patients=['{patient}']", "data.train_patients=null")
    client = serve(system)
    ours = files_of(client, {"image": files[::-1]}, name=patient)
    assert ours[f"{patient}.npz"] == theirs[f"{patient}.npz"]
    # The names of a data set's slices hold their labels, which a new patient does not have.
    expected = without(theirs["predictions.csv"], columns=["label_1"])
    assert without(ours["predictions.csv"]) == [row for row in expected if row["patient"] == patient]
    answer = post(client, {"image": files}, name=patient, method="grad_cam").json()
    assert [case["id"] for case in answer["cases"]] == [patient]
    layers = answer["cases"][0]["layers"]
    assert {layer["kind"] for layer in layers} == {"image", "map", "prediction"}
    assert layers[-1]["name"] == "Grad-CAM (single slices)"
    assert any("look at the doubts" in note for note in answer["notes"])


def test_doubts_are_those_of_the_table(run_of, serve, tmp_path):
    run, datamodule = run_of("brats")
    group = datamodule.items_of("test")[0]
    predict(compose_saved("predict", run, *QUIET, f"callbacks.predictions.folder={tmp_path}",
                          f"callbacks.doubts.folder={tmp_path}"))  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "doubts.csv").read_text().splitlines()))
    [row] = [row for row in rows if row["patient"] == group[0].patient]
    assert row["doubts"]
    assert post(serve("brats"), {"image": [record.path for record in group]}).json()["doubts"] == [row["doubts"]]


def test_a_scan_is_cut_and_written_on_its_grid(run_of, serve, tmp_path, model_of):
    import seewhy
    from seewhy.data.prepare import prepare_brats
    from seewhy.phantoms.scanners import write_scanner_phantom

    run, _ = run_of("brats")
    root = write_scanner_phantom(tmp_path / "scanners", subjects=(2, 1), shape=(48, 48, 24))
    prepare_brats(root / "a", tmp_path / "slices", modality="flair", window="percentile", dtype="uint8", every=2,
                  progress=False)  # fmt: skip
    scan = sorted((root / "a").rglob("*flair*.nii.gz"))[0]
    theirs = predicted(run, tmp_path / "theirs", f"data.root={tmp_path / 'slices'}", "data.predict_on=all")
    model = seewhy.load(run, device="cpu", options={"data.root": str(tmp_path / "slices")})
    ours = files_of(serve("brats", model=model), {"image": scan}, name="A001")
    volumes = {name for name in ours if name.endswith(".nii.gz")}
    assert len(volumes) > 1
    assert {name: ours[name] for name in volumes} == {name: theirs[name] for name in volumes}


def test_translation(run_of, serve, tmp_path):
    run, datamodule = run_of("cyclegan")
    subject = next(subject for subject in datamodule.items_of("test") if subject.domain == "a")
    theirs = predicted(run, tmp_path / "theirs", "data.domain=a")
    subject_files = {name: Path(path) for name, path in subject.files.items()}
    client = serve("cyclegan")
    ours = files_of(client, subject_files, domain="a", name=subject.id, method="none")
    scans = [f"{subject.id}/{path.name}" for path in subject_files.values()]
    assert len(scans) == len(MODALITIES)
    for name in (*scans, f"{subject.id}.npz"):
        assert ours[name] == theirs[name]
    expected = without(theirs["predictions.csv"])
    assert without(ours["predictions.csv"]) == [row for row in expected if row["id"] == subject.id]
    answer = post(client, subject_files, domain="a", name=subject.id, target="t1ce").json()
    assert (answer["predicted"], answer["method"]["name"]) == ("translated to scanner b", "gates")
    assert answer["method"]["target"] == answer["cases"][1]["facts"]["explained"] == "t1ce"


def test_volumes(run_of, serve, tmp_path):
    run, datamodule = run_of("volume")
    values = np.asarray(datamodule.items_of("test")[0].open()[0].read((slice(0, 32), slice(0, 36), slice(0, 32)))[0])
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(bad.nifti(values.T, np.diag([1.0, 1.0, 1.25, 1.0]))))
    words = [f"volume.input={path}", f"volume.output={tmp_path / 'out.nii.gz'}", "volume.store.dtype=labels"]
    predict(compose_saved("predict", run, "trainer.enable_progress_bar=false", "volume.preview=false", *words))
    client = serve("volume")
    assert files_of(client, {"image": path}) == {"scan.nii.gz": (tmp_path / "out.nii.gz").read_bytes()}
    answer = post(client, {"image": path}, method="grad_cam", target="vessel").json()
    assert [value["unit"] for value in answer["values"]] == ["ml", "ml"]
    assert "Grad-CAM, vessel" in [layer["name"] for layer in answer["cases"][0]["layers"]]
    stored = bad.zipped({f"s.zarr/{p.relative_to(datamodule.root / 'images' / 'ct001.zarr')}": p.read_bytes()
                         for p in (datamodule.root / "images" / "ct001.zarr").rglob("*") if p.is_file()})  # fmt: skip
    answer = client.post("/predict", files={"image": ("scan 2.zarr.zip", stored)})
    assert [entry["name"] for entry in answer.json()["files"]] == ["scan 2.nii.gz"]


# -- what an answer says ------------------------------------------------------------------------------------------


def eye(datamodule):
    return {name: path for name, path in datamodule.items_of("test")[0].files.items() if path is not None}


def test_an_answer_has_probabilities_map_verdict_and_warnings(run_of, serve):
    _, datamodule = run_of("amd")
    client = serve("amd")
    answer = post(client, eye(datamodule), target="early").json()
    shares = {value["name"]: value["value"] for value in answer["values"]}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
    assert max(shares, key=shares.get) == answer["predicted"]
    assert "temperature 1.7" in answer["about"]
    assert answer["method"]["verdict"]["state"] == "not judged"
    assert "medical device" in answer["warnings"][0]
    assert "synthetic" in answer["warnings"][1]
    [case] = answer["cases"]
    maps = [layer for layer in case["layers"] if layer["kind"] == "map"]
    assert {layer["input"] for layer in maps} == set(client.get("/run").json()["inputs"])
    assert answer["method"]["target"] == "early"
    assert post(client, eye(datamodule), method="none").json()["method"] is None


def test_the_description_fits_the_answers(run_of, serve):
    _, datamodule = run_of("amd")
    client = serve("amd")
    description = client.get("/openapi.json").json()
    schemas = description["components"]["schemas"]
    answer = post(client, eye(datamodule)).json()
    assert set(answer) == set(schemas["ServedAnswer"]["properties"])
    assert set(answer["files"][0]) == set(schemas["File"]["properties"])
    content = description["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(datamodule.input_names) < set(content["properties"])
    assert content["properties"]["method"]["enum"] == ["grad_cam", "saliency", "none"]
    for page in ("/docs", "/redoc"):  # would load scripts from elsewhere
        assert client.get(page).status_code == 404


def test_names_from_elsewhere_are_only_names(run_of, serve):
    _, datamodule = run_of("amd")
    client = serve("amd")
    content = eye(datamodule)["mnv"].read_bytes()
    for given, expected in (
        ("../../../etc/cron.d/x_mnv.PNG", "x"), ("C:\\temp\\con.png", "_con"), ("<b>_mnv.png", "_b_"),
        (".png", "mnv"), ("ä" * 200 + ".png", None),
    ):  # fmt: skip
        answer = client.post("/predict", files={"mnv": (given, content)}, data={"method": "none"}).json()
        assert expected in (answer["id"], None), given
        assert "/" not in answer["id"]
    answer = client.post(
        "/predict", files={"mnv": ("a.png", content)}, data={"method": "none", "name": "../=1+1"}
    ).json()
    assert answer["id"] == "_=1+1"


# -- verdicts -----------------------------------------------------------------------------------------------------


def write_verdicts(folder, verdicts, sha256="abc"):
    """`explanations.json` as explain.py writes it, with these verdicts."""
    entry = {"id": "1", "patient": "1", "method": "grad_cam", "target_name": "early", "pictures": []}
    record = {"checkpoint": "best.ckpt", "sha256": sha256, "phantom": False, "refused": [], "verdicts": verdicts,
              "ranking": [], "by_class": [], "figures": {}, "explanations": [entry]}  # fmt: skip
    (folder / "explanations").mkdir()
    (folder / "explanations" / "explanations.json").write_text(json.dumps(record))
    assert read_explanations(folder / "explanations")["records"]


@pytest.mark.parametrize(
    ("verdicts", "state", "fact"),
    [
        ({"grad_cam": {"passes": True, "doubts": [], "samples": 50}}, "passed", "50 samples"),
        ({"grad_cam/early": {"passes": False, "doubts": ["maps stay the same"], "samples": 5}}, "failed", "the same"),
        ({"grad_cam": {"passes": None, "doubts": [], "samples": 2}}, "open", "not tested"),
        ({"grad_cam": None, "saliency": {"passes": True, "doubts": []}}, "not judged", "explain.methods=[grad_cam]"),
    ],
)  # fmt: skip
def test_the_verdict_is_that_of_the_run(tmp_path, verdicts, state, fact):
    write_verdicts(tmp_path, verdicts)
    verdict = read_verdict(tmp_path, "grad_cam", "abc")
    assert verdict.state == state
    assert fact in verdict.text
    assert read_verdict(tmp_path, "grad_cam", "other").state == "not judged"


def test_a_method_that_failed_is_marked_at_its_maps(run_of, serve, tmp_path):
    import seewhy

    run, datamodule = run_of("amd")
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(run / "config.yaml", tmp_path)
    (tmp_path / "checkpoints" / "best.ckpt").symlink_to(run / "checkpoints" / "best.ckpt")
    model = seewhy.load(tmp_path, device="cpu")
    verdict = {"passes": False, "doubts": ["its maps do not change with the weights"], "samples": 9}
    write_verdicts(tmp_path, {"grad_cam": verdict}, sha256=model.sha256)
    client = serve("amd", model=model)
    answer = post(client, eye(datamodule)).json()
    assert answer["method"]["verdict"]["state"] == "failed"
    maps = [layer for layer in answer["cases"][0]["layers"] if layer["kind"] == "map"]
    assert all("do not change" in layer["note"] for layer in maps)
    other = post(client, eye(datamodule), method="saliency").json()
    assert other["method"]["verdict"]["state"] == "not judged"
    assert not any(layer["note"] for layer in other["cases"][0]["layers"])
