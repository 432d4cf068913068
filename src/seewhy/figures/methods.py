"""What explanation methods are called in print."""

from __future__ import annotations

__all__ = ["method_label"]

LABELS = {
    "grad_cam": "Grad-CAM",
    "grad_cam_pp": "Grad-CAM++",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "xgrad_cam": "XGrad-CAM",
    "eigen_cam": "EigenCAM",
    "score_cam": "ScoreCAM",
    "finer_cam": "FinerCAM",
    "input_x_gradient": "input \N{MULTIPLICATION SIGN} gradient",
    "deep_lift": "DeepLIFT",
    "gradient_shap": "gradient SHAP",
    "noise_tunnel_ig": "noise tunnel (IG)",
    "smooth_grad": "SmoothGrad",
    "var_grad": "VarGrad",
    "attention_relevance": "attention relevance",
    "gates": "CBAM gates",
    "self_attention": "self-attention",
    "control_centre": "floor: centre",
    "control_intensity": "floor: brightness",
    "control_edges": "floor: edges",
    "control_random": "floor: noise",
}
"""Only names that are more than their words with spaces between."""


def method_label(name: str) -> str:
    """A method as it is called, e.g. "Grad-CAM++"; one that is not known here is its name in words."""
    return LABELS.get(name) or name.replace("_", " ")
