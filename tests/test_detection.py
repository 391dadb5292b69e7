"""The detector's ladder, on real photographs and drawings where they are, and with eyes of our own."""

from __future__ import annotations

import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from sigan import cropping, detection, images
from sigan.detection import DlibAligner, Face
from sigan.errors import WeightsError


@pytest.fixture(scope="module")
def aligner():
    return DlibAligner()


@pytest.fixture
def iu(shared):
    return images.read(shared / "portraits/photos/iu.jpeg")


def test_our_landmarks_are_the_authors_within_half_a_percent(shared, aligner):
    entry = json.loads((shared / "oracles/align/align.json").read_text())[-1]
    image, landmarks = images.read(shared / "portraits/photos/iu.jpeg"), np.array(entry["landmarks"])
    expected = cropping.quad(landmarks)
    (face,) = aligner.find(image)
    assert np.abs(cropping.quad(face.landmarks) - expected).max() < 0.005 * np.ptp(expected)


def test_every_photograph_and_drawing_has_one_face_of_plausible_size(shared, aligner):
    paths = [*(shared / "portraits/photos").iterdir(), *(shared / "portraits/styles").glob("*/*")]
    assert len(paths) == 30
    for path in paths:
        image = images.read(path)
        faces = aligner.find(image)
        assert [face.rung for face in faces] == ["hog"], path
        frame = cropping.quad(faces[0].landmarks)
        centre = frame.mean(0) / image.shape[1::-1]
        assert 0.3 < np.hypot(*(frame[3] - frame[0])) / min(image.shape[:2]) < 1.4, path
        assert (0.2 < centre).all() and (centre < 0.8).all(), path


def test_faces_framed_by_ffhq_itself_keep_their_frame(shared, aligner):
    corners = np.array(((0, 0), (0, 1), (1, 1), (1, 0)))
    errors = []
    with tarfile.open(shared / "faces/validation.tar") as tar:
        members = [member for member in tar if "ffhq" in member.name][:8]
        for member in members:
            image = np.array(Image.open(tar.extractfile(member)).convert("RGB"))
            (face,) = aligner.find(image)
            errors.append(np.abs(cropping.quad(face.landmarks) / len(image) - corners).max())
    assert np.median(errors) < 0.03 and max(errors) < 0.1


def test_a_mirrored_picture_gives_the_mirrored_frame(iu, aligner):
    (face,), (mirrored,) = aligner.find(iu), aligner.find(iu[:, ::-1].copy())
    frame = cropping.quad(face.landmarks)
    expected = np.stack([iu.shape[1] - 1 - frame[[3, 2, 1, 0], 0], frame[[3, 2, 1, 0], 1]], 1)
    assert np.abs(cropping.quad(mirrored.landmarks) - expected).max() < 0.02 * np.ptp(frame)


def test_a_small_face_is_found_by_the_finer_rung(iu, aligner):
    tiny = np.array(Image.fromarray(iu).resize((140, 168)))
    wide = np.full((1200, 1600, 3), 255, np.uint8)
    wide[500:668, 700:840] = tiny
    (face,) = aligner.find(wide)
    assert face.rung == "hog-fine" and 700 < face.box[0] < face.box[2] < 840


def test_the_ladder_goes_down_to_the_network(iu, aligner, monkeypatch):
    (hog,) = aligner.find(iu)
    monkeypatch.setattr(aligner, "_hog", lambda *_: [])
    (face,) = aligner.find(iu)
    assert face.rung == "cnn"
    assert np.abs(cropping.quad(face.landmarks) - cropping.quad(hog.landmarks)).max() < 0.08 * 851


def test_an_upside_down_answer_is_not_believed(iu, aligner, monkeypatch):
    points = aligner.find(iu)[0].landmarks
    assert detection._plausible(Face((219, 333, 741, 858), 1.0, points, "hog"))
    assert not detection._plausible(Face((219, 333, 741, 858), 1.0, points * (1, -1), "hog"))
    assert not detection._plausible(Face((0, 0, 9000, 9000), 1.0, points, "hog"))


def test_missing_weights_are_named():
    with pytest.raises(WeightsError, match="nothing.dat") as caught:
        detection.model_path("nothing.dat")
    assert "pip install" in caught.value.hint


def test_an_aligner_travels_without_its_weights(iu, aligner):
    (face,), (again,) = aligner.find(iu), pickle.loads(pickle.dumps(aligner)).find(iu)
    assert np.array_equal(face.landmarks, again.landmarks)


def on_white(iu, height, size=(1200, 1600)):
    """The portrait, so many pixels high, in the middle of a white picture."""
    img = Image.fromarray(iu)
    img = img.resize((round(img.width * height / img.height), height))
    wide = Image.new("RGB", size[::-1], "white")
    wide.paste(img, ((wide.width - img.width) // 2, (wide.height - img.height) // 2))
    return np.array(wide)


@pytest.mark.parametrize(("height", "rung"), [(1100, "hog"), (500, "hog"), (160, "hog-fine")])
def test_the_same_frame_is_found_at_every_size(iu, aligner, height, rung):
    """In 1600 pixels: large enough for the quick look, for the usual one, for the fine one."""
    (face,), (alone,) = aligner.find(on_white(iu, height)), aligner.find(iu)
    scale = height / iu.shape[0]
    expected = cropping.quad(alone.landmarks) * scale + ((1600 - iu.shape[1] * scale) / 2, (1200 - height) / 2)
    assert face.rung == rung
    assert np.abs(cropping.quad(face.landmarks) - expected).max() < 0.04 * np.ptp(expected)


class Eyes(DlibAligner):
    """Sees what it is told to, (score, by which looks); every face has the landmarks that suit its box."""

    def __init__(self, seen):
        super().__init__()
        self.seen, self.looks = seen, []

    def _hog(self, image, side, threshold=0.0):
        self.looks.append(side)
        return [((10.0 + k, 10.0, 50.0 + k, 50.0), score) for k, (score, sides) in enumerate(self.seen)
                if score >= threshold and side in sides]

    def _cnn(self, image):
        self.looks.append("cnn")
        return []

    def landmarks(self, image, box):
        points = np.full((68, 2), 30, np.float32)
        points[36:42], points[42:48], points[[48, 54]] = (22, 22), (38, 22), ((25, 40), (35, 40))
        return points


@pytest.mark.parametrize(("seen", "every", "rung", "scores", "looks"), [
    ([(2.0, {400, 640})], False, "hog", [2.0], [400]),
    ([(0.2, {400, 640})], False, "hog", [0.2], [400, 640]),
    ([(1.0, {1280})], False, "hog-fine", [1.0], [400, 640, 1280]),
    ([(1.0, {640, 1280}), (0.9, {1280})], True, "hog-fine", [1.0, 0.9], [1280]),
    ([(1.0, {640, 1280}), (0.2, {640, 1280})], False, "hog", [1.0], [400, 640]),
    ([(-0.1, {640}), (-0.2, {640})], False, "hog-low", [-0.1], [400, 640, 1280, 640, 640, 640, "cnn"]),
    ([(-0.1, {640})], True, "hog-low", [-0.1], [1280, 640, 640, 640, "cnn", 640]),
    ([(0.2, {640})], True, "hog-low", [0.2], [1280, 640, 640, 640, "cnn", 640]),
    ([(-0.6, {400, 640, 1280})], False, None, [], [400, 640, 1280, 640, 640, 640, "cnn"])])
def test_the_rungs_are_tried_in_order_and_none_twice(seen, every, rung, scores, looks):
    eyes = Eyes(seen)
    faces = eyes.find(np.zeros((900, 1300, 3), np.uint8), every)
    assert [face.score for face in faces] == scores and eyes.looks == looks
    assert {face.rung for face in faces} == ({rung} if rung else set())


def test_without_the_networks_file_its_rung_is_left_out(iu, aligner, monkeypatch):
    real = detection.model_path

    def missing(name):
        if name == detection.CNN:
            raise WeightsError("missing", "install it")
        return real(name)

    fresh = DlibAligner()
    monkeypatch.setattr(detection, "model_path", missing)
    assert fresh.find(np.full((90, 90, 3), 200, np.uint8)) == []
    monkeypatch.setattr(fresh, "_cnn", lambda _: pytest.fail("the first look is enough"))
    assert len(fresh.find(iu)) == 1
