import json

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from seewhy.data.slices.datamodule import BraTSDataModule
from seewhy.errors import ConfigError
from seewhy.models.weakly_supervised.segmentation import WeaklySupervisedSegmentation
from seewhy.nets.refinement import choose_level
from seewhy.phantoms.slices import write_tumour_phantom

OPTIMIZER = {"name": "adamw", "lr": 1e-3}
SCHEDULER = {"name": "constant"}


def attentive(**options):
    """The whole method, tiny."""
    settings = {
        "encoder": {"name": "mit_nano"},
        "pooling": {"name": "gmp"},
        "classifier": {"bias": False},
        "decoder": {"dim": 16},
        "cam": {"normalize": "minmax"},
        "refinement": {"iterations": 2},
        "affinity": {"radius": 2},
        "regions": {},
        "optimizer": OPTIMIZER,
        "scheduler": SCHEDULER,
    }
    return WeaklySupervisedSegmentation(**{**settings, **options})


def convolutional(**options):
    settings = {
        "encoder": {"name": "cnn", "widths": [8, 8, 8, 8]},
        "decoder": {"dim": 8},
        "refinement": {"iterations": 2},
        "optimizer": OPTIMIZER,
        "scheduler": SCHEDULER,
    }
    return WeaklySupervisedSegmentation(**{**settings, **options})


def training_batches(count=6, size=(48, 50)):
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        # One batch without any foreground image.
        label = torch.zeros(4, 1) if number == 3 else torch.tensor([[0.0], [1], [1], [0]])
        names = [f"{number}_{i}" for i in range(4)]
        yield {"image": torch.randn(4, 1, *size, generator=generator), "label": label, "id": names, "patient": names}


def patient(name="x", slices=5, size=(48, 50)):
    generator = torch.Generator().manual_seed(slices)
    return {
        "image": torch.randn(slices, 1, *size, generator=generator),
        "label": (torch.arange(slices) % 2).float()[:, None],
        "body": torch.ones(slices, *size, dtype=torch.bool),
        "mask": (torch.rand(slices, *size, generator=generator) > 0.9).byte(),
        "id": [f"{name}_{i}" for i in range(slices)],
        "patient": [name] * slices,
        "index": list(range(slices)),
        "source": [""] * slices,
    }


def loader(batches):
    return DataLoader(list(batches), batch_size=None)


def trainer(tmp_path, **options):
    settings = {
        "accelerator": "cpu", "max_epochs": 1, "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "num_sanity_val_steps": 0,
    }  # fmt: skip
    return Trainer(default_root_dir=tmp_path, **{**settings, **options})


def fit(model, tmp_path, batches=None, **options):
    run = trainer(tmp_path, **options)
    run.fit(model, loader(batches or training_batches()))
    return run


@pytest.mark.parametrize("make", [attentive, convolutional])
def test_trains_through_all_phases_and_loads_again(make, tmp_path):
    model = make(cam_iters=2, walk_iters=4)
    run = trainer(tmp_path)
    run.fit(model, loader(training_batches()), loader([patient("x"), patient("y", 4)]))
    logged = run.callback_metrics
    assert all(torch.isfinite(value) for value in logged.values())
    assert {"val/loss", "val/auroc", "val/f1", "val/accuracy", "val/cam/dice"} <= set(logged)
    route = "walk" if make is attentive else "cam"
    assert {"train/segmentation_loss", f"train/coverage_{route}", f"train/foreground_{route}"} <= set(logged)

    run.test(model, loader([patient("x"), patient("y", 4)]), verbose=False)
    assert "test/segmentation/dice" in run.callback_metrics
    assert len(model.classification_scores["test"].rows()) == 9
    assert {row["patient"] for row in model.patient_scores["test"].rows()} == {"x", "y"}

    run.save_checkpoint(tmp_path / "a.ckpt")
    again = WeaklySupervisedSegmentation.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True).eval()
    assert torch.equal(again(patient()["image"]), model.eval()(patient()["image"]))


def test_says_when_phases_begin(tmp_path, caplog):
    with caplog.at_level("INFO"):
        fit(attentive(cam_iters=2, walk_iters=4), tmp_path)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("step ")]
    assert said == [
        "step 0: classification only",
        "step 2: pixel labels from CAM",
        "step 4: pixel labels from CAM and random walk",
    ]


def test_pixel_heads_rest_until_their_phase(tmp_path):
    model = attentive(cam_iters=4, walk_iters=None)
    heads = {name: p.clone() for name, p in model.named_parameters() if name.startswith(("decoder", "attn_proj"))}
    run = fit(model, tmp_path, max_steps=4, max_epochs=-1)
    for name, before in heads.items():
        assert torch.equal(model.get_parameter(name), before), name
    state = run.optimizers[0].state
    assert not any(model.get_parameter(name) in state for name in heads)  # Adam has not counted empty steps

    moved = attentive(cam_iters=4, walk_iters=None)
    moved.load_state_dict(model.state_dict())
    run = fit(moved, tmp_path, max_steps=5, max_epochs=-1)
    assert not torch.equal(moved.decoder.linear_pred.weight, model.decoder.linear_pred.weight)


def test_affinities_learn_from_cam_labels_unless_told_otherwise(tmp_path, monkeypatch):
    for source in ("cam", "walk"):
        model, seen = attentive(cam_iters=0, walk_iters=1, affinity_labels=source), []
        original = model.pixel_labels
        monkeypatch.setattr(
            model,
            "pixel_labels",
            lambda *a, routes, o=original, s=seen, **k: (s.append(routes), o(*a, routes=routes, **k))[1],
        )
        fit(model, tmp_path, max_steps=2, max_epochs=-1)
        assert seen == [["cam"], ["cam", "walk"] if source == "cam" else ["walk"]]


def test_images_without_a_class_are_background_and_cost_no_view():
    model = attentive()
    image = torch.randn(3, 1, 32, 32)
    present = torch.tensor([[False], [True], [True]])
    doubted = torch.tensor([False, False, True])
    counted = []
    model.encoder.register_forward_hook(lambda _, inputs, __: counted.append((len(inputs[0]), model.encoder.training)))
    view = model_view(model, image)
    counted.clear()
    labels = model.pixel_labels(image, present, view, doubted=doubted, routes=["cam"])["cam"]
    assert (labels[0] == 0).all()
    assert (labels[2] == 255).all()
    assert sum(count for count, _ in counted) == 5  # one image: two scales with mirror image, and a mirror image
    assert not any(training for _, training in counted)
    assert model.encoder.training


def model_view(model, image):
    from seewhy.nets.cam import View

    features = model.encoder(image, attention=True)
    return View(model.classifier.activation_map(features.maps[-1]), features.attention).detach()


@pytest.mark.parametrize(("option", "loss"), [("seg_detach", "segmentation"), ("affinity_detach", "affinity")])
@pytest.mark.parametrize("detach", [True, False])
def test_losses_can_be_kept_out_of_the_encoder(option, loss, detach):
    model = attentive(**{option: detach})
    features = model.encoder(torch.randn(2, 1, 32, 32), attention=True)
    labels = torch.randint(0, 2, (2, 32, 32))
    losses = model._pixel_losses(features, {"cam": labels}, {"segmentation": "cam", "affinity": "cam"})
    losses[loss].backward()
    gradient = model.encoder.patch_embed1.proj.weight.grad
    assert (gradient is None) if detach else (gradient.abs().sum() > 0)
    head = model.decoder.linear_pred if loss == "segmentation" else model.attn_proj
    assert head.weight.grad.abs().sum() > 0


def test_parameter_groups_and_frozen_norms():
    model = attentive(head_lr=10.0, freeze_norm=True)
    encoder, heads = model.parameter_groups()
    assert (encoder["lr_scale"], heads["lr_scale"]) == (1.0, 10.0)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(name.startswith("encoder.") and "norm" in name for name in frozen)
    total = len(encoder["params"]) + len(heads["params"]) + len(frozen)
    assert total == len(list(model.parameters()))
    assert any(p is model.classifier.weight for p in heads["params"])


def test_predictions_have_every_map_in_range_and_batch_facts():
    model, batch = attentive().eval(), patient(size=(33, 47))
    prediction = model.predict_step(batch)
    assert list(prediction["maps"]) == ["cam", "affinity", "segmentation", "refined"]
    for values in prediction["maps"].values():
        assert values.shape == (5, 1, 33, 47)
        assert values.min() >= 0
        assert values.max() <= 1
    assert prediction["probability"].shape == (5, 1)
    assert prediction["id"] == batch["id"]
    assert prediction["source"] == batch["source"]
    assert "mask" not in prediction
    assert "image" not in prediction


def test_prediction_does_not_depend_on_chunks_or_annotated_classes():
    model, batch = attentive(gate=0.5, regions=None).eval(), patient()
    whole = model.predict_step(batch)
    model.hparams["chunk_size"] = 2
    pieces = model.predict_step({**batch, "label": 1 - batch["label"]})
    for name, values in whole["maps"].items():
        torch.testing.assert_close(pieces["maps"][name], values)


def test_gate_empties_maps_of_classes_not_predicted():
    model, batch = attentive(regions=None).eval(), patient()
    probability = model(batch["image"]).sigmoid().flatten()
    between = probability.detach().sort().values[len(probability) // 2 - 1 :][:2]
    gate = float(between.mean())  # not one of them: other batches are rounded otherwise
    model.hparams["gate"] = gate
    maps = model.predict_step(batch)["maps"]
    for i, p in enumerate(probability):
        assert (maps["cam"][i].max() > 0) == (p > gate)
        assert (maps["affinity"][i].max() > 0) == (p > gate)


def test_an_absent_class_has_no_region_but_keeps_the_order_of_its_pixels():
    model, batch = convolutional(regions={"floor": 0.0}).eval(), patient()
    highest = float(model(batch["image"]).detach().sigmoid().max())
    drawn = model.predict_step(batch)["maps"]["refined"]
    assert bool((drawn > 0.5).any())
    model.presence_threshold.fill_(highest - 1e-3)
    assert torch.equal(model.predict_step(batch)["maps"]["refined"], drawn)
    model.presence_threshold.fill_(highest + 1e-3)
    absent = model.predict_step(batch)["maps"]["refined"]
    assert float(absent.max()) <= 0.5
    torch.testing.assert_close(absent, drawn * 0.5 * highest / (highest + 1e-3))


@pytest.mark.parametrize("weigh", [True, False])
def test_evidence_counts_as_much_as_its_slice_is_probable(weigh):
    model, batch = convolutional(regions={"floor": 0.0}, weigh_slices=weigh).eval(), patient()
    prediction = model.predict_step(batch)
    weights = prediction["probability"][:, :, None, None] if weigh else 1.0
    expected = model.refine(batch["image"][:, 0], prediction["maps"]["cam"] * weights, batch["body"])
    assert torch.equal(prediction["maps"]["refined"], expected)
    other = model.refine(batch["image"][:, 0], prediction["maps"]["cam"], batch["body"])
    assert torch.equal(expected, other) is not weigh


@pytest.mark.parametrize(("solid", "fill", "expected"), [(False, None, False), (True, None, True), (False, True, True)])
def test_holes_are_filled_as_the_training_data_says_and_the_checkpoint_holds_it(solid, fill, expected, tmp_path):
    write_tumour_phantom(tmp_path / "set", patients=6, slices=4, size=32)
    about = tmp_path / "set" / "dataset.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"solid": solid}))
    data = BraTSDataModule(root=str(tmp_path / "set"), batch_size=4, batches_per_epoch=2)
    model = convolutional(regions={"floor": 0.0}, fill_holes=fill)
    assert model.fills_holes is (fill is not False)
    run = trainer(tmp_path, limit_train_batches=2)
    run.fit(model, data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = WeaklySupervisedSegmentation.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert again.fills_holes is model.fills_holes is expected


@pytest.mark.parametrize("decide", [True, False])
def test_the_threshold_of_presence_comes_from_validation_labels_and_is_in_the_checkpoint(decide, tmp_path):
    model = convolutional(decide_absence=decide)
    healthy = patient("h", 4) | {"label": torch.zeros(4, 1)}
    run = trainer(tmp_path, limit_train_batches=2)
    run.fit(model, loader(training_batches(2)), loader([patient("x"), healthy]))
    expected = model.classification_scores["val"].presence_thresholds()[0]
    kept = float(model.presence_threshold)
    assert kept == pytest.approx(expected if decide else 0.0)
    before = model.presence_threshold.clone()
    run.validate(model, loader([patient("z", 3)]), verbose=False)  # only a fit decides
    assert torch.equal(model.presence_threshold, before)
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = WeaklySupervisedSegmentation.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(again.presence_threshold, before)


def test_explanation_contract():
    model, image = attentive(), torch.randn(2, 1, 33, 47, requires_grad=True)
    local = model.class_activation(image)
    local.sum().backward()
    assert local.shape == (2, 1, 3, 3)
    assert image.grad.abs().sum() > 0
    attention = model.attention_maps(image)
    assert [layer.shape for layer in attention] == [(2, 8, 9, 9)] * 2
    assert convolutional().attention_maps(image) == []


def test_maps_follow_from_the_settings():
    assert attentive().map_names == ["cam", "affinity", "segmentation", "refined"]
    assert convolutional().map_names == ["cam", "segmentation"]
    assert convolutional(loss_weights={"segmentation": 0}).map_names == ["cam"]
    assert not hasattr(convolutional(loss_weights={"segmentation": 0}), "decoder")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"affinity": {}}, "no attention .* model.affinity=null"),
        ({"cam": {"scale": [1]}}, "`model.cam.scale` .*'scales'"),
        ({"pooling": {"name": "lse", "sharpnes": 2}}, "model.pooling.sharpnes"),
        ({"evidence": "cma"}, "model.evidence: .* 'cam'"),
        ({"validation_maps": ["affinity"]}, "model.validation_maps: .* 'affinity'"),
        ({"affinity_labels": "self"}, "model.affinity_labels='self'"),
        ({"loss_weights": {"segmentation": -1}}, "loss_weights"),
        ({"cam_iters": -3}, "model.cam_iters=-3"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        convolutional(**options)


def test_a_step_under_autocast_stays_finite(tmp_path):
    run = fit(attentive(cam_iters=0, walk_iters=1), tmp_path, precision="bf16-mixed", max_steps=3, max_epochs=-1)
    assert torch.isfinite(run.callback_metrics["train/loss"])


def test_two_processes_train_through_all_phases(tmp_path):
    model = attentive(cam_iters=2, walk_iters=4, cam={"normalize": "minmax", "scales": [1.0, 0.5]})
    run = fit(model, tmp_path, list(training_batches(12)), strategy="ddp_fork", devices=2, use_distributed_sampler=True)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert torch.isfinite(run.callback_metrics["train/segmentation_loss"])


@pytest.mark.parametrize("preset", ["weakly_supervised", "afa"])
def test_presets_build_and_predict(preset, repository):
    model_config = OmegaConf.load(repository / "conf" / "model" / f"{preset}.yaml")
    config = OmegaConf.create({"data": {"channels": 1, "num_classes": 2}, "seed": 7, "model": model_config})
    settings = OmegaConf.to_container(config.model, resolve=True)
    if preset == "afa":
        settings["encoder"]["name"] = "mit_nano"
    del settings["_target_"], settings["_convert_"]
    model = WeaklySupervisedSegmentation(**settings).eval()
    prediction = model.predict_step(patient(size=(48, 48)))
    assert list(prediction["maps"]) == model.map_names
    assert "refined" in model.map_names


def test_level_without_clear_edges_is_that_of_patients_with_clear_ones_and_reads_no_mask(tmp_path):
    """Patients with evidence on a sharp square choose their level by its edges; one of noise has none."""
    root = tmp_path / "set"
    (root / "imageSlice").mkdir(parents=True)
    (root / "maskSlice").mkdir()
    rng = np.random.default_rng(0)
    for patient in ("001", "002", "003", "004"):
        for index in range(4):
            image = 0.05 * rng.standard_normal((48, 48)).astype(np.float32) + 1
            image[:4], image[-4:] = 0, 0
            label = int(index in (1, 2) and patient != "004")
            if label:
                image[16:32, 16:32] += 1
            np.save(root / "imageSlice" / f"BRATS_{patient}_{index}_{label}.npy", image)
            (root / "maskSlice" / f"BRATS_{patient}_{index}_{label}.npy").write_text("not an array")
    data = BraTSDataModule(root=str(root), val_patients=["003"], test_patients=[])
    assert [batch["patient"][0] for batch in data.positive_patients(8)] == ["003", "001", "002"]
    assert [batch["patient"][0] for batch in data.positive_patients(2)] == ["003", "001"]
    assert all("mask" not in batch for batch in data.positive_patients(8))

    model = convolutional(regions={"floor": 0.0, "evidence_sigma": [0, 1, 1]}).eval()
    bright = lambda image: torch.where(image > (image.max() + image.median()) / 2, 3.0, -3.0)  # noqa: E731
    model.predict_maps = lambda image, names: (torch.zeros(len(image), 1), {"cam": bright(image).sigmoid()})
    model.measure_after_fit(data)
    expected = []
    for batch in data.positive_patients(8):
        image = batch["image"]
        expected.append(
            choose_level(
                image[:, 0], 0.5 * bright(image).sigmoid()[:, 0], batch["body"], floor=0.0, evidence_sigma=[0, 1, 1]
            )
        )
    assert None not in expected
    assert float(model.unclear_level) == pytest.approx(sorted(expected)[1])
    fixed = convolutional(regions={"level": 0.3})
    fixed.measure_after_fit(data)
    assert float(fixed.unclear_level) == 0.5
