"""References: every picture with its face or its error, and landmarks for faces that no detector finds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sigan import alignment, references
from sigan.errors import ConfigError, InputError, NoFaceError

POINTS = [[48, 48]] * 36 + [[36, 43]] * 6 + [[60, 43]] * 6 + [[40, 67]] + [[48, 67]] * 5 + [[56, 67]] + [[48, 60]] * 13


@pytest.mark.usefixtures("pretend_faces")
def test_each_picture_is_a_reference_or_an_error(draw, tmp_path):
    paths = [draw(tmp_path / "a.png"), draw(tmp_path / "grey.png", 0), tmp_path / "torn.png"]
    paths[2].write_text("torn")
    found, errors = references.gather(paths, 32)
    assert [one.path for one in found] == paths[:1] and found[0].face.image.shape == (32, 32, 3)
    assert found[0].rung == "hog" and found[0].size == (96, 96) and found[0].side == pytest.approx(98, abs=60)
    assert [type(error) for error in errors][0] is NoFaceError
    assert all(str(path) in error.message for path, error in zip(paths[1:], errors, strict=True))


@pytest.mark.usefixtures("pretend_faces")
def test_landmarks_take_the_place_of_the_detector(draw, tmp_path):
    path = draw(tmp_path / "grey.png", 0)
    for given in ({"grey.png": POINTS}, {"": POINTS}):
        (one,), errors = references.gather([path], 32, landmarks=given)
        assert one.rung == "given" and not errors
        np.testing.assert_allclose(one.face.quad, alignment.quad(np.array(POINTS)), atol=1e-4)


@pytest.mark.usefixtures("pretend_faces")
def test_framed_pictures_are_taken_whole(draw, tmp_path):
    (one,), _ = references.gather([draw(tmp_path / "a.png")], 32, aligned=True)
    assert one.rung == references.WHOLE and one.side == 96


def test_wrong_landmarks_are_named(draw, tmp_path):
    path = draw(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="b.png, which is no reference"):
        references.gather([path], 32, landmarks={"b.png": POINTS})
    with pytest.raises(ConfigError, match="one picture; there are 2"):
        references.gather([path, path], 32, landmarks={"": POINTS})
    for points in (POINTS[:5], "nonsense", [[1, 2], [3]]):
        found, (error,) = references.gather([path], 32, landmarks={"a.png": points})
        assert not found and type(error) is InputError and "a.png" in error.message and "68" in f"{error} {error.hint}"


def test_landmarks_files(tmp_path):
    file = tmp_path / "points.json"
    file.write_text(json.dumps({"a.png": POINTS}))
    assert references.read_landmarks(file) == {"a.png": POINTS}
    file.write_text(json.dumps(POINTS))
    assert references.read_landmarks(file) == {"": POINTS}
    for text, message in (("{", "cannot be read as JSON"), ("3", "neither points nor pictures")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            references.read_landmarks(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        references.read_landmarks(tmp_path / "none.json")
