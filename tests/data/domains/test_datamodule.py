import itertools
import multiprocessing
import os
import pickle
import re
import shutil
from concurrent.futures import ProcessPoolExecutor

import nibabel as nib
import numpy as np
import pytest
import torch

from seewhy.batch import MODALITIES
from seewhy.callbacks.predictions import PredictionOptions
from seewhy.callbacks.translation.writer import TranslationWriter
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.data.domains.preparation import locate_domain_folders, prepare_domains
from seewhy.errors import ConfigError, DataError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def make(root, **options):
    return BraTSDomainsDataModule(root=str(root), **options)


def equal(one, other):
    """Whether two batches hold the same, tensors bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_training_batches_are_pairs_in_the_documented_layout(domains):
    module = make(domains, batch_size=3, slices=5, percentiles=(0, 100))
    module.setup("fit")
    batches = list(module.train_dataloader())
    assert len(batches) == len(module.list_centers("a")) // 3
    train = {domain: {s.patient for s in module.items_of("train") if s.domain == domain} for domain in "ab"}
    for batch in batches:
        assert batch.keys() == {"a", "b"}, "nothing but images: no mask, no counterpart"
        for domain in "ab":
            stack = batch[domain]
            assert stack["image"].shape == (3, 20, 20, 24)
            assert stack["body"].shape == (3, 5, 20, 24)
            assert set(stack["patient"]) <= train[domain]
            outside = ~stack["body"][:, :, None].expand(-1, -1, 4, -1, -1).flatten(1, 2)
            assert (stack["image"][outside] == -1).all()


def test_a_stack_holds_the_slices_around_its_centre(domains, volumes):
    module = make(domains, slices=5, percentiles=(0, 100), fractions=[1, 0, 0])
    batch = next(iter(module.train_dataloader()))
    for place, patient in enumerate(batch["a"]["patient"]):
        values, centre = volumes(10 * int(patient[-1])), batch["a"]["index"][place]
        assert batch["a"]["id"][place] == f"a_{patient}_{centre:03d}"
        for offset, (number, name) in itertools.product(range(5), enumerate(MODALITIES)):
            low, high = (f(values[name][values[name] > 0]) for f in (np.min, np.max))
            plane = values[name][:, :, min(max(centre + offset - 2, 0), 9)].astype(float)
            expected = np.where(plane > 0, (plane - low) / (high - low) * 2 - 1, -1)
            np.testing.assert_allclose(batch["a"]["image"][place, 4 * offset + number], expected, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_order_pairs_and_squares_depend_on_seed_and_epoch_alone(domains, workers):
    first = make(domains, crop_size=12, seed=3)
    expected = list(first.train_dataloader())
    again = make(domains, crop_size=12, seed=3, num_workers=workers)
    assert all(equal(one, other) for one, other in zip(expected, again.train_dataloader(), strict=True))
    assert all(equal(one, other) for one, other in zip(first.test_dataloader(), again.test_dataloader(), strict=True))
    other = make(domains, crop_size=12, seed=4)
    assert not all(equal(one, two) for one, two in zip(expected, other.train_dataloader(), strict=True))
    resumed = make(domains, crop_size=12, seed=3)
    resumed.first_epoch = 2
    loader = first.train_dataloader()
    loader.sampler.set_epoch(2)
    assert all(equal(one, two) for one, two in zip(loader, resumed.train_dataloader(), strict=True))


@pytest.mark.parametrize("side", [4, 12, 24, 32])
def test_training_squares_show_tissue_and_fit_every_grid(domains, side):
    module = make(domains, crop_size=side, batch_size=4, fractions=[1, 0, 0])
    for batch in module.train_dataloader():
        for domain in "ab":
            assert batch[domain]["image"].shape == (4, 12, side, side)
            assert batch[domain]["body"][:, 1].flatten(1).any(1).all()
            if side >= 24:
                assert (batch[domain]["body"][:, 1].flatten(1).sum(1) == 11 * 16).all()


@pytest.mark.parametrize("side", [4, 12, 24, 32])
def test_a_training_square_is_cut_out_of_whole_slices(domains, side):
    """Beyond the grid of 20 x 24 pixels, squares of 24 and 32 are background."""
    module = make(domains, crop_size=side, batch_size=1, slices=5, fractions=[1, 0, 0])
    reader, found = module.reader, 0
    subjects = {(subject.domain, subject.id): subject for subject in module.subjects}
    for batch in module.train_dataloader():
        for domain in "ab":
            name, number = batch[domain]["id"][0].split("_", 1)[1].rsplit("_", 1)
            subject = subjects[domain, name]
            first, last = int(number) - 2, int(number) + 3
            placement = reader.find_placement(subject)
            edge = ((0, 0), (side, side), (side, side))
            body = np.pad(reader.read_body(subject, placement, first, last), edge)
            planes = reader.read_planes(subject, placement, first, last)
            planes = np.pad(planes, (edge[0], *edge), constant_values=-1)
            square = batch[domain]["image"][0].numpy().reshape(5, 4, side, side)
            rows, columns = (body.shape[1] - side + 1, body.shape[2] - side + 1)
            places = [
                (row, column)
                for row in range(rows)
                for column in range(columns)
                if np.array_equal(planes[:, :, row : row + side, column : column + side], square)
                and np.array_equal(body[:, row : row + side, column : column + side], batch[domain]["body"][0])
            ]
            assert places
            found += 1
    assert found >= 4


def test_evaluation_batches_are_whole_subjects_in_order(domains, volumes):
    module = make(domains, fractions=[0.5, 0.0, 0.5], percentiles=(0, 100))
    batches = list(module.test_dataloader())
    assert [batch["domain"][0] for batch in batches] == [s.domain for s in module.items_of("test")]
    for batch in batches:
        domain, patient = batch["domain"][0], batch["patient"][0]
        source = volumes(10 * int(patient[-1]) + (domain == "b"))
        assert batch["index"] == list(range(1, 10))
        assert batch["image"].shape == (9, 12, 20, 24)
        assert batch["id"] == module.sample_ids("test")[: len(batch["id"])] or domain == "b" or patient != "A-0"
        assert set(batch["mask"].unique().tolist()) == {0, 4}
        assert "counterpart" not in batch
        low, high = batch["intensity"].unbind(-1)
        values = low[..., None, None] + (batch["image"][:, 4:8] + 1) / 2 * (high - low)[..., None, None]
        for place, name in enumerate(MODALITIES):
            restored = batch["placement"][0].restore(torch.where(batch["body"], values[:, place], 0).numpy())
            np.testing.assert_allclose(restored, source[name], atol=0.01)
            assert batch["files"][0][name].endswith(f"_{name}.nii.gz")
        labels = batch["placement"][0].restore(batch["mask"].numpy(), order=0)
        assert labels[9, 10, 4] == 4
        assert (labels > 0).sum() == 3 * 4 * 3


def test_neighbouring_stacks_overlap_as_the_slices_do(domains):
    batch = next(iter(make(domains, fractions=[0.5, 0.0, 0.5]).test_dataloader()))
    image = batch["image"]
    assert torch.equal(image[1:, :4], image[:-1, 4:8])
    assert torch.equal(image[:-1, 8:], image[1:, 4:8])
    assert (image[0, :4] == -1).all()  # the empty slice before
    assert torch.equal(image[-1, 8:], image[-1, 4:8])  # beyond the end


def test_patients_are_split_evenly_within_each_domain_and_never_cut(domains, write, volumes):
    write(domains / "a", "T_9", volumes(90))
    write(domains / "b", "T_9", volumes(91))  # scanned at both sites
    module = make(domains, fractions=[0.4, 0.3, 0.3])
    record = module.split_record()
    assert record["hash"] == module.split.hash
    for part in ("train", "val", "test"):
        assert record["counts"][part]["a_subjects"] >= 1
        assert record["counts"][part]["b_subjects"] >= 1
    assert sorted(record["train"] + record["val"] + record["test"]) == sorted(
        [*(f"A-{n}" for n in range(5)), *(f"B-{n}" for n in range(4)), "T-9"]
    )
    part = next(part for part in ("train", "val", "test") if "T-9" in record[part])
    assert len([s for s in module.items_of(part) if s.patient == "T-9"]) == 2


def test_scans_of_one_patient_stay_together(domains):
    module = make(domains, patient_pattern="^([AB])", train_patients=["A"], val_patients=["B"])
    assert {subject.patient for subject in module.subjects} == {"A", "B"}
    assert len(module.items_of("train")) == 5
    with pytest.raises(DataError, match=r"domain b .*data\.train_patients"):
        module.setup("fit")


def test_what_is_predicted_can_be_chosen(domains):
    module = make(domains, predict_on="all", domain="b")
    assert [batch["domain"][0] for batch in module.predict_dataloader()] == ["b"] * 4
    assert len(module.sample_ids("predict")) == 4 * 9
    module.only = ["b_B-2_004"]
    assert [batch["patient"][0] for batch in module.predict_dataloader()] == ["B-2"]
    alone = make(domains, a=None, predict_on="all")
    alone.setup("predict")
    assert len(list(alone.predict_dataloader())) == 4
    assert len(make(domains, max_patients=2).subjects) == 4


def test_a_prepared_folder_gives_the_same_without_its_sources(domains, tmp_path):
    prepare_domains(locate_domain_folders(domains, {"a": "a", "b": "b"}, None), tmp_path / "store")
    direct = make(domains)
    expected = list(direct.train_dataloader())
    for path in (*domains.glob("a/*/*"), *domains.glob("b/*/*")):
        path.unlink()
    prepared = make(tmp_path / "store")
    prepared.setup("fit")
    assert all(equal(one, two) for one, two in zip(expected, prepared.train_dataloader(), strict=True))
    assert prepared.fingerprint() == direct.fingerprint()
    assert prepared.split.hash == direct.split.hash


def test_subjects_are_prepared_once_and_anew_when_their_files_change(domains, volumes):
    folders, store = locate_domain_folders(domains, {"a": "a", "b": "b"}, None), domains / "prepared"
    assert prepare_domains(folders, store).written == 9
    assert prepare_domains(folders, store).written == 0
    changed = domains / "b" / "B_1" / "B_1_t2.nii.gz"
    nib.save(nib.Nifti1Image(volumes()["t2"] * 2, np.diag([-1.0, -1, 1, 1])), changed)
    os.utime(changed, ns=(1, 1))
    again = prepare_domains(folders, store)
    assert again.written == 1
    assert next(s for s in again.subjects if s.id == "B-1").volume[:, 2].max() == 2 * volumes()["t2"].max()


def test_a_stopped_preparation_is_continued(domains):
    folders, store = locate_domain_folders(domains, {"a": "a", "b": "b"}, None), domains / "prepared"
    prepare_domains({"a": folders["a"]}, store)
    (store / "domains.json").unlink()
    (store / "a" / ".tmp-1234-A-9").mkdir()
    assert prepare_domains(folders, store).written == 4


def test_two_processes_may_prepare_at_once(domains):
    folders, store = locate_domain_folders(domains, {"a": "a", "b": "b"}, None), domains / "prepared"
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver")) as pool:
        runs = [pool.submit(prepare_domains, folders, store) for _ in range(2)]
        found = [run.result() for run in runs]
    assert all([subject.id for subject in one.subjects] == [s.id for s in found[0].subjects] for one in found)
    assert prepare_domains(folders, store).written == 0
    assert not list(store.rglob(".tmp-*"))


def test_a_store_is_of_the_folders_that_it_was_made_of(domains, write, volumes):
    """Subjects of two sites may have the same names; neither run may read the other site's."""
    write(domains / "c", "A_0", {name: values * 2 for name, values in volumes().items()})
    one = make(domains).subjects[0]
    before = one.volume.copy()
    other = make(domains, a="c").subjects[0]
    assert other.id == one.id
    assert other.volume.max() == 2 * before.max()
    assert np.array_equal(one.volume, before)
    with pytest.raises(DataError, match=r"/a as domain a.*/c; .*data\.cache_dir"):
        make(domains, a="c", cache_dir=str(domains / "prepared")).setup("fit")


def test_a_store_that_moved_with_its_sources_goes_on(domains, tmp_path):
    first = make(domains).subjects[0].volume.copy()
    domains.rename(tmp_path / "moved")
    assert np.array_equal(make(tmp_path / "moved").subjects[0].volume, first)


def test_a_store_that_was_copied_with_its_sources_is_of_the_copy(domains, write, volumes, tmp_path):
    first = make(domains).subjects[0].volume.copy()
    shutil.copytree(domains, tmp_path / "copy")
    copied = make(tmp_path / "copy").subjects[0]
    assert np.array_equal(copied.volume, first)
    assert copied.folder.is_relative_to(tmp_path / "copy")
    write(tmp_path / "copy" / "c", "A_0", volumes())
    with pytest.raises(DataError, match=r"/copy/a as domain a.*/copy/c"):
        make(tmp_path / "copy", a="c", cache_dir=str(tmp_path / "copy" / "prepared")).setup("fit")


def test_a_store_knows_its_folders_by_whatever_path(domains, tmp_path):
    (tmp_path / "link").symlink_to(domains)
    make(domains).setup("fit")
    make(tmp_path / "link").setup("fit")
    make(domains / "a" / "..", cache_dir=str(domains / "prepared")).setup("fit")


def test_a_prepared_folder_is_read_with_the_options_of_its_sources(domains, write, volumes, tmp_path):
    write(domains / "counterparts" / "a", "A_1", volumes(), seg=False)
    prepare_domains(locate_domain_folders(domains, {"a": "a", "b": "b"}, "counterparts"), tmp_path / "store")
    pattern = r"^(.)_\d$"  # of names as the files have them: ids have no underscores
    patients = [{subject.patient for subject in make(root, patient_pattern=pattern).subjects}
                for root in (domains, tmp_path / "store")]  # fmt: skip
    assert patients[0] == patients[1] == {"A", "B"}
    with pytest.raises(ConfigError, match=r"data\.a=site"):
        make(tmp_path / "store", a="site").setup("fit")
    with pytest.raises(ConfigError, match=r"data\.counterparts=others"):
        make(tmp_path / "store", counterparts="others").setup("fit")
    assert list(make(tmp_path / "store").store.counterparts) == [("a", "A-1")]
    assert not make(tmp_path / "store", counterparts=None).store.counterparts
    assert {subject.domain for subject in make(tmp_path / "store", b=None).subjects} == {"a"}


def test_a_root_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(DataError, match="typo"):
        make(tmp_path / "typo" / "deep").setup("fit")
    assert not (tmp_path / "typo").exists()


def test_names_of_predictions_do_not_depend_on_which_domain_is_predicted(domains, write, volumes, tmp_path):
    write(domains / "b", "A_0", volumes())
    for domain in ("a", "b", "both"):
        module = make(domains, domain=domain, predict_on="all")
        assert TranslationWriter(PredictionOptions(folder=tmp_path / domain), module).shared == {"A-0"}


def test_batches_of_evaluation_can_be_page_locked(domains):
    module = make(domains)
    module.setup("validate")
    for batch in module.val_dataloader():
        for name, value in batch.items():
            for one in value.values() if isinstance(value, dict) else [value]:
                if isinstance(one, torch.Tensor):
                    strides = zip(one.shape, one.stride(), strict=True)
                    assert all(stride or length == 1 for length, stride in strides), name


def test_stacks_of_a_subject_share_their_memory_on_every_device(domains):
    """Lightning moves batches by the hook; a device without memory stands for those that cannot be here."""
    module = make(domains)
    module.setup("fit")
    batch = next(iter(module.val_dataloader()))
    image = batch["image"]
    moved = module.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.keys() == batch.keys()
    assert moved["image"].device.type == moved["body"].device.type == moved["intensity"].device.type == "meta"
    assert moved["image"].shape == image.shape
    assert moved["image"].untyped_storage().nbytes() == (len(image) + 2) * image[0, :4].nbytes
    pair = next(iter(module.train_dataloader()))
    assert module.transfer_batch_to_device(pair, torch.device("meta"), 0)["a"]["image"].device.type == "meta"


def test_preparing_never_writes_into_other_data(domains):
    before = sorted(domains.rglob("*"))
    with pytest.raises(DataError, match="choose another folder"):
        make(domains, cache_dir=str(domains)).setup("fit")
    assert sorted(domains.rglob("*")) == before


def test_all_that_is_wrong_is_said_at_once_before_training(domains, write, volumes):
    whole = volumes()
    write(domains / "a", "M_1", {name: whole[name] for name in ("t1", "t2", "flair")})
    write(domains / "b", "N_1", {**whole, "t1": np.where(whole["t1"] > 900, np.nan, whole["t1"]).astype(np.float32)})
    write(domains / "b", "S_1", {**whole, "flair": whole["flair"][:, :-1]}, seg=False)
    write(domains / "b", "X_1", {name: values for name, values in whole.items() if name != "t2"})
    (domains / "b" / "X_1" / "X_1_t2.nii.gz").write_text("no volume")
    with pytest.raises(DataError) as caught:
        make(domains).setup("fit")
    text = "\n".join(caught.value.problems)
    for expected in (
        "M_1 has no t1ce",
        "N_1_t1.nii.gz (t1)",
        "S_1_flair.nii.gz",
        "X_1_t2.nii.gz",
    ):
        assert expected in text
    assert len(caught.value.problems) == 4


def test_a_counterpart_lies_on_its_subject(domains, write, volumes):
    write(domains / "counterparts" / "a", "A_1", volumes(), seg=False)
    make(domains).setup("fit")
    write(domains / "counterparts" / "a", "A_2", volumes(shape=(20, 24, 11)), seg=False)
    write(domains / "counterparts" / "a", "A_7", volumes(), seg=False)
    with pytest.raises(DataError) as caught:
        make(domains).setup("fit")
    assert len(caught.value.problems) == 2
    assert re.search(r"A-2 .*\(20, 24, 11\).*\(20, 24, 10\)", str(caught.value))
    assert "A-7" in str(caught.value)


@pytest.mark.parametrize(
    ("affine", "apart"),
    [(np.diag([-1.0, -1.0, 2.0, 1.0]), "10 mm"), (LPS + np.eye(4, k=3) * 3, "3 mm")],
    ids=["thicker slices", "moved"],
)
def test_a_counterpart_lies_where_its_subject_does(domains, write, volumes, affine, apart):
    """The same voxels in number and direction may be of other places."""
    write(domains / "counterparts" / "a", "A_1", volumes(), seg=False, affine=affine)
    with pytest.raises(DataError, match=rf"counterparts/a: A-1 .*{apart}"):
        make(domains).setup("fit")


def test_an_empty_domain_is_named(domains):
    (domains / "c").mkdir()
    with pytest.raises(DataError, match=r"b: .*/c "):
        make(domains, b="c").setup("fit")
    with pytest.raises(DataError, match=r"b: .*/nowhere"):
        make(domains, b="nowhere").setup("fit")


def test_subjects_that_are_turned_otherwise_are_refused(domains, write, volumes):
    write(domains / "b", "R_1", volumes(), affine=np.eye(4))
    with pytest.raises(DataError, match=r"b: R-1 .*RAS.*LPS"):
        make(domains).setup("fit")


def test_sizes_that_form_no_batch_are_named(domains, write):
    block = np.random.default_rng(0).integers(1, 900, (18, 12, 6)).astype(np.int16)
    volume = np.pad(block, ((2, 2), (6, 6), (2, 2)))
    write(domains / "a", "L_1", dict.fromkeys(MODALITIES, volume))
    options = {"train_patients": ["L-1", "A-0", "B-0"], "val_patients": ["A-1"]}
    with pytest.raises(DataError, match=r"20x24 in a \(1 subjects\), 24x24 in a"):
        make(domains, **options).setup("fit")
    # What is of one domain goes through networks with what is of the other, in batches of one too.
    other = {"train_patients": ["L-1", "B-0"], "val_patients": ["A-1"], "batch_size": 1}
    with pytest.raises(DataError, match=r"24x24 in a .*20x24 in b|20x24 in b.*24x24 in a"):
        make(domains, **other).setup("fit")
    make(domains, **options, image_size=24).setup("fit")
    make(domains, **options, crop_size=16).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": 4}, r"data\.slices=4"),
        ({"domain": "c"}, r"data\.domain='c'"),
        ({"a": None, "b": None}, "both null"),
        ({"a": "x", "b": "x"}, r"'x'"),
        ({"crop_size": 30}, "multiple of data.multiple_of=4"),
        ({"min_content": 2}, r"data\.min_content=2"),
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"percentiles": [1.0]}, r"data\.percentiles="),
        ({"percentiles": None}, r"data\.percentiles=None"),
        ({"percentiles": ["1", "99"]}, r"data\.percentiles="),
        ({"image_size": [240]}, r"data\.image_size=\[240\]"),
        ({"image_size": "24"}, r"data\.image_size=24 "),
        ({"image_size": [24.5, 24]}, r"data\.image_size=\[24\.5, 24\]"),
        ({"image_size": True}, r"data\.image_size=True"),
        ({"predict_on": "tst"}, r"data\.predict_on=.*'test'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        make("somewhere", **options)


def test_slices_with_little_tissue_are_not_trained_on(domains, write):
    values = np.zeros((20, 24, 12), np.int16)
    rng = np.random.default_rng(0)
    for z in range(1, 11):  # squares of 2z pixels' side up to the middle, then the same again
        side = 2 * min(z, 11 - z)
        values[2 : 2 + side, 2 : 2 + side, z] = rng.integers(1, 900, (side, side))
    write(domains / "a", "Z_1", dict.fromkeys(MODALITIES, values), seg=False)
    kept = {}
    for share in (0.0, 0.3, 1.0):
        module = make(domains, fractions=[1, 0, 0], min_content=share)
        kept[share] = [center.number for center in module.list_centers("a") if center.subject.id == "Z-1"]
    # Areas are 4, 16, 36, 64 and 100 pixels.
    assert kept == {0.0: list(range(1, 11)), 0.3: list(range(3, 9)), 1.0: [5, 6]}


def test_memory_holds_no_voxels(domains):
    """What a worker is sent, and keeps, are names and numbers: arrays are mapped when they are read."""
    module = make(domains)
    loader = module.train_dataloader()
    list(loader)
    list(module.val_dataloader())
    voxels = sum(subject.volume.nbytes for subject in module.subjects)
    assert len(pickle.dumps(loader.dataset)) < 0.2 * voxels, "the heads here are tiny"
    assert not module.subjects[0].volume.flags.writeable
    assert isinstance(module.subjects[0].volume, np.memmap)


def test_real_patients_come_back_voxel_by_voxel(samples, tmp_path):
    folder = samples / "brats"
    if not (folder / "TCGA-DU-7294").is_dir():
        pytest.skip("these patients are not on this machine")
    for domain, name in (("a", "BraTS2021_00006"), ("b", "TCGA-DU-7294")):
        (tmp_path / domain).mkdir()
        (tmp_path / domain / name).symlink_to(folder / name)
    module = make(tmp_path, predict_on="all", percentiles=(0, 100), fractions=[1, 0, 0])
    module.setup("predict")
    for batch in module.predict_dataloader():
        assert batch["image"].shape[1:] == (12, 240, 240)
        low, high = batch["intensity"].unbind(-1)
        values = low[..., None, None] + (batch["image"][:, 4:8] + 1) / 2 * (high - low)[..., None, None]
        source = nib.load(batch["files"][0]["flair"])
        stored = np.asarray(source.dataobj)
        restored = batch["placement"][0].restore(torch.where(batch["body"], values[:, 3], 0).numpy())
        body = batch["placement"][0].restore(batch["body"].numpy(), order=0)
        np.testing.assert_allclose(restored[body], stored[body], atol=0.01 * stored.std())
        assert (stored[~body] != 0).sum() < 1e-4 * body.sum(), "what is left out are specks"
