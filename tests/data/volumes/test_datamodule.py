import json
import shutil

import numpy as np
import pytest
import torch
import zarr

from seewhy.data.loaders import Draw
from seewhy.data.transforms.augmentation import build_augmentation
from seewhy.data.transforms.patch_augmentation import PatchAugmentation
from seewhy.data.volumes.boxes import check_gaps, cut_volume, parse_boxes
from seewhy.data.volumes.cases import VolumeCase
from seewhy.data.volumes.datamodule import VolumesDataModule
from seewhy.data.volumes.normalization import check_scheme, compute_scales, list_schemes
from seewhy.data.volumes.patches import PatchLocator
from seewhy.data.volumes.survey import Brightness, Survey, SurveyCache, merge_brightness, survey_case
from seewhy.errors import ConfigError, DataError
from seewhy.phantoms.ct import write_ct_phantom
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.statistics import measure

CLASSES = ["background", "nodule", "vessel"]
OPTIONS = {"classes": CLASSES, "patch": [16, 16, 16], "batch_size": 2, "batches_per_epoch": 3}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_ct_phantom(tmp_path_factory.mktemp("p") / "ct", volumes=5, shape=[40, 56, 56], chunk=16)


@pytest.fixture
def root(written, tmp_path):
    """A phantom that a test may spoil."""
    return shutil.copytree(written, tmp_path / "ct")


def module(root, **options):
    return VolumesDataModule(root=str(root), **{**OPTIONS, **options})


def case(ends, name="v"):
    return VolumeCase(
        id=name, patient=name, volume=name, image="", label="", level=None, channels=1, ends=ends, spacing=None
    )


def array_of(root, part, name):
    return zarr.open_group(root / part / f"{name}.zarr", mode="r+")["0"]


# -- where patches lie ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("foreground", [0.0, 0.25, 0.5, 1 / 3, 1.0])
def test_the_share_of_foreground_patches_is_exact_and_classes_take_turns(foreground):
    positions = [{1: np.array([[20, 20, 20]], np.int32)}, {2: np.array([[30, 10, 15]], np.int32)}]
    places = PatchLocator(
        [case((0, 40, 0, 40, 0, 40), "a"), case((0, 40, 0, 40, 0, 40), "b")], positions,
        patch=[9, 9, 9], foreground=foreground, seed=3,
    )  # fmt: skip
    centred = {"a": (20, 20, 20), "b": (30, 10, 15)}
    hits = []
    for number in range(240):
        found, box = places(Draw(number, number % 2))
        if tuple(part.start + 4 for part in box) == centred[found.volume]:
            hits.append(found.volume)
    assert abs(len(hits) - round(240 * foreground)) <= 1  # a chance patch may fall on the very spot
    assert hits == [("a", "b")[turn % 2] for turn in range(len(hits))]


def test_no_patch_leaves_its_box_and_a_small_box_is_filled_up():
    rng = np.random.default_rng(0)
    ends = (5, 30, 0, 12, 7, 47)
    corners = np.array([[5, 0, 7], [29, 11, 46], *rng.integers([5, 0, 7], [30, 12, 47], (50, 3))], np.int32)
    places = PatchLocator([case(ends)], [{1: corners}], patch=[16, 12, 20], foreground=0.5, seed=0)
    starts = set()
    for number in range(400):
        _, box = places(Draw(number, 0))
        assert [part.stop - part.start for part in box] == [16, 12, 20]
        assert all(a <= part.start < part.stop <= b for part, a, b in zip(box, ends[::2], ends[1::2], strict=True))
        starts.add(box[0].start)
    assert starts == set(range(5, 15))  # every place is reached
    small = PatchLocator([case(ends)], [{}], patch=[64, 64, 64], foreground=0.5, seed=0)
    assert [(part.start, part.stop) for part in small(Draw(0, 0))[1]] == [(5, 30), (0, 12), (7, 47)]


def test_a_small_volume_lies_in_the_middle_of_its_patch(root):
    data = module(root, patch=[48, 32, 32], augmentation=None, foreground=0.0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 1, 48, 32, 32)
    assert not batch["image"][:, :, :4].any()
    assert not batch["image"][:, :, -4:].any()
    assert batch["image"][:, :, 4:44].any(dim=(2, 3, 4)).all()


# -- batches --------------------------------------------------------------------------------------------------


def batches(root, *, epoch=0, **options):
    data = module(root, **options)
    data.first_epoch = epoch
    data.setup("fit")
    return list(data.train_dataloader())


def same(one, other):
    return all(
        torch.equal(a["image"], b["image"]) and torch.equal(a["mask"], b["mask"]) and a["id"] == b["id"]
        for a, b in zip(one, other, strict=True)
    )


def test_a_run_that_continues_sees_the_patches_of_one_that_did_not_stop(written):
    settings = {"augmentation": {"affine": 1.0}}
    data = module(written, **settings)
    data.setup("fit")
    loader = data.train_dataloader()
    epochs = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        epochs.append(list(loader))
    assert same(batches(written, epoch=2, **settings), epochs[2])
    assert not same(epochs[1], epochs[2])
    assert not same(batches(written, epoch=2, seed=1, **settings), epochs[2])


def test_two_workers_give_the_batches_of_none(written):
    """Zarr 3 keeps an event loop that a fork would break; stores are opened anew in every worker."""
    settings = {"augmentation": {"affine": 1.0, "noise_probability": 1.0}}
    data = module(written, num_workers=2, **settings)
    data.setup("fit")
    next(iter(module(written).val_dataloader()))  # the parent has read from stores before it forks
    assert same(list(data.train_dataloader()), batches(written, **settings))
    assert [batch["id"] for batch in data.val_dataloader()] == [
        batch["id"] for batch in module(written).val_dataloader()
    ]


def test_image_and_labels_stay_aligned_under_augmentation():
    image = torch.zeros(1, 24, 20, 28)
    image[:, 5:15, 4:9, 6:20] = 1.0
    mask = image[0].to(torch.uint8)
    rigid = PatchAugmentation(
        flip=0.5, rotate90=0.0, affine=0.0, noise_probability=0.0, blur_probability=0.0, brightness_probability=0.0,
        gamma_probability=0.0,
    )  # fmt: skip
    seen = set()
    for number in range(16):
        moved, labels = rigid(image, mask, (0, number))
        assert torch.equal(moved[0].to(torch.uint8), labels)
        assert labels.sum() == mask.sum()
        seen.add(labels.numpy().tobytes())
    assert len(seen) == 8  # all combinations of three mirrors
    turned = PatchAugmentation(
        affine=1.0, noise_probability=0.0, blur_probability=0.0, brightness_probability=0.0, gamma_probability=0.0
    )
    for number in range(4):
        moved, labels = turned(image, mask, (1, number))
        assert moved.shape == image.shape
        overlap = ((moved[0] > 0.5) & (labels > 0)).sum() * 2 / ((moved[0] > 0.5).sum() + (labels > 0).sum())
        assert overlap > 0.97
    assert torch.equal(turned(image, mask, (1, 2))[0], turned(image, mask, (1, 2))[0])
    untouched = PatchAugmentation(
        flip=0.0,
        affine=0.0,
        noise_probability=0.0,
        blur_probability=0.0,
        brightness_probability=0.0,
        gamma_probability=0.0,
    )
    assert torch.equal(untouched(image, mask, (0, 0))[0], image)


def test_intensities_change_the_image_alone():
    image, mask = torch.randn(2, 8, 8, 8), torch.randint(0, 3, (8, 8, 8), dtype=torch.uint8)
    loud = PatchAugmentation(
        flip=0.0,
        affine=0.0,
        noise_probability=1.0,
        blur_probability=1.0,
        brightness_probability=1.0,
        gamma_probability=1.0,
    )
    changed, labels = loud(image, mask, (0, 0))
    assert not torch.equal(changed, image)
    assert torch.equal(labels, mask)


@pytest.mark.parametrize("wrong", [{"flips": 0.5}, {"flip": 2}, {"scale": [1.2, 0.8]}, {"rotate": [10]}, {"noise": -1}])
def test_wrong_augmentation_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"data\.augmentation"):
        build_augmentation(PatchAugmentation, wrong)


def test_evaluation_batches_are_whole_volumes_with_spacing(written):
    data = module(written)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    assert batch["image"].shape == (1, 1, 40, 56, 56)
    assert batch["mask"].dtype == torch.uint8
    torch.testing.assert_close(batch["spacing"], torch.tensor([[1.25, 1.0, 1.0]]))
    name = batch["id"][0]
    assert np.array_equal(batch["mask"][0].numpy(), array_of(written, "labels", name)[...])
    assert data.is_phantom
    assert data.spacing == [1.25, 1.0, 1.0]
    record = data.split_record()
    assert sum(record["counts"][part]["cases"] for part in ("train", "val", "test")) == 5
    json.dumps(record, allow_nan=False)


# -- surveys and normalisation --------------------------------------------------------------------------------


def test_a_survey_finds_what_numpy_finds_in_one_go(written):
    data = module(written)
    one = data.cases[0]
    image, label = (array_of(written, part, one.id)[...] for part in ("images", "labels"))
    found = survey_case(one)
    values, counts = np.unique(label, return_counts=True)
    assert found.counts == dict(zip(values.tolist(), counts.tolist(), strict=True))
    for value in (1, 2):
        assert {tuple(p) for p in found.positions[value].tolist()} == {
            tuple(p) for p in np.argwhere(label == value).tolist()
        }
    for part, own in ((image, found.whole[0]), (image[label > 0], found.foreground[0])):
        assert own.count == part.size
        assert own.mean == pytest.approx(part.mean(), rel=1e-12)
        assert own.std == pytest.approx(part.std(), rel=1e-12)
        assert (own.low, own.high) == (part.min(), part.max())
    assert np.array_equal(np.sort(found.foreground[0].sample), np.sort(image[label > 0]).astype(np.float32))


def test_surveys_are_kept_and_made_again_when_a_file_changes(root):
    cases = module(root).cases
    cache = SurveyCache(root / "kept")
    first = cache(cases[0], ignore=None)
    again = SurveyCache(root / "kept")(cases[0], ignore=None)
    assert again.counts == first.counts
    assert all(np.array_equal(again.positions[k], first.positions[k]) for k in first.positions)
    assert again.whole[0].mean == first.whole[0].mean
    assert np.array_equal(again.whole[0].sample, first.whole[0].sample)
    assert len(list((root / "kept").iterdir())) == 1
    array_of(root, "labels", cases[0].id)[:16, :16, :16] = 1
    changed = SurveyCache(root / "kept")(cases[0], ignore=None)
    assert changed.counts[1] > first.counts[1]


def test_brightness_of_parts_joins_exactly():
    values = np.random.default_rng(0).normal(5, 3, 1000)
    parts = [
        Brightness(p.size, p.mean(), ((p - p.mean()) ** 2).sum(), p.min(), p.max(), p.astype(np.float32))
        for p in np.split(values, [10, 400])
    ]
    total = merge_brightness(parts)
    assert (total.count, total.low, total.high) == (1000, values.min(), values.max())
    assert total.mean == pytest.approx(values.mean())
    assert total.std == pytest.approx(values.std())


@pytest.mark.parametrize(
    "scheme",
    [
        "ct",
        "zscore",
        "rescale",
        "percentile",
        "none",
        {"scheme": "scale", "by": 255},
        {"scheme": "percentile", "low": 10, "high": 90},
    ],
)
def test_a_prediction_normalises_as_the_training_did(scheme, written):
    one = module(written).cases[0]
    found = survey_case(one)
    schemes = list_schemes(scheme, [found])
    image, _ = one.open()
    ours = compute_scales(schemes, found)[0](image.read(one.box)[0])
    theirs = ChannelNormalization(schemes, channels=1)
    theirs.bind(measure(image, percentiles=theirs.percentiles))
    out = np.empty((1, *one.shape), np.float32)
    theirs(image.read(one.box), out)
    np.testing.assert_allclose(ours, out[0], rtol=1e-5, atol=0.02 if "percentile" in str(scheme) else 1e-5)


def test_numbers_of_ct_come_from_training_foreground_only(root):
    data = module(root)
    train = [one.id for one in data.items_of("train")]
    others = [one.id for one in data.cases if one.id not in train]
    values = np.concatenate(
        [array_of(root, "images", name)[...][array_of(root, "labels", name)[...] > 0] for name in train]
    )
    found = data.normalization[0]
    assert found["mean"] == pytest.approx(values.mean())
    assert found["std"] == pytest.approx(values.std())
    assert found["lower"] == pytest.approx(np.percentile(values, 0.5), abs=1e-3)
    for name in others:
        array_of(root, "images", name)[...] = 3000
    assert module(root).normalization == data.normalization


@pytest.mark.parametrize(
    "wrong", ["zscores", {"scheme": "ct", "mean": 0}, {"scheme": "scale"}, {"scheme": "none", "by": 2}]
)
def test_unknown_normalisations_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"data\.normalization"):
        check_scheme(wrong)


# -- boxes of one volume --------------------------------------------------------------------------------------


def test_cut_boxes_leave_the_gap_and_what_is_left_is_shared():
    boxes = cut_volume("v", (100, 40, 40), axis="z", fractions=(0.6, 0.15, 0.25), gap=(10, 10, 10))
    assert [(box.part, box.ends[:2]) for box in boxes] == [("train", (0, 48)), ("val", (58, 70)), ("test", (80, 100))]
    check_gaps(boxes, (10, 10, 10))
    with pytest.raises(DataError, match=r"train .*val .*data\.gap"):
        check_gaps(boxes, (11, 11, 11))
    with pytest.raises(ConfigError, match=r"data\.gap"):
        cut_volume("v", (20, 40, 40), axis="z", fractions=(0.6, 0.2, 0.2), gap=(10, 10, 10))


@pytest.mark.parametrize(
    ("other", "fine"),
    [
        ((30, 50, 0, 20, 0, 20), False),
        ((36, 50, 0, 20, 0, 20), True),
        ((0, 30, 10, 40, 0, 20), False),
        ((10, 30, 36, 60, 0, 9), True),
    ],
)
def test_boxes_of_two_parts_are_a_patch_apart_along_one_axis(other, fine):
    entries = [{"part": "train", "box": [0, 20, 0, 20, 0, 20]}, {"part": "test", "box": list(other)}]
    boxes = parse_boxes(entries, {"v": (64, 64, 64)})
    if fine:
        check_gaps(boxes, (16, 16, 16))
    else:
        with pytest.raises(DataError, match=r"train \(z 0:20, .* of v .*test .*data\.gap"):
            check_gaps(boxes, (16, 16, 16))


def test_no_patch_of_any_place_sees_two_parts(written):
    """Exhaustively along the axis that separates them: the promise that the gap of one patch makes."""
    data = module(written, patch=[8, 16, 16], cut="z", fractions=[0.5, 0.25, 0.25])
    for name in {one.volume for one in data.cases}:
        parts = {one.part: set(range(*one.ends[:2])) for one in data.cases if one.volume == name}
        for start in range(40 - 8 + 1):
            touched = [part for part, rows in parts.items() if rows & set(range(start, start + 8))]
            assert len(touched) <= 1


def test_boxes_train_and_their_hash_is_in_the_record(written):
    boxes = [
        {"part": "train", "box": [0, 40, 0, 56, 0, 20]},
        {"part": "val", "box": [0, 40, 0, 20, 36, 56]},
        {"part": "test", "box": [0, 40, 10, 56, 36, 56]},
    ]
    only = {"only": {"image": "images/ct001.zarr", "label": "labels/ct001.zarr"}}
    with pytest.raises(DataError, match="overlapping"):
        _ = module(written, volumes=only, boxes=boxes).cases
    boxes[2]["box"] = [0, 40, 36, 56, 36, 56]
    data = module(written, volumes=only, boxes=boxes)
    data.setup("fit")
    record = data.split_record()
    assert record["train"] == ["only_z0-40_y0-56_x0-20"]
    assert record["hash"] != module(written, volumes=only, cut="y").split_record()["hash"]
    assert next(iter(data.test_dataloader()))["image"].shape == (1, 1, 40, 20, 20)
    with pytest.raises(ConfigError, match=r"data\.boxes.*data\.cut"):
        _ = module(written, boxes=boxes, cut="z").cases


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"part": "training", "box": [0, 1, 0, 1, 0, 1]}, "'train'"),
        ({"part": "train", "box": [0, 99, 0, 1, 0, 1]}, "inside"),
        ({"part": "train", "box": [0, 1, 0, 1]}, "z0, z1"),
        ({"part": "train", "box": [0, 1, 0, 1, 0, 1], "volume": "w"}, "volume='w'"),
        ({"part": "train", "box": [0, 1, 0, 1, 0, 1], "volumes": "v"}, "'volume'"),
    ],
)
def test_entries_that_are_no_box_are_answered(entry, said):
    with pytest.raises(ConfigError, match=said):
        parse_boxes([entry], {"v": (40, 40, 40)})


# -- what is wrong with data ----------------------------------------------------------------------------------


def test_everything_wrong_with_the_values_is_said_at_once(root):
    array_of(root, "labels", "ct001")[3, 3, 3:5] = 7
    chunk = root / "images" / "ct002.zarr" / "0" / "c" / "1" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:20])
    stored = array_of(root, "images", "ct003")[...].astype(np.float32)
    shutil.rmtree(root / "images" / "ct003.zarr")
    stored[5, 6, 7] = np.nan
    zarr.save_array(root / "images" / "ct003.zarr", stored)
    with pytest.raises(DataError) as error:
        module(root).setup("fit")
    text = str(error.value)
    assert "7 (2 voxels)" in text
    assert "ct002" in text
    assert "1 voxels of" in text
    assert len(error.value.problems) == 3


def test_everything_wrong_with_the_stores_is_said_at_once(root):
    shutil.rmtree(root / "labels" / "ct002.zarr")
    with pytest.raises(DataError, match="ct002"):
        _ = module(root).cases
    zarr.save_array(root / "labels" / "ct002.zarr", np.zeros((8, 8, 8), np.uint8))
    zarr.save_array(root / "labels" / "ct004.zarr", np.zeros((40, 56, 50), np.uint8), mode="w")
    with pytest.raises(DataError) as error:
        _ = module(root).cases
    assert "ct002" in str(error.value)
    assert "[8, 8, 8]" in str(error.value)
    assert "ct004" in str(error.value)
    assert "[40, 56, 50]" in str(error.value)


def test_training_without_foreground_is_refused_and_an_ignored_label_is_none(root):
    for name in ("ct001", "ct002", "ct003", "ct004", "ct005"):
        array_of(root, "labels", name)[...] = 9
    with pytest.raises(DataError, match=r"3 training cases.*nodule, vessel"):
        module(root, ignore_label=9).setup("fit")


def test_cases_too_large_for_memory_are_refused_with_a_remedy(written):
    with pytest.raises(DataError, match="evaluation_gib"):
        module(written, evaluation_gib=0.001).setup("fit")


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch": [16, 16]},
        {"foreground": 1.5},
        {"classes": ["background"]},
        {"ignore_label": 1},
        {"batch_size": 0},
        {"predict_on": "tests"},
    ],
)
def test_options_that_do_not_fit_are_refused(wrong, tmp_path):
    with pytest.raises(ConfigError, match="data"):
        module(tmp_path, **wrong)


def test_a_survey_survives_its_bytes():
    found = Survey(
        {0: 5, 2: 1}, {2: np.array([[1, 2, 3]], np.int32)}, [Brightness(1, 2.0, 0.5, 1.0, 3.0)], [Brightness()]
    )
    again = Survey.from_bytes(found.to_bytes())
    assert again.counts == found.counts
    assert again.whole[0].std == found.whole[0].std
    assert again.foreground[0].count == 0
