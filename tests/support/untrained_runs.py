"""Run folders of models with random weights: all of a run but its training, which takes most of the time."""

import torch
from lightning.pytorch import seed_everything

from seewhy.cli.compose import compose_train
from seewhy.run.build import build_datamodule, build_model
from seewhy.run.folder import RunFolder

QUIET = ("trainer=cpu", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false")
SYSTEMS = {
    "brats": ["phantom.patients=8", "phantom.slices=4", "phantom.size=48"],
    "lasc": ["phantom.patients=8", "phantom.slices=4", "phantom.size=48"],
    "amd": ["phantom.cases=16", "phantom.size=32"],
    "mri": ["phantom.cases=12", "data.slices=[12,36]"],
    "cyclegan": ["phantom.subjects=[3,3]", "phantom.shape=[32,32,24]", "model.generator.width=4",
                 "model.discriminator.width=4"],
    "volume": ["phantom.volumes=4", "phantom.shape=[32,36,32]", "data.patch=[16,16,16]",
               "model.network.filters=[4,8,8]"],
}  # fmt: skip
"""System → overrides of the smallest run."""


def write_untrained_run(system, folder, data):
    """Write the run folder of a system, and its phantom below `data`; returns the DataModule."""
    words = [f"experiment=demo/{system}", *SYSTEMS[system], *QUIET]
    config = compose_train(*words, f"paths.output_dir={folder}", f"paths.data_dir={data}")
    seed_everything(0, verbose=False)
    datamodule = build_datamodule(config)
    model = build_model(config)
    for name, buffer in model.named_buffers():
        if name == "temperature":
            buffer.fill_(1.7)  # so that calibration shows
        if name.startswith("intensity_"):  # as measured of a scanner
            buffer.copy_(torch.tensor([10.0, 900.0]).expand_as(buffer))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.mul_(30)  # so that the scores depend on the images
    if system == "volume":
        datamodule.setup("fit")
        model.hparams["normalization"], model.hparams["spacing"] = datamodule.normalization, datamodule.spacing
    run = RunFolder(folder)
    run.checkpoints.mkdir(parents=True)
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "hparams_name": "kwargs",
                  "epoch": 0, "global_step": 0, "pytorch-lightning_version": "2.6.0"}  # fmt: skip
    torch.save(checkpoint, run.checkpoints / "best.ckpt")
    run.write_config(config)
    return datamodule
