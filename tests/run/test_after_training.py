"""predict and explain on a finished run: its own data, other data, with overrides; volumes; imported checkpoints."""

import json

import nibabel
import numpy as np
import pytest
import torch

from seewhy.cli.compose import compose_saved, compose_train
from seewhy.data.prepare import prepare_brats
from seewhy.errors import CheckpointError, ConfigError, DataError
from seewhy.phantoms.slices import write_tumour_phantom
from seewhy.run.build import build_model
from seewhy.run.explanations.explain import explain
from seewhy.run.importing import import_checkpoint
from seewhy.run.predict import predict

QUIET = ("trainer.enable_progress_bar=false",)
AFFINE = np.array([[-1.2, 0, 0, 10], [0, 0.9, 0.1, -20], [0, -0.1, 2.5, 5], [0, 0, 0, 1]])
ATTENTIVE = (
    "model=afa",
    "model.encoder.name=mit_nano",
    "model.affinity.radius=2",
    "model.decoder.dim=16",
    "trainer.max_epochs=1",
)


def predict_here(run, out, *overrides):
    predict(compose_saved("predict", run, *QUIET, f"paths.output_dir={out}", *overrides))


def explain_here(run, out, *overrides):
    explain(compose_saved("explain", run, *QUIET, f"paths.output_dir={out}", *overrides))


@pytest.fixture(scope="module")
def attentive(train_here, tmp_path_factory):
    """A tiny run of an encoder with attention."""
    folder = tmp_path_factory.mktemp("attentive")
    train_here(folder, *ATTENTIVE)
    return folder


def test_the_commands_start_from_the_run(command, single, record):
    command("predict.py", f"run={single}", "data.predict_on=val", "callbacks.predictions.npz=true")
    rows = record.table(single / "predictions" / "predictions.csv")
    split = record.split(single)
    assert {row["patient"] for row in rows} == set(split["val"])
    assert len(list((single / "predictions").glob("*.npz"))) == len(split["val"])
    before = {path: path.read_bytes() for path in (single / "cam_npy").iterdir()}
    command("explain.py", f"run={single}", "explain.max_samples=4")
    again = {path: path.read_bytes() for path in (single / "cam_npy").iterdir()}
    assert again == before
    refused = command("explain.py", f"run={single}", "explain.max_sample=4", expect=1)
    assert "explain.max_sample' does not exist; nearest: 'explain.max_samples'" in refused.stderr


def test_predictions_do_not_depend_on_chunks_or_on_who_else_is_predicted(single, tmp_path, record):
    predict_here(single, tmp_path / "a", "data.predict_on=all", "callbacks.predictions.npz=true")
    predict_here(single, tmp_path / "b", "model.chunk_size=3", "callbacks.predictions.npz=true")
    tables = [record.table(tmp_path / name / "predictions" / "predictions.csv") for name in "ab"]
    both = {row["id"]: float(row["probability_1"]) for row in tables[0]}
    assert len(both) == 32
    assert {row["id"]: float(row["probability_1"]) for row in tables[1]} == pytest.approx(
        {row["id"]: both[row["id"]] for row in tables[1]}, abs=1e-5
    )


def test_other_data(single, tmp_path, record):
    other = write_tumour_phantom(tmp_path / "other", patients=2, slices=3, size=64, seed=5)
    predict_here(single, tmp_path, f"data.root={other}", "data.predict_on=all")
    assert len(record.table(tmp_path / "predictions" / "predictions.csv")) == 6
    explain_here(single, tmp_path, f"data.root={other}", "data.predict_on=all", "explain.max_samples=0")
    assert np.load(next((tmp_path / "cam_npy").glob("*_refined.npy"))).shape == (1, 64, 64)
    assert len(list((tmp_path / "cam_npy").glob("*.json"))) == 6


def test_other_scales_make_other_maps_and_the_last_checkpoint_is_named(single, tmp_path):
    explain_here(single, tmp_path / "a", "use_final=true", "model.cam.scales=[1.0,0.75]", "explain.own_maps.maps=[cam]")
    explain_here(single, tmp_path / "b", "use_final=true", "explain.own_maps.maps=[cam]")
    explain_here(single, tmp_path / "c", "use_final=true", "explain.own_maps.maps=[cam]")
    first = sorted((tmp_path / "a" / "cam_npy").glob("*.npy"))
    assert first
    for path in first:
        default = (tmp_path / "b" / "cam_npy" / path.name).read_bytes()
        assert path.read_bytes() != default
        assert (tmp_path / "c" / "cam_npy" / path.name).read_bytes() == default
    facts = json.loads(next((tmp_path / "a" / "cam_npy").glob("*.json")).read_text())
    assert facts["checkpoint"] == "last.ckpt"
    assert facts["scale"] == [0.0, 1.0]


def test_raw_attention_is_kept_where_there_is_any(attentive, single, tmp_path):
    explain_here(attentive, tmp_path, "explain.own_maps.attention=true", "explain.own_maps.maps=[cam,affinity,refined]")
    file = next((tmp_path / "attention_npy").glob("*.npz"))
    layers = np.load(file, allow_pickle=False)
    for name in layers.files:
        heads, queries, keys = layers[name].shape
        assert heads >= 1
        assert queries == keys > 1
    assert list((tmp_path / "cam_npy").glob("*_affinity.npy"))
    with pytest.raises(ConfigError, match="attention=false"):
        explain_here(single, tmp_path, "explain.own_maps.attention=true")
    with pytest.raises(ConfigError, match="'affinit'; nearest: 'affinity'"):
        explain_here(attentive, tmp_path, "explain.own_maps.maps=[affinit]")


def test_volumes_lie_on_their_source(train_here, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        case = tmp_path / "volumes" / f"BraTS20_Training_{number:03d}"
        case.mkdir(parents=True)
        image = np.zeros((40, 36, 5), np.int16)
        image[4:36, 4:32] = rng.integers(100, 200, (32, 28, 5))
        seg = np.zeros(image.shape, np.uint8)
        seg[10:20, 10:18, 1:3] = 2
        image[seg > 0] += 300
        for kind, values in (("flair", image), ("seg", seg)):
            nibabel.save(nibabel.Nifti1Image(values, AFFINE), case / f"{case.name}_{kind}.nii.gz")
    prepare_brats(tmp_path / "volumes", tmp_path / "slices", progress=False)
    words = [f"data.root={tmp_path / 'slices'}", "data.fractions=[0.5,0.25,0.25]", "trainer.max_epochs=1"]
    train_here(tmp_path / "run", *words, base=train_here.on_own_data)
    predict_here(tmp_path / "run", tmp_path / "out")
    volumes = sorted((tmp_path / "out" / "predictions").glob("*.nii.gz"))
    assert {path.name.split("_")[-1] for path in volumes} == {
        "cam.nii.gz",
        "segmentation.nii.gz",
        "refined.nii.gz",
        "mask.nii.gz",
    }
    for path in volumes:
        volume = nibabel.load(path)
        assert volume.shape == (40, 36, 5)
        assert np.allclose(volume.affine, AFFINE)
    [refined, mask] = [np.asarray(nibabel.load(p).dataobj) for p in volumes if "refined" in p.name or "mask" in p.name][
        ::-1
    ]
    assert np.array_equal(mask > 0, refined > 0.5)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_imported_checkpoint_predicts(tmp_path, record, prefix):
    config = compose_train("experiment=brats", "model=afa", "model.encoder.name=mit_b0", "data.channels=3")
    torch.manual_seed(3)
    state = build_model(config).state_dict()
    measured = {
        name: state.pop(name) for name in ("presence_threshold", "solid", "unclear_level")
    }  # not in the reference
    torch.save({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "best.pth")
    said = import_checkpoint(
        "afa",
        tmp_path / "best.pth",
        tmp_path / "run",
        compose_train("experiment=brats", "model=afa"),
        pooling="gmp",
        root=None,
        overwrite=False,
    )
    assert said.startswith("mit_b0, 2 classes")
    made = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert made.keys() == state.keys() | measured.keys()
    assert all(torch.equal(made[name], state[name]) for name in state)
    assert made["presence_threshold"].tolist() == [0.0]  # every patient may have the class
    assert all(torch.equal(made[name], value) for name, value in measured.items())
    data = write_tumour_phantom(tmp_path / "data", patients=2, slices=2, size=64, seed=1)
    predict_here(tmp_path / "run", tmp_path / "out", f"data.root={data}", "data.predict_on=all")
    assert len(record.table(tmp_path / "out" / "predictions" / "predictions.csv")) == 4
    with pytest.raises(ConfigError, match=r"already holds a run; .*--overwrite"):
        import_checkpoint("afa", tmp_path / "best.pth", tmp_path / "run", config, pooling="gmp")


def test_a_checkpoint_of_another_model_is_named(single, attentive, tmp_path):
    other = attentive / "checkpoints" / "best.ckpt"
    with pytest.raises(CheckpointError, match=r"is of another model than WeaklySupervisedSegmentation: \d+ missing"):
        predict_here(single, tmp_path, f"ckpt_path={other}")
    with pytest.raises(CheckpointError, match=r"nothing_here\.ckpt does not exist"):
        predict_here(single, tmp_path, "ckpt_path=nothing_here.ckpt")
    with pytest.raises(DataError, match="does not exist"):
        predict_here(single, tmp_path, "data.root=nowhere")
    assert not any(tmp_path.rglob("*.csv"))
