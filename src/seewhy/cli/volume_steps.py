"""Commands `blend LOGITS OUTPUT` and `finalize BLENDED OUTPUT`, the steps after `volume.job.keep_logits=true`."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Declare both commands and their options."""
    blend = commands.add_parser("blend", help="blend the logits stored by predict volume.job.keep_logits=true")
    blend.add_argument("logits", help="volume.output of that prediction")
    blend.add_argument(
        "output",
        help="zarr store of blended logits (float16), or with --dtype a result (zarr, .nii.gz, .nrrd, .mha)",
    )
    blend.add_argument("--window", default="gaussian", help="gaussian, nnunet, hann or constant (gaussian)")
    blend.add_argument(
        "--sigma-scale", type=float, default=8.0, help="side of a patch in standard deviations of gaussian, nnunet (8)"
    )
    blend.add_argument("--delete-logits", action="store_true", help="delete LOGITS once OUTPUT is complete")
    _add_common(blend)
    blend.set_defaults(run=_blend)
    finalize = commands.add_parser("finalize", help="make probabilities or labels of blended logits")
    finalize.add_argument("blended", help="output of `blend`")
    finalize.add_argument("output", help="zarr store to write, or .nii.gz, .nrrd, .mha")
    finalize.add_argument("--delete-blended", action="store_true", help="delete BLENDED once OUTPUT is complete")
    _add_common(finalize)
    finalize.set_defaults(run=_finalize)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", help="binary, threshold, multiclass or regions (as in the prediction)")
    parser.add_argument("--dtype", help="uint8, uint16, float32 or labels (as in the prediction)")
    parser.add_argument("--threshold", type=float, help="probability above which a voxel is foreground (as predicted)")
    parser.add_argument("--chunk", type=_read_triple, help="voxels of a chunk, Z,Y,X (as in the prediction)")
    parser.add_argument("--memory-budget", default="4GB", help="of this process (4GB)")
    parser.add_argument("--num-parts", type=int, default=1, help="processes that are expected to share the output (1)")
    parser.add_argument("--part-id", type=int, default=0, help="place among them at which this one starts (0)")


def _read_triple(text: str) -> list[int]:
    """Three whole numbers, separated by commas."""
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected three whole numbers, e.g. 64,64,64") from None
    return [z, y, x]


def _blend(options: argparse.Namespace) -> int:
    from seewhy.run.volumes.separate_steps import blend_logits

    changes = _format_changes(options)
    output_format = changes if any(value is not None for value in changes.values()) else None
    blend_logits(
        options.logits, options.output, window=options.window, sigma_scale=options.sigma_scale,
        output_format=output_format, delete_input=options.delete_logits, **_job_options(options),
    )  # fmt: skip
    return 0


def _finalize(options: argparse.Namespace) -> int:
    from seewhy.run.volumes.separate_steps import finalize_logits

    finalize_logits(
        options.blended, options.output, output_format=_format_changes(options), delete_input=options.delete_blended,
        **_job_options(options),
    )  # fmt: skip
    return 0


def _format_changes(options: argparse.Namespace) -> dict[str, Any]:
    return {"mode": options.mode, "stored": options.dtype, "threshold": options.threshold}


def _job_options(options: argparse.Namespace) -> dict[str, Any]:
    from seewhy.errors import ConfigError

    if not 0 <= options.part_id < options.num_parts:
        raise ConfigError(f"--part-id {options.part_id} of {options.num_parts} parts; expected 0 to num_parts - 1")
    step = {"memory_budget": options.memory_budget, "part": options.part_id, "parts": options.num_parts}
    return {"chunk": options.chunk, **step}
