"""Explanations of a translating model: each subject by the network of its direction."""

import csv

import pytest
from lightning.pytorch import Trainer

from seewhy.callbacks.explain import ExplainCallback
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.errors import ConfigError
from seewhy.explain.attention.gates import Gates
from seewhy.explain.gradient.saliency import Saliency
from seewhy.models.translation.cyclegan_25d import CycleGAN25D
from seewhy.phantoms.scanners import write_scanner_phantom
from seewhy.reporting.selection import ExplanationSettings


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_scanner_phantom(tmp_path_factory.mktemp("phantom"), subjects=(1, 1), shape=(24, 28, 24), spacing=7.0)


def explained(phantom, folder, *, settings, **options):
    generator = {"name": "sa", "width": 4, "blocks": 1, "attention_blocks": [0]}
    optimizer, scheduler = {"name": "adam", "lr": 1e-4}, {"name": "constant"}
    model = CycleGAN25D(generator=generator, optimizer=optimizer, scheduler=scheduler, **options)
    callback = ExplainCallback(
        folder=folder, explainers={"gates": Gates(), "saliency": Saliency()}, after_predict=True,
        settings=ExplanationSettings(judge="none", **settings),
    )  # fmt: skip
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, callbacks=[callback])
    datamodule = BraTSDomainsDataModule(root=str(phantom), predict_on="all")
    trainer.predict(model, datamodule, return_predictions=False)
    with (folder / "explanations" / "attribution_statistics.csv").open() as file:
        return list(csv.DictReader(file)), callback.results


def test_slices_of_both_domains_are_explained_by_the_modality_asked_for(phantom, tmp_path):
    rows, results = explained(phantom, tmp_path, settings={"max_samples": 2, "target": "t1ce"})
    assert {record["id"][0] for record in results["records"]} == {"a", "b"}
    assert {record["target_name"] for record in results["records"]} == {"t1ce"}
    layers = {record["id"][0]: record["layers"] for record in results["records"] if record["method"] == "gates"}
    assert layers["a"] == layers["b"] == {"image": "generator.decoder.1.3.spatial_attn"}
    assert len(rows) == 4
    assert not results["refused"]


def test_what_one_direction_cannot_explain_is_said(phantom, tmp_path):
    _, results = explained(
        phantom, tmp_path, settings={"max_samples": 2}, directions="a2b", losses={"weights": {"adversarial": 1.0}}
    )
    assert {record["id"][0] for record in results["records"]} == {"a"}
    assert results["refused"] == ["B001: model.directions=a2b: nothing translates domain b"]


def test_there_are_no_classes_to_choose_samples_by(phantom, tmp_path):
    with pytest.raises(ConfigError, match="this model predicts no classes to choose samples by; choose spread"):
        explained(phantom, tmp_path, settings={"samples": "worst"})
