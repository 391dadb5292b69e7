"""Training on a tiny base: what changes, what must not, and that each term does what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sigan import losses, mixing, states
from sigan.complexion import Complexion
from sigan.errors import ConfigError, SiganError
from sigan.nets.squeezenet import SqueezeNet
from sigan.training import RECIPES, StyleTrainer, TrainConfig


@pytest.fixture
def references() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [np.clip(draw.normal(200, 20, (32, 32, 3)), 0, 255).astype(np.uint8) for _ in range(2)]


class Likeness:
    """Stands for dlib: a picture's descriptor is its mean colour, every picture has a face."""

    def landmarks(self, image: np.ndarray) -> np.ndarray:
        return np.zeros((68, 2), np.float32)

    def descriptor(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        return image.mean((0, 1)) / 255

    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a - b))


def trainer(base, references, **values) -> StyleTrainer:
    return StyleTrainer(references, TrainConfig(device="cpu", **{"steps": 3, **values}), base=base, identity=Likeness())


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
    assert pack.deltas and all(key.startswith(("synthesis.b16.", "synthesis.b32.")) for key in pack.deltas)


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


def test_the_identity_term_every_second_step_weighs_twice(tiny_base, references):
    photos = [np.full((32, 32, 3), 90, np.uint8)]
    values = {"device": "cpu", "steps": 3, "lr": 1e-9, "measure": 0}
    runs = (StyleTrainer(references, TrainConfig(identity_every=k, **values), tiny_base, photos) for k in (1, 2))
    every, second = (list(run.steps()) for run in runs)
    assert ["identity" in step.parts for step in second] == [True, False, True]
    for k in (0, 2):
        assert second[k].parts["identity"] == pytest.approx(2 * every[k].parts["identity"], rel=1e-4)
    assert [step.parts["style"] for step in second] == pytest.approx([step.parts["style"] for step in every], rel=1e-4)


def test_layers_coarser_than_train_from_stay(tiny_base, references):
    run = trainer(tiny_base, references, train_from=16, steps=1)
    before = {name: p.detach().clone() for name, p in run.generator.synthesis.named_parameters()}
    list(run.steps())
    moved = {name for name, p in run.generator.synthesis.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[0] for name in moved} == {"b16", "b32"}
    with pytest.raises(ConfigError, match="train_from is 64, and the finest layers of 'mini' draw 32 pixels"):
        trainer(tiny_base, references, train_from=64)


def test_one_photograph_is_drawn_once_a_step(tiny_base, references):
    photos = [np.full((32, 32, 3), 90, np.uint8)]
    drawn: list[int] = []
    for recipe in ("styleidentity", "sigan"):
        run = StyleTrainer(references, TrainConfig(recipe=recipe, device="cpu", steps=1, measure=0), tiny_base, photos)
        hook = run.generator.synthesis.register_forward_hook(lambda net, given, y: drawn.append(len(y)))
        list(run.steps())
        hook.remove()
    assert drawn == [len(references) + 1, 2 * len(references)]  # sorted values are compared: a multiple of those


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
    ({"lambda_statistics": float("nan")}, "lambda_statistics is nan"), ({"skin_tone": -1.0}, "skin_tone is -1.0"),
    ({"lr": 0.0}, "lr is 0.0"),
    ({"perceptual": "eyes"}, "perceptual is 'eyes'"), ({"random_codes": "two"}, "random_codes is 'two'"),
    ({"measure": -1}, "measure is -1"), ({"id_floor": 0.0}, "id_floor is 0.0"),
    ({"id_floor": 0.5, "measure": 0}, "id_floor is 0.5, measured every 0 steps"),
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


def test_a_loss_far_beyond_the_first_is_divergence_too_and_the_best_is_kept(tiny_base, references):
    run = trainer(tiny_base, references, steps=60, measure=1, lr=1e-3)
    steps = run.steps()
    for _ in range(3):
        next(steps)
    best, kept = run.curve.best().step, run.generator.synthesis.state_dict()
    kept = {key: value.clone() for key, value in kept.items()}
    with torch.no_grad():  # as if a step had gone wild
        for parameter in run.generator.synthesis.parameters():
            parameter.mul_(30)
    with pytest.raises(SiganError, match="diverged at step [345]: the loss is"):
        list(steps)
    assert run.settle() == best == 3
    assert all(torch.equal(kept[key], value) for key, value in run.generator.synthesis.state_dict().items())


def test_people_go_with_what_their_skins_differ_by(tiny_base, references):
    run = trainer(tiny_base, references)
    _, people, chosen, tones = run._drawn()
    faces, could_be = (tiny_base.generator.synthesis(ws) for ws in (people, run.ws))
    torch.testing.assert_close(tones, Complexion(could_be).tones(faces, 1.3), atol=1e-5, rtol=1e-4)
    assert chosen is not None and tones.abs().max() > 1e-3
    for values in ({"skin_tone": 0.0}, {"lambda_statistics": 0.0}, {"recipe": "styleidentity"}):
        assert trainer(tiny_base, references, **values)._drawn()[3] is None


# ---- measured, stopped, resumed

def test_what_is_measured_is_what_a_slow_look_gives(tiny_base, references):
    run = trainer(tiny_base, references, steps=4, measure=2)
    points = [step.measured for step in run.steps()]
    assert [point and point.step for point in points] == [None, 2, None, 4]
    ws = tiny_base.sample(8, seed=1000, truncation=1.0)
    before, after = (net.synthesis(ws) for net in (tiny_base.generator, run.generator))
    colors = [[((y + 1) * 127.5).round().clamp(0, 255).mean((1, 2)) / 255 for y in part] for part in (before, after)]
    distances = [float((a - b).detach().norm()) for a, b in zip(*colors, strict=True)]
    assert points[3].identity == pytest.approx(np.median(distances), abs=1e-4) and points[3].people == 8
    tones = Complexion(tiny_base.generator.synthesis(run.ws)).tones(before)
    taps = [losses.distributions(run.loss.features(part, run.loss.finest)) for part in (after - tones, run.x)]
    assert points[3].style == pytest.approx(losses.distribution_distance(*taps).item(), rel=1e-4)
    assert run.curve.before > points[3].style


def test_measuring_changes_no_step(tiny_base, references):
    often, never = (trainer(tiny_base, references, steps=4, measure=measure) for measure in (1, 0))
    assert [step.loss for step in often.steps()] == [step.loss for step in never.steps()]


def test_it_stops_when_nothing_is_gained_and_the_rate_has_fallen(tiny_base, references, monkeypatch):
    run = trainer(tiny_base, references, steps=500, measure=2)
    monkeypatch.setattr(run.curve, "finished", lambda: "enough" if len(run.curve.points) == 6 else "")
    last = list(run.steps())[-1]
    assert (last.index, last.total, run.stopped) == (20, 20, "enough")  # at 12 of 500; 40 % of the steps lower the rate
    assert run._rate(11) == run.config.lr > run._rate(15) > run._rate(19) > 0
    paper = trainer(tiny_base, references, recipe="styleidentity", steps=8, measure=2)
    monkeypatch.setattr(paper.curve, "finished", lambda: "enough")
    assert list(paper.steps())[-1].index == 8 and not paper.stopped and paper.settle() == 8


def test_the_floor_ends_the_run_and_nothing_beyond_it_is_kept(tiny_base, references):
    free = trainer(tiny_base, references, steps=12, measure=1, lr=1e-2)
    list(free.steps())
    distances = [point.identity for point in free.curve.points]
    floor = (distances[0] + distances[1]) / 2  # they grow: the pictures become the references'
    assert distances[0] < distances[1]
    run = trainer(tiny_base, references, steps=12, measure=1, lr=1e-2, id_floor=floor)
    assert list(run.steps())[-1].index == 2 and "passed the dlib distance" in run.stopped
    assert run.settle() == 1 and run.pack("ink").manifest.steps == run.done
    strict = trainer(tiny_base, references, steps=12, measure=1, lr=1e-2, id_floor=1e-6)
    list(strict.steps())
    with pytest.raises(SiganError, match="no point keeps people within the dlib distance 1e-06"):
        strict.settle()


@pytest.mark.parametrize("values", [{}, {"recipe": "styleidentity"}])
def test_a_run_that_was_killed_goes_on_bit_for_bit(tiny_base, references, tmp_path, values):
    def run():
        return trainer(tiny_base, references, steps=7, measure=2, seed=4, **values)

    whole, killed, resumed = run(), run(), run()
    steps = list(whole.steps())
    for step in killed.steps():
        if step.index == 3:
            break
    states.write(tmp_path / "state", killed.state())
    resumed.load_state(states.read(tmp_path / "state"))
    assert whole.key == killed.key == resumed.key
    assert list(resumed.steps()) == steps[3:]
    assert resumed.curve == whole.curve and resumed.settle() == whole.settle()
    assert resumed.pack("ink").hash == whole.pack("ink").hash


def test_the_key_tells_other_inputs_and_options_apart(tiny_base, references):
    keys = [trainer(tiny_base, references, **values).key for values in ({}, {"seed": 1}, {"steps": 4}, {"lr": 0.1})]
    keys += [trainer(tiny_base, references[:1]).key,
             StyleTrainer(references, TrainConfig(steps=3, device="cpu"), base=tiny_base, photos=references).key]
    assert len(set(keys)) == len(keys)


def test_figures_hold_the_curve(tiny_base, references):
    run = trainer(tiny_base, references, steps=4, measure=2)
    list(run.steps())
    found = run.figures(run.pack("ink"))
    assert found["curve"]["steps"] == [2, 4] and found["identity"]["faces"] == 8
    assert found["style"]["value"] == pytest.approx(found["curve"]["style"][-1], rel=0.2)  # rounded to 4 bits
    late = trainer(tiny_base, references, recipe="jojogan").figures(run.pack("ink"))  # it measured nothing before
    assert "curve" not in late and late["style"] == found["style"] and late["identity"] == found["identity"]


# ---- the differences of paper and code

def test_a_random_code_for_each_layer_or_one_for_all(tiny_base, references):
    one, each = (trainer(tiny_base, references, random_codes=value, swap_layers=(3, 5, 7))
                 for value in ("one", "layers"))
    mixed = [(run._mixed() - 0.5 * run.ws)[:, list(run.layers)] for run in (one, each)]  # alpha is 0.5
    mixed = [part.round(decimals=4) for part in mixed]
    assert (mixed[0] == mixed[0][:, :1]).all() and not (mixed[1] == mixed[1][:, :1]).all()


def test_discriminator_features_can_be_asked_for(tiny_base, references, monkeypatch):
    monkeypatch.setattr(losses, "best", lambda *_: pytest.fail("not asked for"))
    assert isinstance(trainer(tiny_base, references, perceptual="discriminator").loss, losses.DiscriminatorFeatures)


def test_squeezenet_can_be_asked_for_and_its_file_is_not_told(tiny_base, references, tmp_path):
    torch.manual_seed(0)
    save_file(SqueezeNet().state_dict(), tmp_path / "net.safetensors")
    run = trainer(tiny_base, references, perceptual=f"squeezenet:{tmp_path / 'net.safetensors'}")
    assert run.loss_name == "squeezenet features" and len(list(run.steps())) == run.config.steps
    told = run.pack("ink").manifest
    assert (told.perceptual, told.config["perceptual"]) == ("squeezenet features", "squeezenet")
    with pytest.raises(ConfigError, match="perceptual is 'lpips:net'"):
        TrainConfig(perceptual="lpips:net")


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
