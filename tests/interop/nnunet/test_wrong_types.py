"""Entries of plans.json, dataset.json and the checkpoint that have other types or sizes than nnU-Net writes."""

import json
import os

import pytest
from nnunet_folders import architecture, plans, write_folder

from seewhy.errors import SeewhyError
from seewhy.interop.nnunet.folder import read_nnunet

pytest.importorskip("dynamic_network_architectures")

HUGE = 10**12
CONFIGURATION = {
    "patch_size": [
        "abc",
        None,
        5,
        [],
        [8, 16],
        ["8", "16", "32"],
        [8.5, 16, 32],
        [0, 16, 32],
        [-8, 16, 32],
        [HUGE] * 3,
    ],
    "spacing": [None, "abc", 1.0, [1.0], [1.0, "a", 1.0], [float("nan"), 1, 1], [0, 1, 1], [-1.0, 1, 1], [1.0, 1.0]],
    "normalization_schemes": [5, None, "CTNormalization", [5], ["none such"], [], ["CTNormalization"] * 2],
    "use_mask_for_norm": [5, "abc", ["yes"], {"0": False}],
    "architecture": ["x", 5, [], {"network_class_name": 5}, {"arch_kwargs": 5}],
    "inherits_from": [5, ["3d_fullres"], "none such"],
    "preprocessor_name": [5, None],
    "previous_stage": [5],
}
NETWORK = {
    "n_stages": ["abc", None, 10**9, 0, -1, 2.5],
    "features_per_stage": ["abc", [4], [4, HUGE], [4, "8"], [[4], [8]], 0],
    "conv_op": [5, None, "os.system", "torch.nn.Conv3d.extra"],
    "kernel_sizes": ["abc", [3], [[3, 3, 3], "abc"], [[3, 3, 3], [0, 3, 3]], [[HUGE] * 3] * 2, None],
    "strides": ["abc", [[1, 1, 1]], [[1, 1, 1], [0, 2, 2]]],
    "n_conv_per_stage": ["abc", [1, "1"], [1], [-1, 1], [1, 10**9]],
    "norm_op_kwargs": [5, "abc", {"eps": "abc"}, {"none such": 1}],
    "nonlin": [5, "os.system"],
}
PLANS = {
    "label_manager": [5, "Mine"],
    "transpose_forward": [5, "abc", [0, 1], [0, 1, 1], [0, 1, "2"], None],
    "configurations": [5, [], {}, {"3d_fullres": 5}, {"3d_fullres": {}}, None],
    "foreground_intensity_properties_per_channel": [
        *(5, [], {"0": 5}, {"0": {"mean": "abc"}}, {}),
        {"0": {"percentile_00_5": 0.0, "percentile_99_5": 1.0, "mean": 0.0, "std": 0.0}},
        {"0": {"percentile_00_5": 0.0, "percentile_99_5": 1.0, "mean": float("nan"), "std": 1.0}},
    ],
}
DATASET = {
    "channel_names": [5, "CT", [], {}, {"a": "CT"}, {"0": 5}, None],
    "labels": [
        *(5, "abc", [], {}, None, {"background": 0, "liver": "abc"}, {"background": 0, "liver": None}),
        *({"background": 0, "liver": []}, {"background": 0, "liver": 1.5}, {"background": 0, "liver": 5}),
        {"background": 0, "liver": [[1]]},
    ],
}
CHECKPOINT = {
    "inference_allowed_mirroring_axes": [5, "abc", (5,), ("a",), (-1,), {0: 1}],
    "network_weights": [5, "abc", [], {}, {"a": 5}, None],
    "init_args": [{"configuration": "none such"}],
}


def table(entries):
    return [
        pytest.param(key, value, id=f"{key}-{i}") for key, values in entries.items() for i, value in enumerate(values)
    ]


def refused(folder, named=""):
    with pytest.raises(SeewhyError) as error:
        read_nnunet(folder)
    assert named in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nnunet") / "model"
    write_folder(folder)
    return folder


def changed_folder(tmp_path, trained, name, content):
    """The trained model with one of its descriptions replaced."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in trained.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / name).unlink()
    (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(("key", "value"), table(CONFIGURATION))
def test_entries_of_a_configuration(tmp_path, trained, key, value):
    refused(changed_folder(tmp_path, trained, "plans.json", plans(**{key: value})), str(tmp_path))


@pytest.mark.parametrize(("key", "value"), table(NETWORK))
def test_options_of_the_network(tmp_path, trained, key, value):
    network = architecture()
    network["arch_kwargs"][key] = value
    refused(changed_folder(tmp_path, trained, "plans.json", plans(architecture=network)), str(tmp_path))


@pytest.mark.parametrize(("key", "value"), table(PLANS))
def test_entries_of_the_plans(tmp_path, trained, key, value):
    refused(changed_folder(tmp_path, trained, "plans.json", {**plans(), key: value}), str(tmp_path))


@pytest.mark.parametrize(("key", "value"), table(DATASET))
def test_entries_of_the_data_set(tmp_path, trained, key, value):
    content = json.loads((trained / "dataset.json").read_text())
    refused(changed_folder(tmp_path, trained, "dataset.json", {**content, key: value}), str(tmp_path))


@pytest.mark.parametrize(("key", "value"), table(CHECKPOINT))
def test_entries_of_the_checkpoint(tmp_path, key, value):
    write_folder(tmp_path / "model", more={key: value})
    refused(tmp_path / "model", str(tmp_path / "model"))


def test_all_wrong_types_are_reported_at_once(tmp_path, trained):
    folder = changed_folder(tmp_path, trained, "plans.json", plans(patch_size="abc", spacing=None))
    message = refused(folder, "plans.json")
    assert "configurations.3d_fullres.patch_size is 'abc'" in message
    assert "configurations.3d_fullres.spacing is None" in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe{}", b"[" * 100_000, b"null", b'{"a": 1}'])
@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_files_that_are_no_descriptions(tmp_path, trained, name, content):
    folder = changed_folder(tmp_path, trained, name, None)
    (folder / name).write_bytes(content)
    refused(folder, str(folder))


def test_a_pipe_is_not_waited_for(tmp_path, trained):
    folder = changed_folder(tmp_path, trained, "dataset.json", None)
    (folder / "dataset.json").unlink()
    os.mkfifo(folder / "dataset.json")
    refused(folder, "pipe")
