"""Published CycleGANs as run folders: the command, what the run computes, its units."""

import json

import domain_files
import nibabel as nib
import numpy as np
import published_cyclegan as published
import pytest
import torch
from omegaconf import OmegaConf

from seewhy.cli.compose import compose_saved
from seewhy.cli.main import main
from seewhy.errors import CheckpointError, ConfigError
from seewhy.models.translation.cyclegan_25d import CycleGAN25D
from seewhy.run.predict import predict


@pytest.fixture(scope="module")
def state():
    return published.whole(width=8)


def part(state, name):
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def status(*words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return ended.value.code


def imported(file, folder, *options):
    """The model of a run that the command made, and its configuration."""
    assert status("import", "cyclegan", str(file), str(folder), *options) == 0
    model = CycleGAN25D.load_from_checkpoint(folder / "checkpoints" / "best.ckpt", weights_only=True).eval()
    return model, OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))["config"]


def unit(values):
    return (values + 1) / 2


@pytest.fixture
def subject():
    """Stacks [S, 12, H, W] in [-1, 1] and the tissue [S, H, W]; outside it -1."""
    random = torch.Generator().manual_seed(3)
    body = torch.zeros(5, 32, 32, dtype=torch.bool)
    body[:, 4:28, 6:30] = True
    volume = torch.where(body, torch.rand(4, 5, 32, 32, generator=random) * 2 - 1, -1.0)
    padded = torch.cat([volume[:, :1], volume, volume[:, -1:]], dim=1)
    stacks = torch.stack([padded[:, z : z + 3].transpose(0, 1).flatten(0, 1) for z in range(5)])
    return stacks, body


@pytest.mark.parametrize("baseline", [False, True], ids=["attention", "baseline"])
def test_a_run_translates_and_takes_back_as_published(state, subject, tmp_path, baseline):
    """With the range [0, 1] of the published training, and the layout of its cycles: modality by modality."""
    state = published.whole(width=8, baseline=True) if baseline else state
    torch.save({"epoch": 7, "model_state_dict": state, "best_val_ssim": np.float64(0.9)}, tmp_path / "a.pth")
    model, config = imported(tmp_path / "a.pth", tmp_path / "run")
    assert config["model"]["generator"]["value_range"] == config["model"]["discriminator"]["value_range"] == "unit"
    assert config["data"]["percentiles"] == [1, 99]
    stacks, body = subject
    theirs = published.generate_baseline if baseline else published.generate
    tissue = body[:, None]
    with torch.no_grad():
        there = theirs(part(state, "G_A2B"), unit(stacks)).clamp(0, 1) * tissue
        layout = there[:, :, None].repeat(1, 1, 3, 1, 1).view(5, 12, 32, 32)
        back = theirs(part(state, "G_B2A"), layout).clamp(0, 1) * tissue
        found = model.translate(stacks, domain="a", body=body)
        again = model.reconstruct(found, domain="a", body=body)
        scores = model.discriminators["b"](found[:, :, :24, :24].repeat(1, 1, 2, 2))
        judged = published.judge(part(state, "D_B"), there[:, :, :24, :24].repeat(1, 1, 2, 2), baseline=baseline)
    assert torch.allclose(unit(found), there, atol=1e-4)
    assert torch.allclose(unit(again), back, atol=5e-4)
    for one, other in zip(scores, judged, strict=True):
        assert torch.allclose(one, other, atol=1e-3, rtol=1e-3)
    assert 0.05 < there[tissue.expand_as(there)].std() < 0.5  # neither constant nor cut off everywhere


def test_what_the_file_held_is_on_record(state, tmp_path, capsys):
    arrays = {f"model/{key}": value.numpy() for key, value in state.items()}
    arrays["nce_A2B/mlp.weight"] = np.ones((2, 2), np.float32)
    np.savez(tmp_path / "checkpoint_0100.npz", **arrays)
    (tmp_path / "checkpoint_0100.json").write_text(json.dumps({"epoch": 100, "lambda_nce": 1.0}))
    model, _ = imported(tmp_path / "checkpoint_0100.npz", tmp_path / "run")
    assert set(model.generators) == {"a2b", "b2a"}
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("SA-CycleGAN-2.5D, width 8, 9 blocks, A2B and B2A →")
    record = json.loads((tmp_path / "run" / "imported.json").read_text())
    assert (record["epoch"], record["discriminators"]) == (100, ["A", "B"])
    assert record["left_out"] == ["nce_A2B/mlp.weight"]
    assert record["their_record"]["lambda_nce"] == 1.0
    assert len(record["sha256"]) == 64
    with pytest.raises(ConfigError, match="already holds a run"):
        import_again(tmp_path / "checkpoint_0100.npz", tmp_path / "run")
    assert status("import", "cyclegan", str(tmp_path / "checkpoint_0100.npz"), str(tmp_path / "run")) == 1


def import_again(file, folder):
    from seewhy.cli.compose import compose_train
    from seewhy.run.importing import import_checkpoint

    config = compose_train("data=brats_domains", "model=cyclegan_25d")
    import_checkpoint("cyclegan", file, folder, config, direction="A2B")


@pytest.mark.parametrize(("options", "way", "domains"), [((), "a2b", "ab"), (("--direction", "B2A"), "b2a", "ba")])
def test_a_generator_alone(state, subject, tmp_path, options, way, domains):
    torch.save(part(state, "G_A2B"), tmp_path / "generator.pth")
    model, config = imported(tmp_path / "generator.pth", tmp_path / "run", *options)
    assert (list(model.generators), list(model.discriminators)) == ([way], [domains[1]])
    assert config["model"]["directions"] == way
    with torch.no_grad():
        expected = published.generate(part(state, "G_A2B"), unit(subject[0])).clamp(0, 1)
        assert torch.allclose(unit(model.translate(subject[0], domain=domains[0])), expected, atol=1e-4)
    with pytest.raises(ConfigError, match=f"nothing translates domain {domains[1]}"):
        model.translate(subject[0], domain=domains[1])


def test_stacks_of_another_size_are_refused(state, tmp_path):
    tensors = part(state, "G_A2B")
    first = "encoder_initial.slice_conv.1.weight"
    torch.save({**tensors, first: tensors[first].repeat(1, 5, 1, 1)[:, :20]}, tmp_path / "generator.pth")
    with pytest.raises(CheckpointError, match=r"translates 5 slices of 4 modalities; .* stacks of 3 slices of 4 "):
        import_again(tmp_path / "generator.pth", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def site(tmp_path):
    """Two subjects in a and three in b, of another scale."""
    for domain, count in (("a", 2), ("b", 3)):
        for number in range(count):
            volumes = {
                name: (2 if domain == "b" else 1) * one for name, one in domain_files.make_volumes(10 * number).items()
            }
            domain_files.write_subject(tmp_path / "set" / domain, f"{domain.upper()}_{number}", volumes, seg=False)
    return tmp_path / "set"


def predicted(folder, site, output, *overrides):
    words = [f"data.root={site}", "data.predict_on=all", "data.domain=a", "trainer.accelerator=cpu", *overrides]
    predict(compose_saved("predict", folder, *words, f"paths.output_dir={output}"))
    files = sorted((output / "predictions").rglob("*.nii.gz"))
    assert [file.name for file in files[:4]] == [f"A_0_{name}.nii.gz" for name in ("flair", "t1", "t1ce", "t2")]
    assert len(files) == 8
    return nib.load(files[1])


def test_units_of_the_other_scanner_are_measured_where_its_scans_are(state, site, tmp_path):
    torch.save({"model_state_dict": state}, tmp_path / "a.pth")
    model, config = imported(tmp_path / "a.pth", tmp_path / "with", "--root", str(site))
    assert config["data"]["root"] == str(site)
    record = json.loads((tmp_path / "with" / "imported.json").read_text())
    assert record["intensities_of_subjects"] == {"a": 2, "b": 3}
    middle = [
        np.median([np.percentile(scale * values[values > 0].astype(float), [1, 99]) for values in found], axis=0)
        for scale, count in ((1, 2), (2, 3))
        for found in [[domain_files.make_volumes(10 * number)["t2"] for number in range(count)]]
    ]
    for domain, expected in zip("ab", middle, strict=True):
        assert torch.allclose(model.typical_intensity(domain)[2], torch.tensor(expected).float(), rtol=2e-3)
    source = nib.load(site / "a" / "A_0" / "A_0_t1.nii.gz")
    volume = predicted(tmp_path / "with", site, tmp_path / "with")
    assert volume.shape == source.shape
    assert np.array_equal(volume.affine, source.affine)
    low, high = model.typical_intensity("b")[0].tolist()
    inside = volume.get_fdata()[source.get_fdata() > 0]
    assert low - 1e-3 <= inside.min() < inside.max() <= high + 1e-3

    imported(tmp_path / "a.pth", tmp_path / "without")
    with pytest.raises(ConfigError, match=r"callbacks\.predictions\.units=source"):
        predicted(tmp_path / "without", site, tmp_path / "without")
    predicted(tmp_path / "without", site, tmp_path / "without", "callbacks.predictions.units=source")
