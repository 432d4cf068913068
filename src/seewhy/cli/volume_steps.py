"""`python -m seewhy blend LOGITS OUTPUT` and `finalize BLENDED OUTPUT`: the steps after `volume.keep_logits=true`."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Declare both commands and their options."""
    blend = commands.add_parser("blend", help="blend the logits that predict volume.keep_logits=true has stored")
    blend.add_argument("logits", help="volume.output of that prediction")
    blend.add_argument("output", help="zarr store to write: blended logits (float16), or a result with --dtype")
    blend.add_argument("--window", default="gaussian", help="gaussian, nnunet, hann or constant (gaussian)")
    _add_common(blend)
    blend.set_defaults(run=_blend)
    finalize = commands.add_parser("finalize", help="make probabilities or labels of blended logits")
    finalize.add_argument("blended", help="output of `blend`")
    finalize.add_argument("output", help="zarr store to write")
    _add_common(finalize)
    finalize.set_defaults(run=_finalize)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", help="binary, threshold, multiclass or regions (what the prediction was made for)")
    parser.add_argument("--dtype", help="uint8, uint16, float32 or labels (what the prediction was made for)")
    parser.add_argument("--threshold", type=float, help="probability above which a voxel is foreground (as predicted)")
    parser.add_argument("--memory-budget", default="4GB", help="of this process (4GB)")
    parser.add_argument("--num-parts", type=int, default=1, help="processes that share the output (1)")
    parser.add_argument("--part-id", type=int, default=0, help="which of them this is (0)")


def _blend(options: argparse.Namespace) -> int:
    from seewhy.run.volumes.separate_steps import blend_logits

    wished = _head(options)
    head = wished if any(value is not None for value in wished.values()) else None
    blend_logits(options.logits, options.output, window=options.window, head=head, **_shares(options))
    return 0


def _finalize(options: argparse.Namespace) -> int:
    from seewhy.run.volumes.separate_steps import finalize_logits

    finalize_logits(options.blended, options.output, head=_head(options), **_shares(options))
    return 0


def _head(options: argparse.Namespace) -> dict[str, Any]:
    return {"mode": options.mode, "stored": options.dtype, "threshold": options.threshold}


def _shares(options: argparse.Namespace) -> dict[str, Any]:
    from seewhy.errors import ConfigError

    if not 0 <= options.part_id < options.num_parts:
        raise ConfigError(f"--part-id {options.part_id} of {options.num_parts} parts; expected 0 to num_parts - 1")
    return {"memory_budget": options.memory_budget, "part": options.part_id, "parts": options.num_parts}
