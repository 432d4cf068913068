"""explain.py on finished runs: the reference's tree of a volume, the scanner's space, restarts, several processes."""

import json

import nibabel
import numpy as np
import pytest

from seewhy.cli.compose import compose_saved, compose_train
from seewhy.errors import ConfigError, DataError
from seewhy.run.explanations.explain import explain

TINY_MRI = (
    "experiment=demo/mri",
    "phantom.cases=12",
    "data.slices=[12,36]",
    "trainer.max_epochs=1",
    "data.batch_size=4",
    "explain.methods=[]",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
)
TWO = ("explain.methods=[grad_cam,saliency]", "explain.judge=none", "explain.max_samples=3")


@pytest.fixture(scope="module")
def volumes(train_here, tmp_path_factory):
    """A tiny run on volumes, without explanations."""
    folder = tmp_path_factory.mktemp("volumes")
    train_here(folder, base=TINY_MRI)
    return folder


def explain_here(run, out, *overrides):
    explain(compose_saved("explain", run, "trainer.enable_progress_bar=false", f"paths.output_dir={out}", *overrides))
    return out / "explanations"


def records(folder):
    return json.loads((folder / "explanations.json").read_text())["explanations"]


def test_a_run_without_methods_makes_no_explanations(volumes):
    assert not (volumes / "explanations").exists()


def test_the_tree_of_the_reference_with_slices_numbered_as_in_the_scan(volumes, tmp_path):
    folder = explain_here(volumes, tmp_path, *TWO, "explain.key_slices=[14,20]")
    found = records(folder)
    assert len(found) == 6
    for record in found:
        name, method = record["id"], record["method"]
        own = folder / method / name
        stem = f"{name}_{method}"
        assert {path.name for path in own.glob("*.png")} == {
            f"{stem}_slice_14.png",
            f"{stem}_slice_20.png",
            f"{stem}_summary.png",
        }
        assert np.load(own / f"{stem}_attributions.npy").shape == (24, 48, 48)


def test_maps_lie_on_their_source_voxel_by_voxel(volumes, tmp_path):
    folder = explain_here(volumes, tmp_path, *TWO)
    for record in records(folder):
        source = nibabel.load(record["source"])
        own = folder / record["method"] / record["id"]
        written = nibabel.load(own / f"{record['id']}_{record['method']}.nii.gz")
        assert written.shape == source.shape
        np.testing.assert_array_equal(written.affine, source.affine)
        array = np.load(own / f"{record['id']}_{record['method']}_attributions.npy")
        values = written.get_fdata(dtype=np.float32)
        axis = record["placement"]["axis"]
        planes = np.moveaxis(values, axis, 0)
        np.testing.assert_array_equal(planes[12:36], array)  # slices 12 to 35, at their own size
        assert not planes[:12].any()
        assert not planes[36:].any()


def test_a_second_run_computes_only_what_is_new(volumes, tmp_path):
    folder = explain_here(volumes, tmp_path, *TWO)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*_attributions.npy")}
    explain_here(volumes, tmp_path, "explain.methods=[grad_cam,saliency,input_x_gradient]", *TWO[1:])
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*_attributions.npy")}
    assert {path: after[path] for path in before} == before
    assert len(after) == 9


def test_options_reach_the_explainer_and_are_recorded(volumes, tmp_path):
    words = ["explain.methods=[integrated_gradients]", "explain.options.integrated_gradients.steps=3", *TWO[1:]]
    folder = explain_here(volumes, tmp_path, *words)
    manifest = json.loads((folder / "explanations.json").read_text())
    assert manifest["options"]["integrated_gradients"]["steps"] == 3
    assert all(record["completeness"] is not None for record in manifest["explanations"])


def test_an_atlas_gives_shares_by_region(volumes, tmp_path):
    folder = explain_here(volumes, tmp_path / "a", *TWO)
    source = nibabel.load(records(folder)[0]["source"])
    labels = np.zeros(source.shape, np.uint8)
    labels[: source.shape[0] // 2] = 1
    nibabel.save(nibabel.Nifti1Image(labels, source.affine), tmp_path / "atlas.nii.gz")
    folder = explain_here(volumes, tmp_path / "b", *TWO, f"explain.atlas={tmp_path / 'atlas.nii.gz'}")
    lines = (folder / "shares.csv").read_text().splitlines()
    regions = [line.split(",") for line in lines if ",region," in line]
    assert {row[6] for row in regions} == {"0", "1"}
    assert sum(float(row[7]) for row in regions) == pytest.approx(len(records(folder)), abs=1e-4)
    assert {float(row[8]) for row in regions} == {0.5}


@pytest.mark.parametrize(
    ("word", "error", "message"),
    [
        ("explain.key_slices=[5]", DataError, "slice 5 is outside the crop from 12 to 35"),
        ("explain.methods=[grad_cm]", ConfigError, r"'grad_cm' \(nearest: 'grad_cam'"),
        ("explain.target=7", ConfigError, r"explain.target=7 .* 0 to 1 \(HC, TLE\)"),
        ("explain.target=TLEE", ConfigError, "nearest: 'TLE'"),
        ("explain.samples=[H1]", ConfigError, "no such sample"),
        ("explain.options.saliencyy={}", ConfigError, "nearest: 'saliency'"),
        ("explain.options.grad_cam.layers=net.nothing", ConfigError, "has no layer 'net.nothing'; nearest"),
        ("explain.memory_budget=much", ConfigError, "memory_budget"),
    ],
)
def test_mistakes_are_said_in_words(volumes, tmp_path, word, error, message):
    with pytest.raises(error, match=message):
        explain_here(volumes, tmp_path, *TWO, word)


def test_slices_are_explained_beside_the_maps_that_the_model_predicts(single, tmp_path):
    folder = explain_here(single, tmp_path, "explain.methods=[grad_cam,hires_cam]", "explain.max_samples=4")
    found = records(folder)
    assert {record["method"] for record in found} == {"grad_cam", "hires_cam"}
    assert all(record["probability"] == pytest.approx(1 / (1 + np.exp(-abs(record["scores"][0])))) for record in found)
    assert (folder / "ranking.png").is_file()
    assert (folder / "report.html").is_file()
    assert list((tmp_path / "attention_maps").glob("*.png"))


@pytest.mark.slow
def test_two_processes_explain_as_one(command, volumes, tmp_path):
    words = [f"run={volumes}", "data.predict_on=all", "explain.methods=[saliency]", "explain.judge=none"]
    command("explain.py", *words, f"paths.output_dir={tmp_path / 'one'}")
    ddp = ["trainer=ddp_cpu", "trainer.devices=2", "trainer.enable_progress_bar=false"]
    command("explain.py", *words, *ddp, f"paths.output_dir={tmp_path / 'two'}")
    one, two = (tmp_path / name / "explanations" for name in ("one", "two"))
    assert [record["id"] for record in records(one)] == [record["id"] for record in records(two)]
    arrays = sorted(path.relative_to(one) for path in one.rglob("*_attributions.npy"))
    assert len(arrays) == 12
    for path in arrays:
        np.testing.assert_allclose(np.load(two / path), np.load(one / path), rtol=1e-3, atol=1e-6)


def test_methods_of_a_folder_of_the_users_are_found(command, volumes, tmp_path):
    mine = tmp_path / "my" / "explainer"
    mine.mkdir(parents=True)
    (mine / "plain.yaml").write_text("_target_: seewhy.explain.gradient.saliency.Saliency\n")
    words = [f"run={volumes}", "explain.methods=[plain]", *TWO[1:], f"paths.output_dir={tmp_path / 'out'}"]
    command("explain.py", "--config-dir", str(tmp_path / "my"), *words)
    assert (tmp_path / "out" / "explanations" / "explanations.json").is_file()
    refused = command("explain.py", *words, expect=1)
    assert "'plain'" in refused.stderr


def test_labels_given_whole_replace_those_of_the_file():
    config = compose_train("experiment=mri", "data.root=here", "data.labels={sound: 0, ill: 1}")
    assert dict(config.data.labels) == {"sound": 0, "ill": 1}
