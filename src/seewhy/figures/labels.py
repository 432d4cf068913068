"""Names of scores and methods in print, the same in the terminal, the figures and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from seewhy.wording import LESION, TargetWords

__all__ = [
    "CASES",
    "CLASSIFICATION",
    "FALSE_POSITIVES",
    "MEASURES",
    "NONE",
    "SEGMENTATION",
    "Score",
    "describe_data",
    "describe_intervals",
    "format_factor",
    "is_floor",
    "join_title",
    "label_of",
    "lower_is_better",
    "method_label",
    "parse_number",
    "present_measures",
    "scores_by_method",
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
    "kpca_cam": "KPCA-CAM",
    "shapley_cam": "ShapleyCAM",
    "diff_cam": "DiffCAM",
    "ablation_cam": "Ablation-CAM",
    "lrp": "LRP",
    "full_grad": "FullGrad",
    "rise": "RISE",
    "input_x_gradient": "input \N{MULTIPLICATION SIGN} gradient",
    "deep_lift": "DeepLIFT",
    "gradient_shap": "gradient SHAP",
    "noise_tunnel_ig": "noise tunnel (IG)",
    "smooth_grad": "SmoothGrad",
    "var_grad": "VarGrad",
    "shapley_inputs": "Shapley values of inputs",
    "attention_relevance": "attention relevance",
    "gates": "CBAM gates",
    "self_attention": "self-attention",
    "control_centre": "floor: centre",
    "control_intensity": "floor: brightness",
    "control_edges": "floor: edges",
    "control_random": "floor: noise",
}
"""Explanation methods whose printed name is more than the name with spaces for underscores."""


def method_label(name: str) -> str:
    """Printed name of an explanation method; for methods without a label, the name with spaces.

    Example:
        >>> method_label("grad_cam_plus_plus"), method_label("my_method")
        ('Grad-CAM++', 'my method')
    """
    return LABELS.get(name) or name.replace("_", " ")


def join_title(*parts: str, phantom: bool = False) -> str:
    """Join the non-empty parts of a title, and state that the data are phantoms if they are.

    Example:
        >>> join_title("case 7", "", "Grad-CAM", phantom=True)
        'case 7 · Grad-CAM · phantom data'
    """
    return " · ".join(part for part in (*parts, "phantom data" * phantom) if part)


def format_factor(factor: float) -> str:
    """A factor with two digits, or as a whole number.

    Example:
        >>> format_factor(2.345), format_factor(17.3), format_factor(0.876)
        ('2.3', '17', '0.88')
    """
    return f"{factor:.0f}" if factor >= 10 else f"{factor:.2g}"


def parse_number(cell: Any) -> float | None:
    """Finite number in a cell of a CSV file or table; None for text, empty cells, NaN and infinity."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


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
    "floor_mirror": "floor: mirror image",
    "floor_subtraction": "floor: T1c \N{MINUS SIGN} T1",
    "floor_window": "floor: intensity window",
    "floor_component": "floor: largest bright part",
    "floor_nothing": "floor: nothing",
    "floor_chance": "floor: chance",
    "floor_position": "floor: slice position",
    "floor_area": "floor: slice area",
    "floor_position_area": "floor: position, area",
    "floor_majority": "floor: majority class",
    "floor_prior": "floor: frequencies",
    "floor_permuted": "floor: permuted",
    "floor_positive": "floor: always positive",
}
"""Method → label, in the order in which methods are shown. Other methods are shown before the floors."""

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
    "dice_positive": "Dice, {target} slices",
    "cldice": "clDice",
    "iou": "IoU",
    "iou_positive": "IoU, {target} slices",
    "auprc": "pixel AUPRC",
    "auprc_positive": "AUPRC, {target} slices",
    "hd95_slices_mm": "HD95 of slices (mm)",
    "hd95_slices_px": "HD95 of slices (px)",
    "hd95_mm": "HD95 in 3D (mm)",
    "hd95_px": "HD95 in 3D (voxels)",
    "lesion_dice": "{target}-wise Dice",
    "fp_volume_ml": "false volume (mL)",
    "fp_area": "false positive px per {absent} slice",
    "fp_slices": "{absent} slices hit",
    "healthy_hit": "{absent} patients hit",
}
"""Measure → label, with places for the words of a data set; see `label_of`."""

CERTAINTY = ("ece", "brier", "nll")
"""Measures of predicted probabilities; smaller is better."""
CLASSIFICATION = ("auroc", "f1", "accuracy", "balanced_accuracy", "average_precision", "kappa", "mae", *CERTAINTY)
CASES = ("auroc", "accuracy", "balanced_accuracy", "kappa", "mae", "ece")
"""Measures in the terminal table of case classifiers."""
SEGMENTATION = (
    "dice", "cldice", "dice_positive", "auprc", "hd95_slices_mm", "hd95_slices_px", "hd95_mm", "hd95_px",
)  # fmt: skip
"""Measures in the terminal table of segmentations, in order."""
FALSE_POSITIVES = ("lesion_dice", "fp_volume_ml", "fp_slices", "healthy_hit")
"""Measures in the terminal table of false positives, which healthy patients have, too."""


FEW = 10
"""Fewer patients than this give rough intervals."""
NONE = "\N{EN DASH}"
"""Printed where a method does not define a measure."""


class Score(NamedTuple):
    """Mean over patients, with its interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    def text(self, measure: str, *, interval: bool = True) -> str:
        """Printed form.

        Example:
            >>> Score(0.8123, 0.74, 0.871).text("dice")
            '0.812 [0.74, 0.87]'
        """
        shown = f"{self.value:.{_digits(measure)}f}"
        return f"{shown} [{self.bounds(measure)}]" if interval and self.low is not None else shown

    def bounds(self, measure: str) -> str:
        """Printed form of the interval, e.g. "0.74, 0.87"."""
        if self.low is None or self.high is None:
            return NONE
        digits = min(_digits(measure), 2)
        return f"{self.low:.{digits}f}, {self.high:.{digits}f}"


def _digits(measure: str) -> int:
    if measure.startswith(("hd95", "fp_area", "fp_volume")):
        return 1
    return 2 if measure in ("fp_slices", "healthy_hit") else 3


def scores_by_method(results: Mapping[str, float], *, prefix: str = "") -> dict[str, dict[str, Score]]:
    """Group flat results by method and measure; methods in the order in which they are shown, floors last.

    Args:
        results: flat names to values, as `PatientScores.compute` and `SliceLabelScores.compute` give
        them:
            `<method>/<measure>`, with `_low` and `_high` for an interval; `auroc`, `f1` and `accuracy`
            without a method belong to the classifier. Everything else (losses, counts) is ignored.
        prefix: prefix of the names to read, e.g. "test/".

    Returns:
        Method → measure → score.

    Example:
        >>> results = {"test/floor_otsu/dice": 0.31, "test/refined/dice": 0.82, "test/loss": 0.2}
        >>> scores = scores_by_method(results, prefix="test/")
        >>> {label_of(method): scores[method]["dice"].value for method in scores}
        {'refined': 0.82, 'floor: Otsu': 0.31}
    """
    scores: dict[str, dict[str, Score]] = {}
    for name, value in results.items():
        if not name.startswith(prefix):
            continue
        name = name[len(prefix) :]
        method, _, measure = name.rpartition("/")
        method = method or "classifier"
        if measure not in MEASURES or "/" in method:
            continue
        low, high = results.get(f"{prefix}{name}_low"), results.get(f"{prefix}{name}_high")
        scores.setdefault(method, {})[measure] = Score(float(value), low, high)
    order = list(METHODS)
    place = {name: order.index(_base_of(name) or "refined") for name in scores}
    return {name: scores[name] for name in sorted(scores, key=lambda name: (is_floor(name), place[name]))}


def _base_of(method: str) -> str | None:
    """The method itself, or that of which it is the variant for a class or modality: `refined` for `refined_t1ce`."""
    return next((name for name in (method, method.rpartition("_")[0]) if name in METHODS), None)


def present_measures(scores: Mapping[str, Mapping[str, Score]], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The wanted measures that at least one method defines."""
    return tuple(measure for measure in wanted if any(measure in measures for measures in scores.values()))


def is_floor(method: str) -> bool:
    """Whether a method is a floor: a guess that uses no trained model."""
    return method.startswith("floor_")


def lower_is_better(measure: str) -> bool:
    """Whether smaller values of a measure are better: distances, false positives and errors."""
    return measure.startswith(("hd95", "fp_", "healthy_", "mae", *CERTAINTY))


def label_of(name: str, words: TargetWords = LESION) -> str:
    """Label of a method or measure, in the words of a data set; that of a class or modality ends with its name.

    Example:
        >>> label_of("refined_t1ce"), label_of("floor_mirror_t1ce")
        ('refined, t1ce alone', 'floor: mirror image, t1ce')
    """
    label = METHODS.get(name) or MEASURES.get(name)
    if label is None and name.startswith("floor_window_"):
        return f"{METHODS['floor_window']}, {name.removeprefix('floor_window_')}"
    base = _base_of(name)
    if label is None and base is not None and not name.endswith("_loss"):
        modality = name.removeprefix(f"{base}_")
        return f"{METHODS[base]}, {modality}" if is_floor(base) else f"{METHODS[base]}, {modality} alone"
    return words.fill(label) if label else name.replace("_", " ")


def describe_intervals(patients: float | None) -> str:
    """Describe the intervals, with a note where there are too few patients for good ones.

    Example:
        >>> describe_intervals(30)
        '95 % bootstrap intervals by patient'
        >>> describe_intervals(7)
        '95 % bootstrap intervals by patient, rough with fewer than 10 patients'
    """
    note = f", rough with fewer than {FEW} patients" if patients is not None and patients < FEW else ""
    return f"95 % bootstrap intervals by patient{note}"


def describe_data(
    results: Mapping[str, float],
    *,
    prefix: str = "",
    phantom: bool = False,
    samples: bool = False,
    words: TargetWords = LESION,
) -> str:
    """Describe the data behind the scores, e.g. "25 patients, 21 with lesion; 95 % bootstrap intervals by patient".

    Args:
        results: see `methods`.
        prefix: see `methods`.
        phantom: whether the data are synthetic, which the note then says.
        samples: the numbers are of samples (classification), not of patients.
        words: of the data set.
    """
    parts = []
    if samples:
        count, cases = results.get(f"{prefix}samples"), results.get(f"{prefix}cases")
        parts += [] if count is None else [f"{count:.0f} samples"]
        if cases is not None:
            parts += [f"{cases:.0f} cases of {results[f'{prefix}patients']:.0f} patients"]
            parts += [describe_intervals(results[f"{prefix}patients"])] if f"{prefix}accuracy_low" in results else []
    else:
        patients, ill = results.get(f"{prefix}patients"), results.get(f"{prefix}patients_with_lesion")
        if patients is not None:
            parts.append(
                f"{patients:.0f} patient{'' if patients == 1 else 's'}"
                + (f", {ill:.0f} with {words.target}" if ill is not None else "")
            )
        if any(name.startswith(prefix) and name.endswith("_low") for name in results):
            parts.append(describe_intervals(patients))
    if phantom:
        parts.append("PHANTOM data, not patients")
    return "; ".join(parts)
