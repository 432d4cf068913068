"""Explaining the cases of a DataModule: what is written, what is computed again, what repeats."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from seewhy.callbacks.explain import ExplainCallback
from seewhy.data.cases.amd import AMDDataModule
from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain import AttentionRollout, GradCAM, IntegratedGradients, ShapleyInputs
from seewhy.explain.judging import tune_with_masks
from seewhy.models.classification.amd import AMDGrading
from seewhy.phantoms.amd import write_amd_phantom
from seewhy.reporting.selection import ExplanationSettings

INPUTS = ("mnv", "fluid", "ga", "drusen")


class CountedCAM(GradCAM):
    """Grad-CAM that counts the samples it explains."""

    def __init__(self):
        super().__init__()
        self.samples = 0

    def for_targets(self, module, inputs, targets):
        self.samples += len(inputs["mnv"])
        return super().for_targets(module, inputs, targets)


class Refuser(GradCAM):
    """Refuses some samples, those whose first image is darker than another number."""

    method = "refuser"

    def for_targets(self, module, inputs, targets):
        if bool((inputs["mnv"].mean(dim=(1, 2, 3)) < 0.31).any()):
            raise ExplanationError("too dark to be explained")
        return super().for_targets(module, inputs, targets)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_amd_phantom(tmp_path_factory.mktemp("eyes") / "amd", cases=16, size=32, two_eyes_every=4)


@pytest.fixture(scope="module")
def model():
    seed_everything(0, verbose=False)
    return AMDGrading(
        optimizer={"name": "adamw", "lr": 1e-3},
        scheduler={"name": "constant"},
        backbone={"name": "test_efficientnet", "output_stride": 8},
        head={"hidden": 16, "dropout": 0.0},
    )


@pytest.fixture
def explained(root, model):
    """Test the model with the callback: `explained(folder, explainers, loop="test", **settings)`."""

    def call(folder, explainers=None, *, loop="test", logger=False, when=None, epochs=1, **settings):
        callback = ExplainCallback(
            folder=folder,
            explainers=explainers or {"grad_cam": GradCAM()},
            settings=ExplanationSettings(**{"max_samples": 0, "batch_size": 3, "judge": "none", **settings}),
            **(when or {"after_predict": True}),
        )
        trainer = Trainer(
            accelerator="cpu", max_epochs=epochs, logger=logger, callbacks=[callback], enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_train_batches=1, default_root_dir=folder,
        )  # fmt: skip
        datamodule = AMDDataModule(root=str(root), table="labels.csv", eval_batch_size=4, predict_on="all")
        getattr(trainer, loop)(model, datamodule)
        return SimpleNamespace(
            folder=callback.folder,
            results=callback.results,
            maps={path.name: path.read_bytes() for path in callback.folder.rglob("*_attributions.npy")},
        )

    return call


def manifest(found):
    return json.loads((found.folder / "explanations.json").read_text())


def test_the_trees_of_the_reference_are_there_and_every_listed_file_exists(explained, tmp_path):
    found = explained(tmp_path)
    listed = manifest(found)
    assert listed["phantom"] is True
    assert len(listed["explanations"]) == len(list(found.folder.glob("grad_cam/*_gradcam_visualization.png"))) > 2
    assert (found.folder / "grad_cam" / "summary_visualization.png").is_file()
    for record in listed["explanations"]:
        heatmaps = found.folder / "grad_cam" / f"{record['id']}_heatmaps"
        assert {f"{record['id']}_{name}.png" for name in INPUTS} <= {path.name for path in heatmaps.iterdir()}
        assert all((found.folder / name).is_file() for name in [*record["files"], *record["pictures"]])
        assert sum(record["shares"].values()) == pytest.approx(1, abs=1e-5)


def test_statistics_are_those_of_the_arrays(explained, tmp_path):
    found = explained(tmp_path)
    with (found.folder / "attribution_statistics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        path = found.folder / "grad_cam" / f"{row['subject_id']}_heatmaps"
        array = np.load(path / f"{row['subject_id']}_{row['input']}_attributions.npy")
        assert array.shape == (32, 32)
        assert float(row["mean"]) == pytest.approx(array.mean(), rel=1e-4, abs=1e-12)
        assert float(row["positive_ratio"]) == pytest.approx((array > 0).mean())
    assert len(rows) == 4 * found.results["samples"]


def test_the_same_command_gives_the_same_bytes_and_nothing_is_computed_twice(explained, tmp_path):
    counted = CountedCAM()
    first = explained(tmp_path / "a", {"grad_cam": counted})
    samples = first.results["samples"]
    assert counted.samples == samples
    again = explained(tmp_path / "a", {"grad_cam": counted})
    assert counted.samples == samples
    assert again.maps == first.maps == explained(tmp_path / "b").maps


def test_an_interrupted_run_goes_on_with_what_is_missing(explained, tmp_path):
    counted = CountedCAM()
    first = explained(tmp_path, {"grad_cam": counted})
    lost = first.results["records"][0]["id"]
    (first.folder / "records" / "grad_cam" / f"{lost}.json").unlink()  # written last, so this is a kill before it
    counted.samples = 0
    again = explained(tmp_path, {"grad_cam": counted})
    assert 1 <= counted.samples <= 3
    assert again.maps == first.maps
    assert len(manifest(again)["explanations"]) == first.results["samples"]


def test_other_targets_are_computed_anew_in_folders_of_their_own(explained, tmp_path):
    found = explained(tmp_path, target=["early", 3])
    names = {path.name for path in (found.folder / "grad_cam").iterdir()}
    assert names == {"target_early", "target_advanced"}
    early, late = (found.results["records"][place] for place in (0, -1))
    assert (early["target"], late["target"]) == (1, 3)


def test_worst_samples_are_found_after_the_prediction(explained, tmp_path):
    everyone = explained(tmp_path / "all")
    truth = {}
    for record in everyone.results["records"]:
        scores = np.exp(record["scores"]) / np.exp(record["scores"]).sum()
        truth[record["id"]] = scores[record["label"]]
    worst = explained(tmp_path / "worst", samples="worst", max_samples=2)
    assert [record["id"] for record in worst.results["records"]] == sorted(sorted(truth, key=truth.get)[:2])


def test_a_method_that_refuses_leaves_the_others_alone_and_is_told(explained, tmp_path):
    found = explained(tmp_path, {"grad_cam": GradCAM(), "refuser": Refuser()}, loop="predict")
    whole = [record for record in found.results["records"] if record["method"] == "grad_cam"]
    given = [record for record in found.results["records"] if record["method"] == "refuser"]
    refused = found.results["refused"]
    assert len(given) + len(refused) == len(whole) == 16
    assert refused
    assert all("too dark to be explained" in line for line in refused)


def test_a_method_that_does_not_fit_the_model_leaves_no_file(explained, tmp_path):
    with pytest.raises(ConfigError, match="no attention in AMDGrading"):
        explained(tmp_path, {"attention_rollout": AttentionRollout()}, loop="predict")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_validation_samples_are_explained_every_so_many_epochs_and_shown(explained, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    when = {"after_fit": False, "every_n_epochs": 2}
    explained(tmp_path, loop="fit", logger=logger, when=when, epochs=4, max_samples=2)
    epochs = sorted(path.name for path in (tmp_path / "explanations").iterdir())
    assert epochs == ["epoch_2", "epoch_4"]
    logger.experiment.flush()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    shown = {tag.rpartition("/")[0] for tag in events.Tags()["images"]}
    assert shown == {"val/explanations/grad_cam"}


def test_the_module_is_left_as_it_was(explained, model, tmp_path):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explained(tmp_path, loop="predict")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(part._forward_hooks or part._backward_hooks for part in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_unknown_choices_are_refused(explained, tmp_path):
    with pytest.raises(ConfigError, match=r"explain\.judge='al' is unknown; nearest: 'all'"):
        explained(tmp_path, judge="al")
    with pytest.raises(ConfigError, match="nearest: 'advanced'"):
        explained(tmp_path, target="advancd")
    with pytest.raises(ConfigError, match="name some in explain"):
        ExplainCallback(folder=tmp_path, explainers={})


@pytest.mark.slow
def test_contrasts_and_shapley_values_reach_records_tables_and_verdicts(explained, tmp_path):
    methods = {"grad_cam": GradCAM(), "shapley_inputs": ShapleyInputs()}
    found = explained(tmp_path, methods, target=["predicted-runner_up", "label"], judge="all", samples="first")
    by_place = {(one["method"], one["folder"], one["id"]): one for one in found.results["records"]}
    first = found.results["records"][0]["id"]
    contrast = by_place["grad_cam", "target_predicted-runner_up", first]
    best, second = np.argsort(contrast["scores"])[::-1][:2]
    names = contrast["classes"]
    assert (contrast["target"], contrast["reference_name"]) == (best, names[second])
    assert contrast["target_name"] == f"{names[best]} rather than {names[second]}"
    values = by_place["shapley_inputs", "target_label", first]["contributions"]
    assert sum(values["values"].values()) == pytest.approx(values["total"], abs=1e-5)
    assert values["removal"] == "absent"
    with (found.folder / "shares.csv").open() as file:
        kinds = {row["kind"] for row in csv.DictReader(file) if row["method"] == "shapley_inputs"}
    assert kinds == {"shapley", "left_out", "interaction", "input"}
    verdicts = found.results["verdicts"]
    assert -1 <= verdicts["grad_cam/target_label"]["contrast"]["least"] <= 1
    assert verdicts["grad_cam/target_predicted-runner_up"]["contrast"]["passes"] is None
    with (found.folder / "ranking_by_class.csv").open() as file:
        assert {row["class"] for row in csv.DictReader(file)} <= {"early", "intermediate", "advanced"}
    assert "by true class" in (found.folder / "report.html").read_text()


def test_cheap_judging_makes_at_most_as_many_maps_as_are_shown(explained, tmp_path):
    counted = CountedCAM()
    found = explained(tmp_path, {"grad_cam": counted}, judge="cheap", batch_size=8)
    samples = found.results["samples"]
    assert samples < counted.samples <= 2 * samples


def test_further_measures_are_columns_of_the_ranking_with_those_of_the_floors(explained, tmp_path):
    metrics = ["infidelity", "complexity"]
    found = explained(tmp_path, max_samples=4, metrics=metrics)
    with (found.folder / "ranking.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert {"grad_cam", "control_edges", "control_random"} <= set(rows)
    scores = list(csv.DictReader((found.folder / "scores.csv").open()))
    patients = {}
    for row in scores:
        if row["method"] == "control_edges":  # a map of a barely trained network may be empty, and has none
            patients.setdefault(row["patient"], []).append(float(row["complexity"]))
    expected = np.mean([np.mean(own) for own in patients.values()])
    assert float(rows["control_edges"]["complexity"]) == pytest.approx(expected)
    assert all(row["complexity"] != "" for row in scores if row["method"].startswith("control_"))
    assert 0 <= float(rows["control_edges"]["infidelity_scaled"]) <= 1
    assert found.results["ranking"], "measures that rank methods are drawn"
    with pytest.raises(ConfigError, match="infidelity"):
        explained(tmp_path, metrics=["infidelty"])


def test_a_tuned_copy_judges_methods_and_controls_and_few_images_are_a_doubt(explained, model, tmp_path):
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    found = explained(tmp_path, loop="test", when={"after_fit": True}, mask_tuning=2)
    with (found.folder / "ranking.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert {"grad_cam", "control_edges"} <= set(rows)
    assert all(-1 <= float(row["insertion_gap_tuned"]) <= 1 for row in rows.values())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    again = explained(tmp_path, loop="test", when={"after_fit": True}, mask_tuning=2)  # with nothing left to compute
    for one in (found, again):
        [doubt] = manifest(one)["doubtful_scores"]
        assert "expected at least 8 and 4" in doubt
        assert "expected at least 8 and 4" in (one.folder / "report.html").read_text()


def test_a_copy_is_tuned_on_training_images_alone_and_checked_on_the_others(explained, root, tmp_path, monkeypatch):
    from seewhy.reporting import judging

    seen = []

    def record(module, batches, *, held_out, **options):
        seen.append((batches, held_out))
        return tune_with_masks(module, batches, held_out=held_out, **options)

    monkeypatch.setattr(judging, "tune_with_masks", record)
    runs = [explained(tmp_path / name, loop="test", when={"after_fit": True}, mask_tuning=2) for name in "ab"]
    datamodule = AMDDataModule(root=str(root), table="labels.csv", eval_batch_size=4, predict_on="all")
    datamodule.setup("fit")

    def read(*parts):
        batches = [batch for part in parts for batch in datamodule.loader_of(datamodule.sample_ids(part), part)]
        return torch.cat([batch["image"]["mnv"] for batch in batches])

    (batches, held_out), _ = seen
    assert torch.equal(torch.cat([batch["mnv"] for batch in batches]), read("train"))  # whole, and not augmented
    assert torch.equal(torch.cat([batch["mnv"] for batch in held_out]), read("val", "test"))
    first, second = ([one["judged"] for one in manifest(run)["explanations"]] for run in runs)
    assert first == second
    assert any(row["insertion_gap_tuned"] != 0 for row in first)


def test_where_validation_images_are_explained_the_first_of_these_check_the_copy(explained, tmp_path, monkeypatch):
    from seewhy.reporting import judging

    seen = []

    def record(module, batches, *, held_out, **options):
        seen.append((batches, held_out))
        return tune_with_masks(module, batches, held_out=held_out, **options)

    monkeypatch.setattr(judging, "tune_with_masks", record)
    explained(tmp_path, loop="validate", when={"after_fit": False, "every_n_epochs": 1}, mask_tuning=2)
    [(batches, [held_out])] = seen
    assert sum(len(batch["mnv"]) for batch in batches) > len(held_out["mnv"]) > 0


def test_without_images_to_tune_a_copy_its_scores_are_left_out_in_words(explained, tmp_path):
    found = explained(tmp_path, loop="predict", when={"after_predict": True}, max_samples=4, mask_tuning=2)
    listed = manifest(found)
    assert "left out: no training images" in listed["doubtful_scores"][0]
    assert not any("_tuned" in name for one in listed["explanations"] for name in one["judged"])


def test_every_step_is_counted_and_the_time_is_stated(explained, tmp_path, monkeypatch):
    from contextlib import contextmanager

    from seewhy.callbacks import explain
    from seewhy.reporting.report import describe_time

    bars = []

    @contextmanager
    def bar(title, total, *, shown=True):
        bars.append([title, total, 0])

        def advance(steps=1):
            bars[-1][2] += steps

        yield advance
        bars[-1].append("closed")

    monkeypatch.setattr(explain, "slow_bar", bar)
    methods = {"grad_cam": GradCAM(), "refuser": Refuser()}
    first = explained(tmp_path, methods, judge="cheap", loop="predict", max_samples=5)
    again = explained(tmp_path, methods, judge="cheap", loop="predict", max_samples=5)
    for title, total, done, state in bars:
        assert (title, total, done, state) == ("explaining by grad_cam, refuser", 25, 25, "closed")
    assert len(bars) == 2
    assert first.results["seconds"]["maps"] > 0
    assert "of both" in describe_time(first.results["seconds"])
    assert again.results["samples"] == 5


class Inexact(IntegratedGradients):
    """Integrated gradients that miss the score they explain."""

    def for_targets(self, module, inputs, targets):
        made = super().for_targets(module, inputs, targets)
        return [replace(maps, completeness=torch.full((len(maps.target),), 0.3)) for maps in made]


def test_maps_that_miss_the_score_are_reported(explained, tmp_path):
    found = explained(tmp_path, {"integrated_gradients": Inexact()}, judge="cheap", max_samples=3)
    [reasons] = found.results["failures"].values()
    assert any("100% of the maps miss the score" in reason for reason in reasons)


def test_a_method_that_does_not_fit_leaves_nothing_of_the_methods_before_it(explained, tmp_path):
    methods = {"grad_cam": GradCAM(), "attention_rollout": AttentionRollout()}
    with pytest.raises(ConfigError, match="no attention"):
        explained(tmp_path, methods)
    assert not (tmp_path / "explanations").exists()
    first = explained(tmp_path)
    with pytest.raises(ConfigError, match="no attention"):
        explained(tmp_path, methods)
    assert {path.name: path.read_bytes() for path in first.folder.rglob("*_attributions.npy")} == first.maps


def test_an_atlas_is_refused_for_planes_and_no_target_for_all(explained, tmp_path):
    (tmp_path / "atlas.nii.gz").touch()
    with pytest.raises(ConfigError, match=r"atlas\.nii\.gz is for volumes, but P\d+_\w has planes.*explain.atlas=null"):
        explained(tmp_path / "a", atlas=str(tmp_path / "atlas.nii.gz"))
    with pytest.raises(ConfigError, match=r"explain\.target is empty"):
        explained(tmp_path / "b", target=[])
    assert not (tmp_path / "a" / "explanations").exists()
    assert not (tmp_path / "b" / "explanations").exists()


def test_regions_are_calibrated_on_validation_patients_checked_on_test_and_reported(explained, tmp_path):
    """Three validation patients allow 75 %; every method and control has a region, and every sample a picture of it."""
    methods = {"grad_cam": GradCAM(), "shapley_inputs": ShapleyInputs()}
    found = explained(tmp_path, methods, loop="test", when={"after_fit": True}, region_alpha=0.4)
    listed = manifest(found)
    rows = {row["method"]: row for row in listed["regions"]}
    controls = {"control_centre", "control_edges", "control_intensity", "control_random"}
    assert set(rows) == {"grad_cam", "shapley_inputs"} | controls
    for row in rows.values():
        own = [one["judged"] for one in listed["explanations"] if one["method"] == row["method"]]
        assert row["promised"] == 0.6
        assert row["calibration_patients"] >= 2
        assert 0 < row["share"] <= row["size"] + 1e-9
        assert all(one["region_share"] == row["share"] for one in own)
    page = (found.folder / "report.html").read_text()
    assert "validation patients; kept: found on the explained" in page
    assert (found.folder / "regions.csv").is_file()
    kept = {(one["id"], one["method"]): one["judged"]["region_kept"] for one in listed["explanations"]}
    lost = sorted((found.folder / "cache" / "regions").rglob("*.npz"))[0]
    before = lost.read_bytes()
    lost.unlink()
    again = explained(tmp_path, methods, loop="test", when={"after_fit": True}, region_alpha=0.4)
    assert lost.read_bytes() == before, "a lost region is made again"
    assert kept == {(one["id"], one["method"]): one["judged"]["region_kept"] for one in manifest(again)["explanations"]}


def test_regions_are_refused_where_validation_samples_are_explained_or_too_few(explained, tmp_path):
    with pytest.raises(ConfigError, match="there are 0"):
        explained(tmp_path / "all", loop="predict", region_alpha=0.4)
    with pytest.raises(ConfigError, match="at least 99 validation patients"):
        explained(tmp_path / "few", loop="test", when={"after_fit": True}, region_alpha=0.01)
    assert not (tmp_path / "few" / "explanations").exists()
