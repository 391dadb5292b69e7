"""Complexion: the tones that are taken off are those of skin, by the nearest known one, and of nothing else."""

from __future__ import annotations

import pytest
import torch

from sigan import images
from sigan.complexion import Complexion, skin

LIGHT, DARK, BLUE = (0.7, 0.4, 0.3), (-0.4, -0.6, -0.7), (-0.9, -0.5, 0.9)


def face(tone: tuple[float, float, float], size: int = 64, noise: float = 0.05) -> torch.Tensor:
    """A disc of one colour where faces are, on blue.  -> [1,3,R,R]"""
    side = torch.linspace(0, 1, size)
    inside = ((side[:, None] - 0.6) ** 2 + (side[None] - 0.5) ** 2 < 0.3**2)[None, None]
    pictures = [torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, size, size) for colour in (tone, BLUE)]
    draw = torch.Generator().manual_seed(size)
    return torch.where(inside, *pictures) + noise * torch.randn(1, 3, size, size, generator=draw)


@pytest.mark.parametrize("size", [8, 64, 100])
def test_skin_is_the_colour_of_both_cheeks(size):
    assert skin(face(LIGHT, size, noise=0.0))[0].tolist() == pytest.approx(LIGHT)
    half = face(LIGHT, size, noise=0.0)
    half[..., : size // 2] = face(DARK, size, noise=0.0)[..., : size // 2]
    assert min(DARK) <= skin(half).min() and skin(half).max() <= max(LIGHT)


def test_skin_is_not_moved_by_a_lock_of_hair():
    x = face(LIGHT, 100)
    x[:, :, 58:61, 31:41] = -1.0  # a quarter of one cheek
    assert skin(x)[0].tolist() == pytest.approx(LIGHT, abs=0.05)


def test_tones_are_the_distance_from_the_nearest_skin_where_there_is_skin():
    tan = tuple((a + b) / 2 for a, b in zip(LIGHT, DARK))
    people = torch.cat([face(tone, noise=0.0) for tone in (DARK, LIGHT, tan)])
    tones = Complexion(torch.cat([face(LIGHT), face(DARK), face(LIGHT)])).tones(people)
    assert tones[:2].abs().max() < 0.02  # these are known
    only = Complexion(face(LIGHT, noise=0.0)).tones(people, share=0.5)
    assert only[0, :, 38, 32].tolist() == pytest.approx([(d - p) / 2 for d, p in zip(DARK, LIGHT)])
    assert only[:, :, 2, 2].abs().max() < 0.02 < only[2, :, 38, 32].abs().min()  # the wall has no skin
    assert only[1].abs().max() < 1e-6


def test_a_portrait_less_its_tones_has_the_known_skin():
    dark, light = face(DARK), face(LIGHT)
    assert skin(dark - Complexion(light).tones(dark))[0].tolist() == pytest.approx(skin(light)[0].tolist(), abs=0.05)


def test_grey_tones_have_one_value_for_all_channels():
    coloured, grey = (Complexion(face(LIGHT), grey=grey).tones(face(DARK)) for grey in (False, True))
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 1], grey[:, 2])
    torch.testing.assert_close(grey[:, :1], images.luma(coloured))
