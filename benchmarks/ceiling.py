"""What the same network reaches on the same split when it is trained with the masks: the ceiling of a run.

    python benchmarks/ceiling.py experiment=brats data.root=data/BraTS 'data.test_patients=[…]' threads=1

Takes the overrides of a training run. The encoder and the segmentation head of `model` learn from the training
patients' masks with balanced cross-entropy, mirrored at random, for as many steps as the run would take, and are
scored like any map of a run. Prints Dice and pixel AUPRC per test patient and their means.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from rich.progress import track
from torch.nn import functional as F

from seewhy.cli.compose import compose_train
from seewhy.losses.segmentation import BalancedCrossEntropy
from seewhy.metrics.segmentation.patient_scores import PatientScores
from seewhy.models.base import learning_rate_factor
from seewhy.run.build import build_datamodule, build_model, set_threads

EPOCHS_WITHOUT_LIMIT = 20
SHOWN = ("dice", "dice_positive", "auprc")


def main() -> None:
    """Train with masks, score the test patients, print."""
    config = compose_train(*sys.argv[1:], "paths.output_dir=.", "data.predict_on=train")
    set_threads(config)
    torch.manual_seed(config.seed)
    data, model = build_datamodule(config), build_model(config)
    patients = list(data.predict_dataloader())
    images = torch.cat([batch["image"] for batch in patients])
    masks = torch.cat([batch["mask"] for batch in patients]).long().clamp(max=config.data.num_classes - 1)
    size = int(config.data.batch_size)
    epochs = int(config.trainer.max_epochs or EPOCHS_WITHOUT_LIMIT)
    steps = epochs * int(config.data.batches_per_epoch or len(images) // size)
    fit(model, images, masks, steps=steps, size=size, seed=int(config.seed))
    scores = PatientScores(with_floors=False, distances=False)
    model.eval()
    for batch in data.test_dataloader():
        prediction, _ = model.predict(batch, ["segmentation"])  # type: ignore[operator]
        scores.update(prediction, batch)
    for row in scores.rows():
        found = "  ".join(f"{name} {row[name]:.3f}" for name in SHOWN if row[name] is not None)
        sys.stdout.write(f"{row['patient']}: {found}\n")
    means = scores.compute()
    found = "  ".join(f"{name} {means[f'segmentation/{name}']:.3f}" for name in SHOWN)
    sys.stdout.write(f"ceiling, {steps} steps: {found}\n")


def fit(model: Any, images: torch.Tensor, masks: torch.Tensor, *, steps: int, size: int, seed: int) -> None:
    """Train encoder and segmentation head on random slices, half of them mirrored each way."""
    draw = torch.Generator().manual_seed(seed)
    loss_of = BalancedCrossEntropy()
    settings = dict(model.hparams["optimizer"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"])
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, total=steps, **model.hparams["scheduler"])
    )
    model.train()
    for _ in track(range(steps), "training with masks", transient=True):
        chosen = torch.randint(len(images), (size,), generator=draw)
        x, y = images[chosen], masks[chosen]
        for axis in (-1, -2):
            if torch.rand((), generator=draw) < 0.5:
                x, y = x.flip(axis), y.flip(axis)
        logits = model.decoder(model.encoder(x).maps)
        logits = F.interpolate(logits, size=y.shape[-2:], mode="bilinear", align_corners=False)
        loss = loss_of(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    main()
