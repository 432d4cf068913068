import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.losses.classification import LOSSES, ClassWeights, balanced_weights, build_loss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0], [1.0, -2.0, 0.0]])
LABEL = torch.tensor([0, 2, 1])


def loss_of(name, classes=3, **options):
    return build_loss(num_classes=classes, options={"name": name, **options})


def test_cross_entropy_is_torchs():
    assert torch.allclose(loss_of("cross_entropy")(LOGITS, LABEL), F.cross_entropy(LOGITS, LABEL))
    weights = [1.0, 2.0, 5.0]
    expected = F.cross_entropy(LOGITS, LABEL, weight=torch.tensor(weights))
    assert torch.allclose(loss_of("cross_entropy", class_weights=weights)(LOGITS, LABEL), expected)
    expected = F.cross_entropy(LOGITS, LABEL, label_smoothing=0.2)
    assert torch.allclose(loss_of("cross_entropy", smoothing=0.2)(LOGITS, LABEL), expected)


def test_focal_loss_by_hand():
    # Two equal scores: p = 1/2, so (1 - p)^2 · log 2.
    logits = torch.zeros(1, 2)
    assert float(loss_of("focal", 2)(logits, torch.tensor([1]))) == pytest.approx(0.25 * math.log(2))
    assert torch.allclose(loss_of("focal", gamma=0.0)(LOGITS, LABEL), F.cross_entropy(LOGITS, LABEL))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_has_finite_gradients_where_it_is_certain(gamma):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss_of("focal", 2, gamma=gamma)(logits, torch.tensor([0, 0])).backward()
    assert torch.isfinite(logits.grad).all()


def test_earth_mover_distance_counts_grades():
    # All mass on a wrong grade: one unit of squared CDF difference per grade it lies off.
    sure = 100 * torch.eye(4)
    for off in range(4):
        assert float(loss_of("emd", 4)(sure[off : off + 1], torch.tensor([0]))) == pytest.approx(off, abs=1e-6)
    # Mass spread evenly over three grades with the truth first: (2/3)² + (1/3)².
    assert float(loss_of("emd")(torch.zeros(1, 3), torch.tensor([0]))) == pytest.approx(5 / 9)
    both = loss_of("emd", cross_entropy=0.5)(LOGITS, LABEL)
    assert torch.allclose(both, loss_of("emd")(LOGITS, LABEL) + 0.5 * F.cross_entropy(LOGITS, LABEL))


def test_soft_ordinal_targets():
    target = torch.softmax(-torch.tensor([1.0, 0.0, 1.0]) / 0.5, dim=0)
    logits = target.log()[None]
    entropy = -(target * target.log()).sum()
    # Scores equal to the target's logarithms are its minimum, the target's entropy.
    assert torch.allclose(loss_of("soft_ordinal", width=0.5)(logits, torch.tensor([1])), entropy)
    near, far = torch.tensor([[0.0, 3.0, 0.0]]), torch.tensor([[0.0, 0.0, 3.0]])
    loss = loss_of("soft_ordinal")
    assert loss(near, torch.tensor([0])) < loss(far, torch.tensor([0]))
    narrow = loss_of("soft_ordinal", width=0.01)
    assert torch.allclose(narrow(LOGITS, LABEL), F.cross_entropy(LOGITS, LABEL), atol=1e-6)


def test_binary_loss_is_that_of_two_scores():
    logit, label = torch.tensor([[1.3], [-0.4]]), torch.tensor([1, 1])
    two = torch.cat([torch.zeros_like(logit), logit], dim=1)
    assert torch.allclose(loss_of("binary", 2)(logit, label), F.cross_entropy(two, label))
    with pytest.raises(ConfigError, match="choose cross_entropy"):
        loss_of("binary", 3)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_weights_make_repeated_cases(name):
    """A class of weight 3 counts as if its cases were there three times."""
    classes = 2 if name == "binary" else 3
    logits = LOGITS[:, :1] if name == "binary" else LOGITS
    label = LABEL.clamp(max=classes - 1)
    weights = [1.0, 3.0] if classes == 2 else [1.0, 1.0, 3.0]
    rows = [i for i, k in enumerate(label.tolist()) for _ in range(int(weights[k]))]
    weighted = loss_of(name, classes, class_weights=weights)(logits, label)
    assert torch.allclose(weighted, loss_of(name, classes)(logits[rows], label[rows]))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_are_float32_under_autocast(name):
    classes, logits = (2, LOGITS[:, :1]) if name == "binary" else (3, LOGITS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(name, classes)(logits.bfloat16(), LABEL.clamp(max=classes - 1))
    assert loss.dtype == torch.float32


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=6))
def test_balanced_classes_weigh_the_same_in_all(counts):
    shares = [weight * count for weight, count in zip(balanced_weights(counts), counts, strict=True)]
    assert shares == pytest.approx([sum(counts) / len(counts)] * len(counts))


def test_balancing_names_the_classes_without_cases():
    loss = loss_of("cross_entropy", class_weights="balanced")
    assert loss.weight.tolist() == [1.0, 1.0, 1.0]
    assert loss.balance([4, 0, 2]) == [1]
    assert loss.weight.tolist() == [0.5, 2.0, 1.0]
    with pytest.raises(ConfigError, match="2 classes, the model 3"):
        loss.balance([1, 2])


def test_a_batch_of_weightless_classes_has_no_loss():
    loss = loss_of("cross_entropy", class_weights=[0.0, 1.0, 1.0])
    assert float(loss(LOGITS[:1], torch.tensor([0]))) == 0.0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "crossentropy"}, "nearest: 'cross_entropy'"),
        ({"name": "focal", "gama": 2}, r"model\.loss\.gama` of FocalLoss; .*'gamma'"),
        ({"name": "cross_entropy", "gamma": 2}, r"model\.loss\.gamma` of CrossEntropy"),
        ({"name": "cross_entropy", "smoothing": 1.0}, "within 0 … 1"),
        ({"name": "cross_entropy", "class_weights": [1, 2]}, "expected 3 factors"),
        ({"name": "cross_entropy", "class_weights": "even"}, "null, balanced or a list"),
        ({"name": "soft_ordinal", "width": 0}, "above 0"),
    ],
)
def test_wrong_options_are_told(options, told):
    with pytest.raises(ConfigError, match=told):
        build_loss(num_classes=3, options=options)


def test_null_options_of_other_losses_are_passed_over():
    assert isinstance(loss_of("emd", gamma=None, smoothing=None), ClassWeights)
