import json

import nibabel as nib
import numpy as np
import pytest

from seewhy.batch import MODALITIES
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.errors import ConfigError, DataError
from seewhy.phantoms.scanners import SCANNERS, TISSUES, BrainRecipe, PulseSequence, draw_brain, write_scanner_phantom

SMALL = {"subjects": [3, 2], "shape": [28, 32, 24]}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_scanner_phantom(tmp_path_factory.mktemp("p") / "scanners", **SMALL)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*.gz"))}


def volume(path):
    return np.asarray(nib.load(path).dataobj)


def test_files_are_those_of_a_real_data_set(phantom):
    assert json.loads((phantom / "dataset.json").read_text())["phantom"] is True
    for domain, names in (("a", ["A001", "A002", "A003"]), ("b", ["B001", "B002"])):
        assert sorted(path.name for path in (phantom / domain).iterdir()) == names
        for name in names:
            for kind in (*MODALITIES, "seg"):
                image = nib.load(phantom / domain / name / f"{name}_{kind}.nii.gz")
                assert image.shape == (28, 32, 24)
                assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
            assert set(np.unique(volume(phantom / domain / name / f"{name}_seg.nii.gz"))) <= {0, 1, 2, 4}


def test_a_counterpart_is_the_same_brain_by_the_other_scanner(phantom):
    for domain, name, strangers in (("a", "A001", "counterparts/a"), ("b", "B002", "a")):
        for kind in MODALITIES:
            own = volume(phantom / domain / name / f"{name}_{kind}.nii.gz")
            other = volume(phantom / "counterparts" / domain / name / f"{name}_{kind}.nii.gz")
            inside = own > 0
            np.testing.assert_array_equal(inside, other > 0)
            # Sharpness, contrast and shading differ, the anatomy does not.
            stranger = volume(phantom / strangers / "A002" / f"A002_{kind}.nii.gz")  # the same scanner's
            both = inside & (stranger > 0)
            same, chance = (np.corrcoef(own[both], values[both])[0, 1] for values in (other, stranger))
            assert same > max(0.4, chance + 0.1), (name, kind)
        assert own.mean() > 1.5 * other.mean() if domain == "a" else other.mean() > 1.5 * own.mean()


def test_nobody_is_in_both_domains(phantom):
    outlines = [volume(path) > 0 for path in sorted(phantom.glob("[ab]/*/*_t1.nii.gz"))]
    assert len({outline.tobytes() for outline in outlines}) == 5


def test_same_seed_same_bytes_and_no_brain_depends_on_how_many_there_are(phantom, tmp_path):
    assert contents(write_scanner_phantom(tmp_path / "again", **SMALL)) == contents(phantom)
    assert contents(write_scanner_phantom(tmp_path / "other", **SMALL, seed=1)) != contents(phantom)
    fewer = contents(write_scanner_phantom(tmp_path / "fewer", **{**SMALL, "subjects": [1, 1]}))
    assert all(contents(phantom)[path] == values for path, values in fewer.items())


def test_reused_when_equal_refused_when_not(phantom):
    before = {path: path.stat().st_mtime_ns for path in phantom.rglob("*")}
    assert write_scanner_phantom(phantom, **SMALL) == phantom
    assert before == {path: path.stat().st_mtime_ns for path in phantom.rglob("*")}
    with pytest.raises(DataError, match=r"seed is 0.*\b3\b"):
        write_scanner_phantom(phantom, **SMALL, seed=3)


@pytest.mark.parametrize("options", [{"subjects": [0, 2]}, {"shape": [8, 8, 8]}, {"seed": -1}, {"subjects": [4]}])
def test_numbers_are_checked(tmp_path, options):
    with pytest.raises(ConfigError, match=rf"phantom\.{next(iter(options))}"):
        write_scanner_phantom(tmp_path / "p", **options)


def test_signals_follow_the_equations():
    t1, t2, density = (np.float32(value) for value in (1000, 100, 0.8))
    assert PulseSequence(500, 20).signal(t1, t2, density) == pytest.approx(0.8 * (1 - np.exp(-0.5)) * np.exp(-0.2))
    inverted = abs(1 - 2 * np.exp(-2.0) + np.exp(-8.0)) * np.exp(-1.0)
    assert PulseSequence(8000, 100, 2000).signal(t1, t2, density) == pytest.approx(0.8 * inverted)


@pytest.mark.parametrize("scanner", SCANNERS)
def test_contrast_is_what_radiologists_expect(scanner):
    signals = {
        name: {tissue: sequence.signal(*map(np.float32, values)) for tissue, values in TISSUES.items()}
        for name, sequence in SCANNERS[scanner].sequences.items()
    }
    assert signals["t1"]["white"] > signals["t1"]["gray"] > signals["t1"]["fluid"]
    assert signals["t2"]["fluid"] > signals["t2"]["oedema"] > signals["t2"]["gray"] > signals["t2"]["white"]
    assert signals["flair"]["oedema"] > signals["flair"]["gray"] > signals["flair"]["fluid"], "fluid is nulled"


def test_contrast_agent_brightens_the_rim_alone():
    brain = draw_brain(BrainRecipe(tumour=1.0), shape=(40, 40, 32), rng=np.random.default_rng(0))
    assert (brain.labels == 4).sum() > 20
    lowered = brain.t1_enhanced / brain.t1
    assert lowered[brain.labels == 4].max() < 0.7
    assert lowered[brain.labels == 0].min() > 0.6
    assert np.median(lowered[brain.labels == 0]) > 0.999
    assert not brain.labels[~brain.inside].any()


def test_the_data_module_reads_it_with_its_truth(phantom, tmp_path):
    module = BraTSDomainsDataModule(root=str(phantom), cache_dir=str(tmp_path / "c"), predict_on="all")
    module.setup("predict")
    assert module.is_phantom
    for batch in module.predict_dataloader():
        centre, truth, body = batch["image"][:, 4:8], batch["counterpart"], batch["body"]
        assert truth.shape == centre.shape
        assert (truth[~body[:, None].expand_as(truth)] == -1).all()
        own = centre[body[:, None].expand_as(centre)]
        other = truth[body[:, None].expand_as(truth)]
        assert (own - other).abs().mean() > 0.05, "there is something to translate"
        assert np.corrcoef(own, other)[0, 1] > 0.4
