"""Glossary of measures: what each is, its unit and chance level, and what it cannot see."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GLOSSARY", "Entry"]


class Entry(NamedTuple):
    """Measure in one sentence each."""

    meaning: str
    """What is measured, over what, and its range or unit."""
    chance: str
    """Value of a guess that knows nothing, or of the best one."""
    blind: str
    """What the measure cannot see."""


PATIENTS = "mean over the patients with {a_target}"
GLOSSARY = {
    "auroc": Entry(
        "Probability that a positive sample has a higher score than a negative one, 0 to 1; mean over the classes.",
        "0.5; for slices also what position and area reach (floor: position, area).",
        "Calibration, the threshold, and why a sample is positive.",
    ),
    "f1": Entry(
        "Harmonic mean of precision and recall of the predicted class, 0 to 1; mean over the classes.",
        "That of always predicting the class, or the most frequent one.",
        "Probabilities; true negatives.",
    ),
    "accuracy": Entry(
        "Share of samples whose predicted class is right, 0 to 1: of slices in weak supervision, of cases in grading.",
        "The share of the most frequent class.",
        "Rare classes.",
    ),
    "balanced_accuracy": Entry(
        "Mean over the classes of their recall, 0 to 1.", "1 / number of classes.", "How bad an error is."
    ),
    "average_precision": Entry(
        "Area under the precision-recall curve of cases, 0 to 1.",
        "The share of positive cases.",
        "Calibration and the threshold.",
    ),
    "kappa": Entry(
        "Agreement with the labels above chance (Cohen), for grades with quadratic weights, -1 to 1.",
        "0.",
        "Depends on how frequent the grades are, so it does not compare data sets.",
    ),
    "mae": Entry(
        "Mean distance between predicted and true grade, in grades.", "That of the most frequent grade.", "Direction."
    ),
    "ece": Entry(
        "Mean distance between confidence and accuracy in 15 bins of confidence, 0 to 1.",
        "The row perfectly calibrated: what as many cases give by chance alone.",
        "Whether the model tells classes apart: always predicting the frequencies is perfect.",
    ),
    "brier": Entry(
        "Mean squared error of the probabilities, summed over classes, 0 to 2.",
        "That of the class frequencies.",
        "Which of calibration and separation is at fault.",
    ),
    "nll": Entry(
        "Mean of -log of the true class's probability, in nats.",
        "That of the class frequencies.",
        "Which of calibration and separation is at fault.",
    ),
    "dice": Entry(
        f"Overlap 2|P∩M|/(|P|+|M|) over all slices or voxels of a patient, 0 to 1; {PATIENTS}.",
        "The best floor, usually three-class Otsu.",
        "{Absent} patients, who have no Dice; small regions next to large ones.",
    ),
    "dice_positive": Entry(
        f"Dice over the slices that show the {{target}} only, as in many papers, 0 to 1; {PATIENTS}.",
        "The best floor.",
        "False positives on {absent} slices and patients.",
    ),
    "cldice": Entry(
        "Harmonic mean of the shares of both centrelines inside the other mask, 0 to 1 (Shit 2021).",
        "The best floor.",
        "Thickness.",
    ),
    "iou": Entry(
        f"Shared pixels over the pixels of either mask, over all slices of a patient, 0 to 1; {PATIENTS}.",
        "The best floor.",
        "{Absent} patients; small regions next to large ones.",
    ),
    "iou_positive": Entry(
        f"IoU over the slices that show the {{target}} only, 0 to 1; {PATIENTS}.",
        "The best floor.",
        "False positives on {absent} slices and patients.",
    ),
    "auprc": Entry(
        f"Area under the precision-recall curve of a map over the pixels of tissue, 0 to 1; {PATIENTS}.",
        "The {target}'s share of the tissue (floor: all tissue).",
        "The scale of the map: a threshold may still be wrong. {Absent} patients.",
    ),
    "auprc_positive": Entry(
        f"The same over the slices that show the {{target}} only, 0 to 1; {PATIENTS}.",
        "The {target}'s share of the tissue there.",
        "False positives on {absent} slices and patients.",
    ),
    "hd95_slices_mm": Entry(
        f"95th percentile of the distances between the outlines of a slice, mean over {{target}} slices, mm; "
        f"{PATIENTS}.",
        "The best floor; a slice without prediction counts its diagonal.",
        "Distances between slices; false positives on {absent} slices. Not the 3D distance of other papers.",
    ),
    "hd95_slices_px": Entry(
        "The same in pixels, where the distance of pixels is unknown.", "The best floor.", "Size in millimetres."
    ),
    "hd95_mm": Entry(
        "95th percentile of the distances between the surfaces in 3D, mm; mean over patients.",
        "The best floor; without prediction the diagonal of the volume.",
        "Volume; the last 5 % of the distances.",
    ),
    "hd95_px": Entry(
        "The same in voxels, where the distance of voxels is unknown.", "The best floor.", "Size in millimetres."
    ),
    "lesion_dice": Entry(
        "Dice of every {target} in 3D, averaged over these and false regions, which count 0 (BraTS 2023), 0 to 1; mean "
        "over all patients, where a patient without {a_target} and without prediction has 1.",
        "The share of {absent} patients, which floor: nothing reaches.",
        "The size of regions: a pixel counts like a large one.",
    ),
    "fp_volume_ml": Entry(
        "Volume predicted outside the annotation, mL; mean over all patients.",
        "0 for floor: nothing.",
        "Whether it lies next to the {target} or far away.",
    ),
    "fp_area": Entry(
        "Predicted pixels per slice without the {target}; mean over the patients with such slices.",
        "0 for floor: nothing.",
        "False positives next to {a_target}.",
    ),
    "fp_slices": Entry(
        "Share of slices without the {target} that have a predicted pixel, 0 to 1; mean over the patients with such "
        "slices.",
        "0 for floor: nothing, 1 for floor: all tissue.",
        "How much is predicted there.",
    ),
    "healthy_hit": Entry(
        "Share of the patients without {a_target} that have any predicted pixel, 0 to 1.",
        "0 for floor: nothing, 1 for floor: all tissue.",
        "How much is predicted there; patients with {a_target}.",
    ),
}
"""Measure → its entry, with places for the words of a data set (`seewhy.wording`); keys as in `labels.MEASURES`."""
