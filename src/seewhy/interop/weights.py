"""Load weights from files: into an encoder, from files in common layouts, and into a network of any kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from seewhy.errors import CheckpointError
from seewhy.interop.tensors import Mismatch, check_finite_weights, read_tensors
from seewhy.nets.encoders.mit import MIT_VARIANTS, MiT
from seewhy.options import check_choice

__all__ = ["fill_network", "infer_mit_variant", "load_encoder_weights", "load_network", "rename_hugging_face"]

MATCHED_BY = ("name", "position")

HUGGING_FACE_NAMES = (
    (r"^patch_embeddings\.(\d+)\.layer_norm\.", r"patch_embed\1.norm."),
    (r"^patch_embeddings\.(\d+)\.proj\.", r"patch_embed\1.proj."),
    (r"^block\.(\d+)\.(\d+)\.layer_norm_([12])\.", r"block\1.\2.norm\3."),
    (r"^block\.(\d+)\.(\d+)\.attention\.self\.query\.", r"block\1.\2.attn.q."),
    (r"^block\.(\d+)\.(\d+)\.attention\.self\.(key|value)\.", r"block\1.\2.attn.\3."),
    (r"^block\.(\d+)\.(\d+)\.attention\.self\.sr\.", r"block\1.\2.attn.sr."),
    (r"^block\.(\d+)\.(\d+)\.attention\.self\.layer_norm\.", r"block\1.\2.attn.norm."),
    (r"^block\.(\d+)\.(\d+)\.attention\.output\.dense\.", r"block\1.\2.attn.proj."),
    (r"^block\.(\d+)\.(\d+)\.mlp\.dense([12])\.", r"block\1.\2.mlp.fc\3."),
    (r"^block\.(\d+)\.(\d+)\.mlp\.dwconv\.", r"block\1.\2.mlp.dwconv."),
    (r"^layer_norm\.(\d+)\.", r"norm\1."),
)
"""Hugging Face's names of SegFormer's parameters → the published names, with stages still counted from 0."""


def load_encoder_weights(encoder: nn.Module, path: str | Path, *, by: str = "name") -> str:
    """Load pretrained weights into `encoder`, strictly.

    Supported files for a MiT: the published layout (`mit_b1.pth`), Hugging Face's (`segformer.encoder.*`), or a whole
    AFA or SegFormer model, whose encoder is used; for a timm encoder: timm's state dict of the same network; for both:
    the state dict of the encoder, or a checkpoint of seewhy that contains it. Classification heads are dropped. If the
    first convolution has another number of image channels, it is adapted so that an image with equal channels gives
    the same result as before; for one channel its weights are the sum over channels.

    Args:
        encoder: from `build_encoder`, or a backbone that holds its library's network under `net`. Its weights are
            replaced; after an error they are unchanged.
        path: a `.pth`, `.bin` or `.safetensors` file; opened with `weights_only=True`.
        by: `name`, or `position` for a file whose tensors have other names but the order and the shapes of this
            network; only order and shapes are checked then. Tensors after the last one are left out.

    Returns:
        Summary of the loaded tensors in one line.

    Raises:
        CheckpointError: no such file, unsafe to load, or made for another network.
        ConfigError: unknown `by`.
    """
    check_choice(by, MATCHED_BY, "model.weights_by")
    path = Path(path)
    tensors = read_tensors(path)
    # A timm encoder wraps the network under `net`; names in timm's files do not have this prefix.
    wrapped = not isinstance(encoder, MiT) and "net" in dict(encoder.named_children())
    target = encoder.get_submodule("net") if wrapped else encoder
    expected = target.state_dict()
    if by == "position":
        tensors, dropped = _match_by_position(tensors, expected)
        layout = "order-matched"
    elif isinstance(encoder, MiT):
        tensors, dropped, layout = _select_mit_tensors(tensors)
    else:
        tensors, dropped = _select_plain_tensors(tensors, expected)
        layout = "plain"
    tensors, stem = _adapt_stem(tensors, expected)
    mismatch = Mismatch(tensors, expected)
    if mismatch:
        raise CheckpointError(_describe_mismatch(path, encoder, tensors, mismatch))
    check_finite_weights(target, tensors, path)
    target.load_state_dict(tensors, strict=False)
    parts = [f"{len(tensors)} tensors of {path.name} ({layout} layout)", stem]
    parts.append(f"left out {', '.join(dropped)}" if dropped else "")
    return "; ".join(part for part in parts if part)


def infer_mit_variant(tensors: Mapping[str, Tensor]) -> str | None:
    """Find the entry of `MIT_VARIANTS` with the widths and depths of these tensors; None if there is no such entry.

    Args:
        tensors: state dict of an encoder, published names without prefix.
    """
    stems = [tensors.get(f"patch_embed{stage}.proj.weight") for stage in range(1, 5)]
    widths = tuple(stem.shape[0] for stem in stems if stem is not None and stem.dim() == 4)
    depths = tuple(_count_blocks(tensors, stage) for stage in range(1, 5))
    for name, variant in MIT_VARIANTS.items():
        if (variant.widths, variant.depths) == (widths, depths):
            return name
    return None


def rename_hugging_face(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a Hugging Face SegFormer encoder to their published names; keys and values become `kv`.

    Args:
        tensors: names without the prefix `segformer.encoder.`.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, replacement in HUGGING_FACE_NAMES:
            if re.match(pattern, name):
                name = re.sub(pattern, replacement, name)
                break
        # The first number of a name is its stage; published names count stages from 1.
        renamed[re.sub(r"\d+", lambda match: str(int(match.group()) + 1), name, count=1)] = tensor
    for name in [name for name in renamed if ".attn.key." in name]:
        value = name.replace(".attn.key.", ".attn.value.")
        if value in renamed:
            joined = torch.cat([renamed.pop(name), renamed.pop(value)])
            renamed[name.replace(".attn.key.", ".attn.kv.")] = joined
    return renamed


def _select_mit_tensors(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str], str]:
    """Select the encoder's tensors under published names; also first parts of the other names, and the layout."""
    for stem, layout in (("patch_embed1.proj.weight", "published"), ("patch_embeddings.0.proj.weight", "Hugging Face")):
        whole = next((name for name in tensors if name == stem or name.endswith("." + stem)), None)
        if whole is None:
            continue
        prefix = whole.removesuffix(stem)
        inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        kept = {name: tensor for name, tensor in inside.items() if name.split(".")[0] != "head"}
        used = {prefix + name for name in kept}
        dropped = _roots(name for name in tensors if name not in used)
        return (rename_hugging_face(kept) if layout == "Hugging Face" else kept), dropped, layout
    return tensors, [], "unknown"


def _select_plain_tensors(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Select the tensors of the encoder from a plain state dict; also first parts of the other names (heads)."""
    tensors, roots = _select_encoder(tensors, expected), set(_roots(expected))
    # timm's `features_only` networks join the first two parts of some names: stages.0.x is stages_0.x there.
    joined = {name: re.sub(r"\.", "_", name, count=1) for name in tensors}
    renamed = {
        joined[name] if joined[name].split(".")[0] in roots else name: tensor for name, tensor in tensors.items()
    }
    kept = {name: tensor for name, tensor in renamed.items() if name.split(".")[0] in roots}
    return kept, _roots(name for name in renamed if name not in kept)


def _match_by_position(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Rename the file's tensors to the network's names in the same order; also the names that are left over."""
    names = [name for name in tensors if not name.endswith("num_batches_tracked")]
    wanted = [name for name in expected if not name.endswith("num_batches_tracked")]
    renamed = {name: tensors[theirs] for name, theirs in zip(wanted, names, strict=False)}
    return renamed, names[len(wanted) :]


def _select_encoder(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the encoder's tensors from a whole model of seewhy, or all if the names are the encoder's already."""
    if any(name in expected for name in tensors):
        return tensors
    for prefix in ("encoder.net.", "encoder.", "net."):
        inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if inside:
            return inside
    return tensors


def _adapt_stem(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Adapt the first convolution to the encoder's image channels; also a note for the summary."""
    name = next((name for name, tensor in expected.items() if tensor.dim() == 4), None)
    if name is None or name not in tensors or tensors[name].dim() != 4:
        return tensors, ""
    weight, wanted = tensors[name], expected[name].shape
    have, want = weight.shape[1], wanted[1]
    if have == want or (weight.shape[0], *weight.shape[2:]) != (wanted[0], *wanted[2:]):
        return tensors, ""
    shared = (weight.sum(dim=1, keepdim=True) / want).expand(wanted).contiguous()
    return {**tensors, name: shared}, f"first convolution fitted from {have} to {want} image channels"


def _describe_mismatch(path: Path, encoder: nn.Module, tensors: Mapping[str, Tensor], mismatch: Mismatch) -> str:
    seems, remedy = "", "give a file made for this encoder"
    if any(name.startswith("patch_embed1.") for name in tensors):
        variant = infer_mit_variant(tensors)
        seems = f" It seems to be {variant or 'a MiT of an unknown size'}."
        remedy = f"choose encoder.name={variant}, or {remedy}" if variant else remedy
    kind = vars(encoder).get("variant") or vars(encoder).get("name") or type(encoder).__name__
    return f"{path}: weights of another network than {kind}.{seems}\n{mismatch}\n  → {remedy}"


def _count_blocks(tensors: Mapping[str, Tensor], stage: int) -> int:
    return len({name.split(".")[1] for name in tensors if name.startswith(f"block{stage}.")})


def _roots(names: Iterable[str]) -> list[str]:
    """List the first parts of dotted names, each once, in order."""
    return list(dict.fromkeys(name.split(".")[0] for name in names))


WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile add to every name."""
SLOTS = ("network.", "net.", "model.")
"""Prefixes that a LightningModule adds to the names of its network."""


def load_network(network: nn.Module, path: str | Path) -> None:
    """Load a `.pth`, `.pt`, `.ckpt` or `.safetensors` file into a network, in place.

    Raises:
        CheckpointError: no such file, unsafe to load, or of another network.
    """
    fill_network(network, read_tensors(path), where=str(path))


def fill_network(network: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Load tensors into a network strictly, in place.

    The prefixes of wrappers are removed. A name may be missing if another name of the same tensor is given (nnU-Net's
    networks hold each convolution under several names, safetensors keeps one of them).

    Args:
        network: to fill.
        tensors: names → tensors.
        where: origin of the tensors, for messages.

    Raises:
        CheckpointError: names or shapes differ, or weights are not finite.
    """
    expected = network.state_dict()
    state = _strip_prefixes(dict(tensors), expected)
    given = {expected[name].data_ptr() for name in state if name in expected}
    needed = {name: tensor for name, tensor in expected.items() if name in state or tensor.data_ptr() not in given}
    mismatch = Mismatch(state, needed)
    if mismatch:
        text = "; ".join(line.strip() for line in mismatch.describe(count=2).splitlines())
        raise CheckpointError(f"{where}: weights of another network than this {type(network).__name__}: {text}")
    check_finite_weights(network, state, where)
    network.load_state_dict(state, strict=False)


def _strip_prefixes(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip the prefixes of wrappers in any order, and select the contents of a slot if its names fit."""
    while tensors and (prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in tensors)), "")):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if any(name in expected for name in tensors):
        return tensors
    for prefix in SLOTS:
        inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if any(name in expected for name in inside):
            return inside
        if inside and all(name.startswith(WRAPPERS) for name in inside):
            return _strip_prefixes(inside, expected)
    return tensors
