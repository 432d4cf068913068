"""`seewhy.load`: what Python gets for files and arrays equals what predict.py and explain.py write."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
import zarr
from blank_figures import blank_figures

import seewhy
from seewhy.cli.compose import compose_saved
from seewhy.errors import CheckpointError, ConfigError, DataError
from seewhy.io.documents import read_csv
from seewhy.io.image import read_image
from seewhy.run.explanations.explain import explain
from seewhy.run.predict import predict

CLOSE = {"rtol": 0, "atol": 1e-6}
QUIET = "trainer.enable_progress_bar=false"


def predicted(run, folder, *words):
    """Rows of what predict.py writes."""
    predict(compose_saved("predict", run, QUIET, f"callbacks.predictions.folder={folder}", *words))
    return read_csv(folder / "predictions.csv").rows


def explained(run, folder, *words):
    """Records of what explain.py writes, and its folder."""
    options = [QUIET, f"paths.output_dir={folder}", "explain.judge=none", "explain.own_maps=null", *words]
    with blank_figures():
        explain(compose_saved("explain", run, *options))
    records = json.loads((folder / "explanations" / "explanations.json").read_text())["explanations"]
    return {record["id"]: record for record in records}, folder / "explanations"


def check_same_record(sample, record, folder):
    """Compare one explained sample with a record of explain.py and its arrays."""
    arrays = [np.load(folder / file) for file in record["files"] if file.endswith(".npy")]
    for array, theirs in zip(sample.maps.values(), arrays, strict=True):
        peak = np.abs(theirs).max()
        assert peak > 0
        np.testing.assert_allclose(array, theirs, **CLOSE)
        np.testing.assert_allclose(array / peak, theirs / peak, rtol=0, atol=1e-5)
    assert (sample.target_name, sample.predicted_name) == (record["target_name"], record["predicted_name"])
    for key in ("probability", "confidence"):
        assert getattr(sample, key) == pytest.approx(record[key], abs=1e-6)
    assert sample.shares == pytest.approx(record["shares"], abs=1e-6)


# -- AMD grading --------------------------------------------------------------------------------------------------


def eye_of(row, folder):
    return {name: folder / f"{row['id']}_{name}.png" for name in ("mnv", "fluid", "ga", "drusen")}


@pytest.mark.parametrize("as_arrays", [False, True])
def test_grades_are_those_of_predict(run_of, tmp_path, as_arrays):
    run, datamodule = run_of("amd")
    rows = predicted(run, tmp_path)
    eyes = [eye_of(row, datamodule.root) for row in rows]
    if as_arrays:
        eyes = [{name: read_image(path) for name, path in eye.items()} for eye in eyes]
    model = seewhy.load(run, device="cpu")
    results = model.predict(eyes, names=[row["id"] for row in rows] if as_arrays else None)
    assert [result.id for result in results] == [row["id"] for row in rows]
    for result, row in zip(results, rows, strict=True):
        for k in range(4):
            name = model.classes[k]
            assert result.probability[k] == pytest.approx(float(row[f"probability_{name}"]), abs=1e-6)
            assert result.logits[k] == pytest.approx(float(row[f"logit_{k}"]), abs=1e-6)
        assert result.predicted == row["prediction_name"]


def test_a_missing_image_is_missing(run_of):
    run, datamodule = run_of("amd")
    model = seewhy.load(run, device="cpu")
    eye = eye_of({"id": datamodule.cases[0].id}, datamodule.root)
    [whole], [without], [left_out] = (
        model.predict(case) for case in (eye, {**eye, "ga": None}, {k: v for k, v in eye.items() if k != "ga"})
    )
    np.testing.assert_array_equal(without.probability, left_out.probability)
    assert not np.allclose(whole.probability, without.probability)


@pytest.mark.slow
def test_grades_are_explained_as_by_explain(run_of, tmp_path):
    run, datamodule = run_of("amd")
    words = ["explain.methods=[grad_cam,saliency]", "explain.target=early", "explain.max_samples=2"]
    records, folder = explained(run, tmp_path / "theirs", *words)
    model = seewhy.load(run, device="cpu")
    eyes = [eye_of({"id": name}, datamodule.root) for name in records]
    with blank_figures():
        samples = model.explain(eyes, method=["grad_cam", "saliency"], target="early", save_dir=tmp_path / "ours")
    assert len(samples) == 2 * len(records)
    every = json.loads((folder / "explanations.json").read_text())["explanations"]
    for sample in samples:
        [record] = [r for r in every if (r["id"], r["method"]) == (sample.id, sample.method)]
        check_same_record(sample, record, folder)
        assert all(path.is_file() for path in sample.files)
    names = {path.relative_to(tmp_path / "ours").as_posix() for path in (tmp_path / "ours").rglob("*.png")}
    assert names == {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")} - {
        "attribution_summary.png"
    } | (names & {"attribution_summary.png"})


def test_options_of_the_method_count_and_wrong_words_are_refused(run_of):
    run, datamodule = run_of("amd")
    model = seewhy.load(run, device="cpu")
    eye = eye_of({"id": datamodule.cases[0].id}, datamodule.root)
    few, many = (
        model.explain(eye, method="integrated_gradients", options={"integrated_gradients": {"steps": steps}})[0]
        for steps in (2, 9)
    )
    assert np.abs(few.maps["mnv"] - many.maps["mnv"]).max() > 0.01 * np.abs(many.maps["mnv"]).max()
    for call, message in (
        (lambda: model.predict({"mnw": eye["mnv"]}), "nearest: 'mnv'"),
        (lambda: model.predict(eye["mnv"]), "give a dict"),
        (lambda: model.explain(eye, method="grad_cm"), "nearest: 'grad_cam'"),
        (lambda: model.explain(eye, target="erly"), "nearest: 'early'"),
        (lambda: model.explain(eye, options={"saliency": {}}), "not used"),
        (lambda: model.explain(eye, judge="all"), "save_dir"),
        (lambda: model.predict_volume("a", "b.zarr"), "does not segment volumes"),
        (lambda: model.explain(eye, roi=(0, 1, 0, 1, 0, 1), over="region"), "does not read roi, over"),
        (lambda: model.predict(eye, domain="a"), "does not read domain"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
    with pytest.raises(DataError, match="does not exist"):
        model.predict({"mnv": "nowhere.png"})


# -- MRI classification -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_volumes_are_classified_and_explained_alike(run_of, tmp_path):
    run, _datamodule = run_of("mri")
    rows = predicted(run, tmp_path / "predicted")
    model = seewhy.load(run / "checkpoints" / "best.ckpt", device="cpu")
    results = model.predict([row["source"] for row in rows])
    for result, row in zip(results, rows, strict=True):
        for k in range(2):
            assert result.probability[k] == pytest.approx(float(row[f"probability_{model.classes[k]}"]), abs=1e-6)
    scan = nibabel.load(rows[0]["source"])
    [same] = model.predict((np.asarray(scan.dataobj), scan.affine))  # an array with its affine
    np.testing.assert_allclose(same.probability, results[0].probability, **CLOSE)
    with pytest.raises(DataError, match="does not store its orientation"):
        model.predict(np.asarray(scan.dataobj))
    records, folder = explained(run, tmp_path / "explained", "explain.methods=[saliency]", "explain.max_samples=1")
    [(name, record)] = records.items()
    [sample] = model.explain(record["source"], method="saliency", names=name)
    check_same_record(sample, record, folder)


@pytest.mark.slow
def test_a_volume_of_another_orientation_is_refused(run_of, tmp_path):
    run, datamodule = run_of("mri")
    scan = nibabel.load(datamodule.cases[0].files["image"])
    turned = nibabel.Nifti1Image(np.asarray(scan.dataobj)[::-1], scan.affine @ np.diag([-1, 1, 1, 1]))
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    with pytest.raises(DataError, match="of the training as"):
        seewhy.load(run, device="cpu").predict(tmp_path / "turned.nii.gz")


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_volumes_of_no_data_set_are_not_kept(run_of, tmp_path, cache):
    run, datamodule = run_of("mri")
    path = datamodule.items_of("test")[0].files["image"]
    folder = tmp_path / "cache"
    options = {"data.cache": cache} | ({"data.cache_dir": str(folder)} if cache == "disk" else {})
    model = seewhy.load(run, device="cpu", options=options)
    before = dict(model.datamodule.reader._headers)
    [kept], [usual] = model.predict(path), seewhy.load(run, device="cpu").predict(path)
    np.testing.assert_array_equal(kept.probability, usual.probability)
    assert model.datamodule.reader._headers == before
    assert not list(folder.rglob("*.npy"))
    assert type(model.datamodule.reader.cache).__name__ == f"{cache.title()}Cache"
    assert not getattr(model.datamodule.reader.cache, "_arrays", {})


# -- slices -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("system", ["brats", "lasc"])
def test_slices_have_the_maps_of_predict(run_of, tmp_path, system):
    run, datamodule = run_of(system)
    rows = predicted(run, tmp_path / "predicted", "callbacks.predictions.npz=true")
    model = seewhy.load(run, device="cpu")
    group = datamodule.items_of("test")[0]
    patient = group[0].patient
    theirs = np.load(tmp_path / "predicted" / f"{patient}.npz")
    files = [str(record.path) for record in group]
    stack = np.stack([np.load(path) for path in files])
    for given in (files[::-1], stack, list(stack)):  # numbers in the names give the order of files
        [result] = model.predict(given, names=patient)
        for name, values in result.maps.items():
            np.testing.assert_allclose(values, theirs[name], **CLOSE)
        own = [row for row in rows if row["patient"] == patient]
        for probability, row in zip(result.probability, own, strict=True):
            assert probability[0] == pytest.approx(float(row["probability_1"]), abs=1e-6)
    assert set(result.maps) == set(theirs.files) - {"index"}


@pytest.mark.slow
def test_slices_are_explained_alike(run_of, tmp_path):
    run, datamodule = run_of("brats")
    group = datamodule.items_of("test")[0]
    words = ["explain.methods=[grad_cam]", f"explain.samples=[{group[1].id}]"]
    [record], folder = (lambda found: (list(found[0].values()), found[1]))(explained(run, tmp_path, *words))
    model = seewhy.load(run, device="cpu")
    [sample] = model.explain([record.path for record in group], slices=[group[1].slice])
    check_same_record(sample, record, folder)
    with pytest.raises(ConfigError, match="slices 0 to"):
        model.explain([record.path for record in group], slices=[99], names="p")


@pytest.mark.slow
def test_a_scan_is_cut_as_the_training_scans_were(run_of, tmp_path):
    from seewhy.data.prepare import prepare_brats
    from seewhy.phantoms.scanners import write_scanner_phantom

    run, _ = run_of("brats")
    root = write_scanner_phantom(tmp_path / "scanners", subjects=(2, 1), shape=(32, 32, 24))
    prepare_brats(root / "a", tmp_path / "slices", modality="flair", window="percentile", dtype="uint8", every=2,
                  progress=False)  # fmt: skip
    scan = sorted((root / "a").rglob("*flair*.nii.gz"))[0]
    model = seewhy.load(run, device="cpu", options={"data.root": str(tmp_path / "slices")})
    [cut] = model.predict(scan)
    slices = [path for path in (tmp_path / "slices" / "imageSlice").iterdir() if "A001" in path.name]
    [given] = model.predict(slices)
    assert cut.index == given.index
    for name in cut.maps:
        np.testing.assert_allclose(cut.maps[name], given.maps[name], **CLOSE)
    with pytest.raises(ConfigError, match=r"set data\.root, or give slices"):
        seewhy.load(run, device="cpu", options={"data.root": str(tmp_path / "gone")}).predict(scan)


# -- translation --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_subjects_are_translated_and_explained_alike(run_of, tmp_path):
    run, datamodule = run_of("cyclegan")
    words = ["callbacks.predictions.npz=true", "callbacks.predictions.units=source", "data.domain=a"]
    [row, *_] = predicted(run, tmp_path / "predicted", *words)
    subject = next(subject for subject in datamodule.items_of("test") if subject.domain == "a")
    model = seewhy.load(run, device="cpu")
    theirs = np.load(tmp_path / "predicted" / f"{row['id']}.npz")
    scans = {name: nibabel.load(path) for name, path in subject.files.items()}
    arrays = {name: np.asarray(scan.dataobj) for name, scan in scans.items()}
    for given in (subject.files, arrays, {name: (arrays[name], scan.affine) for name, scan in scans.items()}):
        [result] = model.predict(given, domain="a", names=subject.id)
        np.testing.assert_allclose(result.translated, theirs["translated"], **CLOSE)
        np.testing.assert_allclose(result.reconstructed, theirs["reconstructed"], **CLOSE)
        assert result.index == theirs["index"].tolist()
    for wrong in (None, "c"):
        with pytest.raises(ConfigError, match="domain='a' or domain='b'"):
            model.predict(subject.files, domain=wrong)
    name = datamodule.ids_of(subject)[3]
    options = ["explain.methods=[saliency]", f"explain.samples=[{name}]", "explain.target=t1ce", "data.domain=a"]
    records, folder = explained(run, tmp_path / "explained", *options)
    [sample] = model.explain(subject.files, method="saliency", target="t1ce", domain="a", names=subject.id,
                             slices=[int(name.rsplit("_", 1)[1])])  # fmt: skip
    check_same_record(sample, records[name], folder)


# -- segmentation of volumes --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_volumes_are_segmented_by_the_sliding_window_of_predict(run_of, tmp_path):
    run, _datamodule = run_of("volume")
    rows = predicted(run, tmp_path / "predicted")
    model = seewhy.load(run, device="cpu")
    for row in rows:
        [result] = model.predict(row["source"], save_dir=tmp_path / "ours")
        [theirs] = [zarr.open_group(row["segmentation"], mode="r")]
        np.testing.assert_array_equal(result.labels, theirs["labels/prediction/0"][:])
        written = zarr.open_group(str(tmp_path / "ours" / f"{row['id']}.zarr"), mode="r")
        np.testing.assert_array_equal(result.labels, written["labels/prediction/0"][:])
    values = zarr.open_group(row["source"], mode="r")["0"][:]
    [same] = model.predict(values)
    np.testing.assert_array_equal(same.maps["segmentation"], result.maps["segmentation"])
    output = model.predict_volume(row["source"], tmp_path / "out.zarr", store={"dtype": "float32"}, preview=False,
                                  inference={"batch_size": 2})  # fmt: skip
    stored = zarr.open_group(output, mode="r")["0"][:]
    np.testing.assert_allclose(stored[-2:], result.maps["segmentation"], **CLOSE)


@pytest.mark.slow
def test_a_region_is_explained_as_by_explain(run_of, tmp_path):
    run, datamodule = run_of("volume")
    path = datamodule.cases[0].image
    words = [
        f"volume.input={path}",
        "explain.roi=[0,16,4,20,2,18]",
        "explain.methods=[saliency]",
        "explain.target=vessel",
    ]
    words += ["explain.over=region", "explain.judge=none", f"explain.folder={tmp_path}", QUIET]
    with blank_figures():
        explain(compose_saved("explain", run, *words))
    [record] = json.loads((tmp_path / "explanations.json").read_text())
    theirs = zarr.open_group(str(tmp_path / record["store"]), mode="r")["0"][:]
    model = seewhy.load(run, device="cpu")
    [sample] = model.explain(path, method="saliency", target="vessel", roi=(0, 16, 4, 20, 2, 18), over="region")
    np.testing.assert_allclose(sample.maps["image"], theirs, **CLOSE)
    assert sample.scores[2] == pytest.approx(record["score"], abs=1e-6)
    assert sample.record["roi"] == record["roi"]
    with pytest.raises(ConfigError, match="does not read slices, judge"):
        model.explain(path, target="vessel", slices=[3], judge="cheap")


# -- a run folder is data -----------------------------------------------------------------------------------------


def copy_of(run, folder, change):
    """A copy of a run folder whose configuration is changed."""
    record = yaml.safe_load((run / "config.yaml").read_text())
    change(record["config"])
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(record))
    (folder / "checkpoints" / "best.ckpt").symlink_to(run / "checkpoints" / "best.ckpt")
    return folder


def test_a_configuration_that_names_other_code_is_refused(run_of, tmp_path):
    run, _ = run_of("amd")

    def harm(config):
        config["data"]["_target_"] = "os.system"

    with pytest.raises(ConfigError, match="may not name"):
        seewhy.load(copy_of(run, tmp_path / "harmful", harm))

    def write_elsewhere(config):
        config["data"]["cache_dir"] = str(tmp_path / "elsewhere")

    with pytest.raises(ConfigError, match="not in the run folder"):
        seewhy.load(copy_of(run_of("mri")[0], tmp_path / "writing", write_elsewhere))


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_a_checkpoint_with_objects_is_refused(run_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = copy_of(run_of("amd")[0], tmp_path / "run", lambda config: None)
    path = run / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    path.unlink()
    torch.save({**state, "more": Bomb()}, path)
    with pytest.raises(CheckpointError, match="refused"):
        seewhy.load(run)
    assert not (tmp_path / "exploded").exists()


def test_what_is_no_run_is_refused(run_of, tmp_path):
    run, _ = run_of("amd")
    stray = tmp_path / "stray.ckpt"
    stray.write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    for wrong, error in ((tmp_path, "no config.yaml"), (stray, "preprocessing of stray.ckpt is unknown")):
        with pytest.raises(ConfigError, match=error):
            seewhy.load(wrong)
    with pytest.raises(ConfigError, match="nearest: 'image_size'"):
        seewhy.load(run, options={"data.image_sise": 32})
    with pytest.raises(CheckpointError, match=r"holds: best\.ckpt"):
        seewhy.load(run, final=True)
