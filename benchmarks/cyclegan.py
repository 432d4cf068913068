"""Time of a training step of CycleGAN-2.5D, and memory of its self-attention.

    python benchmarks/cyclegan.py                                   # published widths, 128²: minutes per round
    python benchmarks/cyclegan.py --size 48 --width 16 --blocks 2 --batch 4 --rounds 9
    python benchmarks/cyclegan.py --claims memory
    python benchmarks/cyclegan.py --device cuda --bf16 --channels-last --batch 8

Claims:

- Lightning: our module under the Trainer ÷ the same computation in a plain PyTorch loop (≤ 1.03).
- Work: a straightforward implementation ÷ seewhy under the Trainer (≥ 1.2). The straightforward one has the same
  networks, losses, history of fakes and number of generated slices, and it freezes the discriminators in the
  generators' step, as the well-known implementation does; but each image set has a separate pass, and parts are
  torch's (instance norm, spectral norm, Adam, default memory format). Beside it, the same with the whole matrix of
  self-attention in memory, as published.
- Memory: peak of one self-attention, forward and backward, on the generator's grid (a quarter of the image's side)
  and at full size, compared with the whole matrix if that fits; each in a separate process (Linux).

Arms are run by turns, so that a busy machine slows all alike; ratios are medians of the ratios within a round. With
one thread on a CPU, times are processor time, which other jobs blur less.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from lightning.pytorch import Callback, Trainer  # noqa: E402

from seewhy.models.translation.adversarial import freeze_parameters  # noqa: E402
from seewhy.models.translation.cyclegan_25d import CycleGAN25D  # noqa: E402
from seewhy.models.translation.step import cut_out  # noqa: E402
from seewhy.nets.generators.base import centre_slice, repeat_slice  # noqa: E402
from seewhy.nets.generators.blocks import InstanceNorm2d, SelfAttention2d  # noqa: E402

MODALITIES = 4
OPTIMIZER = {"lr": 2e-4, "betas": (0.5, 0.999)}
WEIGHTS = {"adversarial": 1.0, "cycle": 10.0, "identity": 5.0, "ssim": 1.0}
MATRIX_FITS = 2 << 30
"""Bytes of one matrix of self-attention above which the arm that holds four of them is not run."""

Step = Callable[[], None]


def main() -> None:
    """Measure and print what was asked for."""
    options = parse()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if options.arm:
        print(attention_peak(options.arm, options.channels, options.side))
        return
    if "speed" in options.claims:
        report_speed(options)
    if "memory" in options.claims:
        report_memory()


def parse() -> argparse.Namespace:
    """Options of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", default="speed,memory", help="speed, memory or both")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1, help="pairs")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--steps", type=int, default=1, help="steps per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="mixed precision in all arms")
    parser.add_argument("--channels-last", action="store_true", help="memory format of seewhy's model")
    parser.add_argument("--arm", choices=("rows", "matrix"), help="internal: measure one peak, with --channels, --side")
    parser.add_argument("--channels", type=int, help="internal")
    parser.add_argument("--side", type=int, help="internal")
    return parser.parse_args()


def build(options: argparse.Namespace) -> CycleGAN25D:
    """The published method; its settings are those of conf/model/cyclegan_25d.yaml with a cycle of single slices."""
    torch.manual_seed(0)
    thirds = options.blocks // 3
    blocks = list(range(thirds, options.blocks - thirds))
    return CycleGAN25D(
        generator={"name": "sa", "width": options.width, "blocks": options.blocks, "attention_blocks": blocks},
        discriminator={"width": options.width, "scales": 2 if options.size >= 47 else 1},
        losses={"weights": WEIGHTS},
        cycle="repeat",
        optimizer={"name": "adam", **OPTIMIZER},
        scheduler={"name": "constant"},
        channels_last=options.channels_last,
    ).to(options.device)


def batches(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Pairs of stacks of smooth noise in a disc of tissue."""
    random = torch.Generator().manual_seed(0)
    axis = torch.linspace(-1, 1, options.size)
    disc = (axis[:, None].square() + axis.square() < 0.7).expand(options.batch, 3, -1, -1)
    made = []
    for _ in range(4):
        pair = {}
        for domain in "ab":
            noise = torch.randn(options.batch, 3 * MODALITIES, options.size, options.size, generator=random)
            image = (nn.functional.avg_pool2d(noise, 9, 1, 4) * 5).clamp(-1, 1)
            image = torch.where(disc.repeat_interleave(MODALITIES, dim=1), image, -1.0)
            pair[domain] = {"image": image.to(options.device), "body": disc.clone().to(options.device)}
        made.append(pair)
    return made


# -- seewhy, in a plain loop ----------------------------------------------------------------------------------


def plain_loop(model: CycleGAN25D, data: list[dict[str, Any]], options: argparse.Namespace) -> Step:
    """The computation of `CycleGAN25D.training_step` without Lightning and without logging."""
    optimizers = adams(model.generators, model.discriminators)
    stream = forever(data)
    model.train()

    def step() -> None:
        batch = next(stream)
        with precision(options):
            sides = {domain: model.step.side(batch[domain]) for domain in "ab"}
            with freeze_parameters(model.discriminators):
                model.discriminators.eval()
                made = model.step.generator_losses(sides)
        made.total.backward()
        model.discriminators.train()
        with precision(options):
            judged = model.step.discriminator_losses(sides, model.replays.exchange(made.fakes))
        (torch.stack(list(judged.values())).sum() / 2).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step


# -- the straightforward implementation -----------------------------------------------------------------------


def straightforward(model: CycleGAN25D, data: list[dict[str, Any]], options: argparse.Namespace) -> Step:
    """A step written down as one would say it: one pass for each set of images."""
    generators, discriminators = model.generators, model.discriminators
    optimizers = adams(generators, discriminators)
    stream = forever(data)
    model.train()

    def step() -> None:
        batch = next(stream)
        optimizers[0].zero_grad()
        with freeze_parameters(discriminators):
            with precision(options):
                total, fakes = straightforward_losses(model, batch)
            total.backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        for domain in "ab":
            fake = model.replays.exchange({domain: fakes[domain].detach()})[domain]
            real = centre_slice(batch[domain]["image"], MODALITIES)
            with precision(options):
                judge = discriminators[domain]
                loss = model.loss.adversarial.discriminator(judge(real), judge(fake))
            (loss / 2).backward()
        optimizers[1].step()

    return step


def straightforward_losses(model: CycleGAN25D, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """The generators' loss, and domain → fakes of it."""
    stacks = {domain: batch[domain]["image"] for domain in "ab"}
    bodies = {domain: batch[domain]["body"][:, 1, None] for domain in "ab"}
    total, fakes = torch.zeros((), device=stacks["a"].device), {}
    for source, target in ("ab", "ba"):
        there, back = model.generators[f"{source}2{target}"], model.generators[f"{target}2{source}"]
        fake = cut_out(there(stacks[source]), bodies[source])
        terms = model.loss(
            real=centre_slice(stacks[source], MODALITIES),
            scores=model.discriminators[target](fake),
            reconstruction=cut_out(back(repeat_slice(fake)), bodies[source]),
            identity=cut_out(back(stacks[source]), bodies[source]),
            foreground=bodies[source],
        )
        total, fakes[target] = total + model.loss.total(terms), fake
    return total, fakes


def with_torchs_parts(model: CycleGAN25D, *, matrix: bool = False) -> CycleGAN25D:
    """The model with torch's instance norm and spectral norm, and with attention as published where `matrix`."""
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, InstanceNorm2d):
                setattr(part, name, nn.InstanceNorm2d(child.num_features))
            elif matrix and isinstance(child, SelfAttention2d):
                setattr(part, name, WholeMatrix(child))
        if parametrize.is_parametrized(part, "weight"):
            original, norm = part.parametrizations.weight.original, part.parametrizations.weight[0]
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=False)
            part.weight = nn.Parameter(original.detach())
            parametrizations.spectral_norm(part)
            part.parametrizations.weight[0].load_state_dict(norm.state_dict())
    return model


class WholeMatrix(nn.Module):
    """Self-attention with its matrix, written as published, with the parameters of a `SelfAttention2d`."""

    def __init__(self, ours: SelfAttention2d) -> None:
        super().__init__()
        self.query, self.key, self.value, self.gamma = ours.query, ours.key, ours.value, ours.gamma
        self.norm = nn.InstanceNorm2d(ours.value.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] of x [B, C, H, W]."""
        query, key, value = (part(x).flatten(2) for part in (self.query, self.key, self.value))
        logits = torch.bmm(query.mT, key) / math.sqrt(query.shape[1])
        weights = logits.clamp(-50, 50).softmax(dim=-1)
        seen = torch.bmm(value, weights.mT).view_as(x)
        return self.gamma.clamp(-1, 1) * self.norm(seen) + x


# -- measuring ------------------------------------------------------------------------------------------------


def report_speed(options: argparse.Namespace) -> None:
    """Both ratios of times."""
    card = torch.cuda.get_device_name() if options.device.startswith("cuda") else f"{options.threads} thread(s)"
    print(
        f"speed: width {options.width}, {options.blocks} blocks, {options.batch} pair(s) of {options.size}², "
        f"{options.device} ({card}){', bfloat16' * options.bf16}{', seewhy channels last' * options.channels_last}; "
        f"{options.rounds} rounds of {options.steps} step(s)"
    )
    data = batches(options)
    agreement(options, data[0])
    ours = build(options)
    steps = {
        "plain loop": plain_loop(build(options), data, options),
        "straightforward": straightforward(with_torchs_parts(plainly(options)), data, options),
        "straightforward, whole matrix": straightforward(
            with_torchs_parts(plainly(options), matrix=True), data, options
        ),
    }
    runs = {"seewhy": lambda: trainer_seconds(ours, data, options)}
    runs |= {name: lambda step=step: seconds(step, options) for name, step in steps.items()}
    times = by_turns(runs, options.rounds)
    for name, values in times.items():
        print(f"  {name:32s} {statistics.median(values) * 1e3:9.1f} ms per step")
    ratio("seewhy under the Trainer / plain loop", times["seewhy"], times["plain loop"], most=1.03)
    ratio("straightforward / seewhy", times["straightforward"], times["seewhy"], least=1.2)
    ratio("straightforward with the whole matrix / seewhy", times["straightforward, whole matrix"], times["seewhy"])


def plainly(options: argparse.Namespace) -> CycleGAN25D:
    """The model in the default memory format."""
    return build(argparse.Namespace(**{**vars(options), "channels_last": False}))


def agreement(options: argparse.Namespace, batch: dict[str, Any]) -> None:
    """Print how far the generators' losses of both implementations are apart."""
    with torch.no_grad():
        model = build(options)
        model.discriminators.eval()
        ours = model.step.generator_losses({domain: model.step.side(batch[domain]) for domain in "ab"}).total
        plain = with_torchs_parts(plainly(options), matrix=True)
        plain.discriminators.eval()
        theirs = straightforward_losses(plain, batch)[0]
    print(f"  relative difference of the two implementations' losses: {float((ours - theirs).abs() / theirs):.1e}")


def adams(*modules: nn.Module) -> list[torch.optim.Optimizer]:
    """An optimiser for each."""
    return [torch.optim.Adam(module.parameters(), **OPTIMIZER) for module in modules]


def precision(options: argparse.Namespace) -> AbstractContextManager[Any]:
    """Mixed precision where asked for."""
    device = options.device.split(":")[0]
    return torch.autocast(device, torch.bfloat16) if options.bf16 else nullcontext()


def forever(data: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The batches again and again."""
    return chain.from_iterable(iter(lambda: data, None))


def now(options: argparse.Namespace) -> float:
    """Seconds: of the processor for one thread of a CPU, else of the clock."""
    if options.device.startswith("cuda"):
        torch.cuda.synchronize()
    elif options.threads == 1:
        return time.process_time()
    return time.perf_counter()


def seconds(step: Step, options: argparse.Namespace) -> float:
    """Seconds per step."""
    start = now(options)
    for _ in range(options.steps):
        step()
    return (now(options) - start) / options.steps


def trainer_seconds(model: CycleGAN25D, data: list[dict[str, Any]], options: argparse.Namespace) -> float:
    """Seconds per step of a fit, from the first step's end to the last one's."""
    clock = Clock(options)
    trainer = Trainer(
        max_epochs=1,
        accelerator="gpu" if options.device.startswith("cuda") else "cpu",
        devices=1,
        precision="bf16-mixed" if options.bf16 else "32-true",
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    stream = [data[number % len(data)] for number in range(options.steps + 1)]
    trainer.fit(model, torch.utils.data.DataLoader(stream, batch_size=None))
    return (clock.ends[-1] - clock.ends[0]) / options.steps


class Clock(Callback):
    """Remembers when each step ended."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the time."""
        self.ends.append(now(self.options))


def by_turns(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run, run by turns; a first round warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            found = run()
            if turn:
                times[name].append(found)
    return times


def ratio(
    name: str, over: list[float], under: list[float], *, most: float | None = None, least: float | None = None
) -> None:
    """Print the median ratio within a round, its range, and whether it meets its goal."""
    ratios = sorted(a / b for a, b in zip(over, under, strict=True))
    value = statistics.median(ratios)
    goal_text = ""
    if most is not None:
        goal_text = f"   goal ≤ {most:g}: {'met' if value <= most else 'missed'}"
    if least is not None:
        goal_text = f"   goal ≥ {least:g}: {'met' if value >= least else 'missed'}"
    print(f"  {name:48s} {value:5.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}){goal_text}")


# -- memory ---------------------------------------------------------------------------------------------------


def report_memory() -> None:
    """Peaks of one self-attention of one image, forward and backward."""
    print("memory: one self-attention of one image, forward and backward; peak over the start, MiB")
    for size in (128, 240):
        for what, channels, side in (("on the generator's grid", 256, size // 4), ("at full size", 64, size)):
            matrix = side**4 * 4
            ours = peak_of_process("rows", channels, side)
            if matrix <= MATRIX_FITS:
                whole = f"{peak_of_process('matrix', channels, side):7.0f}"
            else:
                whole = f"not run: each of its matrices takes {matrix / 2**20:.0f}"
            print(
                f"  image {size}², {what:24s} [{channels}, {side}, {side}]: seewhy {ours:7.0f}   whole matrix {whole}"
            )


def peak_of_process(arm: str, channels: int, side: int) -> float:
    """Peak MiB of an arm over its start, in a separate process."""
    command = [sys.executable, __file__, "--arm", arm, "--channels", str(channels), "--side", str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])


def attention_peak(arm: str, channels: int, side: int) -> float:
    """MiB of this process at most during one forward and backward pass, over what it held before."""
    net: nn.Module = SelfAttention2d(channels)
    if arm == "matrix":
        net = WholeMatrix(SelfAttention2d(channels))
    x = torch.randn(1, channels, side, side, requires_grad=True)
    net(x[..., :8, :8]).sum().backward()  # what kernels keep for themselves does not count
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from what is held now
    before = status("VmRSS")
    net(x).square().mean().backward()
    return status("VmHWM") - before


def status(key: str) -> float:
    """A line of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


if __name__ == "__main__":
    main()
