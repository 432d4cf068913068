"""`seewhy.save`: a model that was trained in Python is a run like any other."""

import json

import numpy as np
import pytest
import torch
import yaml
from blank_figures import blank_figures
from lightning.pytorch import LightningModule, Trainer

import seewhy
from seewhy.cli.compose import compose_saved
from seewhy.data import AMDDataModule, MRIDataModule
from seewhy.errors import CheckpointError, ConfigError
from seewhy.io.documents import read_csv
from seewhy.models import AMDGrading
from seewhy.phantoms import write_amd_phantom
from seewhy.run.explanations.explain import explain
from seewhy.run.predict import predict

QUIET = ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu")
TRAINER = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_steps": 2,
}  # fmt: skip


def make_model():
    return AMDGrading(
        backbone={"name": "test_efficientnet"}, optimizer={"name": "adamw", "lr": 1e-3}, scheduler={"name": "constant"}
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model and its data, trained by hand for two steps; the checkpoint is of the first."""
    home = tmp_path_factory.mktemp("saving")
    root = write_amd_phantom(home / "eyes", cases=16, size=32)
    datamodule = AMDDataModule(root=root, batch_size=4, fractions=(0.5, 0.25, np.float64(0.25)))
    model = make_model()
    trainer = Trainer(**TRAINER, enable_checkpointing=False)
    trainer.fit(model, datamodule)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.save_checkpoint(home / "first.ckpt")
    with torch.no_grad():
        model.net.head[-1].bias.add_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    return model.eval(), datamodule, home, first


def images_of(datamodule):
    """Files of a case."""
    case = next(iter(datamodule.items_of("test")))
    return {name: str(path) for name, path in case.files.items()}


def test_a_saved_model_predicts_as_it_did(trained):
    model, datamodule, home, _ = trained
    run = seewhy.save(model, datamodule, home / "run", name="by hand")
    record = yaml.safe_load((run / "config.yaml").read_text())
    assert record["config"]["name"] == "by hand"
    assert record["config"]["data"]["fractions"] == [0.5, 0.25, 0.25]
    split = json.loads((run / "split.json").read_text())
    assert record["seewhy"]["split"] == split["hash"] == datamodule.split.hash
    with torch.no_grad():
        expected = model.predict_step(next(iter(datamodule.test_dataloader())), 0)
    loaded = seewhy.load(run)
    [prediction] = loaded.predict(images_of(datamodule))
    np.testing.assert_allclose(prediction.probability, expected["probability"][0], rtol=0, atol=1e-6)
    [sample] = loaded.explain(images_of(datamodule), method="saliency")
    assert set(sample.heatmaps) == set(datamodule.inputs)


def test_commands_continue_from_it(trained, tmp_path):
    model, datamodule, _, _ = trained
    run = seewhy.save(model, datamodule, tmp_path / "run")
    predict(compose_saved("predict", run, *QUIET, f"callbacks.predictions.folder={tmp_path}/predicted"))
    rows = read_csv(tmp_path / "predicted" / "predictions.csv").rows
    assert len(rows) == len(datamodule.sample_ids("test"))
    with blank_figures():
        explain(compose_saved("explain", run, *QUIET, f"paths.output_dir={tmp_path}", "explain.judge=none",
                              "explain.methods=[saliency]", "explain.max_samples=2"))  # fmt: skip
    assert (tmp_path / "explanations" / "explanations.json").is_file()


def test_a_checkpoint_is_taken_instead_of_the_present_weights(trained, tmp_path):
    model, datamodule, home, first = trained
    run = seewhy.save(model, datamodule, tmp_path / "run", checkpoint=home / "first.ckpt")
    loaded = seewhy.load(run).model.state_dict()
    assert all(torch.equal(value, first[name]) for name, value in loaded.items())
    assert not all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.items())
    (tmp_path / "other.ckpt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"other\.ckpt"):
        seewhy.save(model, datamodule, tmp_path / "second", checkpoint=tmp_path / "other.ckpt")
    assert not (tmp_path / "second").exists()


def test_what_nobody_else_could_load_is_refused(trained, tmp_path):
    model, datamodule, _, _ = trained

    class Mine(LightningModule):
        pass

    with pytest.raises(ConfigError, match=r"Mine.*module"):
        seewhy.save(Mine(), datamodule, tmp_path / "run")
    odd = AMDDataModule(root=datamodule.root, labels={"normal": 0})
    odd.given[1]["labels"] = {"normal": torch.zeros(1)}
    with pytest.raises(ConfigError, match=r"data\.labels\.normal is a Tensor"):
        seewhy.save(model, odd, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run = seewhy.save(model, datamodule, tmp_path / "run")
    with pytest.raises(ConfigError, match="already holds a run"):
        seewhy.save(model, datamodule, run)


def test_options_of_data_sets_are_listed_and_have_the_defaults_of_their_files(tmp_path):
    assert MRIDataModule(root=tmp_path).table == tmp_path / "cases.csv"
    with pytest.raises(TypeError, match="tables"):
        MRIDataModule(tables="cases.csv")
