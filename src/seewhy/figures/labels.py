"""What results are called and how they are written: one wording for the terminal, the figures and the report.

What explanation methods are called in print.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = [
    "CASES",
    "CLASSIFICATION",
    "MEASURES",
    "NONE",
    "SEGMENTATION",
    "Score",
    "is_floor",
    "label_of",
    "lower_is_better",
    "measured",
    "method_label",
    "methods",
    "note",
]

LABELS = {
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "xgrad_cam": "XGrad-CAM",
    "eigen_cam": "EigenCAM",
    "score_cam": "ScoreCAM",
    "finer_cam": "FinerCAM",
    "input_x_gradient": "input \N{MULTIPLICATION SIGN} gradient",
    "deep_lift": "DeepLIFT",
    "gradient_shap": "gradient SHAP",
    "noise_tunnel_ig": "noise tunnel (IG)",
    "smooth_grad": "SmoothGrad",
    "var_grad": "VarGrad",
    "attention_relevance": "attention relevance",
    "gates": "CBAM gates",
    "self_attention": "self-attention",
    "control_centre": "floor: centre",
    "control_intensity": "floor: brightness",
    "control_edges": "floor: edges",
    "control_random": "floor: noise",
}
"""Only names that are more than their words with spaces between."""


def method_label(name: str) -> str:
    """A method as it is called, e.g. "Grad-CAM++"; one that is not known here is its name in words."""
    return LABELS.get(name) or name.replace("_", " ")


METHODS = {
    "classifier": "classifier",
    "uncalibrated": "before calibration",
    "ideal": "perfectly calibrated",
    "cam": "CAM",
    "affinity": "CAM + affinity",
    "segmentation": "segmentation head",
    "refined": "refined",
    "floor_body": "floor: all tissue",
    "floor_centre": "floor: centre prior",
    "floor_intensity": "floor: intensity",
    "floor_otsu": "floor: Otsu",
    "floor_otsu3": "floor: 3-class Otsu",
    "floor_window": "floor: intensity window",
    "floor_component": "floor: largest bright part",
    "floor_nothing": "floor: nothing",
    "floor_chance": "floor: chance",
    "floor_majority": "floor: majority class",
    "floor_prior": "floor: frequencies",
    "floor_permuted": "floor: permuted",
    "floor_positive": "floor: always positive",
}
"""Method → what it is called, in the order in which methods are shown; others come between these and floors."""

MEASURES = {
    "auroc": "AUROC",
    "f1": "F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
    "kappa": "kappa",
    "mae": "error in grades",
    "ece": "calibration error",
    "brier": "Brier score",
    "nll": "log loss",
    "dice": "Dice",
    "dice_positive": "Dice, lesion slices",
    "cldice": "clDice",
    "iou": "IoU",
    "iou_positive": "IoU, lesion slices",
    "auprc": "pixel AUPRC",
    "auprc_positive": "AUPRC, lesion slices",
    "hd95_mm": "HD95 (mm)",
    "hd95_px": "HD95 (px)",
    "fp_area": "false positive px per healthy slice",
    "fp_slices": "healthy slices hit",
}
"""Measure → what it is called."""

CERTAINTY = ("ece", "brier", "nll")
"""Measures of predicted probabilities, the smaller the better."""
CLASSIFICATION = ("auroc", "f1", "accuracy", "balanced_accuracy", "average_precision", "kappa", "mae", *CERTAINTY)
CASES = ("auroc", "accuracy", "balanced_accuracy", "kappa", "mae", "ece")
"""Measures of the terminal's table for classifiers of whole cases."""
SEGMENTATION = ("dice", "cldice", "dice_positive", "auprc", "hd95_mm", "hd95_px", "fp_slices")
"""Measures of the results table, the first ones first."""


INTERVALS = "95 % bootstrap intervals by patient"
NONE = "\N{EN DASH}"
"""Written where a method does not have a measure."""


class Score(NamedTuple):
    """A mean over patients, and its interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    def text(self, measure: str, *, interval: bool = True) -> str:
        """As shown, e.g. "0.812 [0.74, 0.87]"."""
        shown = f"{self.value:.{_digits(measure)}f}"
        return f"{shown} [{self.bounds(measure)}]" if interval and self.low is not None else shown

    def bounds(self, measure: str) -> str:
        """The interval as shown, e.g. "0.74, 0.87"."""
        if self.low is None or self.high is None:
            return NONE
        digits = max(_digits(measure) - 1, 1)
        return f"{self.low:.{digits}f}, {self.high:.{digits}f}"


def _digits(measure: str) -> int:
    if measure.startswith(("hd95", "fp_area")):
        return 1
    return 2 if measure == "fp_slices" else 3


def methods(results: Mapping[str, float], *, prefix: str = "") -> dict[str, dict[str, Score]]:
    """Results by method and measure: methods in the order of showing, floors last.

    Args:
        results: flat names to values, as `PatientScores.compute` and `ClassificationScores.compute` give
        them:
            `<method>/<measure>`, with `_low` and `_high` for an interval; `auroc`, `f1` and `accuracy`
            without a method are the classifier's. Everything else (losses, counts) is passed over.
        prefix: of the names to read, e.g. "test/".

    Returns:
        method → measure → score.
    """
    found: dict[str, dict[str, Score]] = {}
    for name, value in results.items():
        if not name.startswith(prefix):
            continue
        name = name[len(prefix) :]
        method, _, measure = name.rpartition("/")
        method = method or "classifier"
        if measure not in MEASURES or "/" in method:
            continue
        low, high = results.get(f"{prefix}{name}_low"), results.get(f"{prefix}{name}_high")
        found.setdefault(method, {})[measure] = Score(float(value), low, high)
    order = list(METHODS)
    place = {name: order.index(name) if name in METHODS else order.index("refined") for name in found}
    return {name: found[name] for name in sorted(found, key=lambda name: (is_floor(name), place[name]))}


def measured(scores: Mapping[str, Mapping[str, Score]], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the wanted measures that any method has."""
    return tuple(measure for measure in wanted if any(measure in own for own in scores.values()))


def is_floor(method: str) -> bool:
    """Whether a method knows nothing of labels or training."""
    return method.startswith("floor_")


def lower_is_better(measure: str) -> bool:
    """Whether a small value is a good one: distances and false positives."""
    return measure.startswith(("hd95", "fp_", "mae", *CERTAINTY))


def label_of(name: str) -> str:
    """A method or measure as it is called; of a method's single class, with its name behind."""
    known = METHODS.get(name) or MEASURES.get(name)
    if known is None and name.startswith("floor_window_"):
        return f"{METHODS['floor_window']}, {name.removeprefix('floor_window_')}"
    return known or name.replace("_", " ")


def note(results: Mapping[str, float], *, prefix: str = "", phantom: bool = False, samples: bool = False) -> str:
    """What the numbers rest on, e.g. "25 patients, 21 with lesion; 95 % bootstrap intervals by patient".

    Args:
        results: see `methods`.
        prefix: see `methods`.
        phantom: whether the data are synthetic, which the note then says.
        samples: the numbers are of samples (classification), not of patients.
    """
    parts = []
    if samples:
        count, cases = results.get(f"{prefix}samples"), results.get(f"{prefix}cases")
        parts += [] if count is None else [f"{count:.0f} samples"]
        if cases is not None:
            parts += [f"{cases:.0f} cases of {results[f'{prefix}patients']:.0f} patients"]
            parts += [INTERVALS] if f"{prefix}accuracy_low" in results else []
    else:
        patients, ill = results.get(f"{prefix}patients"), results.get(f"{prefix}patients_with_lesion")
        if patients is not None:
            parts.append(
                f"{patients:.0f} patient{'' if patients == 1 else 's'}"
                + (f", {ill:.0f} with lesion" if ill is not None else "")
            )
        if any(name.startswith(prefix) and name.endswith("_low") for name in results):
            parts.append(INTERVALS)
    if phantom:
        parts.append("PHANTOM data, not patients")
    return "; ".join(parts)
