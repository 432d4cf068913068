"""Model folders from the Hugging Face hub, kept in its cache."""

from __future__ import annotations

from pathlib import Path

from seewhy.errors import CheckpointError

__all__ = ["SCHEME", "fetch_folder"]

SCHEME = "hf://"
PATTERNS = ("*.json", "*.pth", "*.safetensors")
"""Files that a model folder needs; nothing else is fetched."""


def fetch_folder(address: str) -> Path:
    """Fetch a model folder, or find it in the cache when there is no network.

    Args:
        address: `hf://org/model`, with `@revision` to pin it and `/sub/folder` to go into it.

    Returns:
        The folder in the hub's cache.

    Raises:
        CheckpointError: no such address, no access, no network and nothing cached, or the package is missing.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(f"{address}: {error}; pip install 'seewhy[nnunet]'") from error
    plain, _, pinned = address.removeprefix(SCHEME).partition("@")
    revision, _, after = pinned.partition("/")
    parts = [part for part in (*plain.split("/"), *after.split("/")) if part]
    if len(parts) < 2 or ".." in parts:
        raise CheckpointError(
            f"{address} is no address of a model; expected hf://org/model, or hf://org/model@revision"
        )
    repository, inside = "/".join(parts[:2]), parts[2:]
    patterns = ["/".join([*inside, pattern]) for pattern in PATTERNS]
    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=patterns)
    except Exception as error:  # the hub's own, its HTTP library's, and the system's
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{address} cannot be fetched and is not cached ({type(error).__name__}: {reason}); "
            "copy the folder here and give its path"
        ) from error
    return Path(folder).joinpath(*inside)
