"""Base class of maps that are read from one forward, without a target: attention and gates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.explain.base import Attribution, Explainer
from seewhy.explain.capture.function_tracer import Modules
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.grid import arrange_by_sample, enlarge
from seewhy.explain.targets import Target

__all__ = ["CoarseMap", "ForwardMap", "make_attribution", "shorten_names"]

UNTARGETED = "the same for every class: it shows where the network looks, not what is evidence for a class"


@dataclass(frozen=True)
class CoarseMap:
    """A coarse map of one input.

    Attributes:
        values: [N, *s], see `seewhy.explain.grid.arrange_by_sample`.
        layer: name of the submodule that it was read from.
        notes: remarks for the reader.
    """

    values: Tensor
    layer: str
    notes: tuple[str, ...] = ()


class ForwardMap(Explainer):
    """A method whose maps are read from one forward and are the same for every target.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`.
    """

    def __init__(self, *, modules: Modules = None) -> None:
        self.modules = modules

    def chosen_parts(self) -> object:
        """See `Explainer.chosen_parts`."""
        return self.modules

    def explain(
        self, subject: ExplainedModel, targets: Sequence[Target]
    ) -> tuple[Tensor, list[Tensor], list[Attribution]]:
        """See `Explainer.explain`; one forward without a graph."""
        with torch.no_grad():
            scores, maps = self.read_maps(subject)
        chosen = [subject.targets(target, scores) for target in targets]
        return scores, chosen, [make_attribution(subject, maps, (UNTARGETED,)) for _ in chosen]

    @abstractmethod
    def read_maps(self, subject: ExplainedModel) -> tuple[Tensor, dict[str, list[CoarseMap]]]:
        """Return scores [B, K], and the coarse maps of each input, which are averaged."""


def make_attribution(
    subject: ExplainedModel, maps: Mapping[str, Sequence[CoarseMap]], notes: tuple[str, ...] = ()
) -> Attribution:
    """Enlarge coarse maps to the size of the inputs and average those of each input."""
    enlarged, layers, all_notes = {}, {}, list(notes)
    for name, coarse_maps in maps.items():
        image = subject.inputs[name]
        total = torch.zeros_like(image[:, 0], dtype=torch.float32)
        for coarse in coarse_maps:
            values, new_notes = arrange_by_sample(coarse.values.float(), image)
            total += enlarge(values, image.shape[2:])
            all_notes += [*coarse.notes, *new_notes]
        enlarged[name] = total / len(coarse_maps)
        layers[name] = ", ".join(dict.fromkeys(coarse.layer for coarse in coarse_maps))
    return Attribution(maps=enlarged, layers=layers, notes=tuple(dict.fromkeys(all_notes)))


def shorten_names(names: Sequence[str]) -> str:
    """Shorten the names of consecutive blocks to the first and the last."""
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
