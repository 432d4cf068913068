"""Time of a training step of the weakly-supervised model, against a plain loop and against the published order of work.

    python benchmarks/train_step.py                          # MiT-B1, crop 192, batch 8: a few minutes on one core
    python benchmarks/train_step.py --encoder mit_nano --crop 96 --repeats 3

Two claims:

- Lightning: our module under the Trainer ÷ the same network, losses and optimiser in a plain PyTorch loop (≤ 1.03).
- Work: a full step (multi-scale CAM with mirror images, affinity, refinement, segmentation) ÷ a classification-only
  step (≤ 2), compared with a straightforward implementation of the published order of work on the same network, whose
  classification-only step also runs the segmentation head with a loss of zero, as the medical fork's does.

Repeats are interleaved, so that a busy machine slows all alike; ratios are medians of the ratios within a repeat.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "nets")]

import straightforward_labels as plain  # noqa: E402
from lightning.pytorch import Callback, Trainer  # noqa: E402

from seewhy.losses.segmentation import affinity_loss, balanced_cross_entropy  # noqa: E402
from seewhy.models.weakly_supervised.segmentation import Phase, WeaklySupervisedSegmentation  # noqa: E402
from seewhy.nets.affinity import affinity_labels, attention_affinity  # noqa: E402

Step = Callable[[], None]


def main() -> None:
    """Measure and print both claims."""
    options = parse()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    device = torch.device(options.device)
    sizes = f"{options.encoder}, crop {options.crop}, batch {options.batch} of which {options.positives} with a class"
    print(
        f"{sizes}; {options.device}, {options.threads} thread(s), {options.repeats} repeats of {options.steps} step(s)"
    )
    report_work(options, device)
    report_lightning(options, device)


def parse() -> argparse.Namespace:
    """Options of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="mit_b1")
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--positives", type=int, help="images with a class in a batch (default: half)")
    parser.add_argument("--steps", type=int, default=1, help="steps per measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.positives = options.batch // 2 if options.positives is None else options.positives
    return options


def build(options: argparse.Namespace) -> WeaklySupervisedSegmentation:
    """The published method; its settings are those of conf/model/afa.yaml."""
    return WeaklySupervisedSegmentation(
        encoder={"name": options.encoder},
        pooling={"name": "gmp"},
        classifier={"bias": False},
        cam={"normalize": "minmax"},
        refinement={},
        affinity={},
        optimizer={"name": "adamw", "lr": 6e-5, "weight_decay": 0.01},
        scheduler={"name": "constant"},
        cam_iters=0,
        walk_iters=None,
    )


def batches(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """A few batches of smooth noise, the first images of each with the class."""
    generator = torch.Generator().manual_seed(0)
    label = (torch.arange(options.batch) < options.positives).float()[:, None]
    made = []
    for _ in range(4):
        noise = torch.randn(options.batch, 1, options.crop, options.crop, generator=generator)
        image = F.avg_pool2d(noise, 9, 1, 4) * 9
        names = [str(i) for i in range(options.batch)]
        made.append({"image": image.to(device), "label": label.to(device), "id": names, "patient": names})
    return made


def our_loss(model: WeaklySupervisedSegmentation, image: Tensor, label: Tensor, phase: Phase) -> Tensor:
    """Losses of a training step of seewhy, without Lightning and logging."""
    features = model.encoder(image, attention=phase > Phase.CLASSIFICATION)
    logits = model.classifier(features.maps[-1])
    loss = model.classification_loss(logits, label)
    if phase > Phase.CLASSIFICATION:
        routes = {"segmentation": "walk" if phase == Phase.WALK_LABELS else "cam", "affinity": "cam"}
        labels = model._training_labels(image, label, logits, features, routes)
        for part in model._pixel_losses(features, labels, routes).values():
            loss = loss + 0.1 * part
    return loss


def published_loss(model: WeaklySupervisedSegmentation, image: Tensor, label: Tensor, full: bool) -> Tensor:
    """The same losses in the published order of work: all heads always, CAM of all images with scale 1 again."""
    features = model.encoder(image, attention=True)
    logits = model.classifier(features.maps[-1])
    scores = model.decoder(features.maps)
    affinity = attention_affinity(features.attention, model.attn_proj).sigmoid()
    loss = model.classification_loss(logits, label)
    if not full:
        return loss + 0.0 * scores.sum() + 0.0 * affinity.sum()
    cam, _, _ = plain.multi_scale_cam(model.encoder, model.classifier, image)
    labels = plain.pixel_labels(image, cam, label)
    target = affinity_labels(labels, size=features.maps[-1].shape[-2:], radius=8)
    return loss + 0.1 * balanced_cross_entropy(scores, labels) + 0.1 * affinity_loss(affinity, target)


def plain_step(model: WeaklySupervisedSegmentation, data: list[dict[str, Any]], loss: Callable[..., Tensor]) -> Step:
    """One step of a plain loop: zero, loss, backward, optimiser."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-5, weight_decay=0.01)
    model.train()
    stream = cycle(data)

    def step() -> None:
        batch = next(stream)
        optimizer.zero_grad()
        loss(model, batch["image"], batch["label"]).backward()
        optimizer.step()

    return step


def cycle(data: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The batches for ever."""
    while True:
        yield from data


def seconds(step: Step, count: int, device: torch.device) -> float:
    """Wall seconds per step."""
    wait(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    wait(device)
    return (time.perf_counter() - start) / count


def wait(device: torch.device) -> None:
    """Let the accelerator finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report_work(options: argparse.Namespace, device: torch.device) -> None:
    """Full step against classification-only step, ours and the published order of work."""
    data = batches(options, device)
    variants = {
        "ours, classification only": lambda m, x, y: our_loss(m, x, y, Phase.CLASSIFICATION),
        "ours, full, labels from CAM": lambda m, x, y: our_loss(m, x, y, Phase.CAM_LABELS),
        "ours, full, labels from walk": lambda m, x, y: our_loss(m, x, y, Phase.WALK_LABELS),
        "published order, classification only": lambda m, x, y: published_loss(m, x, y, False),
        "published order, full, labels from CAM": lambda m, x, y: published_loss(m, x, y, True),
    }
    steps = {name: plain_step(build(options).to(device), data, loss) for name, loss in variants.items()}
    times = interleave({n: lambda s=s: seconds(s, options.steps, device) for n, s in steps.items()}, options.repeats)
    for name, values in times.items():
        print(f"  {name:40s} {statistics.median(values) * 1e3:9.1f} ms")
    ours, published = list(times)[:3], list(times)[3:]
    ratio("ours: full (CAM) / classification only", times[ours[1]], times[ours[0]], goal=2.0)
    ratio("ours: full (walk) / classification only", times[ours[2]], times[ours[0]])
    ratio("published order: full / classification only", times[published[1]], times[published[0]])
    ratio("ours full / published order's classification only", times[ours[1]], times[published[0]])
    ratio("ours full / published order full", times[ours[1]], times[published[1]])


def report_lightning(options: argparse.Namespace, device: torch.device) -> None:
    """Our module under the Trainer against the plain loop, full steps."""
    data = batches(options, device)
    count = max(options.steps, 2)
    step = plain_step(build(options).to(device), data, lambda m, x, y: our_loss(m, x, y, Phase.CAM_LABELS))
    model = build(options)
    runs = {
        "plain": lambda: seconds(step, count, device),
        "lightning": lambda: trainer_seconds(model, data, count, options.device),
    }
    times = interleave(runs, options.repeats)
    ratio("Lightning / plain loop, full step", times["lightning"], times["plain"], goal=1.03)


def trainer_seconds(model: WeaklySupervisedSegmentation, data: list[dict[str, Any]], count: int, device: str) -> float:
    """Wall seconds per step of a fit, from the second step's begin to the last one's end."""
    clock = Clock()
    trainer = Trainer(
        max_steps=count + 1,
        max_epochs=-1,
        accelerator="gpu" if device.startswith("cuda") else "cpu",
        devices=1,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    stream = [data[i % len(data)] for i in range(count + 1)]
    trainer.fit(model, torch.utils.data.DataLoader(stream, batch_size=None))
    return (clock.ends[-1] - clock.ends[0]) / count


class Clock(Callback):
    """Remembers when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note the time."""
        wait(trainer.strategy.root_device)
        self.ends.append(time.perf_counter())


def interleave(runs: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each run, run by turns; a first turn warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            found = run()
            if turn:
                times[name].append(found)
    return times


def ratio(name: str, over: list[float], under: list[float], goal: float | None = None) -> None:
    """Print the median ratio within a repeat, and its range."""
    ratios = sorted(a / b for a, b in zip(over, under, strict=True))
    met = goal is not None and statistics.median(ratios) <= goal
    goal_note = "" if goal is None else f"   goal ≤ {goal:g}: {'met' if met else 'missed'}"
    print(f"{name:52s} {statistics.median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}){goal_note}")


if __name__ == "__main__":
    main()
