"""Who is in a face, against dlib called directly."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from sigan import alignment, detection
from sigan.errors import NoFaceError
from sigan.identity import Identity, misplaced, offset, on_size


@pytest.fixture(scope="module")
def identity():
    return Identity()


@pytest.fixture
def photos(shared):
    return shared / "portraits/photos"


def test_one_person_is_near_and_another_far(photos, identity):
    one, other = (alignment.align(photos / name, 128, aligner=identity.aligner)[0] for name in ("iu.jpeg", "21.jpeg"))
    changed = np.array(ImageOps.autocontrast(Image.fromarray(one.image).filter(ImageFilter.GaussianBlur(1))))
    same = identity.compare(changed, one)
    assert same.found and same.distance < 0.35
    assert identity.compare(other.image, one).distance > 0.6
    assert identity.distance(identity.descriptor(one.image), identity.descriptor(other.image)) > 0.6


def test_a_result_without_a_face_uses_the_photographs_landmarks(photos, identity, monkeypatch):
    (one,) = alignment.align(photos / "iu.jpeg", 128, aligner=identity.aligner)
    monkeypatch.setattr(identity.aligner, "find_framed", lambda *_, **__: None)
    missed = identity.compare(one.image, one)
    assert not missed.found and missed.distance < 1e-6
    assert identity.descriptor(one.image) is None
    with pytest.raises(NoFaceError):
        identity.compare(one.image, alignment.AlignedFace(one.image, one.quad))


def test_a_face_found_elsewhere_is_not_the_results(photos, identity, monkeypatch):
    (one,) = alignment.align(photos / "iu.jpeg", 128, aligner=identity.aligner)
    stray = alignment.Face((0, 0, 20, 20), 1.0, np.asarray(one.landmarks) * 0.1, "hog")
    monkeypatch.setattr(identity.aligner, "find_framed", lambda *_, **__: stray)
    assert not identity.compare(one.image, one).found


def test_the_descriptor_is_dlibs(photos, identity):
    """dlib called directly on the same pixels and points, by way of its own chip and net."""
    import dlib

    (one,) = alignment.align(photos / "iu.jpeg", 256, aligner=identity.aligner)
    points = [dlib.point(round(float(x)), round(float(y))) for x, y in one.landmarks]
    shape = dlib.full_object_detection(dlib.rectangle(0, 0, 255, 255), points)
    net = dlib.face_recognition_model_v1(str(detection.model_path("dlib_face_recognition_resnet_model_v1.dat")))
    chip = dlib.get_face_chip(one.image, shape, 150, 0.25)
    assert np.allclose(identity.descriptor(one.image, one.landmarks), net.compute_face_descriptor(chip), atol=1e-6)
    assert identity.distance(np.zeros(128), np.full(128, 0.5)) == pytest.approx(0.5 * 128**0.5)


def test_a_framed_face_is_found_where_the_ladder_finds_it(photos, identity):
    (one,) = alignment.align(photos / "iu.jpeg", 256, aligner=identity.aligner)
    (whole,) = identity.aligner.find(one.image)
    framed = identity.aligner.find_framed(one.image)
    assert offset(framed.landmarks, whole.landmarks) < 0.02 * 256
    assert offset(framed.landmarks, one.landmarks) < 0.04 * 256
    assert identity.aligner.find_framed(np.full((64, 64, 3), 128, np.uint8)) is None


def test_an_aligner_of_a_plugin_need_not_know_frames(photos):
    class Other:
        def find(self, image, every=False):
            return [alignment.Face((0, 0, w, w), 1.0, np.full((68, 2), w, np.float32), "own") for w in (3, 9, 5)]

    assert Identity(Other()).find(np.zeros((9, 9, 3), np.uint8)).landmarks[0, 0] == 9


def test_faces_are_misplaced_by_their_distance_and_only_where_they_are_clear():
    points = np.full((68, 2), 31.5)
    assert np.allclose(on_size(points, 64, 128), 63.5)
    clear = alignment.Face((0, 0, 9, 9), 0.9, points + 10, "hog")
    perhaps = alignment.Face((0, 0, 9, 9), 0.1, points + 10, "hog")
    assert offset(points + 10, points) == pytest.approx(10 * 2**0.5)
    assert misplaced(clear, points, 64) and not misplaced(perhaps, points, 64) and not misplaced(clear, points, 128)
    assert not misplaced(None, points, 64)
