"""A tiny CycleGAN and pairs to train it on, and tiny subjects to test it on."""

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from seewhy.models.translation.cyclegan_25d import CycleGAN25D

M, SIDE = 4, 24
OPTIONS = {
    "optimizer": {"name": "adam", "lr": 1e-3, "betas": [0.5, 0.999]},
    "scheduler": {"name": "constant"},
    "generator": {"name": "sa", "width": 8, "blocks": 1, "attention_blocks": [0]},
    "discriminator": {"width": 8, "scales": 1, "attention": False},
}


def tiny(**options):
    """A model; the same options give the same weights."""
    torch.manual_seed(0)
    return CycleGAN25D(**{**OPTIONS, **options})


def pairs(count, *, slices=5, seed=0, full=True):
    """A training batch of `count` pairs, everything tissue unless not `full`."""
    random = torch.Generator().manual_seed(seed)
    batch = {}
    for domain in "ab":
        image = torch.rand(count, slices * M, SIDE, SIDE, generator=random) * 2 - 1
        body = torch.ones(count, slices, SIDE, SIDE, dtype=torch.bool)
        if not full:
            body[..., : 4 if domain == "a" else 6] = False
            image.unflatten(1, (slices, M)).masked_fill_(~body[:, :, None], -1.0)
        batch[domain] = {"image": image, "body": body}
    return batch


def halves(batch):
    """Both halves of a batch."""
    count = len(batch["a"]["image"]) // 2
    return [
        {domain: {name: value[part] for name, value in own.items()} for domain, own in batch.items()}
        for part in (slice(0, count), slice(count, None))
    ]


def subject(domain, number=0, *, slices=3, known=True):
    """All slices of a subject."""
    random = torch.Generator().manual_seed(number * 2 + (domain == "b"))
    planes = torch.rand(slices + 2, M, SIDE, SIDE, generator=random) * 2 - 1
    body = torch.zeros(slices, SIDE, SIDE, dtype=torch.bool)
    body[:, 3:-3, 4:-4] = True
    planes.masked_fill_(~body[[0], None], -1.0)
    name = f"{domain.upper()}{number}"
    batch = {
        "image": torch.cat([planes[:-2], planes[1:-1], planes[2:]], dim=1),
        "body": body,
        "domain": [domain] * slices,
        "id": [f"{domain}_{name}_{z:03d}" for z in range(slices)],
        "patient": [name] * slices,
        "index": list(range(slices)),
        "source": ["scan.nii.gz"] * slices,
    }
    if known:
        batch["counterpart"] = torch.where(body[:, None], planes[1:-1] * 0.5, -1.0)
    return batch


class Batches(LightningDataModule):
    """Prepared batches, in the order given."""

    def __init__(self, train, *, subjects=()):
        super().__init__()
        self.train, self.subjects = list(train), list(subjects)

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=None)

    def val_dataloader(self):
        return DataLoader(self.subjects, batch_size=None) if self.subjects else []

    test_dataloader = predict_dataloader = val_dataloader


def trainer_for(folder, *callbacks, **options):
    """A quiet trainer of one epoch."""
    settings = {"max_epochs": 1, "accelerator": "cpu", "devices": 1, "enable_checkpointing": bool(callbacks)}
    return Trainer(
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **{**settings, **options},
    )
