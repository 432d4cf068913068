"""Run the members of a benchmark: each phantom with each seed, trained, explained and checked by twins."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from seewhy.errors import ConfigError, SeewhyError
from seewhy.option_types import NonNegativeInt
from seewhy.options import flatten_options, quote_value
from seewhy.run.folder import RunFolder
from seewhy.run.saved_config import read_config_section
from seewhy.run.sweeps.member_state import STATE, MemberState, Sweeper, read_state, read_sweeper_options, write_state
from seewhy.run.sweeps.workers import FileLock
from seewhy.termination import Terminated

__all__ = ["BenchmarkMember", "BenchmarkOptions", "list_members", "run_benchmark"]

LOGGER = logging.getLogger(__name__)

METHODS = "explain.methods"
PARTS = ("seed", "phantom", "data", "model", "trainer", "explain")
"""Parts of a configuration that the results of a member depend on."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options `hydra.sweeper` of a benchmark.

    Attributes:
        experiments: experiments with a phantom whose evidence is known.
        seeds: of the phantom and the training.
        further_methods: files of conf/explainer, or of a `--config-dir`, besides those of the experiments.
    """

    experiments: list[str] = field(default_factory=list)
    seeds: list[NonNegativeInt] = field(default_factory=list)
    further_methods: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class BenchmarkMember:
    """A training of one phantom with one seed.

    Attributes:
        phantom: last part of the experiment's name.
        seed: of phantom and training.
        folder: its run folder.
        words: overrides of its configuration.
        config: the parts of its configuration that the results depend on, as plain data.
    """

    phantom: str
    seed: int
    folder: Path
    words: tuple[str, ...]
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.name

    def is_finished(self) -> bool:
        """Return whether the run folder holds this member, trained and explained with these options.

        Raises:
            ConfigError: it holds a training with other options.
        """
        state = read_state(self.folder)
        if not (self.folder / "config.yaml").is_file():
            return False
        saved, now = flatten_options(_read_config(self.folder)), flatten_options(self.config)
        changed = [key for key in now | saved if now.get(key) != saved.get(key)]
        others = [key for key in changed if not key.startswith("explain.")]
        if others and RunFolder(self.folder).has_checkpoint():
            raise ConfigError(
                f"{self.folder} was trained with {others[0]}={saved.get(others[0])}, now it is {now.get(others[0])}; "
                "choose another hydra.sweep.dir, or delete that folder"
            )
        return not changed and state is not None and state.state == "COMPLETE"


def run_benchmark(sweeper: Sweeper, words: Sequence[str]) -> None:
    """Run the members that are not finished, and write and print the results of all.

    Args:
        sweeper: the plugin that Hydra has built.
        words: of the command line, without options of Hydra.

    Raises:
        ConfigError: impossible options, or a folder that holds other members.
        SeewhyError: members have failed.
    """
    from seewhy.run.benchmark.page import finish_benchmark
    from seewhy.run.benchmark.scores import check_evidence

    options = read_sweeper_options(BenchmarkOptions, sweeper.options)
    members = list_members(options, words, sweeper)
    sweeper.check_members([member.words for member in members])
    folder = members[0].folder.parent
    failed = {}
    with FileLock(folder / ".lock"):  # a second command waits, and then finds everything finished
        left = [member for member in members if not member.is_finished()]
        if len(left) < len(members):
            LOGGER.info("%d of %d members are finished", len(members) - len(left), len(members))
        launcher = sweeper.build_launcher()
        for number, member in enumerate(left):
            LOGGER.info("member %s, %d of %d", member.name, number + 1, len(left))
            state = _run(launcher, member)
            if state.state != "COMPLETE":
                failed[member.name] = state.error
        complete = [member for member in members if member.name not in failed]
        for member in complete:
            check_evidence(member.folder)
        finish_benchmark(folder, complete)
    if failed:
        listed = "; ".join(f"{name} ({error})" for name, error in failed.items())
        raise SeewhyError(f"{len(failed)} members failed: {listed}; the same command runs them again")


def list_members(options: BenchmarkOptions, words: Sequence[str], sweeper: Sweeper) -> list[BenchmarkMember]:
    """List all members with the overrides of their configurations, seed after seed.

    Args:
        options: of the benchmark.
        words: of the command line, which all members get, except the experiment.
        sweeper: its configuration names the folder; its loader composes the members' configurations.

    Raises:
        ConfigError: no experiment, no seed, or two experiments of one name.
    """
    if not options.experiments or not options.seeds:
        raise ConfigError("hydra.sweeper needs experiments and seeds, e.g. hydra.sweeper.seeds=[1,2,3]")
    names = [experiment.rpartition("/")[2] for experiment in options.experiments]
    if len(set(names)) < len(names) or len(set(options.seeds)) < len(options.seeds):
        raise ConfigError("hydra.sweeper.experiments and seeds must each be different")
    taken = [word for word in words if _name_option(word) in ("seed", "ckpt_path")]
    if taken:
        raise ConfigError(f"{taken[0]}: the benchmark sets this itself; choose hydra.sweeper.seeds instead")
    shared = [word for word in words if _name_option(word) != "experiment"]
    folder = Path(str(sweeper.config.hydra.sweep.dir)).absolute()
    members = []
    for experiment, name in zip(options.experiments, names, strict=True):
        # With the sweeper of the benchmark, since Hydra gives members its options too.
        chosen = [f"experiment={experiment}", "hydra/sweeper=benchmark", *shared]
        if options.further_methods:
            own_methods = _compose(chosen, folder, sweeper)["explain"]["methods"]
            methods = [*own_methods, *options.further_methods]
            chosen = [word for word in chosen if _name_option(word) != METHODS]
            chosen.append(f"{METHODS}=[{','.join(dict.fromkeys(methods))}]")
        for seed in options.seeds:
            own, place = (*chosen, f"seed={seed}"), folder / f"{name}_{seed}"
            members.append(BenchmarkMember(name, seed, place, own, _compose(own, place, sweeper)))
    return sorted(members, key=lambda member: options.seeds.index(member.seed))


def _compose(words: Sequence[str], folder: Path, sweeper: Sweeper) -> dict[str, Any]:
    """Compose a member's configuration; return the parts that its results depend on, as they are saved."""
    loader, master = sweeper.hydra_context.config_loader, sweeper.config
    composed = loader.load_sweep_config(master, [*words, f"paths.output_dir={quote_value(str(folder))}"])
    nodes = {part: composed[part] for part in PARTS}
    plain: dict[str, Any] = {
        part: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        for part, node in nodes.items()
    }
    plain["data"]["root"] = str(Path(plain["data"]["root"]).absolute())
    return plain


def _read_config(folder: Path) -> dict[str, Any]:
    """Read the same parts of a run's `config.yaml`.

    Raises:
        ConfigError: it is not the record of a run.
    """
    config = read_config_section(folder / "config.yaml")
    return {part: config.get(part) for part in PARTS}


def _run(launcher: Launcher, member: BenchmarkMember) -> MemberState:
    """Train and explain a member, from its checkpoint if it has one."""
    (member.folder / STATE).unlink(missing_ok=True)
    words = [
        *member.words,
        "hydra.mode=MULTIRUN",
        f"hydra.sweep.dir={quote_value(str(member.folder.parent))}",
        f"hydra.sweep.subdir={quote_value(member.name)}",
    ]
    if RunFolder(member.folder).has_checkpoint():
        words.append("ckpt_path=last")
    try:
        jobs = launcher.launch([words], initial_job_idx=0)
    except Terminated:
        raise Terminated("the same command continues the benchmark") from None
    state = read_state(member.folder)
    if state is None:  # it ended before Hydra could call its callbacks
        state = MemberState("FAIL", error=f"it ended without a result ({jobs[0].status.name.lower()})")
        write_state(member.folder, state)
    return state


def _name_option(word: str) -> str:
    """Return the option that an override is of."""
    return word.lstrip("+~").partition("=")[0].strip()
