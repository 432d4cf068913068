"""The command `cases` on a run that was made without training: true scores, true arrays, true maps."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from PIL import Image

from seewhy.batch import MODALITIES
from seewhy.cli.compose import compose_saved, compose_train
from seewhy.errors import ConfigError, DataError
from seewhy.figures.translation.ieee import ieee_style
from seewhy.phantoms.scanners import write_scanner_phantom
from seewhy.run.build import build_datamodule, build_model
from seewhy.run.folder import RunFolder
from seewhy.run.translation.cases import cases
from seewhy.run.translation.qualitative.arrays import read_arrays
from seewhy.run.translation.qualitative.figures import draw_figures, read_attention
from seewhy.run.translation.score_table import read_samples, write_samples

GENERATOR = ("model.generator.width=4", "model.generator.output=tanh", "model.discriminator.width=4")
SMALL = ("cases.n_random=2", "cases.n_best=2")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_scanner_phantom(tmp_path_factory.mktemp("phantom"), subjects=(4, 8), shape=(28, 32, 24), spacing=6.0)


def make_run(path, phantom, *overrides, scored=True):
    """A run as a training of no step would have left it."""
    words = ("experiment=demo/cyclegan", "data.crop_size=null", "data.fractions=[0.4,0.1,0.5]", *overrides)
    config = compose_train(*words, f"data.root={phantom}", f"paths.output_dir={path}")
    config.phantom = None
    torch.manual_seed(0)
    model, datamodule = build_model(config), build_datamodule(config)
    for name, value in model.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.constant_(value, 0.5)  # or self-attention would do nothing
    RunFolder(path).write_config(config)
    (path / "checkpoints").mkdir()
    torch.save({"state_dict": model.state_dict(), "epoch": 7}, path / "checkpoints" / "best.ckpt")
    if scored:
        trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
        trainer.test(model, datamodule, verbose=False)
        write_samples(path / "evaluation", model.sample_scores["test"].rows())
    return path


def run_cases(run, *overrides):
    cases(compose_saved("cases", run, "trainer.enable_progress_bar=false", *SMALL, *overrides))
    return json.loads((run / "cases" / "case_ids.json").read_text())


def image_size(path):
    with Image.open(path) as image:
        return image.size


def arrays_of(path):
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture(scope="module")
def run(tmp_path_factory, phantom):
    """A run with the cases of two categories."""
    path = make_run(tmp_path_factory.mktemp("run"), phantom, *GENERATOR)
    run_cases(path, "cases.stages=[select,infer,attention]", "cases.categories=[best,random]")
    run_cases(path, "cases.stages=[figures]", "cases.categories=[best]")
    return path


def whole_subjects(run):
    """(model, sample → batch, position, prediction of the whole subject)."""
    config = OmegaConf.load(run / "config.yaml").config
    model, datamodule = build_model(config), build_datamodule(config)
    model.load_state_dict(torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"])
    model.eval()
    found = {}
    with torch.no_grad():
        for batch in datamodule.loader_of(datamodule.sample_ids("test"), "test"):
            prediction = model.predict_step(batch)
            found |= {name: (batch, place, prediction) for place, name in enumerate(batch["id"])}
    return model, found, datamodule.sample_ids("test")


def test_the_file_set(run):
    names = {
        path.relative_to(run).as_posix() for folder in ("cases", "figures") for path in (run / folder).rglob("*.*")
    }
    expected = {"cases/case_ids.json"}
    expected |= {f"cases/{kind}_{name}.npz" for kind in ("inference", "attention") for name in ("best", "random")}
    figures = ["multimodality", "comparison_t1ce"]
    figures += [f"{name}_b2a" for name in figures] + ["cycle_consistency_t1ce", "attention_overlay_t1ce"]
    expected |= {f"figures/qualitative/fig_best_{name}.{end}" for name in figures for end in ("pdf", "png")}
    assert names == expected


def test_cases_have_the_scores_of_the_evaluation(run):
    record, rows = json.loads((run / "cases" / "case_ids.json").read_text()), read_samples(run / "evaluation")
    metadata = record["metadata"]
    assert metadata["comparison"] == {"a2b": "translation", "b2a": "translation"}
    assert metadata["phantom"] is True
    assert metadata["checkpoint_epoch"] == 7
    _, _, samples = whole_subjects(run)
    assert metadata["n_samples"] == len(samples)
    for side, direction in (("", "a2b"), ("_b", "b2a")):
        best = record["best"]
        assert len(best[f"indices{side}"]) == 2
        for index, value, case in zip(
            best[f"indices{side}"], best[f"ssim_{direction}"], best[f"cases{side}"], strict=True
        ):
            assert samples[index] == case["id"]
            own = [
                row["value"]
                for row in rows
                if (row["id"], row["comparison"], row["metric"]) == (case["id"], "translation", "ssim")
            ]
            assert len(own) == len(MODALITIES)
            assert value == pytest.approx(np.mean(own))


def test_arrays_are_those_of_the_whole_subjects_prediction(run):
    arrays = arrays_of(run / "cases" / "inference_random.npz")
    _, subjects, _ = whole_subjects(run)
    count, shape = 2, (28, 32)
    for name in ("inputs_a", "inputs_b"):
        assert arrays[name].shape == (count, 12, *shape)
    for name in ("generated_a", "generated_b", "reconstructed_a", "reconstructed_b"):
        assert arrays[name].shape == (count, 4, *shape)
    for name in ("case_indices", "ssim_a2b", "psnr_a2b", "ids_a"):
        assert arrays[name].shape == (count,)
    for domain, other in ("ab", "ba"):
        for place, name in enumerate(arrays[f"ids_{domain}"]):
            batch, number, prediction = subjects[str(name)]
            assert np.array_equal(arrays[f"inputs_{domain}"][place], batch["image"][number])
            expected = {
                f"generated_{other}": prediction["translated"],
                f"reconstructed_{domain}": prediction["reconstructed"],
                f"counterparts_{domain}": batch["counterpart"],
            }
            for key, whole in expected.items():
                assert np.allclose(arrays[key][place], whole[number], atol=1e-4), key
            assert arrays[f"slices_{domain}"][place] == batch["index"][number]


def test_slices_at_the_ends_are_taken_back_as_in_the_whole_subject(run):
    from seewhy.run.loaded.saved_run import load_run
    from seewhy.run.translation.qualitative.inference import translate_cases

    _, subjects, samples = whole_subjects(run)
    batch, _, prediction = subjects[samples[0]]
    ends = [batch["id"][0], batch["id"][-1]]
    found = translate_cases(load_run(compose_saved("cases", run)), ends)
    for name, number in zip(ends, (0, -1), strict=True):
        assert np.allclose(found[name].translated, prediction["translated"][number], atol=1e-4)
        assert np.allclose(found[name].reconstructed, prediction["reconstructed"][number], atol=1e-4)


def test_attention_is_kept_case_by_case(run):
    attention, arrays = arrays_of(run / "cases" / "attention_best.npz"), arrays_of(run / "cases" / "inference_best.npz")
    assert np.array_equal(attention["case_indices"], arrays["case_indices"])
    for direction in ("a2b", "b2a"):
        for place in range(2):
            start = f"case{place}_{direction}"
            gate = attention[f"{start}_decoder.1.3.spatial_attn_weights"]
            assert gate.shape == (1, 28, 32)
            assert attention[f"{start}_decoder.1.3.channel_attn_weights"].shape == (4,)
            looks = attention[f"{start}_global_attention_weights"]
            assert looks.shape == (7, 8)
            assert looks.sum() == pytest.approx(1, abs=1e-5)
    assert not any(name.startswith("case2") for name in attention)
    gates = [attention[f"case{place}_a2b_decoder.1.3.spatial_attn_weights"] for place in range(2)]
    assert not np.array_equal(*gates)


@pytest.mark.slow
def test_a_folder_elsewhere_has_whole_matrices_and_as_many_rows_as_asked_for(run, tmp_path):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and ".hydra" not in path.parts}
    words = ("cases.categories=[best]", "cases.full_attention=true", f"cases.folder={tmp_path}")
    run_cases(run, *words, "cases.rows=1")
    assert {path: path.read_bytes() for path in before} == before
    one = image_size(tmp_path / "figures" / "fig_best_comparison_t1ce.png")
    run_cases(run, "cases.stages=[figures]", *words, "cases.rows=2")
    two = image_size(tmp_path / "figures" / "fig_best_comparison_t1ce.png")
    assert one[0] == two[0]
    assert one[1] < 0.75 * two[1]
    usual, whole = arrays_of(run / "cases" / "attention_best.npz"), arrays_of(tmp_path / "attention_best.npz")
    added = sorted(set(whole) - set(usual))
    assert "case1_b2a_global_attention_matrix" in added
    assert [name for name in added if not name.endswith("_matrix")] == []
    for name in added:
        weights = whole[name.replace("matrix", "weights")]
        looks = whole[name].astype(np.float32).mean(axis=(0, 1))  # over heads and queries; stored in half precision
        np.testing.assert_allclose(looks.reshape(weights.shape), weights, atol=1e-5)


def test_every_modality_has_files_of_its_own(run):
    record = json.loads((run / "cases" / "case_ids.json").read_text())
    arrays, attention = (arrays_of(run / "cases" / f"{kind}_random.npz") for kind in ("inference", "attention"))
    with ieee_style():
        names = [
            name for name, _ in draw_figures("random", arrays, attention, record=record, modalities=["t1", "flair"])
        ]
    kinds = ("comparison_{}", "comparison_{}_b2a", "cycle_consistency_{}", "attention_overlay_{}")
    expected = {f"fig_random_{kind.format(modality)}" for kind in kinds for modality in ("t1", "flair")}
    assert len(names) == len(set(names))
    assert set(names) == expected | {"fig_random_multimodality", "fig_random_multimodality_b2a"}


@pytest.mark.slow
def test_stages_can_be_repeated_alone(run, capsys):
    figure = run / "figures" / "qualitative" / "fig_best_multimodality.png"
    before = [(run / "cases" / "inference_best.npz").stat().st_mtime_ns, figure.stat().st_mtime_ns]
    run_cases(run, "cases.stages=[figures]", "cases.categories=[best]")
    assert (run / "cases" / "inference_best.npz").stat().st_mtime_ns == before[0]
    assert figure.stat().st_mtime_ns > before[1]
    assert str(run / "figures" / "qualitative").replace("\n", "") in capsys.readouterr().out.replace("\n", "")
    with pytest.raises(DataError, match=r"inference_median\.npz does not exist.*cases\.stages=\[infer"):
        run_cases(run, "cases.stages=[figures]", "cases.categories=[median]")


def test_scores_of_other_weights_are_noticed(tmp_path, phantom, capsys):
    run = make_run(tmp_path, phantom, *GENERATOR)
    path = run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"] = {
        name: -value if "output" in name else value for name, value in checkpoint["state_dict"].items()
    }
    torch.save(checkpoint, path)
    run_cases(run, "cases.stages=[select,infer]", "cases.categories=[best]")
    assert "are not those of" in capsys.readouterr().out


def test_arrays_of_cases_that_were_chosen_before_are_noticed(tmp_path, phantom):
    run = make_run(tmp_path, phantom, *GENERATOR)
    run_cases(run, "cases.stages=[select,infer]", "cases.categories=[random]", "cases.seed=1", "cases.n_random=1")
    run_cases(run, "cases.stages=[select]", "cases.seed=2", "cases.n_random=3")
    with pytest.raises(DataError, match=r"inference_\w+\.npz holds other cases.*cases\.stages=\[infer"):
        run_cases(run, "cases.stages=[figures]", "cases.categories=[random]")


@pytest.mark.slow
def test_a_network_without_attention_goes_on(tmp_path, phantom, capsys):
    run = make_run(tmp_path, phantom, "model=cyclegan_25d_plain", "model.generator.width=4", "model.generator.blocks=1")
    run_cases(run, "cases.categories=[worst]")
    assert "PlainGenerator25D has no attention" in capsys.readouterr().out
    assert not (run / "cases" / "attention_worst.npz").exists()
    drawn = {path.name for path in (run / "figures" / "qualitative").glob("*.png")}
    assert "fig_worst_comparison_t1ce.png" in drawn
    assert not any("attention" in name for name in drawn)


@pytest.mark.slow
def test_one_direction_has_cases_of_one_domain(tmp_path, phantom):
    run = make_run(tmp_path, phantom, "model=cut_25d", "model.generator.width=4", "model.discriminator.width=4")
    record = run_cases(run, "cases.categories=[best]", "cases.n_best=1")
    assert record["metadata"]["comparison"] == {"a2b": "translation"}
    arrays = arrays_of(run / "cases" / "inference_best.npz")
    assert arrays["inputs_a"].shape[0] == 1
    assert arrays["inputs_b"].shape == (0, 12, 28, 32)
    assert np.isnan(arrays["reconstructed_a"]).all()
    drawn = {path.name for path in (run / "figures" / "qualitative").glob("*.png")}
    assert drawn == {f"fig_best_{name}.png" for name in ("comparison_t1ce", "multimodality", "attention_overlay_t1ce")}


@pytest.mark.slow
def test_figures_never_are_of_other_cases_than_the_chosen_ones(tmp_path, phantom):
    run = make_run(tmp_path, phantom, *GENERATOR)
    folder = run / "figures" / "qualitative"

    def drawn(*overrides):
        run_cases(run, "cases.categories=best", *overrides)
        return {path.name for path in folder.iterdir()}

    whole = ("cases.stages=[select,infer,figures]", "cases.n_best=1")
    assert any("_flair" in name for name in drawn(*whole, "cases.modalities=[t1,flair]"))
    (folder / "fig_best_of_mine.png").touch()
    both = drawn("cases.stages=[select,figures]", "cases.n_best=1", "cases.modalities=t2")  # the same ones
    assert {name.split("_")[-1] for name in both} >= {"t2.png", "flair.png", "t1.pdf"}
    assert not any("_flair" in name for name in drawn(*whole, "cases.modalities=t1"))  # translated anew
    assert drawn("cases.stages=select", "cases.n_best=0") == {"fig_best_of_mine.png"}
    assert drawn("cases.stages=[infer,figures]") == {"fig_best_of_mine.png"}


def test_wrong_options_are_said_in_words(run):
    with pytest.raises(ConfigError) as said:
        run_cases(run, "cases.n_best=x", "cases.categories=null", "cases.min_tissue=x", "cases.n_median=null")
    assert str(said.value).split("; ") == [
        "cases.n_best='x' must be an integer, 0 or more", "cases.n_median=None must be an integer, 0 or more",
        "cases.min_tissue='x' must be a number, from 0 to 1",
        "cases.categories=None must be a list of 'best' or 'worst' or 'median' or 'interesting' or 'random'",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"cases\.categories: 'bset' is unknown; nearest: 'best'"):
        run_cases(run, "cases.categories=bset")
    with pytest.raises(ConfigError, match="choose cases=default"):
        cases(OmegaConf.create({"cases": None}))


def test_cases_whose_comparison_is_not_possible_any_more_are_refused(tmp_path, phantom):
    run = make_run(tmp_path, phantom, *GENERATOR)
    words = ("cases.categories=best", "data.counterparts=null")
    with pytest.raises(DataError, match=r"^4 cases \(first: a_\S+\) .*cases\.comparison=cycle"):
        run_cases(run, "cases.stages=[select,infer]", *words)
    assert not (run / "cases" / "inference_best.npz").exists()
    run_cases(run, "cases.stages=[select,infer]", *words, "cases.comparison=cycle")
    assert np.isnan(arrays_of(run / "cases" / "inference_best.npz")["counterparts_a"]).all()


def test_unequal_counts_are_cut(tmp_path, phantom):
    run = make_run(tmp_path, phantom, *GENERATOR)
    record = run_cases(
        run, "cases.stages=[select,infer]", "cases.categories=[best]", "cases.n_best=9", "cases.max_per_subject=1"
    )
    counts = [len(record["best"][name]) for name in ("indices", "indices_b")]
    assert counts[0] != counts[1]
    arrays = arrays_of(run / "cases" / "inference_best.npz")
    assert {len(arrays[name]) for name in ("inputs_a", "inputs_b", "case_indices", "ssim_b2a")} == {min(counts)}


def test_without_scores_it_says_how_to_get_them(tmp_path, phantom):
    run = make_run(tmp_path, phantom, *GENERATOR, scored=False)
    with pytest.raises(DataError, match=f"python -m seewhy evaluate run={run}"):
        run_cases(run)
    with pytest.raises(ConfigError, match=r"cases\.nbest.*nearest: 'n_best'"):
        run_cases(run, "+cases.nbest=3")


def test_scores_that_are_no_numbers_choose_no_cases(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    rows = [{**row, "value": float("nan")} for row in read_samples(run / "evaluation")]
    write_samples(tmp_path / "run" / "evaluation", rows)
    before = (tmp_path / "run" / "cases" / "case_ids.json").read_bytes()
    with pytest.raises(DataError, match=r"has no slice of a2b with scores.*seewhy evaluate"):
        run_cases(tmp_path / "run", "cases.stages=[select]")
    assert (tmp_path / "run" / "cases" / "case_ids.json").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "change", "fact"),
    [
        ("modalities", lambda array: array, None),
        ("generated_b", lambda array: array[..., :3], "generated_b is float32"),
        ("inputs_a", lambda array: array * np.nan, "not finite"),
        ("size_b", lambda array: array + 99, "size_b is not from 1"),
        ("ssim_cycle_a", lambda array: np.float32(1), "ssim_cycle_a is float32"),
        ("subjects_b", lambda array: np.zeros(len(array)), "subjects_b is float64"),
        ("body_a", None, "body_a is missing|expected"),
    ],
)
def test_arrays_of_other_types_and_shapes_are_named(run, tmp_path, name, change, fact):
    arrays = arrays_of(run / "cases" / "inference_best.npz")
    entry = json.loads((run / "cases" / "case_ids.json").read_text())["best"]
    arrays = {key: change(array) if key == name else array for key, array in arrays.items() if change or key != name}
    np.savez(tmp_path / "inference_best.npz", **arrays)
    if fact is None:
        assert read_arrays(tmp_path / "inference_best.npz", entry).keys() == arrays.keys()
        return
    with pytest.raises(DataError, match=rf"inference_best\.npz: .*({fact}).*cases\.stages=\[infer"):
        read_arrays(tmp_path / "inference_best.npz", entry)


def test_attention_that_is_no_file_of_maps_is_named(run, tmp_path):
    arrays, path = arrays_of(run / "cases" / "inference_best.npz"), tmp_path / "attention_best.npz"
    assert read_attention(path, arrays) is None
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"attention_best\.npz .*pipe"):
        read_attention(path, arrays)
    path.unlink()
    stored = arrays_of(run / "cases" / "attention_best.npz")
    name = next(name for name in stored if name.endswith("_weights"))
    for values in (np.array(["x"]), np.float32(1), stored[name] * np.nan):
        np.savez(path, **{**stored, name: values})
        with pytest.raises(DataError, match=rf"attention_best\.npz .*{name}"):
            read_attention(path, arrays)
    np.savez(path, **stored)
    assert read_attention(path, arrays).keys() == stored.keys()


def test_processes_that_share_the_categories_write_what_one_writes(run, tmp_path, monkeypatch, capsys):
    words = ("cases.categories=[best,worst,random]",)
    module = "seewhy.run.translation.cases.draw_category"
    with monkeypatch.context() as patch:
        patch.setattr(module, write_stand_in)
        run_cases(run, *words, f"cases.folder={tmp_path / 'alone'}")
    capsys.readouterr()

    def stop(folder, category, *arguments, **options):
        if category == "worst":
            raise DataError("stopped here")
        return write_stand_in(folder, category, *arguments, **options)

    shared = (*words, f"cases.folder={tmp_path / 'shared'}", "job.shared=true")
    with monkeypatch.context() as patch:
        patch.setattr(module, stop)
        with pytest.raises(DataError, match="stopped here"):
            run_cases(run, *shared)
    with monkeypatch.context() as patch:
        patch.setattr(module, write_stand_in)
        run_cases(run, *shared)
    output = capsys.readouterr().out
    assert "this process: 2 of 3 categories" in output
    assert read_folder(tmp_path / "shared") == read_folder(tmp_path / "alone")
    with monkeypatch.context() as patch:  # a file that is removed while others are made
        patch.setattr(module, stop)
        other = (*words, f"cases.folder={tmp_path / 'other'}", "job.shared=true")
        with pytest.raises(DataError, match="stopped here"):
            run_cases(run, *other)
        patch.setattr(module, write_stand_in)
        (tmp_path / "other" / "inference_best.npz").unlink()
        with pytest.raises(DataError, match=r"inference_best\.npz was removed .* start the same command again"):
            run_cases(run, *other)
        patch.setattr(module, stop)
        with pytest.raises(DataError, match="stopped here"):
            run_cases(run, *other)
        patch.setattr(module, write_stand_in)
        (tmp_path / "other" / "case_ids.json").unlink()
        with pytest.raises(DataError, match=r"case_ids\.json was removed .* start the same command again"):
            run_cases(run, *other)
        run_cases(run, *other)
    assert read_folder(tmp_path / "other") == read_folder(tmp_path / "alone")


@pytest.mark.slow
def test_jobs_of_submitit_name_the_files_that_a_single_process_names(run, tmp_path, capsys):
    pytest.importorskip("submitit")
    folder = shutil.copytree(run, tmp_path / "run")
    words = ("cases.categories=[best]", "cases.stages=[select,infer,figures]")
    run_cases(folder, *words)
    alone = capsys.readouterr().out
    run_cases(folder, *words, "job.executor=submitit", "job.submitit={cluster: local, timeout_min: 10}")
    shared = capsys.readouterr().out
    assert "2 jobs (" in shared
    assert shared.endswith(alone)  # the table, and the lines about files
    assert alone.endswith(f"files of them: {folder}/figures/qualitative\n")


def write_stand_in(folder, category, arrays, attention, **options):
    """A file that depends on what a figure would show, without rendering it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"fig_{category}_comparison.png"
    path.write_bytes(
        b"".join(arrays[name].tobytes() for name in sorted(arrays)) + str(sorted(attention or ())).encode()
    )
    return [path]


def read_folder(folder):
    """Files but the notes as bytes or arrays' bytes, without the date of the selection."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name.startswith(".sharing"):
            continue
        contents[name] = path.read_bytes()
        if path.name == "case_ids.json":
            record = json.loads(path.read_text())
            del record["metadata"]["selection_date"]
            contents[name] = record
    return contents
