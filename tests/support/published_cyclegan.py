"""The published networks of SA-CycleGAN-2.5D, said again as plain functions of their tensors; their list of keys."""

import math

import torch
from torch.nn import functional as F

CBAM = {
    "channel_attn.fc.1.weight": lambda c: (max(c // 16, 4), c, 1, 1),
    "channel_attn.fc.3.weight": lambda c: (c, max(c // 16, 4), 1, 1),
    "spatial_attn.conv.weight": lambda c: (1, 2, 7, 7),
}


def attention_keys(prefix, channels, reduction):
    narrow = channels // reduction
    keys = {}
    for part, width in (("query", narrow), ("key", narrow), ("value", channels)):
        keys[f"{prefix}.{part}.weight"] = (width, channels, 1, 1)
        keys[f"{prefix}.{part}.bias"] = (width,)
    return {**keys, f"{prefix}.gamma": (1,)}


def cbam_keys(prefix, channels):
    return {f"{prefix}.{name}": shape(channels) for name, shape in CBAM.items()}


def generator_keys(width=64):
    w = width
    keys = {"encoder_initial.slice_conv.1.weight": (w, 12, 7, 7), **cbam_keys("encoder_initial.slice_attention", w)}
    for i, c in enumerate((w, 2 * w)):
        keys[f"encoder.{i}.0.weight"] = (2 * c, c, 3, 3)
        keys.update(cbam_keys(f"encoder.{i}.3", 2 * c))
    for i in range(9):
        keys.update({f"bottleneck.{i}.conv.{n}.weight": (4 * w, 4 * w, 3, 3) for n in (1, 5)})
        name = f"bottleneck.{i}.attention"
        keys.update(attention_keys(name, 4 * w, 8) if i in (3, 4, 5) else cbam_keys(name, 4 * w))
    keys.update(attention_keys("global_attention", 4 * w, 4))
    for i, c in enumerate((4 * w, 2 * w)):
        keys[f"decoder.{i}.0.weight"] = (c, c // 2, 3, 3)
        keys.update(cbam_keys(f"decoder.{i}.3", c // 2))
        keys[f"skip_fuse.{i}.weight"] = (c // 2, c, 1, 1)
    return {**keys, "output.1.weight": (4, w, 7, 7), "output.1.bias": (4,)}


def discriminator_keys(width=64):
    w, keys = width, {}
    for scale in (0, 1):
        prefix = f"discriminators.{scale}.model"
        shapes = {0: (w, 4), 2: (2 * w, w), 5: (4 * w, 2 * w), 9: (8 * w, 4 * w), 12: (1, 8 * w)}
        for n, (out, channels) in shapes.items():
            keys[f"{prefix}.{n}.weight_orig"] = (out, channels, 4, 4)
            keys[f"{prefix}.{n}.weight_u"] = (out,)
            keys[f"{prefix}.{n}.weight_v"] = (channels * 16,)
        keys.update({f"{prefix}.0.bias": (w,), f"{prefix}.12.bias": (1,)})
        keys.update(attention_keys(f"{prefix}.8", 4 * w, 8))
    return keys


def baseline_generator_keys(width=64):
    w = width
    convs = {"initial.0": (w, 12, 7), "down1.conv": (2 * w, w, 3), "down2.conv": (4 * w, 2 * w, 3)}
    for i in range(9):
        convs.update({f"residual_blocks.{i}.conv{n}": (4 * w, 4 * w, 3) for n in (1, 2)})
    keys = {}
    for name, (out, channels, k) in {**convs, "output.0": (4, w, 7)}.items():
        keys.update({f"{name}.weight": (out, channels, k, k), f"{name}.bias": (out,)})
    for n, c in ((1, 4 * w), (2, 2 * w)):
        keys.update({f"up{n}.conv.weight": (c, c // 2, 3, 3), f"up{n}.conv.bias": (c // 2,)})
    return keys


def baseline_discriminator_keys(width=64):
    w, keys = width, {}
    shapes = {"0.block.0": (w, 4), "1.block.0": (2 * w, w), "2.block.0": (4 * w, 2 * w), "3": (8 * w, 4 * w)}
    for scale in (0, 1):
        for n, (out, channels) in {**shapes, "6": (1, 8 * w)}.items():
            name = f"discriminators.{scale}.model.{n}"
            keys[f"{name}.weight_orig"] = (out, channels, 4, 4)
            keys[f"{name}.bias"] = keys[f"{name}.weight_u"] = (out,)
            keys[f"{name}.weight_v"] = (channels * 16,)
    return keys


def tensors(keys, *, seed=0, scale=1.0):
    """Random values of a size that keeps activations alive; gammas beyond 0 and 1; vectors near the singular ones."""
    random = torch.Generator().manual_seed(seed)
    made = {}
    for number, (name, shape) in enumerate(keys.items()):
        one = torch.randn(shape, generator=random)
        if name.endswith("gamma"):
            one = torch.full(shape, 1.5 if number % 2 else -0.6)
        elif len(shape) == 4:
            one = one * scale / math.sqrt(math.prod(shape[1:]))
        made[name] = one
    for name in [name.removesuffix("_orig") for name in made if name.endswith("_orig")]:
        weight, v = made[f"{name}_orig"].flatten(1), made[f"{name}_v"]
        for _ in range(5):
            u = F.normalize(weight @ v, dim=0)
            v = F.normalize(weight.T @ u, dim=0)
        made[f"{name}_u"], made[f"{name}_v"] = u, v
    return made


def whole(*, width=64, baseline=False):
    """`model_state_dict` of a training."""
    nets = {}
    for seed, name in enumerate(("G_A2B", "G_B2A", "D_A", "D_B")):
        if baseline:
            keys = (baseline_generator_keys if name[0] == "G" else baseline_discriminator_keys)(width)
        else:
            keys = (generator_keys if name[0] == "G" else discriminator_keys)(width)
        nets.update({f"{name}.{key}": value for key, value in tensors(keys, seed=seed).items()})
    return nets


def attend(t, name, x):
    q, k, v = (
        F.conv2d(x, t[f"{name}.{p}.weight"], t[f"{name}.{p}.bias"]).flatten(2) for p in ("query", "key", "value")
    )
    logits = (torch.einsum("bdn,bdm->bnm", q, k) / math.sqrt(q.shape[1])).clamp(-50, 50)
    seen = torch.einsum("bnm,bcm->bcn", logits.softmax(-1), v).reshape(x.shape)
    return t[f"{name}.gamma"].clamp(-1, 1) * F.instance_norm(seen) + x


def gate(t, name, x):
    c = F.conv2d(x.mean((2, 3), keepdim=True), t[f"{name}.channel_attn.fc.1.weight"]).relu()
    x = x * F.conv2d(c, t[f"{name}.channel_attn.fc.3.weight"]).sigmoid().clamp(0.01, 1)
    pooled = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)
    return x * F.conv2d(pooled, t[f"{name}.spatial_attn.conv.weight"], padding=3).sigmoid().clamp(0.01, 1)


def reflected(x, pad):
    return F.pad(x, (pad,) * 4, mode="reflect")


def generate(t, stack):
    """The published forward of the SA generator, layer by layer."""
    x = F.instance_norm(F.conv2d(reflected(stack, 3), t["encoder_initial.slice_conv.1.weight"])).relu()
    skips = [gate(t, "encoder_initial.slice_attention", x)]
    for i in (0, 1):
        x = F.conv2d(skips[-1], t[f"encoder.{i}.0.weight"], stride=2, padding=1)
        skips.append(gate(t, f"encoder.{i}.3", F.instance_norm(x).relu()))
    x = skips[-1]
    for i in range(9):
        y = F.instance_norm(F.conv2d(reflected(x, 1), t[f"bottleneck.{i}.conv.1.weight"])).relu()
        y = F.instance_norm(F.conv2d(reflected(y, 1), t[f"bottleneck.{i}.conv.5.weight"]))
        x = x + (attend if i in (3, 4, 5) else gate)(t, f"bottleneck.{i}.attention", y)
    x = attend(t, "global_attention", x)
    for i in (0, 1):
        x = F.conv_transpose2d(x, t[f"decoder.{i}.0.weight"], stride=2, padding=1, output_padding=1)
        x = gate(t, f"decoder.{i}.3", F.instance_norm(x).relu())
        skip = F.conv2d(skips[-(i + 1)], t[f"skip_fuse.{i}.weight"])
        x = x + F.interpolate(skip, size=x.shape[2:], mode="bilinear", align_corners=False)
    return F.conv2d(reflected(x, 3), t["output.1.weight"], t["output.1.bias"]).tanh()


def generate_baseline(t, stack):
    """The published forward of the baseline's generator."""

    def conv(name, x, stride=1, padding=1):
        return F.instance_norm(F.conv2d(x, t[f"{name}.weight"], t[f"{name}.bias"], stride, padding))

    x = conv("initial.0", stack, padding=3).relu()
    x = conv("down2.conv", conv("down1.conv", x, 2).relu(), 2).relu()
    for i in range(9):
        x = x + conv(f"residual_blocks.{i}.conv2", conv(f"residual_blocks.{i}.conv1", x).relu())
    for n in (1, 2):
        x = F.conv_transpose2d(x, t[f"up{n}.conv.weight"], t[f"up{n}.conv.bias"], 2, 1, 1)
        x = F.instance_norm(x).relu()
    return F.conv2d(x, t["output.0.weight"], t["output.0.bias"], padding=3).tanh()


def judge(t, image, *, baseline=False):
    """The published forward of the two discriminators, in evaluation mode."""
    names = ["0.block.0", "1.block.0", "2.block.0", "3", "6"] if baseline else ["0", "2", "5", "9", "12"]
    scores = []
    for scale in (0, 1):
        x, prefix = (F.avg_pool2d(image, 3, 2, 1) if scale else image), f"discriminators.{scale}.model"
        for number, name in enumerate(names):
            name = f"{prefix}.{name}"
            weight = t[f"{name}.weight_orig"]
            sigma = t[f"{name}.weight_u"] @ weight.flatten(1) @ t[f"{name}.weight_v"]
            x = F.conv2d(x, weight / sigma, t.get(f"{name}.bias"), 2 if number < 3 else 1, 1)
            if number in (1, 2, 3):
                x = F.instance_norm(x)
            if number < 4:
                x = F.leaky_relu(x, 0.2)
            if number == 2 and not baseline:
                x = attend(t, f"{prefix}.8", x)
        scores.append(x)
    return scores
