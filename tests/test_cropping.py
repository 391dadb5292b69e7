"""The frame and the crop: against the authors' own, ramps, and the exact arithmetic."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sigan import cropping, images
from sigan.errors import ConfigError, InputError

SQUARE = np.array(((20, 10), (20, 70), (80, 70), (80, 10)), np.float32)


def oracle(shared):
    for entry in json.loads((shared / "oracles/align/align.json").read_text()):
        folder = "portraits/photos" if entry["name"] == "real_iu" else "oracles/align"
        yield entry, images.read(shared / folder / entry["source"]), np.array(entry["landmarks"])


def test_paper_mode_holds_the_authors_crops(shared):
    for entry, image, landmarks in oracle(shared):
        cut = cropping.crop(image, cropping.quad(landmarks), 256, "paper").astype(int)
        assert np.abs(cut - images.read(shared / "oracles/align" / entry["out"])).max() <= 1, entry["name"]


def test_area_mode_agrees_with_the_authors_where_nothing_shrinks(shared):
    entry, image, landmarks = next(oracle(shared))
    cut = cropping.crop(image, cropping.quad(landmarks), 256).astype(int)
    assert np.abs(cut - images.read(shared / "oracles/align" / entry["out"])).mean() < 0.5


def test_quad_moves_turns_and_grows_with_the_landmarks():
    landmarks = np.random.default_rng(0).normal(size=(68, 2))
    turn = np.array(((0.6, -0.8), (0.8, 0.6))) * 3
    expected = cropping.quad(landmarks) @ turn.T + (5, -7)
    assert np.allclose(cropping.quad(landmarks @ turn.T + (5, -7)), expected, atol=1e-4)


@pytest.mark.parametrize("landmarks", [np.zeros((5, 2)), np.zeros((68, 2)), np.full((68, 2), np.nan)])
def test_landmarks_that_span_no_face_are_refused(landmarks):
    with pytest.raises(InputError, match="landmarks") as caught:
        cropping.quad(landmarks)
    assert caught.value.hint


@pytest.mark.parametrize("mode", cropping.MODES)
@pytest.mark.parametrize("size", [16, 60, 200])
def test_a_ramp_stays_the_same_ramp_at_every_size(mode, size):
    y, x = np.mgrid[:100, :120]
    image = np.uint8(np.stack([x * 2, y * 2, x + y], 2))
    cut = cropping.crop(image, SQUARE, size, mode).astype(float)
    step = (np.arange(size) + 0.5) / size * 60  # the quad's corners are whole pixels' centres
    assert np.abs(cut[..., 0] - 2 * (20 + step)[None]).max() <= 1.6
    assert np.abs(cut[..., 1] - 2 * (10 + step)[:, None]).max() <= 1.6


def test_area_mode_averages_what_paper_mode_aliases():
    image = np.zeros((512, 512, 3), np.uint8)
    image[:, ::2] = 255
    quad = np.array(((100, 100), (100, 400), (400, 400), (400, 100)), np.float32)
    assert cropping.crop(image, quad, 100)[5:-5, 5:-5].std() < 8
    assert cropping.crop(image, quad, 200, "paper").std() > 40


def test_outside_the_picture_nothing_is_black():
    cut = cropping.crop(np.full((40, 40, 3), 200, np.uint8), SQUARE, 32)
    assert cut.min() >= 199


@pytest.mark.parametrize("quad", [SQUARE + 5000, SQUARE * 1000, SQUARE * 0, SQUARE * np.nan])
def test_a_frame_off_the_picture_is_refused(quad):
    with pytest.raises(InputError, match="40 x 40 picture"):
        cropping.crop(np.zeros((40, 40, 3), np.uint8), quad, 32)


def test_an_unknown_crop_mode_is_named():
    with pytest.raises(ConfigError, match="'cubic'"):
        cropping.crop(np.zeros((40, 40, 3), np.uint8), SQUARE, 32, "cubic")


@pytest.mark.parametrize("frame", [((-300, -200), (-300, 400), (300, 400), (300, -200)),
                                   ((-40, 90), (60, 380), (350, 280), (250, -10))])
def test_the_quick_fade_is_the_exact_one_to_a_few_levels(frame):
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 255, (12, 10, 3), np.uint8)).resize((300, 360), Image.Resampling.BICUBIC)
    noisy = np.clip(np.int16(smooth) + rng.integers(-30, 30, (360, 300, 3)), 0, 255).astype(np.uint8)
    quad = np.array(frame, np.float64)
    exact, quick = (np.int16(cropping._pad(Image.fromarray(noisy), quad, exact)[0]) for exact in (True, False))
    assert exact.shape == quick.shape and exact.shape[0] > 400
    assert np.abs(exact - quick).max() <= 8 and np.abs(exact - quick).mean() < 0.5
