"""Time and memory of explanations, compared with public packages and with the unavoidable work.

    python benchmarks/explain.py                      # both claims: about ten minutes on one core
    python benchmarks/explain.py --claims cam --repeats 5
    python benchmarks/explain.py --claims judge       # judging ÷ maps, and the shared measures next to Quantus

Two claims, in processor time of one thread (other jobs on the machine blur it less than wall time):

- Grad-CAM of four EfficientNet-B0 branches, batch 8, 224²: ÷ one forward without gradients (≤ 1.15); the grad-cam
  package, which explains one branch at a time, ÷ seewhy (≥ 15); peak memory over the start (≤ 400 MiB).
- Integrated gradients with 32 steps on EfficientNetV2-S, one image of 224²: ÷ 32 plain passes forward and back to
  the image, at the batch size they are fastest with (≤ 1.03); peak memory ÷ that of Captum's default (≤ 1/3).
  PyTorch is fastest from 16 images on, for which plain passes need half of Captum's memory; seewhy holds the same
  number in half of that, since it keeps nothing for gradients of weights
  (`seewhy.explain.gradient.memory_saving_autograd`).

`judge` measures the cost of judging Grad-CAM maps in units of the maps, and the measures of `explain.metrics` next to
those of Quantus (`pip install quantus`, in a virtual environment of its own), with a small network, batch 32, 64².

Arms are run by turns, so that a busy machine slows all alike; ratios are medians of the ratios within a turn. Peaks
are those of a fresh process per arm (Linux), over what it held before its first call. Weights are random, batch
statistics are set from data: with those of a fresh network activations vanish.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

INPUTS = ("mnv", "fluid", "ga", "drusen")
STEPS = 32
Arm = Callable[[], Any]


class Branches(nn.Module):
    """Four backbones, features joined, one linear layer; called as third-party networks with several inputs are."""

    def __init__(self) -> None:
        super().__init__()
        self.backbones = nn.ModuleDict({name: backbone("efficientnet_b0") for name in INPUTS})
        self.head = nn.Linear(4 * 1280, 4)

    def forward(self, mnv: Tensor, fluid: Tensor, ga: Tensor, drusen: Tensor) -> Tensor:
        """Class scores [B, 4] of four images [B, 1, H, W]."""
        images = dict(zip(INPUTS, (mnv, fluid, ga, drusen), strict=True))
        vectors = [self.backbones[name](image).mean(dim=(2, 3)) for name, image in images.items()]
        return self.head(torch.cat(vectors, dim=1))


class Stacked(nn.Module):
    """The same network for a package that takes one tensor: the images are its channels."""

    def __init__(self, net: Branches) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Class scores [B, 4] of [B, 4, H, W]."""
        return self.net(*images.split(1, dim=1))


def backbone(name: str, **options: Any) -> nn.Module:
    """A timm network without its pooling, random weights."""
    import timm

    return timm.create_model(name, in_chans=1, **({"num_classes": 0, "global_pool": ""} | options))


def build(claim: str) -> nn.Module:
    """The network of a claim, with statistics set from smooth noise."""
    torch.manual_seed(0)
    net = Branches() if claim == "cam" else backbone("efficientnetv2_s", num_classes=4, global_pool="avg")
    net.train()
    with torch.no_grad():
        for _ in range(10):
            net(*images(claim, 4, 96).values())
    return net.eval()


def images(claim: str, batch: int, size: int) -> dict[str, Tensor]:
    """Smooth noise, by input."""
    names = INPUTS if claim == "cam" else ("image",)
    return {name: nn.functional.avg_pool2d(torch.randn(batch, 1, size, size), 9, 1, 4) * 9 for name in names}


def arms(claim: str, net: nn.Module, options: argparse.Namespace) -> dict[str, Arm]:
    """What is compared; each arm does the whole work once."""
    torch.manual_seed(1)
    if claim == "cam":
        return cam_arms(net, images(claim, options.batch, options.size), options)
    return gradient_arms(net, images(claim, 1, options.size)["image"])


def cam_arms(net: nn.Module, inputs: dict[str, Tensor], options: argparse.Namespace) -> dict[str, Arm]:
    """A forward, our maps, and the package once per branch, without and with its drawing of 0 to 1 at full size."""
    from seewhy.explain import GradCAM

    target = [row % 4 for row in range(options.batch)]
    ours = GradCAM(layers={name: f"backbones.{name}.bn2" for name in INPUTS})

    def forward() -> Tensor:
        with torch.no_grad():
            return net(**inputs)

    found: dict[str, Arm] = {"forward": forward, "seewhy": lambda: ours(net, inputs, target)}
    if options.peers:
        import pytorch_grad_cam as package

        wrapped, stacked = Stacked(net), torch.cat(list(inputs.values()), dim=1)
        chosen = [package.utils.model_targets.ClassifierOutputTarget(one) for one in target]

        def peer() -> dict[str, Any]:
            maps = {}
            for name in INPUTS:
                with package.GradCAM(wrapped, [net.get_submodule(f"backbones.{name}.bn2")]) as method:
                    maps[name] = method(stacked, chosen)
            net.zero_grad(set_to_none=True)
            return maps

        found["grad-cam"] = peer
    return found


def gradient_arms(net: nn.Module, image: Tensor) -> dict[str, Arm]:
    """Plain passes at several batch sizes, our integrated gradients, and Captum's with and without a batch size."""
    from captum.attr import IntegratedGradients as Captum

    from seewhy.explain import IntegratedGradients

    ours = IntegratedGradients(steps=STEPS, baseline=0.0)

    def plain(batch: int) -> None:
        for _ in range(STEPS // batch):
            points = image.repeat(batch, 1, 1, 1).requires_grad_()
            torch.autograd.grad(net(points)[:, 1].sum(), points)

    def captum(batch: int | None) -> Tensor:
        return Captum(net).attribute(image, target=1, n_steps=STEPS, internal_batch_size=batch)

    found: dict[str, Arm] = {f"plain, batch {batch}": lambda batch=batch: plain(batch) for batch in (1, 4, 8, 16, 32)}
    found["seewhy"] = lambda: ours(net, image, target=1).maps["image"]
    found["captum, batch 8"] = lambda: captum(8)
    found["captum, default"] = lambda: captum(None)
    return found


def main() -> None:
    """Measure and print."""
    options = parse()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if options.arm:
        print(peak(options))
        return
    print(f"torch {torch.__version__}, 1 thread, {options.repeats} turns; load {os.getloadavg()[0]:.1f}")
    for claim in options.claims.split(","):
        report(claim, options)


def parse() -> argparse.Namespace:
    """Options of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", default="cam,ig", help="cam, ig, judge, or several")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="of the claim cam")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave the grad-cam package out")
    parser.add_argument("--arm", help="internal: measure the peak of one arm, with --weights")
    parser.add_argument("--weights", type=Path, help="internal")
    return parser.parse_args()


def report(claim: str, options: argparse.Namespace) -> None:
    """One claim: agreement, time, memory."""
    if claim == "judge":
        report_judging(options)
        return
    net = build(claim)
    compared = arms(claim, net, options)
    first = {name: run() for name, run in compared.items()}  # warms up, too
    agreement(claim, first)
    times = by_turns(compared, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        torch.save(net.state_dict(), weights)
        peaks = {name: peak_of_process(claim, name, weights, options) for name in compared}
    for name, values in times.items():
        print(f"  {name:20s} {statistics.median(values):7.2f} s   peak +{peaks[name]:6.0f} MiB")
    if claim == "cam":
        ratio("Grad-CAM of four branches / forward", times["seewhy"], times["forward"], most=1.15)
        if options.peers:
            ratio("grad-cam, once per branch / Grad-CAM", times["grad-cam"], times["seewhy"], least=15)
        goal("peak memory of Grad-CAM, MiB", peaks["seewhy"], most=400)
        return
    plain = [name for name in times if name.startswith("plain")]
    best = min(plain, key=lambda name: statistics.median(times[name]))
    ratio(f"integrated gradients / {best} (best)", times["seewhy"], times[best], most=1.03)
    goal("peak memory / Captum's default", peaks["seewhy"] / peaks["captum, default"], most=1 / 3)


def report_judging(options: argparse.Namespace) -> None:
    """Judging in units of the maps, and each shared measure next to Quantus'."""
    from seewhy.explain import GradCAM, JudgingSettings, Scorecard

    torch.manual_seed(0)
    net = backbone("test_efficientnet", num_classes=4, global_pool="avg").eval()
    inputs = images("ig", 32, 64)["image"]
    method = GradCAM(layers="conv_head")
    maps = method(net, inputs)

    def judge(**chosen: Any) -> None:
        Scorecard(method, settings=JudgingSettings(**chosen), samples=len(inputs)).judge(net, inputs, maps)

    arms_of_judging: dict[str, Arm] = {"maps": lambda: method(net, inputs)}
    arms_of_judging |= {scope: lambda scope=scope: judge(scope=scope) for scope in ("cheap", "all")}
    arms_of_judging["metrics=[all]"] = lambda: judge(scope="none", metrics=["all"])
    times = by_turns(arms_of_judging, options.repeats)
    for name, values in times.items():
        over = statistics.median(a / b for a, b in zip(values, times["maps"], strict=True))
        print(f"judge: {name:16s} {statistics.median(values):7.2f} s   ÷ maps {over:8.1f}")
    if options.peers:
        for name, pair in measure_arms(net, inputs, maps).items():
            both = by_turns(pair, options.repeats)
            ours, theirs = (statistics.median(both[key]) for key in ("seewhy", "quantus"))
            print(f"judge: {name:24s} seewhy {ours:7.3f} s   quantus {theirs:7.3f} s   ratio {theirs / ours:6.1f}")


def measure_arms(net: nn.Module, inputs: Tensor, maps: Any) -> dict[str, dict[str, Arm]]:
    """Measure → our arm and Quantus' with the same options."""
    import quantus

    from seewhy.explain import judging

    mask = inputs[:, 0] > 0.5
    given, target = maps.evidence()["image"].numpy()[:, None], maps.target.numpy()
    array, quiet = inputs.numpy(), {"disable_warnings": True}

    def peer(metric: Any) -> Arm:
        given_to = {"model": net, "x_batch": array, "y_batch": target, "s_batch": mask.numpy()[:, None]}
        return lambda: metric(**given_to, a_batch=given.copy(), channel_first=True, batch_size=len(array))

    pairs: dict[str, tuple[Arm, Any]] = {
        "sparseness": (lambda: judging.compute_sparseness(maps), quantus.Sparseness(**quiet)),
        "complexity": (lambda: judging.compute_complexity(maps), quantus.Complexity(**quiet)),
        "relevance_rank_accuracy": (
            lambda: judging.compute_relevance_rank_accuracy(maps, mask),
            quantus.RelevanceRankAccuracy(**quiet),
        ),
        "infidelity": (
            lambda: judging.measure_infidelity(net, inputs, maps, patch=16),
            quantus.Infidelity(perturb_patch_sizes=[16], n_perturb_samples=1, **quiet),
        ),
        "region_perturbation": (
            lambda: judging.measure_region_perturbation(net, inputs, maps, patch=16),
            quantus.RegionPerturbation(patch_size=16, **quiet),
        ),
        "selectivity": (
            lambda: judging.measure_selectivity(net, inputs, maps, patch=16),
            quantus.Selectivity(patch_size=16, **quiet),
        ),
    }
    return {name: {"seewhy": ours, "quantus": peer(theirs)} for name, (ours, theirs) in pairs.items()}


def agreement(claim: str, first: dict[str, Any]) -> None:
    """Print how far our maps are from the package's."""
    if claim == "ig":
        reference = first["captum, batch 8"][:, 0]
        print(f"ig: largest difference to Captum ÷ largest value {float(difference(first['seewhy'], reference)):.1e}")
    elif "grad-cam" in first:
        maps = first["seewhy"].evidence()
        worst = max(
            float((stretched(maps[name]) - torch.from_numpy(first["grad-cam"][name])).abs().max()) for name in INPUTS
        )
        print(f"cam: largest difference to grad-cam of maps stretched to 0 … 1: {worst:.1e}")


def difference(found: Tensor, reference: Tensor) -> Tensor:
    """Largest difference, in units of the largest value."""
    return (found - reference).abs().max() / reference.abs().max()


def stretched(maps: Tensor) -> Tensor:
    """Each map [H, W] of [B, H, W] from 0 to 1; an empty one stays empty."""
    maps = maps - maps.amin(dim=(1, 2), keepdim=True)
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp_min(1e-30)


def by_turns(compared: dict[str, Arm], repeats: int) -> dict[str, list[float]]:
    """Processor seconds of each arm."""
    times: dict[str, list[float]] = {name: [] for name in compared}
    for _ in range(repeats):
        for name, run in compared.items():
            gc.collect()
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    return times


def peak_of_process(claim: str, arm: str, weights: Path, options: argparse.Namespace) -> float:
    """Peak MiB of an arm over its start, in a separate process."""
    command = [sys.executable, __file__, "--claims", claim, "--arm", arm, "--weights", str(weights)]
    command += ["--batch", str(options.batch), "--size", str(options.size), *([] if options.peers else ["--no-peers"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])


def peak(options: argparse.Namespace) -> float:
    """MiB of this process at most during one arm, over what it held before."""
    net = Branches() if options.claims == "cam" else backbone("efficientnetv2_s", num_classes=4, global_pool="avg")
    net.load_state_dict(torch.load(options.weights, weights_only=True, mmap=False))
    run = arms(options.claims, net.eval(), options)[options.arm]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from what is held now
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def status(key: str) -> float:
    """A line of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def ratio(
    name: str, over: list[float], under: list[float], *, most: float | None = None, least: float | None = None
) -> None:
    """Print the median ratio within a turn, its range, and whether it meets the goal."""
    ratios = sorted(a / b for a, b in zip(over, under, strict=True))
    goal(name, statistics.median(ratios), most=most, least=least, spread=f" ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def goal(name: str, value: float, *, most: float | None = None, least: float | None = None, spread: str = "") -> None:
    """Print a figure and whether it meets the goal."""
    met = (most is None or value <= most) and (least is None or value >= least)
    goal_text = f"≤ {most:.3g}" if most is not None else f"≥ {least:.3g}"
    print(f"{name:64s} {value:6.2f}{spread}   goal {goal_text}: {'met' if met else 'missed'}")


if __name__ == "__main__":
    main()
