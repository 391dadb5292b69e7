"""The mask finds a head whose shape is known, keeps away from the frame's edge and from other faces."""

from __future__ import annotations

import numpy as np
import pytest

from sigan import matting

SIDE = 192
HAIR, SKIN, WALL = (60, 40, 30), (220, 180, 160), (120, 160, 200)


def landmarks(side: int = SIDE) -> np.ndarray:
    """[68,2] of which the jaw alone counts: the mean one."""
    points = np.full((68, 2), side / 2)
    points[:17] = matting._usual(side)
    return points


def portrait(width: float, height: float, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A face before a wall, with hair around it as wide and high as said (of the side), and where face or hair is."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    hair = ((x - 0.5) / width) ** 2 + ((y - 0.47) / height) ** 2 < 1
    hair &= y < 0.62
    face = ((x - 0.5) / 0.27) ** 2 + ((y - 0.55) / 0.36) ** 2 < 1
    image = np.where(hair[..., None], HAIR, WALL)
    image = np.where(face[..., None], SKIN, image) + np.random.default_rng(0).normal(0, 4, (side, side, 3))
    return image.clip(0, 255).astype(np.uint8), hair | face


@pytest.mark.parametrize(("width", "height"), [(0.34, 0.37), (0.31, 0.38), (0.36, 0.40)])
def test_the_mask_follows_the_hair(width, height):
    image, truth = portrait(width, height)
    mask = matting.head(image, landmarks())
    assert mask.shape == (SIDE, SIDE) and mask.dtype == np.float32 and 0 <= mask.min() and mask.max() <= 1
    inner = slice(SIDE // 10, -SIDE // 10)  # the fade at the frame's edge aside
    found, head = mask[inner, inner] > 0.5, truth[inner, inner]
    overlap = (found & head).sum() / (found | head).sum()
    blind = np.full_like(image, 128)  # without colours the outline alone decides
    guess = matting.head(blind, landmarks())[inner, inner] > 0.5
    assert overlap > 0.93 and overlap > (guess & head).sum() / (guess | head).sum() + 0.05


def test_at_the_frames_edge_it_is_nothing():
    mask = matting.head(np.full((SIDE, SIDE, 3), HAIR, np.uint8), landmarks())
    assert max(mask[0].max(), mask[-1].max(), mask[:, 0].max(), mask[:, -1].max()) < 0.01
    steps = max(np.abs(np.diff(mask, axis=axis)).max() for axis in (0, 1))
    assert mask[SIDE // 2, SIDE // 2] > 0.99 and steps < 0.2


def test_another_face_is_left_out():
    image, _ = portrait(0.33, 0.36)
    other = landmarks() * 0.5 + (0.55 * SIDE, 0.1 * SIDE)
    middle = np.rint(other[:17].mean(0)).astype(int)
    image[middle[1] - 20:middle[1] + 20, middle[0] - 15:middle[0] + 15] = HAIR
    alone, beside = matting.head(image, landmarks()), matting.head(image, landmarks(), [other])
    assert alone[middle[1], middle[0]] > 0.5 and beside[middle[1], middle[0]] < 0.1
    assert np.abs(alone - beside)[SIDE // 2:, :SIDE // 2].max() < 1e-6


def test_the_mask_has_its_size_and_needs_no_landmarks():
    image, truth = portrait(0.33, 0.36, 512)
    known, unknown = matting.head(image, landmarks(512)), matting.head(image)
    assert known.shape == (matting.MASK_SIDE,) * 2 and np.array_equal(known, unknown)
    squeezed = np.full((68, 2), 256.0)  # eyes and mouth known, the jaw not
    assert np.array_equal(matting.head(image, squeezed), unknown)


def test_the_outline_turns_with_the_face():
    jaw = landmarks()[:17]
    turned = (jaw - 96) @ np.array(((0, 1), (-1, 0))) + 96  # a quarter
    expected = (matting.outline(jaw, matting.HAIR) - 96) @ np.array(((0, 1), (-1, 0))) + 96
    np.testing.assert_allclose(matting.outline(turned, matting.HAIR), expected, atol=1e-9)


# ---- filters

@pytest.mark.parametrize("sigma", [1.5, 4.0, 11.0])
def test_blur_is_nearly_a_gaussian(sigma):
    point = np.zeros((121, 131), np.float32)
    point[60, 65] = 1
    out = matting.blur(point, sigma)
    y, x = np.mgrid[:121, :131] - np.array((60, 65))[:, None, None]
    found = np.sqrt((out * x * x).sum())
    assert abs(out.sum() - 1) < 1e-5 and abs(found / sigma - 1) < 0.15
    gaussian = np.exp(-0.5 * (x * x + y * y) / found**2) / (2 * np.pi * found**2)
    assert np.abs(out - gaussian).max() < 0.16 * gaussian.max()
    assert np.array_equal(matting.blur(np.stack([point] * 2, -1), sigma)[..., 1], out)
    np.testing.assert_allclose(matting.blur(np.full((20, 30), 0.7, np.float32), sigma), 0.7, atol=1e-6)


def test_guided_puts_a_soft_edge_where_the_guide_has_a_sharp_one():
    guide = np.repeat((np.arange(80) >= 40)[None], 60, 0).astype(np.float32)
    soft = np.repeat(np.clip((np.arange(80) - 30) / 20, 0, 1)[None], 60, 0).astype(np.float32)
    out = matting.guided(soft, guide, 4.0, 1e-4)
    step = np.diff(out[30])
    assert step.argmax() == 39 and step[39] > 5 * np.delete(step, 39).max()
    np.testing.assert_allclose(matting.guided(soft, np.full_like(soft, 0.3), 4.0, 1e-3),
                               matting.blur(matting.blur(soft, 4.0), 4.0), atol=1e-4)  # a flat guide says nothing
