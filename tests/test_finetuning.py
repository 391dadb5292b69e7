"""The step engine: a step in parts is the step, in half precision nearly, and one taken up again goes on the same."""

from __future__ import annotations

import copy

import pytest
import torch

from sigan import finetuning, losses

K, P = 2, 4


def engine(base, **values) -> finetuning.Finetuner:
    loss = losses.DiscriminatorFeatures(base.discriminator)
    draw = torch.Generator().manual_seed(1)
    x, y = (torch.rand(n, 3, 32, 32, generator=draw) for n in (K, 6))
    return finetuning.Finetuner(copy.deepcopy(base.generator.synthesis), loss, finetuning.Targets(loss, x),
                                finetuning.Targets(loss, y), **{"identity": 0.5, "statistics": 2.0, **values})


def codes(base) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ws = base.sample(K + P, truncation=1.0)
    return ws[:K], ws[K:], torch.tensor([5, 0, 3, 0])


def gradients(run: finetuning.Finetuner) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in run.synthesis.named_parameters() if p.grad is not None}


def slow(base, run: finetuning.Finetuner, tones: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """A step's terms by separate calls, picture by picture."""
    ws, people, chosen = codes(base)
    taps = [run.loss.features(run.synthesis(w[None])) for w in torch.cat([ws, people])]
    style = [run.loss.distance(taps[i], run.references[i : i + 1]) for i in range(K)]
    identity = [run.loss.distance(taps[K + i], run.people[chosen[i : i + 1]]) for i in range(P)]
    if tones is not None:
        taps[K:] = [run.loss.features(run.synthesis(w[None]) - off[None]) for w, off in zip(people, tones)]
    drawn = losses.distributions([torch.cat(same) for same in zip(*taps[K:])][: run.loss.finest])
    return {"style": sum(style) / K, "identity": 0.5 * sum(identity) / P,
            "statistics": 2 * losses.distribution_distance(drawn, run.spread)}


@pytest.mark.parametrize("asked", [{"style", "identity"}, {"style", "identity", "statistics"}, {"style", "statistics"}])
@pytest.mark.parametrize("chunk, toned", [(1, True), (1, False), (3, True), (4, False), (6, True), (6, False)])
def test_a_step_in_parts_has_the_gradient_of_separate_calls(tiny_base, chunk, toned, asked):
    run = engine(tiny_base, chunk=chunk, statistics=2.0 * ("statistics" in asked))
    ws, people, chosen = codes(tiny_base)
    tones = torch.rand(P, 3, 32, 32, generator=torch.Generator().manual_seed(2)) if toned else None
    parts = run.step(ws, people, chosen if "identity" in asked else None, tones, lr=0.0)
    found = gradients(run)
    run.optimiser.zero_grad()
    terms = {name: term.sum() for name, term in slow(tiny_base, run, tones).items() if name in asked}
    sum(terms.values()).backward()
    assert parts == pytest.approx({name: term.item() for name, term in terms.items()}, rel=1e-5)
    expected = gradients(run)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-8, name


def test_smaller_tones_are_enlarged(tiny_base):
    ws, people, chosen = codes(tiny_base)
    tones = torch.rand(P, 3, 1, 1, generator=torch.Generator().manual_seed(3))
    one, other = (engine(tiny_base).step(ws, people, chosen, x, lr=0.0) for x in (tones, tones.expand(P, 3, 32, 32)))
    assert one == pytest.approx(other, rel=1e-5)
    assert one["statistics"] != engine(tiny_base).step(ws, people, chosen, lr=0.0)["statistics"]


def test_half_precision_is_near_and_keeps_its_weights_whole(tiny_base):
    whole, half = (engine(tiny_base, half=half) for half in (False, True))
    a, b = (run.step(*codes(tiny_base), lr=1e-3) for run in (whole, half))
    assert a == pytest.approx(b, rel=0.05) and a != b
    assert all(p.dtype == torch.float32 for p in half.synthesis.parameters())
    one, other = (torch.cat([g.flatten() for g in gradients(run).values()]) for run in (whole, half))
    assert torch.cosine_similarity(one, other, 0) > 0.97


def test_a_step_taken_up_again_is_the_same(tiny_base):
    run = engine(tiny_base)
    run.step(*codes(tiny_base), lr=1e-2)
    kept = copy.deepcopy(run.state_dict())
    expected = [run.step(*codes(tiny_base), lr=1e-2) for _ in range(2)]
    again = engine(tiny_base)
    again.load_state_dict(kept)
    assert [again.step(*codes(tiny_base), lr=1e-2) for _ in range(2)] == expected


def test_what_is_not_finite_changes_nothing(tiny_base):
    run = engine(tiny_base)
    before = copy.deepcopy(run.synthesis.state_dict())
    ws, people, chosen = codes(tiny_base)
    assert not all(map(torch.isfinite, map(torch.tensor, run.step(ws * torch.inf, people, chosen, lr=1.0).values())))
    assert all(torch.equal(value, before[name]) for name, value in run.synthesis.state_dict().items())


def test_people_who_are_not_held_to_their_pictures_are_seen_by_the_finest_taps_alone(tiny_base):
    run = engine(tiny_base)
    ws, people, chosen = codes(tiny_base)
    seen: list[int] = []
    run.loss.net.b8.register_forward_hook(lambda block, given, tap: seen.append(len(tap)))
    run.step(ws, people, None, lr=0.0)
    run.step(ws, people, chosen, lr=0.0)
    assert seen == [K, K + P]


def test_people_without_a_term_are_not_drawn(tiny_base):
    run = engine(tiny_base, identity=0.0, statistics=0.0, chunk=1)
    seen: list[int] = []
    run.synthesis.register_forward_hook(lambda net, given, y: seen.append(len(y)))
    assert set(run.step(*codes(tiny_base), lr=1e-3)) == {"style"} and seen == [1] * K


def test_parameters_of_scale_0_stay_and_others_go_faster(tiny_base):
    run = engine(tiny_base, scale=lambda name: 0.0 if "b4" in name else 3.0 if "b8.torgb" in name else 1.0)
    before = copy.deepcopy(run.synthesis.state_dict())
    run.step(*codes(tiny_base), lr=1e-3)
    moved = {name: (p - before[name]).abs().max().item() for name, p in run.synthesis.named_parameters()}
    assert all(value == 0 for name, value in moved.items() if "b4" in name)
    assert moved["b8.torgb.weight"] == pytest.approx(3e-3, rel=0.05)  # Adam's first step is the rate itself
    assert moved["b16.torgb.weight"] == pytest.approx(1e-3, rel=0.05)


def test_targets_are_kept_whole_or_half_by_what_they_take(tiny_base, monkeypatch):
    loss, x = losses.DiscriminatorFeatures(tiny_base.discriminator), torch.rand(5, 3, 32, 32)
    whole = finetuning.Targets(loss, x)
    monkeypatch.setattr(finetuning, "KEPT_BYTES", 1000)
    half = finetuning.Targets(loss, iter(x.split(2)), count=5)
    assert len(whole) == len(half) == 5 and half.taps[0].dtype == torch.float16
    index = torch.tensor([4, 1])
    for a, b, direct in zip(whole[index], half[index], loss.features(x[index])):
        torch.testing.assert_close(a, direct, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(b, direct, atol=1e-3, rtol=1e-3)


def test_pictures_are_drawn_a_few_at_a_time(tiny_base, monkeypatch):
    assert [finetuning.at_once(side) for side in (64, 256, 512, 1024)] == [8, 8, 2, 1]
    monkeypatch.setattr(finetuning, "CHUNK", 2)
    ws, synthesis = tiny_base.sample(5), tiny_base.generator.synthesis
    parts = list(finetuning.draw(synthesis, ws))
    assert [len(part) for part in parts] == [2, 2, 1]
    torch.testing.assert_close(torch.cat(parts), synthesis(ws), atol=1e-5, rtol=1e-4)


def test_how_many_fit_is_by_the_layers_sizes(tiny_base, monkeypatch):
    synthesis = tiny_base.generator.synthesis
    values = 16 * (4**2 + 2 * 8**2 + 2 * 16**2) + 8 * 2 * 32**2  # channels 16, at 32² 8; one layer at 4², then two
    monkeypatch.setattr(finetuning, "ROOM", 3 * 4 * finetuning.ACTIVATIONS * values)
    assert finetuning.fitting(synthesis, torch.device("cpu")) == 3
    monkeypatch.setattr(finetuning, "ROOM", 1)
    assert finetuning.fitting(synthesis, torch.device("cpu")) == 1
