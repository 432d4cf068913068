import pytest

from seewhy.errors import ConfigError
from seewhy.models.base import learning_rate_factor
from seewhy.models.weakly_supervised.segmentation import Phase, Phases
from seewhy.nets.cam import MultiScaleCAM
from seewhy.options import call_with_options


def settled(total=1000, **borders):
    phases = Phases(**borders)
    phases.settle(lambda: total)
    return phases


def test_borders_as_steps():
    phases = settled(cam_iters=2000, walk_iters=6000)
    assert [phases.at(step) for step in (0, 1999, 2000, 5999, 6000)] == [0, 0, 1, 1, 2]


def test_borders_as_shares_of_all_steps():
    phases = settled(total=20000, cam_iters=0.1, walk_iters=0.3)
    assert [phases.at(step) for step in (0, 1999, 2000, 5999, 6000)] == [0, 0, 1, 1, 2]


def test_one_is_a_step_and_one_point_zero_the_end():
    assert settled(cam_iters=1, walk_iters=None).at(1) == Phase.CAM_LABELS
    assert settled(cam_iters=1.0, walk_iters=None).at(999) == Phase.CLASSIFICATION


def test_none_is_never_and_needs_no_total():
    phases = Phases(cam_iters=5, walk_iters=None)
    phases.settle(lambda: pytest.fail("nothing asks for the number of steps"))
    assert phases.at(10**9) == Phase.CAM_LABELS


@pytest.mark.parametrize("border", [-1, -0.5, 1.5])
def test_impossible_borders_are_refused(border):
    with pytest.raises(ConfigError, match="cam_iters"):
        Phases(cam_iters=border, walk_iters=None)


def test_walk_before_cam_is_refused():
    with pytest.raises(ConfigError, match=r"walk_iters=100 .* lies before .*cam_iters=0.5 \(step 500"):
        settled(cam_iters=0.5, walk_iters=100)


def test_published_learning_rate_at_its_corners():
    schedule = {"name": "poly", "total": 20000, "warmup": 1500, "warmup_ratio": 1e-6, "power": 1.0}
    assert learning_rate_factor(0, **schedule) == 1e-6
    assert learning_rate_factor(1500, **schedule) == pytest.approx(1 - 1500 / 20000)
    assert learning_rate_factor(20000, **schedule) == 0.0


def test_every_mistyped_option_is_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        call_with_options(MultiScaleCAM, {"scale": [1], "normalise": "sigmoid"}, "model.cam")
    assert "`model.cam.scale` of MultiScaleCAM; nearest: 'scales'" in str(caught.value)
    assert "`model.cam.normalise` of MultiScaleCAM; nearest: 'normalize'" in str(caught.value)
