"""Maps that a forward alone shows, without a target: the frame that attention and gates share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.explain.base import Attribution, Explainer
from seewhy.explain.capture.function_tracer import Modules
from seewhy.explain.explained_model import ExplainedModel, Target
from seewhy.explain.grid import arrange_by_sample, enlarge

__all__ = ["CoarseMap", "ForwardMap", "make_attribution", "shorten_names"]

UNTARGETED = "the same for every class: it shows where the network looks, not what speaks for a class"


@dataclass(frozen=True)
class CoarseMap:
    """A coarse map of one input.

    Attributes:
        coarse: [N, *s] as `seewhy.explain.grid.place` takes them.
        layer: where it was read.
        notes: what a reader must know.
    """

    coarse: Tensor
    layer: str
    notes: tuple[str, ...] = ()


class ForwardMap(Explainer):
    """A method whose maps are read off one forward, the same for every target.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`.
    """

    def __init__(self, *, modules: Modules = None) -> None:
        self.modules = modules

    def explain(
        self, subject: ExplainedModel, targets: Sequence[Target]
    ) -> tuple[Tensor, list[Tensor], list[Attribution]]:
        """See `Explainer.explain`; one forward without a graph."""
        with torch.no_grad():
            scores, looks = self.look(subject)
        chosen = [subject.targets(target, scores) for target in targets]
        return scores, chosen, [make_attribution(subject, looks, (UNTARGETED,)) for _ in chosen]

    @abstractmethod
    def look(self, subject: ExplainedModel) -> tuple[Tensor, dict[str, list[CoarseMap]]]:
        """Scores [B, K], and coarse maps of each input; of several the mean is taken."""


def make_attribution(
    subject: ExplainedModel, looks: Mapping[str, Sequence[CoarseMap]], notes: tuple[str, ...] = ()
) -> Attribution:
    """Coarse maps at the inputs' size."""
    maps, layers, said = {}, {}, list(notes)
    for name, several in looks.items():
        image = subject.inputs[name]
        total = torch.zeros_like(image[:, 0], dtype=torch.float32)
        for one in several:
            coarse, noted = arrange_by_sample(one.coarse.float(), image)
            total += enlarge(coarse, image.shape[2:])
            said += [*one.notes, *noted]
        maps[name] = total / len(several)
        layers[name] = ", ".join(dict.fromkeys(one.layer for one in several))
    return Attribution(maps=maps, layers=layers, notes=tuple(dict.fromkeys(said)))


def shorten_names(names: Sequence[str]) -> str:
    """Names of blocks that follow each other, in short."""
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
