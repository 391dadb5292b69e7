"""A generator tuned to one face redraws it better, leaves the base alone, and blends with a style."""

from __future__ import annotations

import pytest
import torch

from sigan import inversion, packs, pivotal
from sigan.errors import ConfigError, SiganError


@pytest.fixture
def face(tiny_base) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4) * 2 - 1, size=(32, 32), mode="bilinear")


def tuned(base, x, steps: int = 25) -> pivotal.Person:
    person = pivotal.Person(base, x, inversion.invert(base, x))
    assert [step.index for step in person.steps(steps)] == list(range(1, steps + 1))
    return person


def test_the_error_falls_and_the_base_stays(tiny_base, face):
    before = {key: value.clone() for key, value in tiny_base.generator.state_dict().items()}
    person = tuned(tiny_base, face)
    error = [(net.synthesis(person.ws) - face).square().mean() for net in (tiny_base.generator, person.generator)]
    assert error[1] < 0.7 * error[0]
    assert all(torch.equal(value, before[key]) for key, value in tiny_base.generator.state_dict().items())


def test_what_a_code_means_and_the_canvas_stay_the_bases(tiny_base, face):
    pack = tuned(tiny_base, face, 3).pack("me")
    assert pack.deltas and not any("affine" in key or "canvas.luma" in key for key in pack.deltas)
    assert pack.manifest.recipe == "pivotal" and pack.manifest.steps == 3 and "agree" in pack.manifest.card


def test_the_file_draws_the_person_and_blends_with_a_style(tiny_base, tiny_pack, face, tmp_path):
    person = tuned(tiny_base, face)
    person.pack("me").save(tmp_path / "me.person.safetensors")
    mine = packs.StylePack.load(tmp_path / "me.person.safetensors")
    with torch.no_grad():
        expected = person.generator.synthesis(person.ws)
        with mine.apply(tiny_base.generator) as generator:
            torch.testing.assert_close(generator.synthesis(person.ws), expected, atol=5e-3, rtol=1e-2)  # fp16
        with tiny_pack.apply(tiny_base.generator) as generator:
            style = generator.synthesis(person.ws)
        with packs.blend([tiny_pack, mine], [1.0, 1.0]).apply(tiny_base.generator) as generator:
            both = generator.synthesis(person.ws)
    # the style changes the last toRGB alone, so the person's own part of it is what the blend adds
    assert (both - style).abs().mean() > 0.02 and (both - expected).abs().mean() > 0.02


def test_two_faces_at_once_and_divergence_are_refused(tiny_base, face):
    with pytest.raises(ConfigError, match="2 faces and 2 codes"):
        pivotal.Person(tiny_base, face.repeat(2, 1, 1, 1), inversion.invert(tiny_base, face.repeat(2, 1, 1, 1)))
    person = pivotal.Person(tiny_base, face * float("nan"), inversion.invert(tiny_base, face))
    with pytest.raises(SiganError, match="diverged at step 0"):
        next(person.steps(1))
