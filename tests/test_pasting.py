"""Portraits go back to where their crops came from: exact in place, quiet outside, the same in any order."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from sigan import alignment, images, matting, pasting
from sigan.alignment import AlignedFace, Face
from sigan.errors import ConfigError

H, W = 420, 520


def square(x: float, y: float, side: float, degrees: float = 0.0) -> np.ndarray:
    """A quad about (x, y), turned clockwise."""
    angle = np.deg2rad(degrees)
    right, down = np.array((np.cos(angle), np.sin(angle))), np.array((-np.sin(angle), np.cos(angle)))
    corners = [(-1, -1), (-1, 1), (1, 1), (1, -1)]
    return np.float32([(x, y) + side / 2 * (u * right + v * down) for u, v in corners])


def framed(picture: np.ndarray, quad: np.ndarray, size: int) -> AlignedFace:
    """The face that the quad frames, with a usual jaw."""
    inside = np.concatenate([matting._usual(1) + 0.5, np.full((51, 2), 0.5)])
    points = quad[0] + inside[:, :1] * (quad[3] - quad[0]) + inside[:, 1:] * (quad[1] - quad[0])
    face = Face((0, 0, 1, 1), 1.0, points.astype(np.float32), "given")
    return AlignedFace(alignment.crop(picture, quad, size), quad, face)


def waves(height: int = H, width: int = W, seed: int = 0, finest: float = 12.0) -> np.ndarray:
    """Float [H,W,3] in 40..215 without detail finer than `finest` pixels."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    total = np.zeros((height, width, 3))
    for _ in range(12):
        wave = finest * draw.uniform(1, 6)
        angle, phase = draw.uniform(0, 2 * np.pi, 2)
        total += np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wave + phase)[..., None] * draw.normal(
            size=3)
    return 127.5 + 87 * total / np.abs(total).max()


def inside(quad: np.ndarray, share: float, shape: tuple[int, int] = (H, W)) -> np.ndarray:
    """Which pixels lie in the middle `share` of the quad."""
    y, x = np.mgrid[:shape[0], :shape[1]]
    offset = np.stack([x, y], -1) - quad.mean(0)
    right, down = quad[3] - quad[0], quad[1] - quad[0]
    return (np.abs(offset @ right / (right @ right)) < share / 2) & (np.abs(offset @ down / (down @ down)) < share / 2)


QUADS = [square(250, 200, 200), square(260.3, 190.8, 231.7, 17), square(240, 210, 180.4, -133),
         square(200, 180, 60, 40)]


@pytest.mark.parametrize("quad", QUADS)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_the_unchanged_crop_gives_the_picture_back(quad, size):
    picture = (waves() + np.random.default_rng(3).normal(0, 12, (H, W, 3))).clip(0, 255).astype(np.uint8)
    face = framed(picture, quad, size)
    error = np.abs(pasting.paste(picture, [face], [face.image]).astype(int) - picture)
    assert error[inside(quad, 0.4)].mean() < 2.2 and error.mean() < 0.6  # the noise has a deviation of 12
    assert not error[~inside(quad, 1.02)].any()


@pytest.mark.parametrize("quad", QUADS[:3])
@pytest.mark.parametrize("size", [96, 256])
def test_a_portrait_lies_where_its_face_was_to_a_fiftieth_of_a_pixel(quad, size):
    """Onto grey, which gives no detail, goes a crop of another picture: its shift, by least squares, is none."""
    other = waves(seed=5)
    flat = np.full((H, W, 3), 128, np.uint8)
    portrait = alignment.crop(np.rint(other).astype(np.uint8), quad, size)
    out = pasting.paste(flat, [framed(flat, quad, size)], [portrait]).astype(float)
    where = inside(quad, 0.25)
    slopes = np.stack([-np.gradient(other, axis=1)[where].ravel(), -np.gradient(other, axis=0)[where].ravel()], 1)
    residue = (out - other)[where].ravel()
    residue -= residue.mean()  # Pillow cuts the crop's fractions off: half a level
    shift = np.linalg.lstsq(slopes - slopes.mean(0), residue, rcond=None)[0]
    assert np.abs(shift).max() < 0.02
    assert np.abs(residue).mean() < 1.5


def test_detail_comes_from_the_photograph_where_the_portrait_follows_it():
    """A portrait of 48 pixels in a place of 240 keeps strands of 5; a grey portrait takes no colour from them."""
    y, x = np.mgrid[:H, :W]
    strands = 25 * np.sin(2 * np.pi * x / 5)
    soft = waves(finest=25)
    picture = (soft * 0.6 + 50 + strands[..., None] * (1, 0.7, 0.2)).clip(0, 255).astype(np.uint8)
    quad = square(250, 200, 240)
    face, where = framed(picture, quad, 48), inside(quad, 0.3)

    def strength(image: np.ndarray) -> float:
        wave = np.exp(-2j * np.pi * x / 5)[..., None]
        return float(np.abs((image * wave)[where].mean(0)).max())

    darker = (face.image * 0.8).astype(np.uint8)
    assert strength(pasting.paste(picture, [face], [darker])) > 0.6 * strength(picture)
    unlike = np.rint(images.resize(waves(240, 240, 9, 20).astype(np.uint8), 48)).astype(np.uint8)
    assert strength(pasting.paste(picture, [face], [unlike])) < 0.4 * strength(picture)
    grey = np.repeat((face.image @ np.array(images.LUMA))[..., None], 3, 2).round().astype(np.uint8)
    out = pasting.paste(picture, [face], [grey])[where].astype(int)
    assert np.ptp(out, axis=1).mean() < 3 < np.ptp(picture[where].astype(int), axis=1).mean()


def test_the_order_of_the_faces_does_not_matter():
    picture = waves().astype(np.uint8)
    faces = [framed(picture, square(180 + 70 * k, 200, 200 - 15 * k, 10 * k), 64) for k in range(3)]
    portraits = [np.full((64, 64, 3), 60 * k + 40, np.uint8) for k in range(3)]
    once = pasting.paste(picture, faces, portraits)
    for order in ([2, 1, 0], [1, 2, 0]):
        assert np.array_equal(once, pasting.paste(picture, [faces[k] for k in order], [portraits[k] for k in order]))


def test_no_face_is_covered_by_a_neighbours_portrait():
    """Two faces in each other's frames: the middle of each is its own."""
    picture = np.full((H, W, 3), 90, np.uint8)
    quads = [square(200, 200, 240), square(325, 200, 220)]
    faces = [framed(picture, quad, 64) for quad in quads]
    red, blue = (np.full((64, 64, 3), colour, np.uint8) for colour in ((200, 30, 30), (30, 30, 200)))
    out = pasting.paste(picture, faces, [red, blue]).astype(int)
    assert np.abs(out[210, 200] - (200, 30, 30)).max() < 12 and np.abs(out[210, 325] - (30, 30, 200)).max() < 12


def test_colours_meet_at_the_seam():
    """Beside a straight paste by the same mask, a portrait of other colours leaves no edge around it."""
    picture = waves(finest=80).astype(np.uint8)
    quad = square(250, 200, 240)
    face = framed(picture, quad, 128)
    portrait = (255 - face.image // 2).astype(np.uint8)
    out = pasting.paste(picture, [face], [portrait]).astype(float)
    corners = np.full((H, W, 3), 0.0)
    mask = np.float32(matting.head(face.image, face.landmarks))
    corners[80:320, 130:370] = images.resize(np.uint8(mask * 255)[..., None].repeat(3, 2), 240) / 255
    large = picture.astype(float)
    large[80:320, 130:370] = images.resize(portrait, 240)
    straight = picture + corners * (large - picture)

    def steps(image: np.ndarray) -> float:
        change = image - picture
        border = (corners[..., 0] > 0.02) & (corners[..., 0] < 0.5)
        return float(np.abs(np.stack(np.gradient(change, axis=(0, 1))))[:, border].mean())

    assert steps(out) < 0.5 * steps(straight)
    middle = inside(quad, 0.15)
    assert np.abs(out - large)[middle].mean() < 4  # the face itself is the portrait's


def test_strips_do_not_show(monkeypatch):
    picture = waves().astype(np.uint8)
    face = framed(picture, QUADS[1], 64)
    portrait = 255 - face.image
    whole = pasting.paste(picture, [face], [portrait])
    monkeypatch.setattr(pasting, "STRIP_PIXELS", 3000)
    assert np.abs(pasting.paste(picture, [face], [portrait]).astype(int) - whole).max() <= 1


def test_memory_is_the_picture_and_a_strip(monkeypatch):
    monkeypatch.setattr(pasting, "STRIP_PIXELS", 1 << 16)
    picture = np.full((3000, 3000, 3), 90, np.uint8)
    face = framed(picture, square(1500, 1500, 2400, 20), 64)
    tracemalloc.start()
    try:
        pasting.paste(picture, [face], [face.image])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * picture.nbytes  # the result, and 20 MB for strips of 65,536 pixels


def test_a_face_at_the_pictures_edge_is_pasted_as_far_as_it_is_there():
    picture = waves().astype(np.uint8)
    quad = square(20, 30, 200, 10)
    face = framed(picture, quad, 64)
    out = pasting.paste(picture, [face], [255 - face.image])
    assert out.shape == picture.shape and np.abs(out.astype(int) - picture)[20:60, 5:40].mean() > 10


def test_the_picture_is_left_as_it_was_and_no_faces_change_nothing():
    picture = waves().astype(np.uint8)
    before = picture.copy()
    out = pasting.paste(picture, [], [])
    pasting.paste(picture, [face := framed(picture, QUADS[0], 64)], [255 - face.image])
    assert np.array_equal(picture, before) and np.array_equal(out, picture) and out is not picture


def test_as_many_portraits_as_faces():
    picture = waves().astype(np.uint8)
    with pytest.raises(ConfigError, match="1 faces and 0 portraits"):
        pasting.paste(picture, [framed(picture, QUADS[0], 64)], [])


@pytest.mark.parametrize(("width", "enough"), [(63.5, False), (64.5, True)])
def test_a_face_is_large_enough_by_its_width(width, enough):
    picture = waves().astype(np.uint8)
    assert pasting.large_enough(framed(picture, square(200, 200, width, 33), 64)) is enough
