"""The 2.5D CycleGAN: sizes, losses that count, layouts that close cycles, what it gives for a subject."""

import pytest
import torch
from tiny_cyclegan import OPTIONS, SIDE, Batches, M, pairs, subject, tiny, trainer_for
from torch import nn

from seewhy.errors import ConfigError
from seewhy.models.translation.cyclegan_25d import CycleGAN25D
from seewhy.nets.generators.base import centre_slice, cut_windows, repeat_slice

WEIGHTS = {"adversarial": 1.0, "cycle": 10.0, "identity": 5.0, "ssim": 1.0, "gradient": 1.0, "nce": 1.0}
NCE = {"dim": 8, "patches": 16}


@pytest.mark.parametrize(("name", "attention", "parameters"), [("sa", True, 35_096_836), ("plain", False, 33_882_124)])
def test_the_published_sizes(name, attention, parameters):
    with torch.device("meta"):
        model = CycleGAN25D(
            optimizer=OPTIONS["optimizer"],
            scheduler=OPTIONS["scheduler"],
            generator={"name": name},
            discriminator={"attention": attention},
        )
    assert model.count_parameters() == parameters


def gradients(weights, batch, **options):
    model = tiny(losses={"weights": weights}, nce=NCE, **options)
    torch.manual_seed(1)  # of the places that PatchNCE looks at
    sides = {domain: model.step.side(own) for domain, own in batch.items()}
    model.step.generator_losses(sides).total.backward()
    parameters = model.generators.parameters()
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters])


@pytest.mark.parametrize("cycle", ["neighbours", "repeat"])
@pytest.mark.parametrize("term", WEIGHTS)
def test_every_weight_changes_what_generators_learn_in_proportion(term, cycle):
    batch = pairs(1, full=False)
    alone = gradients({term: 1.0}, batch, cycle=cycle)
    assert alone.abs().max() > 0
    whole = gradients(WEIGHTS, batch, cycle=cycle)
    more = gradients({**WEIGHTS, term: WEIGHTS[term] + 2.0}, batch, cycle=cycle)
    scale = whole.abs().max()
    torch.testing.assert_close((more - whole) / scale, 2 * alone / scale, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("term", ["adversarial", "identity", "nce"])
def test_every_weight_of_one_direction_counts(term):
    options = {"directions": "a2b", "generator": {**OPTIONS["generator"], "output": "tanh"}}
    weights = {"adversarial": 1.0, "identity": 1.0, "nce": 1.0}
    batch = pairs(1, slices=3)
    whole, less = (gradients({**weights, term: value}, batch, **options) for value in (1.0, 0.0))
    assert (whole - less).abs().max() > 1e-5 * whole.abs().max()


def test_images_that_should_stay_count_in_nce_where_asked():
    batch, weights, options = pairs(1, slices=3), {"nce": 1.0}, {"directions": "b2a"}
    model = tiny(losses={"weights": weights}, nce={**NCE, "identity": True}, **options)
    sides = {domain: model.step.side(own) for domain, own in batch.items()}
    made, kept = model.step._translate("b2a", sides)
    queries, keys = model.step._patches("b2a", sides, made, kept)
    assert len(queries) == len(keys) == 10
    torch.testing.assert_close(kept, model.translate(sides["a"].stack, domain="b"))
    assert keys[9].shape == queries[9].shape


class Centre(nn.Module):
    """A generator that gives back the centre slice, and remembers stacks."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, stack):
        self.seen.append(stack)
        return centre_slice(stack, M)


@pytest.mark.parametrize("cycle", ["neighbours", "repeat"])
def test_the_way_back_gets_stacks_laid_out_as_real_ones(cycle):
    """With generators that change nothing, what goes back is the very stack of real neighbours, channel by channel."""
    model, batch = tiny(cycle=cycle, losses={"weights": {"cycle": 1.0}}), pairs(2)
    if cycle == "repeat":
        for own in batch.values():
            own["image"] = repeat_slice(centre_slice(own["image"], M), 5)
    for name in model.generators:
        model.generators[name] = Centre()
    sides = {domain: model.step.side(own) for domain, own in batch.items()}
    losses = model.step.generator_losses(sides)
    for domain, back in (("a", "b2a"), ("b", "a2b")):
        assert torch.equal(sides[domain].stack, batch[domain]["image"][:, M : 4 * M])
        assert torch.equal(model.generators[back].seen[1], sides[domain].stack)
    assert float(losses.total) == 0.0
    model = tiny(cycle="repeat", legacy_layout=True)
    fake = torch.rand(1, M, SIDE, SIDE)
    assert torch.equal(model.step.stack_back(fake), repeat_slice(fake, 3, legacy_layout=True))


def test_neighbours_are_translated_from_their_own_stacks():
    model, batch = tiny(losses={"weights": {"cycle": 1.0}}), pairs(2)
    sides = {domain: model.step.side(own) for domain, own in batch.items()}
    made, _ = model.step._translate("a2b", sides)
    stack = model.step.stack_back(made)
    for place in range(3):
        own = batch["a"]["image"][:, place * M : (place + 3) * M]
        expected = model.generators["a2b"](own)
        torch.testing.assert_close(stack[:, place * M : (place + 1) * M], expected)
    torch.testing.assert_close(model.step._centre(made), centre_slice(stack, M))


def test_shared_passes_give_what_single_ones_give():
    model, batch = tiny(losses={"weights": WEIGHTS}, nce=NCE), pairs(2, full=False)
    step, sides = model.step.__class__, {domain: model.step.side(own) for domain, own in batch.items()}
    assert step is type(model.step)
    made, kept = model.step._translate("a2b", sides)
    torch.testing.assert_close(made, model.step.generate("a2b", sides["a"].windows, sides["a"].inside))
    torch.testing.assert_close(kept, model.step.generate("a2b", sides["b"].stack, sides["b"].body))
    model.discriminators.eval()
    fakes = {"a": torch.rand_like(sides["a"].real)}
    expected = model.loss.adversarial.discriminator(
        model.step.judge("a", sides["a"].real), model.step.judge("a", fakes["a"])
    )
    torch.testing.assert_close(model.step.discriminator_losses(sides, fakes)["a"], expected)


def test_background_stays_background():
    model, batch = tiny(losses={"weights": WEIGHTS}, nce=NCE), pairs(2, full=False)
    seen = []
    for judge in model.discriminators.values():
        judge.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    sides = {domain: model.step.side(own) for domain, own in batch.items()}
    made = model.step.generator_losses(sides)
    assert (made.fakes["b"][..., :4] == -1).all()
    assert (made.fakes["a"][..., :6] == -1).all()
    assert (made.fakes["b"][..., 4] != -1).any()
    assert torch.equal(seen[0], made.fakes["b"])
    assert not made.fakes["b"].requires_grad


def test_the_other_domains_discriminator_judges(tmp_path):
    model = tiny(losses={"weights": {"adversarial": 1.0}})
    seen = {name: [] for name in "ab"}
    for name, judge in model.discriminators.items():
        judge.register_forward_pre_hook(lambda _, given, name=name: seen[name].append(given[0].detach()))
    batch = pairs(2)
    trainer_for(tmp_path).fit(model, Batches([batch]))
    for name in "ab":
        fake, both = seen[name]
        assert torch.equal(both[2:], fake)  # an empty history gives new ones back
        assert torch.equal(both[:2], batch[name]["image"][:, 2 * M : 3 * M])


def test_a_subject_is_translated_and_taken_back():
    model, batch = tiny(slice_batch=2), subject("a", slices=5)
    with torch.no_grad():
        prediction = model.eval().predict_step(batch)
        whole = tiny(slice_batch=100).eval().predict_step(batch)
    assert set(prediction) == {"id", "patient", "index", "source", "domain", "translated", "reconstructed"}
    assert prediction["domain"] == ["a"] * 5
    outside = ~batch["body"][:, None].expand(-1, M, -1, -1)
    for name in ("translated", "reconstructed"):
        made = prediction[name]
        assert made.shape == (5, M, SIDE, SIDE)
        assert made.dtype == torch.float32
        assert made.abs().max() <= 1
        assert (made[outside] == -1).all()
        torch.testing.assert_close(made, whole[name])
    empty = torch.full((1, M, SIDE, SIDE), -1.0)  # as neighbours beyond the tissue are in training
    padded = torch.cat([empty, prediction["translated"], empty])
    stacks = torch.cat([padded[:-2], padded[1:-1], padded[2:]], dim=1)
    torch.testing.assert_close(model.translate(stacks, domain="b", body=batch["body"]), prediction["reconstructed"])


def test_imported_layouts_and_ranges_are_converted_in_the_networks():
    options = {**OPTIONS["generator"], "output": "sigmoid"}
    ours, theirs = tiny(generator=options), tiny(generator={**options, "value_range": "unit"})
    net = theirs.generators["a2b"]
    seen = []
    net.encoder_initial.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    stack = subject("a")["image"]
    made = theirs.translate(stack, domain="a")
    torch.testing.assert_close(seen[0], (stack + 1) / 2)
    expected = ours.generators["a2b"]((stack + 1) / 2) * 2 - 1
    torch.testing.assert_close(made, expected)
    model = tiny(cycle="repeat", legacy_layout=True)
    back = model.reconstruct(made, domain="a")
    torch.testing.assert_close(back, model.translate(repeat_slice(made, 3, legacy_layout=True), domain="b"))


def test_the_memory_format_changes_nothing_else():
    stack = subject("a")["image"]
    plain, other = tiny(), tiny(channels_last=True)
    assert other.generators["a2b"].encoder[0][0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain.translate(stack, domain="a"), other.translate(stack, domain="a"))


def test_one_direction_has_one_generator():
    model = tiny(directions="b2a", losses={"weights": {"adversarial": 1.0, "nce": 1.0}}, nce=NCE)
    assert list(model.generators) == ["b2a"]
    assert list(model.discriminators) == ["a"]
    assert set(model.predict_step(subject("b"))) == {"id", "patient", "index", "source", "domain", "translated"}
    assert "translated" not in model.predict_step(subject("a"))
    with pytest.raises(ConfigError, match=r"model\.directions=b2a: nothing translates domain a"):
        model.translate(subject("a")["image"], domain="a")
    with pytest.raises(ConfigError, match="domain='c' is unknown"):
        model.translate(subject("a")["image"], domain="c")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"directions": "a2c"}, "model.directions='a2c' is unknown; nearest: 'a2b'"),
        ({"directions": "a2b"}, "losses cycle; set model.losses.weights.cycle=0"),
        ({"cycle": "neighbors"}, "model.cycle='neighbors' is unknown; nearest: 'neighbours'"),
        ({"legacy_layout": True}, "set model.cycle=repeat"),
        ({"generator": {"name": "vae"}}, "model.generator.name='vae' is unknown"),
        ({"generator": {"name": "plain", "depth": 3}}, "unknown option `model.generator.depth`"),
        ({"generator": {"value_range": "unti"}}, "model.generator.value_range='unti' is unknown; nearest: 'unit'"),
        ({"discriminator": {"scales": 0}}, "model.discriminator.scales=0"),
        ({"discriminator": {"channels": 4}}, "unknown option `model.discriminator.channels`"),
        ({"losses": {"weights": {"cycles": 1.0}}}, "model.losses.weights.cycles; nearest: 'cycle'"),
        ({"losses": {"weights": {"nce": 1.0}}, "generator": {"name": "plain"}}, "only model.generator.name=sa gives"),
        ({"nce": {"dims": 3}}, "model.nce.dims`; nearest: 'dim'"),
        ({"replay": -1}, "model.replay=-1 must be 0 or more"),
        ({"slice_batch": 0}, "model.slice_batch=0 must be 1 or more"),
    ],
)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(ConfigError) as error:
        tiny(**options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_stacks_too_small_for_the_cycle_are_refused_before_training(tmp_path):
    data = Batches([pairs(1, slices=3)])
    data.slices = 3
    with pytest.raises(
        ConfigError, match=r"data\.slices=3: model\.cycle=neighbours needs stacks of 5; set data\.slices=5"
    ):
        trainer_for(tmp_path).fit(tiny(), data)
    trainer_for(tmp_path).fit(tiny(cycle="repeat"), data)


def test_intensities_are_medians_of_the_training_subjects(tmp_path):
    model, data = tiny(), Batches([pairs(1)])
    assert model.typical_intensity("a").isnan().all()
    trainer_for(tmp_path).fit(model, data)
    assert model.typical_intensity("a").isnan().all()
    values = torch.arange(24.0).reshape(3, M, 2)
    data.intensities = lambda domain: (values + 100 * (domain == "b")).numpy()
    trainer_for(tmp_path).fit(model, data)
    assert torch.equal(model.typical_intensity("a"), values[1])
    assert torch.equal(model.typical_intensity("b"), values[1] + 100)


def test_what_chooses_the_checkpoint_does_not_reward_the_identity(tmp_path):
    subjects = [subject(domain, number) for number in range(2) for domain in "ab"]
    for batch in subjects:
        if batch["domain"][0] == "b":  # b is darker
            batch["image"] = torch.where(batch["image"] > -1, batch["image"] * 0.5 - 0.5, -1.0)
    model, data = tiny(), Batches([pairs(1)], subjects=subjects)
    scores = {}
    for name, change in (
        ("identity", lambda x, d: x),
        ("right", lambda x, d: x * 0.5 - 0.5 if d == "a" else x * 2 + 1),
    ):
        model.translate = lambda stack, *, domain, body=None, change=change: torch.where(
            body[:, None], change(centre_slice(stack, M), domain), -1.0
        )
        scores[name] = trainer_for(tmp_path).validate(model, data, verbose=False)[0]
    assert scores["identity"]["val/loss"] == pytest.approx(1.0)
    assert scores["identity"]["val/a2b/distance"] == 1.0
    assert scores["right"]["val/loss"] < 0.5
    assert scores["right"]["val/a2b/cycle/mae"] == pytest.approx(0.0, abs=1e-6)
    assert scores["identity"]["val/a2b/translation/ssim"] == pytest.approx(scores["identity"]["val/a2b/identity/ssim"])


def test_a_test_scores_every_subject_and_slice(tmp_path):
    subjects = [subject(domain, number, known=number == 0) for number in range(2) for domain in "ab"]
    model = tiny()
    found = trainer_for(tmp_path).test(model, Batches([], subjects=subjects), verbose=False)[0]
    expected = {f"test/{way}/{name}/ssim" for way in ("a2b", "b2a") for name in ("cycle", "translation", "identity")}
    assert expected <= set(found)
    rows = model.sample_scores["test"].rows()
    assert {(row["subject"], row["slice"]) for row in rows} == {
        (f"{d}{n}", z) for d in "AB" for n in range(2) for z in range(3)
    }
    known = [row for row in model.sample_scores["test"].patient_rows() if row["comparison"] == "translation"]
    assert [row["subject"] for row in known] == ["A0", "B0"]


def test_windows_of_five_slices_are_what_generators_get():
    stack = torch.arange(5 * M, dtype=torch.float32)[None, :, None, None].expand(1, -1, SIDE, SIDE)
    model = tiny()
    side = model.step.side({"image": stack, "body": torch.ones(1, 5, SIDE, SIDE, dtype=torch.bool)})
    assert torch.equal(side.windows, cut_windows(stack, modalities=M, slices=3))
    assert side.real[0, :, 0, 0].tolist() == [8, 9, 10, 11]
    short = tiny(cycle="repeat").step.side({"image": stack, "body": torch.ones(1, 5, SIDE, SIDE, dtype=torch.bool)})
    assert torch.equal(short.windows, side.stack)
