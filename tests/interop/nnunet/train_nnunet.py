"""Train nnU-Net itself for a few steps on a phantom and predict with its own predictor in fp32.

`python train_nnunet.py FOLDER`; run as a program because nnU-Net reads its folders from the environment on import.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

SPACING = (2.5, 1.0, 1.0)
"""Along X, Y and Z of every file, so that nnU-Net has no reason to resample; it puts the coarsest axis first."""


def phantom(seed: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CT, MRI and labels [Z, Y, X] of two kinds of balls in noise, nowhere 0."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    for label in (1, 2, 1, 2):
        centre = rng.uniform(6, np.array(shape) - 6)[:, None, None, None]
        labels[np.linalg.norm(grid - centre, axis=0) < rng.uniform(4, 7)] = label
    ct = (np.array([-100, 60, 250])[labels] + rng.normal(0, 30, shape)).astype(np.int16)
    ct[ct == 0] = 1
    mri = (np.array([400, 700, 300])[labels] + rng.normal(0, 60, shape)).clip(1, None).astype(np.float32)
    return ct, mri, labels


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.T, np.diag([*SPACING, 1.0])), path)


def main(folder: Path) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(folder / name)
        (folder / name).mkdir(parents=True, exist_ok=True)
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
    raw = folder / "nnUNet_raw" / "Dataset001_Phantom"
    for case in range(5):
        ct, mri, labels = phantom(case, (40, 32, 36))
        write(raw / "imagesTr" / f"case{case}_0000.nii.gz", ct)
        write(raw / "imagesTr" / f"case{case}_0001.nii.gz", mri)
        write(raw / "labelsTr" / f"case{case}.nii.gz", labels)
    record = {
        "channel_names": {"0": "CT", "1": "MRI"},
        "labels": {"background": 0, "ball": 1, "stone": 2},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(record))
    train(folder)
    predict(folder)


def train(folder: Path) -> None:
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    extract_fingerprints([1], num_processes=1)
    plan_experiments([1])
    planned = folder / "nnUNet_preprocessed" / "Dataset001_Phantom"
    plans = json.loads((planned / "nnUNetPlans.json").read_text())
    settings = plans["configurations"]["3d_fullres"]
    settings["patch_size"], settings["batch_size"] = [12, 16, 24], 2  # several patches per volume, quickly
    options = settings["architecture"]["arch_kwargs"]
    options |= {
        "n_stages": 3,
        "features_per_stage": [8, 16, 32],
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
    }
    (planned / "nnUNetPlans.json").write_text(json.dumps(plans))
    preprocess([1], configurations=("3d_fullres",), num_processes=(1,))
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # no worker processes for so few steps
    dataset = json.loads((planned / "dataset.json").read_text())
    for fold in (0, 1):
        torch.manual_seed(fold)
        plans["continue_training"] = False  # the trainer takes it out again
        trainer = nnUNetTrainer(plans, "3d_fullres", fold, dataset, device=torch.device("cpu"))
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 8, 1
        trainer.run_training()


def predict(folder: Path) -> None:
    """Logits [K, *] of a new volume, with the predictor's half-precision sums and weights made fp32."""
    import torch
    from nnunetv2.inference import predict_from_raw_data as module

    model = folder / "nnUNet_results" / "Dataset001_Phantom" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    ct, mri, _ = phantom(77, (44, 35, 41))
    write(folder / "new" / "case_0000.nii.gz", ct)
    write(folder / "new" / "case_0001.nii.gz", mri)
    predictor = module.nnUNetPredictor(use_mirroring=True, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), use_folds=(0, 1))
    weights = module.compute_gaussian
    module.compute_gaussian = lambda *words, **options: weights(*words, **options, dtype=torch.float32)
    torch.half = torch.float32
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    files = [str(folder / "new" / f"case_{channel:04d}.nii.gz") for channel in range(2)]
    data, _, _ = preprocessor.run_case(
        files, None, predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
    )
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).numpy()
    np.save(folder / "logits.npy", logits)
    (folder / "model.txt").write_text(str(model))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
