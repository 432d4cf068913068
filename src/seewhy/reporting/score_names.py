"""Scores of maps: their printed names, meanings and directions."""

from __future__ import annotations

from seewhy.explain.judging.measures.registry import MEASURES
from seewhy.metrics.map_ranking import HIGHER

__all__ = ["CHANCE", "DESCRIBED", "DIRECTIONS", "LIKE_ENERGY", "MEANINGS", "NAMES", "SECONDS"]

MEASURED = {column: known for measure in MEASURES.values() for column, known in measure.columns.items()}
"""Column of `explain.metrics` → printed name, and whether higher is better; None where it does not rank methods."""
NAMES = {
    "pointing": "pointing game",
    "energy": "energy inside the mask",
    "auprc": "AUPRC",
    "iou": "IoU at the validation's threshold",
    "deletion_gap": "deletion, gap to random order",
    "insertion_gap": "insertion, gap to random order",
    "deletion_gap_blurred": "deletion, gap to blurred noise",
    "insertion_gap_blurred": "insertion, gap to blurred noise",
    "deletion_gap_tuned": "deletion by the tuned copy, gap to random order",
    "insertion_gap_tuned": "insertion by the tuned copy, gap to random order",
    "deletion_gap_blurred_tuned": "deletion by the tuned copy, gap to blurred noise",
    "insertion_gap_blurred_tuned": "insertion by the tuned copy, gap to blurred noise",
    "stability_noise": "stability under noise",
    "effect_agreement": "agreement with left-out inputs",
} | {column: name for column, (name, _) in MEASURED.items()}
"""Printed name of each score."""
MEANINGS = {
    "pointing": "share of samples whose highest point lies inside the annotation",
    "energy": "share of the evidence that lies inside the annotation",
    "auprc": "how well the map's values sort points inside the annotation before all others",
    "iou": "overlap of map and annotation, above a threshold tuned on validation samples",
    "deletion_gap": "how much faster the probability falls when the strongest points are removed first",
    "insertion_gap": "how much faster the probability rises when the strongest points are shown first",
    "deletion_gap_blurred": "the same as deletion, next to noise that is as smooth as the map",
    "insertion_gap_blurred": "the same as insertion, next to noise that is as smooth as the map",
    "stability_noise": "rank correlation with the map of a slightly noisy image",
    "effect_agreement": "rank correlation of the inputs' shares with the fall of the probability without each",
    "deletion_gap_tuned": "deletion as a copy of the network sees it that was tuned on masked images",
    "insertion_gap_tuned": "insertion as that copy sees it",
    "deletion_gap_blurred_tuned": "the same as deletion by the copy, next to noise that is as smooth as the map",
    "insertion_gap_blurred_tuned": "the same as insertion by the copy, next to noise that is as smooth as the map",
    "infidelity_scaled": "error of the score changes that the map predicts: 0 is exact, 1 knows nothing",
    "monotonicity": "whether the score never falls while points return, least important first",
    "sensitivity_n": "correlation of the evidence in random subsets with the fall of the score without them",
    "selectivity": "mean probability while regions are removed, most important first",
    "region_perturbation": "mean fall of the probability while regions are removed, most important first",
    "sufficiency": "share of the samples with a similar map that have the same predicted class",
    "sufficient_share": "smallest share of the image from which on the predicted class is kept",
    "max_sensitivity": "largest relative change of the map under small noise",
    "top_k_intersection": "share of the 1000 highest points that lie inside the annotation",
    "relevance_rank_accuracy": "the same, for as many points as the annotation has",
}
"""Meaning of each score that ranks methods, in a few words."""
CHANCE = ("pointing", "energy", "auprc")
"""Scores whose chance level is the mask's share of the area; re-initialised networks are scored by them too."""
DIRECTIONS = HIGHER | {column: higher for column, (_, higher) in MEASURED.items() if higher is not None}
DESCRIBED = {column: True for column, (_, higher) in MEASURED.items() if higher is None}
LIKE_ENERGY = (*CHANCE, "top_k_intersection", "relevance_rank_accuracy")
SECONDS = "seconds per map"
