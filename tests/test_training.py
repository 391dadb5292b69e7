"""Training on a tiny base: what changes, what must not, and that each term does what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sigan import mixing
from sigan.errors import ConfigError, SiganError
from sigan.training import RECIPES, StyleTrainer, TrainConfig


@pytest.fixture
def references() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [np.clip(draw.normal(200, 20, (32, 32, 3)), 0, 255).astype(np.uint8) for _ in range(2)]


def trainer(base, references, **values) -> StyleTrainer:
    return StyleTrainer(references, TrainConfig(device="cpu", **{"steps": 3, **values}), base=base)


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_lowers_the_style_loss_and_leaves_the_base_alone(tiny_base, references, recipe):
    before = {k: v.clone() for k, v in tiny_base.generator.state_dict().items()}
    records = list(trainer(tiny_base, references, recipe=recipe, steps=25, lr=1e-2).steps())
    assert [r.index for r in records] == list(range(1, 26)) and records[0].total == 25
    assert np.mean([r.parts["style"] for r in records[-5:]]) < np.mean([r.parts["style"] for r in records[:5]])
    assert all(torch.equal(before[k], v) for k, v in tiny_base.generator.state_dict().items())


def test_the_same_seed_gives_the_same_pack_and_another_seed_another(tiny_base, references):
    def pack(seed):
        run = trainer(tiny_base, references, seed=seed)
        list(run.steps())
        return run.pack("ink").hash

    assert pack(3) == pack(3) != pack(4)


def test_a_pack_gives_the_tuned_pictures_back(tiny_base, references):
    run = trainer(tiny_base, references)
    list(run.steps())
    pack, ws = run.pack("ink", author="A"), tiny_base.sample(2)
    with pack.apply(tiny_base.generator) as generator:
        y = generator.synthesis(ws)
    tuned, untouched = run.generator.synthesis(ws), tiny_base.generator.synthesis(ws)
    assert (y - tuned).abs().mean() < 0.1 * (untouched - tuned).abs().mean()  # 4 bits
    assert pack.manifest.steps == 3 and pack.manifest.references == 2 and pack.manifest.author == "A"
    assert pack.manifest.base_hash == tiny_base.hash
    kept = ("mapping.", "synthesis.canvas.luma.weight", "synthesis.canvas.chroma.weight")
    assert not any(key.startswith(kept) for key in pack.deltas) and "synthesis.canvas.luma.bias" in pack.deltas


def test_stopping_early_is_a_plain_break_and_going_on_is_the_same_loop(tiny_base, references):
    run = trainer(tiny_base, references, steps=5)
    for step in run.steps():
        if step.index == 2:
            break
    assert run.pack("ink").manifest.steps == 2
    assert [step.index for step in run.steps()] == [3, 4, 5]


def test_the_total_is_the_sum_of_its_terms(tiny_base, references):
    (step,) = trainer(tiny_base, references, steps=1).steps()
    assert set(step.parts) == {"style", "identity", "statistics"}
    assert step.loss == pytest.approx(sum(step.parts.values()))


def test_lambda_scales_the_identity_term(tiny_base, references):
    values = {"recipe": "styleidentity", "steps": 1}
    low, high = (next(trainer(tiny_base, references, lambda_feature=v, **values).steps()) for v in (1e-3, 1e-2))
    assert high.parts["style"] == pytest.approx(low.parts["style"])
    assert high.parts["identity"] == pytest.approx(10 * low.parts["identity"], abs=1e-7)


def test_photographs_take_the_place_of_drawn_people(tiny_base, references):
    photos = [np.full((32, 32, 3), 90, np.uint8)]
    run = StyleTrainer(references, TrainConfig(device="cpu", steps=1), base=tiny_base, photos=photos)
    ws, targets = run.people
    x = torch.full((1, 3, 32, 32), 90 / 127.5 - 1)
    torch.testing.assert_close(ws, tiny_base.encoder(x))
    torch.testing.assert_close(targets.taps[0], x)


def test_references_are_inverted_in_domain(tiny_base, references):
    run = trainer(tiny_base, references)
    torch.testing.assert_close(run.ws, tiny_base.encoder(run.x, 0.0))
    assert len(run.inversions) == 2 and run.inversions[0].shape == (32, 32, 3)


def test_recipes_hold_the_papers_values():
    paper, jojogan = TrainConfig(recipe="styleidentity"), TrainConfig(recipe="jojogan", kind="sketch")
    assert (paper.alpha, paper.lambda_feature, paper.lambda_statistics, paper.steps) == (0.5, 0.001, 0.0, 500)
    assert paper.swap_layers == mixing.STYLEIDENTITY_LAYERS
    assert (jojogan.alpha, jojogan.lambda_feature, jojogan.steps) == (0.0, 0.0, 150)
    assert jojogan.swap_layers == mixing.JOJOGAN_LAYERS
    assert TrainConfig().steps == 150 and TrainConfig(steps=7).steps == 7


@pytest.mark.parametrize("values, message", [
    ({"recipe": "magic"}, "recipe is 'magic'"), ({"kind": "oil"}, "kind is 'oil'"), ({"steps": 0}, "steps is 0"),
    ({"alpha": 1.5}, "alpha is 1.5"), ({"lambda_feature": -1.0}, "lambda_feature is -1.0"),
    ({"lambda_statistics": float("nan")}, "lambda_statistics is nan"), ({"lr": 0.0}, "lr is 0.0"),
])
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**values)


def test_no_references_is_an_error(tiny_base):
    with pytest.raises(ConfigError, match="no references"):
        StyleTrainer([], TrainConfig(device="cpu"), base=tiny_base)


def test_divergence_names_the_step(tiny_base, references):
    run = trainer(tiny_base, references, lr=1e30)
    with pytest.raises(SiganError, match=r"diverged at step [12]"):
        list(run.steps())


@pytest.mark.parametrize(("recipe", "grey"), [("sigan", True), ("styleidentity", False)])
def test_grey_references_make_a_grey_style_by_our_recipe_and_the_papers_stay_as_they_are(
        tiny_base, references, recipe, grey):
    drawings = [np.repeat(picture[..., :1], 3, 2) for picture in references]
    trainer = StyleTrainer(drawings, TrainConfig(recipe=recipe, steps=2), tiny_base)
    list(trainer.steps())
    with torch.no_grad():
        y = trainer.generator.synthesis(tiny_base.sample(2, seed=5))
    assert torch.allclose(y, y[:, :1].expand_as(y), atol=1e-4) == grey


def test_coloured_references_keep_their_colours(tiny_base, references):
    trainer = StyleTrainer(references, TrainConfig(steps=1), tiny_base)
    list(trainer.steps())
    assert trainer.generator.synthesis.canvas.gain.detach().min() > 0
