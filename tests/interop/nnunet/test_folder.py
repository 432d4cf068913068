from __future__ import annotations

import json
import math
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_folders import architecture, plans, write_folder

from seewhy.errors import CheckpointError, ConfigError
from seewhy.interop.nnunet.folder import read_nnunet
from seewhy.volumes.geometry import PatchGrid
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.predictor import predict_array

pytest.importorskip("dynamic_network_architectures")


def same(network: torch.nn.Module, other: torch.nn.Module, shape: tuple[int, ...]) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = other(image)
        expected = expected[0] if isinstance(expected, list) else expected
        torch.testing.assert_close(network.eval()(image), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_a_model_folder(tmp_path: Path, name: str):
    networks = write_folder(tmp_path / "m", plans(architecture=architecture(name)), folds=("0", "3", "all"))
    model = read_nnunet(tmp_path / "m")
    assert model.folds == ("fold_0", "fold_3")
    for network, other in zip(model.networks, networks, strict=False):
        same(network, other, (2, 1, 8, 16, 32))
    assert model.patch == (8, 16, 32)
    assert model.spacing == (3.0, 1.0, 0.5)
    assert model.normalization == [{"scheme": "ct", "lower": -900.0, "upper": 300.0, "mean": -40.0, "std": 120.0}]
    assert model.mirror_axes == (0, 2)
    assert (model.heads.regions, model.heads.count) == (False, 3)
    assert model.heads.classes == {0: "background", 1: "liver", 2: "tumour"}
    assert (model.configuration, model.trainer, model.channels) == ("3d_fullres", "nnUNetTrainer", ("channel 0",))
    assert read_nnunet(tmp_path / "m", folds=["all"]).folds == ("fold_all",)
    assert read_nnunet(tmp_path / "m", folds=[3]).sha256 != model.sha256
    with pytest.raises(ConfigError, match=r"has no fold_1; .*'fold_0'"):
        read_nnunet(tmp_path / "m", folds=[0, 1])


def test_regions(tmp_path: Path):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    write_folder(tmp_path / "m", labels=labels, regions_class_order=[1, 2, 3])
    heads = read_nnunet(tmp_path / "m").heads
    assert heads.regions
    assert heads.class_order == (1, 2, 3)
    assert heads.classes == {0: "background", 1: "whole", 2: "core", 3: "enhancing"}
    assert heads.names == ("whole", "core", "enhancing")
    shutil.rmtree(tmp_path / "m")
    write_folder(tmp_path / "m", labels=labels)
    with pytest.raises(CheckpointError, match="3 regions, but regions_class_order is None"):
        read_nnunet(tmp_path / "m")


def test_inheritance_and_one_fold_missing_its_final_checkpoint(tmp_path: Path):
    write_folder(tmp_path / "m", configuration="3d_small")
    final = tmp_path / "m" / "fold_0" / "checkpoint_final.pth"
    final.rename(final.with_name("checkpoint_best.pth"))
    assert read_nnunet(tmp_path / "m").patch == (8, 8, 8)
    with pytest.raises(ConfigError, match=r"fold_0 has no checkpoint_latest\.pth; .*'checkpoint_best\.pth'"):
        read_nnunet(tmp_path / "m", checkpoint="checkpoint_latest.pth")
    content = plans()
    content["configurations"]["3d_fullres"]["inherits_from"] = "3d_small"
    (tmp_path / "m" / "plans.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="inherit in a circle"):
        read_nnunet(tmp_path / "m")


def test_plans_from_before_the_architecture_was_written_down(tmp_path: Path):
    old = plans(
        UNet_class_name="PlainConvUNet",
        UNet_base_num_features=4,
        unet_max_num_features=6,
        conv_kernel_sizes=[[1, 3, 3], [3, 3, 3]],
        pool_op_kernel_sizes=[[1, 1, 1], [1, 2, 2]],
        n_conv_per_stage_encoder=[2, 1],
        n_conv_per_stage_decoder=[1],
    )
    del old["configurations"]["3d_fullres"]["architecture"]
    properties = old.pop("foreground_intensity_properties_per_channel")
    old["foreground_intensity_properties_by_modality"] = properties
    arch = architecture()
    arch["arch_kwargs"] |= {
        "features_per_stage": [4, 6],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2]],
        "n_conv_per_stage": [2, 1],
    }
    [network] = write_folder(tmp_path / "m", old, arch=arch)
    model = read_nnunet(tmp_path / "m")
    same(model.networks[0], network, (1, 1, 8, 16, 32))
    assert model.normalization[0]["scheme"] == "ct"
    old["configurations"]["3d_fullres"]["UNet_class_name"] = "os.system"
    (tmp_path / "m" / "plans.json").write_text(json.dumps(old))
    with pytest.raises(CheckpointError, match=r"network 'os\.system', which is not allowed"):
        read_nnunet(tmp_path / "m")


def test_transposed_axes(tmp_path: Path):
    """The network sees (Y, X, Z); everything outside is in Z, Y, X."""
    content = plans()
    content["transpose_forward"] = [1, 2, 0]
    [network] = write_folder(tmp_path / "m", content)
    model = read_nnunet(tmp_path / "m")
    assert model.patch == (32, 8, 16)
    assert model.spacing == (0.5, 3.0, 1.0)
    assert model.mirror_axes == (0, 1)
    image = torch.randn(1, 1, 32, 8, 16)
    with torch.no_grad():
        found = model.networks[0].eval()(image)
        expected = network(image.permute(0, 1, 3, 4, 2))[0].permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert found.shape == (1, 3, 32, 8, 16)


def test_a_voxel_size_of_ones_is_one(tmp_path: Path):
    write_folder(tmp_path / "m", plans(spacing=[1.0, 1.0, 1.0]))
    assert read_nnunet(tmp_path / "m").spacing == (1.0, 1.0, 1.0)


def test_planes_across_another_axis(tmp_path: Path):
    content = plans(patch_size=[16, 32], spacing=[1.0, 0.5], architecture=architecture(dimension=2))
    content["transpose_forward"] = [2, 0, 1]
    write_folder(tmp_path / "m", content, more={"inference_allowed_mirroring_axes": (0,)})
    spacing = read_nnunet(tmp_path / "m").spacing
    assert spacing[:2] == (1.0, 0.5)
    assert math.isnan(spacing[2])


def test_networks_of_planes(tmp_path: Path):
    flat = plans(patch_size=[16, 32], spacing=[1.0, 0.5], architecture=architecture(dimension=2))
    [network] = write_folder(tmp_path / "m", flat, more={"inference_allowed_mirroring_axes": (0,)})
    model = read_nnunet(tmp_path / "m")
    assert (model.patch, model.mirror_axes) == ((1, 16, 32), (1,))
    assert math.isnan(model.spacing[0])
    assert model.spacing[1:] == (1.0, 0.5)
    image = torch.randn(2, 1, 8, 16, 32)
    with torch.no_grad():
        found = model.networks[0].eval()(image)
        expected = torch.stack([network(image[:, :, plane])[0] for plane in range(8)], dim=2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_every_plane_is_predicted_once(tmp_path: Path):
    flat = plans(patch_size=[16, 32], spacing=[1.0, 0.5], architecture=architecture(dimension=2))
    [network] = write_folder(tmp_path / "m", flat, more={"inference_allowed_mirroring_axes": (0,)})
    model = read_nnunet(tmp_path / "m")
    assert PatchGrid(shape=(31, 16, 32), patch=model.patch, overlap=0.5).count == 31
    volume = torch.randn(1, 31, 16, 32, generator=torch.Generator().manual_seed(1))
    seen = []

    def counted(image: torch.Tensor) -> torch.Tensor:
        seen.append(len(image))
        with torch.no_grad():
            return model.networks[0].eval()(image)

    output_format = OutputFormat(mode="multiclass", channels=3, stored="labels")
    labels = predict_array(volume.numpy(), counted, patch=model.patch, output_format=output_format, batch_size=1)
    assert sum(seen) == 31
    with torch.no_grad():
        expected = torch.stack([network(volume[:, plane][None])[0][0].argmax(0) for plane in range(31)])
    assert np.array_equal(labels, expected.numpy())


@pytest.mark.parametrize(
    ("scheme", "mask", "expected"),
    [
        ("ZScoreNormalization", True, {"scheme": "zscore", "nonzero": True}),
        ("ZScoreNormalization", False, {"scheme": "zscore", "nonzero": "box"}),
        ("NoNormalization", False, {"scheme": "none"}),
        ("RescaleTo01Normalization", False, {"scheme": "rescale", "nonzero": "box"}),
        ("RGBTo01Normalization", False, {"scheme": "scale", "by": 255}),
    ],
)
def test_normalizations_are_those_of_the_engine(tmp_path: Path, scheme: str, mask: bool, expected: dict):
    from seewhy.volumes.normalization import ChannelNormalization

    write_folder(tmp_path / "m", plans(normalization_schemes=[scheme], use_mask_for_norm=[mask]))
    found = read_nnunet(tmp_path / "m").normalization
    assert found == [expected]
    ChannelNormalization(found, channels=1)


class Payload:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"echo run > {self.path}",)


def test_a_payload_is_named_and_not_run(tmp_path: Path):
    proof = tmp_path / "proof"
    write_folder(tmp_path / "m", more={"optimizer_state": Payload(proof)})
    with pytest.raises(CheckpointError, match=r"checkpoint_final\.pth: not loaded.*posix\.system"):
        read_nnunet(tmp_path / "m")
    assert not proof.exists()
    with open(tmp_path / "m" / "fold_0" / "checkpoint_final.pth", "wb") as file:
        pickle.dump({"network_weights": Payload(proof)}, file)
    with pytest.raises(CheckpointError, match="not loaded"):
        read_nnunet(tmp_path / "m")
    assert not proof.exists()


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("network_class_name",), "os.system", r"network 'os\.system', which is not allowed"),
        (("network_class_name",), "evil.PlainConvUNet", "which is not allowed"),
        (("network_class_name",), "dynamic_network_architectures.architectures.unet.PlainConvNet", "nearest: 'PlainC"),
        (("arch_kwargs", "nonlin"), "subprocess.Popen", r"'subprocess\.Popen' as nonlin, which is not allowed"),
        (("arch_kwargs", "conv_op"), "torch.hub.load", "which is not allowed"),
        (("arch_kwargs", "norm_op"), "torch.nn.Sequential", "which is not allowed"),
        (("arch_kwargs", "secret"), 1, "option 'secret'"),
        (("arch_kwargs", "strides"), [[1, 1, 1]], "cannot be built from its plans"),
        (("arch_kwargs", "features_per_stage"), [4, 16], r"another network.*trained by nnUNetTrainer|trained by"),
    ],
)
def test_unknown_classes_are_named_and_not_imported(tmp_path: Path, where: tuple, value: object, message: str):
    content = plans()
    write_folder(tmp_path / "m", content)
    node = content["configurations"]["3d_fullres"]["architecture"]
    for key in where[:-1]:
        node = node[key]
    node[where[-1]] = value
    (tmp_path / "m" / "plans.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_nnunet(tmp_path / "m")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"previous_stage": "3d_lowres"}, "second stage of a cascade"),
        ({"preprocessor_name": "TotalPreprocessor"}, "preprocessing 'TotalPreprocessor' is not supported"),
        ({"normalization_schemes": ["CTNormalisation"]}, "nearest: 'CTNormalization'"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, changes: dict, message: str):
    write_folder(tmp_path / "m", plans(**changes))
    with pytest.raises(CheckpointError, match=message):
        read_nnunet(tmp_path / "m")


def test_folders_that_are_none(tmp_path: Path):
    with pytest.raises(CheckpointError, match="is not a folder"):
        read_nnunet(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"has no plans\.json"):
        read_nnunet(tmp_path / "empty")
    write_folder(tmp_path / "up" / "Dataset1" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    assert read_nnunet(tmp_path / "up").folds == ("fold_0",)
    write_folder(tmp_path / "up" / "Dataset2" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    with pytest.raises(CheckpointError, match="several subfolders"):
        read_nnunet(tmp_path / "up")
    (tmp_path / "empty" / "plans.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"plans\.json is not valid JSON"):
        read_nnunet(tmp_path / "empty")


def test_a_flat_folder_with_weights_alone(tmp_path: Path):
    """As on the Hugging Face hub: the checkpoint beside the plans, safetensors under the name of a .pth."""
    from safetensors.torch import save_file

    [network] = write_folder(tmp_path / "m")
    unique: dict[int, str] = {}
    state = network.state_dict()
    for name, tensor in state.items():
        unique.setdefault(tensor.data_ptr(), name)
    tensors = {f"module._orig_mod.{name}": state[name].contiguous() for name in unique.values()}
    assert len(tensors) < len(state)
    (tmp_path / "m" / "plans.json").rename(tmp_path / "m" / "nnUNetPlans.json")
    shutil.rmtree(tmp_path / "m" / "fold_0")
    save_file(tensors, tmp_path / "m" / "model.pth")
    with pytest.raises(ConfigError, match=r"does not state its configuration.*'3d_fullres'"):
        read_nnunet(tmp_path / "m")
    model = read_nnunet(tmp_path / "m", configuration="3d_fullres")
    same(model.networks[0], network, (1, 1, 8, 16, 32))
    assert model.mirror_axes == ()


def test_hugging_face_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without a network: what is cached is found, what is not is said."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "cache" / "models--org--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    write_folder(repository / "snapshots" / revision / "ct")
    assert read_nnunet("hf://org/model").folds == ("fold_0",)
    assert read_nnunet(f"hf://org/model@{revision}/ct").folds == ("fold_0",)
    with pytest.raises(CheckpointError, match=r"hf://org/other cannot be downloaded and is not cached") as caught:
        read_nnunet("hf://org/other")
    assert "\n" not in str(caught.value)
    for wrong in ("hf://org", "hf://", "hf://org/model/../../etc"):
        with pytest.raises(CheckpointError, match="is not the address of a model"):
            read_nnunet(wrong)
