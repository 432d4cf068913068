import itertools

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn import functional as F

from seewhy.callbacks.ema import ExponentialMovingAverage
from seewhy.errors import ConfigError
from seewhy.models.classification.amd import AMDGrading

INPUTS = ("mnv", "fluid", "ga", "drusen")
OPTIONS = {
    "optimizer": {"name": "adamw", "lr": 1e-3},
    "scheduler": {"name": "constant"},
    "backbone": {"name": "test_efficientnet"},
    "head": {"hidden": 16},
}


def model_of(**options):
    torch.manual_seed(0)
    return AMDGrading(**{**OPTIONS, **options})


def trainer_for(folder, *callbacks, epochs=2):
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        enable_checkpointing=bool(callbacks),
        callbacks=list(callbacks),
    )


def savers(folder):
    return (
        ModelCheckpoint(dirpath=folder, filename="best", monitor="val/loss"),
        ModelCheckpoint(dirpath=folder, filename="last", save_on_train_epoch_end=True),
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, toy_cases):
    """A trained model with a moving average of its weights, its trainer and folder."""
    folder = tmp_path_factory.mktemp("fitted")
    model, data = model_of(loss={"name": "cross_entropy", "class_weights": "balanced"}), toy_cases()
    trainer = trainer_for(folder, *savers(folder), ExponentialMovingAverage(decay=0.5))
    trainer.fit(model, data)
    return model, trainer, data, folder, {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_a_checkpoint_loads_alone_without_unpickling(fitted):
    model, _, data, folder, _ = fitted
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    loaded = AMDGrading.load_from_checkpoint(folder / "last.ckpt", weights_only=True).eval()
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in checkpoint["state_dict"].items())
    batch = data.batch([0, 1, 2])
    assert torch.allclose(loaded(batch["image"]), model.eval()(batch["image"]), atol=1e-6)


def test_each_checkpoint_carries_its_temperature_and_the_averaged_weights(fitted):
    _, _, data, folder, logged = fitted
    loaded = AMDGrading.load_from_checkpoint(folder / "last.ckpt", weights_only=True).eval()
    assert float(loaded.temperature) == pytest.approx(logged["val/temperature"])
    assert float(loaded.temperature) != 1.0
    batch = data.batch(list(range(24)))
    with torch.no_grad():
        loss = F.cross_entropy(loaded(batch["image"]), batch["label"])
    assert float(loss) == pytest.approx(logged["val/loss"], abs=1e-5)
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    live = checkpoint["current_model_state"]
    assert not torch.equal(live["net.head.0.weight"], checkpoint["state_dict"]["net.head.0.weight"])


def test_the_test_after_a_training_is_of_the_averaged_weights(fitted):
    model, trainer, data, folder, _ = fitted
    scores = trainer.test(model, data, ckpt_path=folder / "last.ckpt", weights_only=True, verbose=False)[0]
    state = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(model.net.head[0].weight, state["net.head.0.weight"])
    batch = data.batch(list(range(24)))
    with torch.no_grad():
        expected = F.cross_entropy(model.eval()(batch["image"]), batch["label"])
    assert scores["test/loss"] == pytest.approx(float(expected), abs=1e-5)
    assert scores["test/accuracy_low"] <= scores["test/accuracy"] <= scores["test/accuracy_high"]
    rows = model.patient_scores["test"].rows()
    assert [row["id"] for row in rows] == [f"case{i}" for i in range(24)]
    assert sum(row["correct"] for row in rows) / 24 == pytest.approx(scores["test/accuracy"])


def test_a_training_with_averages_can_be_continued(fitted, tmp_path):
    data = fitted[2]
    whole, parts = model_of(), model_of()
    trainer_for(tmp_path / "a", *savers(tmp_path / "a"), ExponentialMovingAverage(decay=0.5), epochs=3).fit(whole, data)
    callbacks = (*savers(tmp_path / "b"), ExponentialMovingAverage(decay=0.5))
    trainer_for(tmp_path / "b", *callbacks, epochs=2).fit(model_of(), data)
    callbacks = (*savers(tmp_path / "b"), ExponentialMovingAverage(decay=0.5))
    trainer = trainer_for(tmp_path / "b", *callbacks, epochs=3)
    trainer.fit(parts, data, ckpt_path=tmp_path / "b" / "last.ckpt", weights_only=True)
    for (name, one), other in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_predictions_carry_raw_scores_and_calibrated_probabilities(fitted):
    model, trainer, data, _, _ = fitted
    prediction = trainer.predict(model, data)[1]
    assert prediction["id"] == [f"case{i}" for i in range(7, 14)]
    assert torch.allclose(prediction["probability"], (prediction["logits"] / model.temperature).softmax(dim=1))
    assert set(prediction) == {"id", "patient", "source", "label", "placement", "logits", "probability"}
    unlabelled = data.batch([0])
    del unlabelled["label"]
    assert "label" not in model.predict_step(unlabelled)


def test_one_logit_for_two_classes(tmp_path, toy_cases):
    model = model_of(classes=["HC", "TLE"], ordinal=False, loss={"name": "binary"})
    data = toy_cases(cases=12, grades=2)
    trainer = trainer_for(tmp_path, epochs=1)
    trainer.fit(model, data)
    assert model(data.batch([0, 1])["image"]).shape == (2, 1)
    prediction = trainer.predict(model, data)[0]
    assert torch.allclose(prediction["probability"][:, 1], (prediction["logits"][:, 0] / model.temperature).sigmoid())
    assert trainer.test(model, data, verbose=False)[0]["test/cases"] == 12


def test_balanced_weights_come_from_the_training_cases(tmp_path, toy_cases):
    model = model_of(loss={"name": "cross_entropy", "class_weights": "balanced"})
    data = toy_cases(cases=10)  # 3, 3, 2, 2
    trainer_for(tmp_path, epochs=1).fit(model, data)
    assert model.loss.weight.tolist() == pytest.approx([10 / 12, 10 / 12, 10 / 8, 10 / 8])


def test_without_calibration_the_temperature_stays(tmp_path, toy_cases):
    model = model_of(calibrate=False)
    trainer_for(tmp_path, epochs=1).fit(model, toy_cases(cases=8))
    assert float(model.temperature) == 1.0


def test_layers_of_a_backbone_learn_the_slower_the_nearer_they_are_to_the_image():
    model = model_of(layer_decay=0.5, head_lr=3.0)
    groups = {group["lr_scale"]: group["params"] for group in model.parameter_groups()}
    assert {id(p) for p in groups[3.0]} == {id(p) for p in model.net.head.parameters()}
    assert {id(model.net.branches[name].net.bn2.weight) for name in INPUTS} <= {id(p) for p in groups[1.0]}
    lowest = min(groups)
    assert {id(model.net.branches[name].net.conv_stem.weight) for name in INPUTS} <= {id(p) for p in groups[lowest]}
    ratios = sorted(groups)[:-1]
    assert all(b == pytest.approx(2 * a) for a, b in itertools.pairwise(ratios))
    assert sum(len(params) for params in groups.values()) == len(list(model.parameters()))


def test_frozen_parameters_are_in_no_group_and_patterns_must_match():
    model = model_of(freeze=["net.branches.*.net.conv_stem.*", "net.branches.mnv.net.bn1.*"])
    grouped = {id(p) for group in model.parameter_groups() for p in group["params"]}
    frozen = [name for name, p in model.named_parameters() if id(p) not in grouped]
    stems = [f"net.branches.{name}.net.conv_stem.weight" for name in INPUTS]
    assert sorted(frozen) == sorted([*stems, "net.branches.mnv.net.bn1.weight", "net.branches.mnv.net.bn1.bias"])
    with pytest.raises(ConfigError, match=r"no parameter matches 'net.head.9.weight'; nearest: 'net.head.\d.weight'"):
        model_of(freeze=["net.head.9.weight"])


def test_frozen_parts_stay_as_they_are_and_then_learn(tmp_path, toy_cases):
    model, data = model_of(freeze_backbone_epochs=1, freeze=["net.branches.ga.*"]), toy_cases(cases=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def changed():
        now = model.state_dict()
        return {".".join(name.split(".")[:3]) for name in now if not torch.equal(now[name], before[name])}

    trainer_for(tmp_path, epochs=1).fit(model, data)
    assert {part for part in changed() if part.startswith("net")} == {"net.head.0", "net.head.3"}
    model.freezing.begin_epoch(1, distributed=False)
    assert all(p.requires_grad for p in model.net.branches["mnv"].parameters())
    assert not any(p.requires_grad for p in model.net.branches["ga"].parameters())
    assert model.net.branches["mnv"].net.bn1.training
    assert not model.net.branches["ga"].net.bn1.training
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.hparams["freeze_backbone_epochs"] = model.freezing.epochs = 0
    trainer_for(tmp_path, epochs=1).fit(model, data)
    assert {f"net.branches.{name}" for name in ("mnv", "fluid", "drusen")} <= changed()
    assert "net.branches.ga" not in changed()


def test_under_ddp_frozen_parts_keep_their_gradients_from_the_optimiser(toy_cases):
    model = model_of(freeze_backbone_epochs=1)
    model.freezing.begin_epoch(0, distributed=True)
    assert all(p.requires_grad for p in model.parameters())  # DDP waits for every gradient
    batch = toy_cases(cases=4).batch([0, 1, 2, 3])
    model.loss(model(batch["image"]), batch["label"]).backward()
    model.freezing.drop_gradients()
    assert all(p.grad is None for p in model.net.branches.parameters())
    assert all(p.grad is not None for p in model.net.head.parameters())


def test_explaining_in_one_line(tmp_path, toy_cases):
    model = model_of().eval()
    data = toy_cases(cases=4)
    given = {name: data.images[0, i] for i, name in enumerate(INPUTS)}
    answer = model.explain(**given, target=2, save_dir=tmp_path, sample_id="P1_L")
    assert answer["target"] == 2
    assert answer["predicted_class"] == int(np.argmax(answer["probabilities"]))
    assert answer["confidence"] == pytest.approx(answer["probabilities"].max())
    assert {name: heat.shape for name, heat in answer["heatmaps"].items()} == dict.fromkeys(INPUTS, (32, 32))
    assert sorted(str(path.relative_to(tmp_path)) for path in answer["files"]) == sorted(
        ["P1_L_gradcam_visualization.png", *(f"P1_L_heatmaps/P1_L_{name}.png" for name in INPUTS)]
    )
    assert all(path.stat().st_size > 0 for path in answer["files"])


@pytest.mark.parametrize("shape", [(32, 32), (1, 32, 32), (1, 1, 32, 32)])
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_images_of_any_shape_give_the_same(shape, kind, toy_cases):
    model, data = model_of().eval(), toy_cases(cases=4)
    expected = model.explain(**{name: data.images[1:2, i] for i, name in enumerate(INPUTS)})
    given = {name: data.images[1, i].reshape(shape) for i, name in enumerate(INPUTS)}
    if kind == "array":
        given = {name: image.numpy() for name, image in given.items()}
    answer = model.explain(**given)
    assert all((answer["heatmaps"][name] == expected["heatmaps"][name]).all() for name in INPUTS)
    assert (answer["probabilities"] == expected["probabilities"]).all()


def test_images_by_position_are_those_by_name():
    torch.manual_seed(0)
    model = AMDGrading(
        optimizer={"name": "adamw", "lr": 1e-3}, scheduler={"name": "constant"}, inputs=["mnv", "ga"],
        backbone={"name": "test_efficientnet"}, head={"hidden": 8},
    ).eval()  # fmt: skip
    mnv, ga = torch.rand(2, 64, 64)
    named, placed = model.explain(mnv=mnv, ga=ga, target=1), model.explain(mnv, ga, target="early")
    np.testing.assert_array_equal(named["heatmaps"]["ga"], placed["heatmaps"]["ga"])
    for call, words in (
        (lambda: model.explain(mnv, ga, mnv), "3 images for the inputs mnv, ga"),
        (lambda: model.explain(mnv, mnv=ga), "by position and by name"),
        (lambda: model.explain(mnv, target_class=1), "called target here"),
    ):
        with pytest.raises(ConfigError, match=words):
            call()


def test_an_input_that_is_not_there_has_an_empty_map(tmp_path, toy_cases):
    model, data = model_of().eval(), toy_cases(cases=4)
    answer = model.explain(mnv=data.images[0, 0], fluid=data.images[0, 1], ga=None, save_dir=tmp_path)
    assert (answer["heatmaps"]["ga"] == 0).all()
    assert (answer["heatmaps"]["drusen"] == 0).all()
    assert not (tmp_path / "sample_heatmaps" / "sample_ga.png").exists()
    batch = {
        "mnv": data.images[:1, 0],
        "fluid": data.images[:1, 1],
        "present": torch.tensor([[True, True, False, False]]),
    }
    zeros = {name: torch.zeros_like(data.images[:1, 0]) for name in ("ga", "drusen")}
    assert torch.allclose(answer["maps"].scores, model({**batch, **zeros}), atol=1e-6)


def test_several_eyes_at_once(tmp_path, toy_cases):
    model, data = model_of().eval(), toy_cases(cases=4)
    given = {name: data.images[:3, i] for i, name in enumerate(INPUTS)}
    answer = model.explain(**given, target=[0, 1, 2], save_dir=tmp_path, method="grad_cam")
    assert answer["probabilities"].shape == (3, 4)
    assert answer["heatmaps"]["fluid"].shape == (3, 32, 32)
    assert answer["target"].tolist() == [0, 1, 2]
    assert (tmp_path / "sample_2_gradcam_visualization.png").is_file()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"fluids": torch.zeros(8, 8)}, "'fluids'; nearest: 'fluid'"),
        ({}, "no image was given"),
        ({"mnv": torch.zeros(8, 8), "ga": torch.zeros(9, 9)}, "different shapes"),
        ({"mnv": torch.zeros(3, 8, 8)}, r"'mnv' has shape \[3, 8, 8\]; expected \[H, W\]"),
        ({"mnv": torch.zeros(8, 8), "method": "gradcam"}, "method='gradcam' is unknown; nearest: 'grad_cam'"),
        ({"mnv": torch.zeros(32, 32), "target": 4}, "target"),
    ],
)
def test_what_cannot_be_explained_is_told(given, told):
    with pytest.raises(ConfigError, match=told):
        model_of().eval().explain(**given)


def test_it_says_where_to_look():
    about = model_of().explainable()
    assert about.inputs == INPUTS
    assert about.layers == {name: f"net.branches.{name}" for name in INPUTS}
    assert about.classes == ("normal", "early", "intermediate", "advanced")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"classes": ["a", "a"]}, "two or more different names"),
        ({"loss": {"name": "binary"}}, "there are 4"),
        ({"head": {"width": 3}}, "unknown option `model.head.width`"),
        ({"freeze_backbone_epochs": -1}, "0 or more"),
    ],
)
def test_wrong_options_are_told(options, told):
    with pytest.raises(ConfigError, match=told):
        model_of(**options)
