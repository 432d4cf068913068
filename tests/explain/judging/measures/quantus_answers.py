"""Values of Quantus 0.6.0 for small networks, written to quantus_answers.json; run where Quantus is installed.

    python tests/explain/judging/measures/quantus_answers.py

The tests read the file, so that they need no Quantus. `cases` is used by both.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

ANSWERS = Path(__file__).with_suffix(".json")


def make_case(channels, height, width, *, batch=4):
    """A network with fixed weights, a batch, non-negative and signed maps, and masks, all from one seed."""
    random = np.random.RandomState(channels * 100 + height)
    size = channels * height * width
    net = nn.Sequential(nn.Flatten(), nn.Linear(size, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    for parameter in net.parameters():
        parameter.data = torch.from_numpy(random.randn(*parameter.shape).astype(np.float32) * 0.4)
    image = random.rand(batch, channels, height, width).astype(np.float32)
    signed = random.randn(batch, height, width).astype(np.float32)
    mask = random.rand(batch, height, width) > 0.7
    return net, image, signed, mask, np.array([0, 2, 1, 2])[:batch]


CASES = {"even": (1, 8, 8), "odd": (2, 9, 7)}


def list_answers(name):
    """Values of every shared measure."""
    import quantus

    net, image, signed, mask, target = make_case(*CASES[name])
    evidence = np.abs(signed)[:, None]
    common = {"model": net, "x_batch": image, "y_batch": target, "channel_first": True}
    quiet = {"disable_warnings": True}

    def run(metric, maps, **more):
        return np.asarray(metric(**common, a_batch=maps.copy(), **more)).tolist()

    answers = {
        "region_perturbation": run(quantus.RegionPerturbation(patch_size=4, regions_evaluation=5, **quiet), evidence),
        "selectivity": run(quantus.Selectivity(patch_size=4, **quiet), evidence),
        "sufficiency": run(quantus.Sufficiency(threshold=0.9, **quiet), evidence),
        "top_k_intersection": run(quantus.TopKIntersection(k=20, **quiet), evidence, s_batch=mask[:, None]),
        "relevance_rank_accuracy": run(quantus.RelevanceRankAccuracy(**quiet), evidence, s_batch=mask[:, None]),
        "relevance_mass_accuracy": run(quantus.RelevanceMassAccuracy(**quiet), evidence, s_batch=mask[:, None]),
        "sparseness": run(quantus.Sparseness(**quiet), evidence),
        "complexity": run(quantus.Complexity(**quiet), evidence),
    }
    per_sample = {"normalise_func_kwargs": {"normalise_axes": [1, 2, 3]}}
    answers["effective_complexity"] = run(quantus.EffectiveComplexity(eps=0.3, **per_sample, **quiet), evidence)
    if name == "even":  # Quantus fails where patches do not fit, and for maps with fewer channels than the image
        answers["monotonicity"] = run(quantus.Monotonicity(features_in_step=4, **quiet), evidence)
        answers["infidelity"] = run(
            quantus.Infidelity(perturb_patch_sizes=[4], n_perturb_samples=1, **quiet), signed[:, None], softmax=False
        )
        metric = quantus.SensitivityN(features_in_step=4, return_aggregate=False, **quiet)
        answers["sensitivity_n"] = run(metric, signed[:, None])
    return answers


def saliency(model, inputs, targets, **_):
    """Gradient of the score, summed over channels, as an explanation function of Quantus."""
    x = torch.as_tensor(np.asarray(inputs), dtype=torch.float32).requires_grad_()
    scores = model(x).gather(1, torch.as_tensor(np.asarray(targets))[:, None])
    return torch.autograd.grad(scores.sum(), x)[0].sum(dim=1, keepdim=True).numpy()


def list_explained():
    """Values of the measures that explain again, with the draws that make them repeatable."""
    import quantus

    net, image, _, _, target = make_case(*CASES["even"])
    common = {"model": net, "x_batch": image, "y_batch": target, "channel_first": True, "explain_func": saliency}
    quiet, others = {"disable_warnings": True, "normalise": False}, []

    def spy(model, inputs, targets, **_):
        others.append(np.asarray(targets).tolist())
        return saliency(model, inputs, targets)

    logit = quantus.RandomLogit(num_classes=3, **quiet)(**{**common, "explain_func": spy})
    noise = np.random.RandomState(5).uniform(-0.1, 0.1, (3, *image.shape)).astype(np.float32)
    draws = iter(noise)

    def add_noise(arr, indices, **_):
        return arr + next(draws).reshape(arr.shape)

    sensitivity = quantus.MaxSensitivity(nr_samples=3, perturb_func=add_noise, **quiet)(**common)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    for parameter in linear.parameters():
        parameter.data = torch.from_numpy(np.random.RandomState(3).randn(*parameter.shape).astype(np.float32))
    options = {"seed": 6, "disable_warnings": True}
    single = {**common, "model": linear}
    efficient = quantus.EfficientMPRT(**options)(**single)
    smooth = quantus.SmoothMPRT(nr_samples=1, return_last_correlation=True, normalise=False, **options)(**single)
    return {
        "random_logit": list(map(float, logit)), "others": others[-1], "max_sensitivity": sensitivity.tolist()
        if isinstance(sensitivity, np.ndarray) else list(map(float, sensitivity)),
        "efficient_mprt": list(map(float, efficient)), "smooth_mprt": list(map(float, smooth)),
    }  # fmt: skip


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    found = {name: list_answers(name) for name in CASES} | {"explained": list_explained()}
    ANSWERS.write_text(json.dumps(found, indent=1) + "\n")
