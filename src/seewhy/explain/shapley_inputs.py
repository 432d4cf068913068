"""Exact Shapley values of the inputs of a module, or of the channels of its only input."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import factorial
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.base import Attribution
from seewhy.explain.baseline import Baseline, check_baseline, describe_baseline, make_baseline
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer
from seewhy.explain.judging.input_effects import PRESENT
from seewhy.explain.maps import Contributions, compute_completeness_error
from seewhy.option_types import MemorySize
from seewhy.options import check_choice

__all__ = ["ShapleyInputs"]

Players: TypeAlias = Literal["auto", "inputs", "channels"]
MOST = 10
"""Largest number of players, 1,024 forwards for each sample."""


class ShapleyInputs(GradientExplainer):
    """Exact Shapley values of whole inputs or channels (Shapley 1953), with pairwise interactions (Grabisch 1999).

    The score of every subset is computed, 2^n forwards for n players (one more measures the memory of a row once), so
    nothing is sampled: the values sum to the
    score with everything minus the score with nothing. Two inputs that carry the same get half of it each, where
    leaving out one of them changes nothing. The map of an input is its value, spread evenly over its pixels.

    If the module takes `present` [B, inputs], absent inputs are marked as missing there and replaced by zeros, as in
    training; otherwise, and for channels, they are replaced by a baseline.

    Args:
        players: `inputs`; `channels` of the only input; or `auto`: inputs if there are several, else channels.
        absent: value of absent inputs of modules that do not take `present`, and of absent channels.
        memory_budget: memory limit of the rows of one chunk.

    Raises:
        ConfigError: an unknown option, more than 10 players, or channels of several inputs.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ShapleyInputs
        >>> class Either(nn.Module):
        ...     def forward(self, left, right):
        ...         return torch.maximum(left.amax((1, 2, 3)), right.amax((1, 2, 3)))[:, None]
        >>> eyes = {"left": torch.ones(1, 1, 2, 2), "right": torch.ones(1, 1, 2, 2)}
        >>> found = ShapleyInputs(absent="zero")(Either(), eyes, target=1).contributions
        >>> found.shares()
        {'left': tensor([0.5000]), 'right': tensor([0.5000])}
        >>> found.left_out, found.interactions
        ({'left': tensor([0.]), 'right': tensor([0.])}, {'left x right': tensor([-1.])})
    """

    method = "shapley_inputs"

    def __init__(
        self, *, players: Players = "auto", absent: Baseline = "mean", memory_budget: MemorySize = "1GiB"
    ) -> None:
        super().__init__(memory_budget=memory_budget)
        check_choice(players, get_args(Players), "players")
        self.players, self.absent = players, check_baseline(absent)
        self.baseline = f"{describe_baseline(absent)}; inputs that a module takes as missing: missing"

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`."""
        names = self._name_players(subject)
        subsets = torch.tensor([[bool(code >> k & 1) for k in range(len(names))] for code in range(2 ** len(names))])
        marked = _is_marked(subject) and names == list(subject.inputs)
        columns = self._score_subsets(subject, subsets.to(scores.device), marked, scores)
        removal = "absent" if marked else describe_baseline(self.absent)
        results = []
        for target in targets:
            games = [subject.target_scores(column, target).double() for column in columns]
            found = _solve(torch.stack(games), names, removal)
            maps = self._spread_values(subject, found)
            error = compute_completeness_error(maps, games[-1], games[0])
            notes = (f"Shapley values of {len(names)} {self._kind(subject)}, absent: {removal}",)
            results.append(Attribution(maps=maps, completeness=error, contributions=found, notes=notes))
        return results

    def _kind(self, subject: ExplainedModel) -> str:
        """Resolve `auto`."""
        return self.players if self.players != "auto" else "inputs" if len(subject.inputs) > 1 else "channels"

    def _name_players(self, subject: ExplainedModel) -> list[str]:
        names = list(subject.inputs)
        if self._kind(subject) == "channels":
            if len(names) > 1:
                raise ConfigError(
                    f"shapley_inputs: players=channels needs one input, not {', '.join(names)}; use inputs"
                )
            names = [f"{names[0]} {channel}" for channel in range(subject.inputs[names[0]].shape[1])]
        if len(names) > MOST:
            raise ConfigError(
                f"shapley_inputs: {len(names)} {self._kind(subject)} need 2^{len(names)} forwards; at most {MOST}"
            )
        return names

    @torch.no_grad()
    def _score_subsets(self, subject: ExplainedModel, subsets: Tensor, marked: bool, scores: Tensor) -> list[Tensor]:
        """Compute scores [B, K] for each subset of players; those of the last, all players, are known."""
        absent = {
            name: make_baseline(image, "zero" if marked else self.absent) for name, image in subject.inputs.items()
        }
        batch, by_channel = subject.batch, self._kind(subject) == "channels"
        pairs = torch.arange((len(subsets) - 1) * batch, device=scores.device)
        parts = []
        for part in pairs.split(self.budget.forward_rows(subject)):
            rows, kept = part % batch, subsets[part // batch]
            images = {}
            for place, (name, image) in enumerate(subject.inputs.items()):
                keep = kept if by_channel else kept[:, place : place + 1]
                keep = keep.reshape(*keep.shape, *[1] * (image.ndim - 2))
                images[name] = torch.where(keep, image[rows], absent[name][rows])
            changed = subject.changed(images, rows)
            if marked:
                changed.constants[PRESENT] = changed.constants[PRESENT].bool() & kept
            parts.append(changed.scores(images))
        return [*torch.cat(parts).split(batch), scores]

    def _spread_values(self, subject: ExplainedModel, found: Contributions) -> dict[str, Tensor]:
        """Spread the values of an input evenly over its pixels, [B, *spatial] float32."""
        maps = {}
        for name, image in subject.inputs.items():
            value = found.values[name] if name in found.values else torch.stack(list(found.values.values())).sum(dim=0)
            flat = image[:, 0]
            maps[name] = (value / flat[0].numel()).float().reshape(-1, *[1] * (flat.ndim - 1)).expand_as(flat).clone()
        return maps


def _is_marked(subject: ExplainedModel) -> bool:
    """Return whether the module gets a mask of the inputs that are present."""
    present = subject.constants.get(PRESENT)
    return present is not None and present.shape == (subject.batch, len(subject.inputs))


def _solve(games: Tensor, names: Sequence[str], removal: str) -> Contributions:
    """Compute values and interactions from the scores of all subsets.

    Args:
        games: [2^n, B] float64; bit k of the row's number says whether player k takes part.
        names: of the n players.
        removal: see `Contributions`.
    """
    count, everything = len(names), len(games) - 1

    def mean_change(players: Sequence[int]) -> Tensor:
        """Average the (mixed) difference by the players over subsets of the others; all sizes weigh the same."""
        own, left = sum(1 << k for k in players), count - len(players)
        total = torch.zeros_like(games[0])
        for subset in (code for code in range(len(games)) if not code & own):
            size = subset.bit_count()
            weight = factorial(size) * factorial(left - size) / factorial(left + 1)
            change = games[subset | own] + (-1) ** len(players) * games[subset]
            if len(players) == 2:
                change = change - sum(games[subset | 1 << k] for k in players)
            total += weight * change
        return total

    pairs = {f"{names[i]} x {names[j]}": mean_change((i, j)) for i, j in combinations(range(count), 2)}
    return Contributions(
        values={name: mean_change((k,)).float() for k, name in enumerate(names)},
        left_out={name: (games[everything] - games[everything ^ 1 << k]).float() for k, name in enumerate(names)},
        interactions={name: value.float() for name, value in pairs.items()},
        total=(games[everything] - games[0]).float(),
        removal=removal,
    )
