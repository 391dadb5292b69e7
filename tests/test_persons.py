"""A person's pack: nearer to the photograph, still the style, and small; worn, found, and refused where it must be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sigan import losses, packs, persons
from sigan.errors import ConfigError, PackError, SiganError


@pytest.fixture
def face() -> torch.Tensor:
    torch.manual_seed(1)
    return F.interpolate(torch.rand(1, 3, 4, 4) * 2 - 1, size=(32, 32), mode="bilinear")


@pytest.fixture
def person(tiny_base, tiny_pack, face) -> persons.PersonTrainer:
    trainer = persons.PersonTrainer(tiny_base, tiny_pack, face)
    assert [step.index for step in trainer.steps(12)] == list(range(1, 13))
    return trainer


def correlation(y, x) -> float:
    """Of the luma under 9-pixel windows, one after the other, weighed by the face: a slow look."""
    luma = torch.tensor([0.299, 0.587, 0.114])
    a, b = ((v[0] * luma[:, None, None]).sum(0) for v in (y, x))
    weights, total = persons.face_mask(32), 0.0
    for i in range(32):
        for j in range(32):
            window = slice(max(i - 4, 0), i + 5), slice(max(j - 4, 0), j + 5)
            u, v = a[window].flatten(), b[window].flatten()
            u, v = u - u.mean(), v - v.mean()
            scale = ((u.square().mean() + 1e-3) * (v.square().mean() + 1e-3)).sqrt()
            total += float((u * v).mean() / scale * weights[i, j])
    return total / float(weights.sum())


def test_likeness_is_local_correlation(tiny_base, face):
    torch.manual_seed(2)
    other = torch.rand(1, 3, 32, 32) * 2 - 1
    mask = persons.face_mask(32)
    assert float(persons.unlikeness(other, face, mask)) == pytest.approx(1 - correlation(other, face), abs=1e-4)
    own, paler = (float(persons.unlikeness(y, face, mask)) for y in (face, 0.5 * face + 0.3))
    assert own < 0.2 and paler < 0.35 < float(persons.unlikeness(other, face, mask))  # tones hardly matter


def test_the_portrait_comes_nearer_and_base_and_style_stay(tiny_base, tiny_pack, face):
    before = {key: value.clone() for key, value in tiny_base.generator.state_dict().items()}
    trainer = persons.PersonTrainer(tiny_base, tiny_pack, face)
    list(trainer.steps(12))
    old, new = trainer.portraits()
    assert correlation(new, face) > correlation(old, face) + 0.02
    assert all(torch.equal(value, before[key]) for key, value in tiny_base.generator.state_dict().items())
    spread = [losses.distributions([y]) for y in (old, new, face)]
    moved = [float(losses.distribution_distance(part, spread[0])) for part in spread[1:]]
    assert moved[0] < 0.5 * moved[1]  # its tones are the style's, not the photograph's


def test_the_file_worn_over_the_style_draws_the_person(tiny_base, tiny_pack, person, tmp_path):
    person.pack("ann").save(tmp_path / "ann.safetensors")
    worn = persons.wear(tiny_pack, persons.find(str(tmp_path / "ann.safetensors")))
    with torch.no_grad(), worn.apply(tiny_base.generator) as generator:
        y = generator.synthesis(person.ws)
    old, new = person.portraits()
    assert (y - new).abs().mean() < 0.4 * (old - new).abs().mean()  # 4 bits
    manifest = packs.read_manifest(tmp_path / "ann.safetensors")
    assert (manifest.recipe, manifest.config["style"], manifest.steps) == ("person", "warm", 12)
    assert "agree" in manifest.card
    assert not persons.notes(tiny_pack, person.pack("ann"))
    other = replace(tiny_pack, deltas={key: 2 * value for key, value in tiny_pack.deltas.items()})
    assert "sharpened on 'warm'" in persons.notes(other, person.pack("ann"))[0]


def test_persons_are_found_by_name_or_file(tiny_pack, person, tmp_path):
    person.pack("ann").save(persons.path("ann"))
    assert persons.find("ann").manifest.name == persons.find(str(persons.path("ann"))).manifest.name == "ann"
    with pytest.raises(ConfigError, match="no person called 'bob'") as caught:
        persons.find("bob")
    assert "there are: ann" in caught.value.hint
    tiny_pack.save(tmp_path / "style.safetensors")
    with pytest.raises(ConfigError, match="is no person"):
        persons.find(str(tmp_path / "style.safetensors"))
    with pytest.raises(ConfigError, match="cannot name a person"):
        persons.path("a/b")


def test_what_cannot_be_a_person_is_refused(tiny_base, tiny_pack, face):
    with pytest.raises(ConfigError, match="one face"):
        persons.PersonTrainer(tiny_base, tiny_pack, face.repeat(2, 1, 1, 1))
    with pytest.raises(PackError, match="belongs to"):
        foreign = replace(tiny_pack, manifest=replace(tiny_pack.manifest, base_hash="cd" * 32))
        persons.PersonTrainer(tiny_base, foreign, face)
    trainer = persons.PersonTrainer(tiny_base, tiny_pack, face)
    with pytest.raises(ConfigError, match="steps is 0"):
        next(trainer.steps(0))
    trainer.x = trainer.x * float("nan")
    with pytest.raises(SiganError, match="diverged at step 0"):
        next(trainer.steps(1))
