from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigan import alignment, detection, images
from sigan.alignment import Face
from sigan.errors import ConfigError, InputError, NoFaceError, WeightsError

SQUARE = np.array(((20, 10), (20, 70), (80, 70), (80, 10)), np.float32)


@pytest.fixture(scope="module")
def aligner():
    return alignment.DlibAligner()


@pytest.fixture
def iu(shared):
    return images.read(shared / "portraits/photos/iu.jpeg")


def oracle(shared):
    for entry in json.loads((shared / "oracles/align/align.json").read_text()):
        folder = "portraits/photos" if entry["name"] == "real_iu" else "oracles/align"
        yield entry, images.read(shared / folder / entry["source"]), np.array(entry["landmarks"])


def test_paper_mode_holds_the_authors_crops(shared):
    for entry, image, landmarks in oracle(shared):
        cut = alignment.crop(image, alignment.quad(landmarks), 256, "paper").astype(int)
        assert np.abs(cut - images.read(shared / "oracles/align" / entry["out"])).max() <= 1, entry["name"]


def test_area_mode_agrees_with_the_authors_where_nothing_shrinks(shared):
    entry, image, landmarks = next(oracle(shared))
    cut = alignment.crop(image, alignment.quad(landmarks), 256).astype(int)
    assert np.abs(cut - images.read(shared / "oracles/align" / entry["out"])).mean() < 0.5


def test_our_landmarks_are_the_authors_within_half_a_percent(shared, aligner):
    *_, (_, image, landmarks) = oracle(shared)
    expected = alignment.quad(landmarks)
    (face,) = aligner.find(image)
    assert np.abs(alignment.quad(face.landmarks) - expected).max() < 0.005 * np.ptp(expected)


def test_quad_moves_turns_and_grows_with_the_landmarks():
    landmarks = np.random.default_rng(0).normal(size=(68, 2))
    turn = np.array(((0.6, -0.8), (0.8, 0.6))) * 3
    expected = alignment.quad(landmarks) @ turn.T + (5, -7)
    assert np.allclose(alignment.quad(landmarks @ turn.T + (5, -7)), expected, atol=1e-4)


@pytest.mark.parametrize("landmarks", [np.zeros((5, 2)), np.zeros((68, 2)), np.full((68, 2), np.nan)])
def test_landmarks_that_span_no_face_are_refused(landmarks):
    with pytest.raises(InputError, match="landmarks") as caught:
        alignment.quad(landmarks)
    assert caught.value.hint


@pytest.mark.parametrize("mode", alignment.MODES)
@pytest.mark.parametrize("size", [16, 60, 200])
def test_a_ramp_stays_the_same_ramp_at_every_size(mode, size):
    y, x = np.mgrid[:100, :120]
    image = np.uint8(np.stack([x * 2, y * 2, x + y], 2))
    cut = alignment.crop(image, SQUARE, size, mode).astype(float)
    step = (np.arange(size) + 0.5) / size * 60  # the quad's corners are whole pixels' centres
    assert np.abs(cut[..., 0] - 2 * (20 + step)[None]).max() <= 1.6
    assert np.abs(cut[..., 1] - 2 * (10 + step)[:, None]).max() <= 1.6


def test_area_mode_averages_what_paper_mode_aliases():
    image = np.zeros((512, 512, 3), np.uint8)
    image[:, ::2] = 255
    quad = np.array(((100, 100), (100, 400), (400, 400), (400, 100)), np.float32)
    assert alignment.crop(image, quad, 100)[5:-5, 5:-5].std() < 8
    assert alignment.crop(image, quad, 200, "paper").std() > 40


def test_outside_the_picture_nothing_is_black():
    cut = alignment.crop(np.full((40, 40, 3), 200, np.uint8), SQUARE, 32)
    assert cut.min() >= 199


@pytest.mark.parametrize("quad", [SQUARE + 5000, SQUARE * 1000, SQUARE * 0, SQUARE * np.nan])
def test_a_frame_off_the_picture_is_refused(quad):
    with pytest.raises(InputError, match="40 x 40 picture"):
        alignment.crop(np.zeros((40, 40, 3), np.uint8), quad, 32)


def test_an_unknown_crop_mode_is_named():
    with pytest.raises(ConfigError, match="'cubic'"):
        alignment.crop(np.zeros((40, 40, 3), np.uint8), SQUARE, 32, "cubic")


def test_every_photograph_and_drawing_has_one_face_of_plausible_size(shared, aligner):
    paths = [*(shared / "portraits/photos").iterdir(), *(shared / "portraits/styles").glob("*/*")]
    assert len(paths) == 30
    for path in paths:
        image = images.read(path)
        faces = aligner.find(image)
        assert [face.rung for face in faces] == ["hog"], path
        frame = alignment.quad(faces[0].landmarks)
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
            errors.append(np.abs(alignment.quad(face.landmarks) / len(image) - corners).max())
    assert np.median(errors) < 0.03 and max(errors) < 0.1


def test_a_mirrored_picture_gives_the_mirrored_frame(iu, aligner):
    (face,), (mirrored,) = aligner.find(iu), aligner.find(iu[:, ::-1].copy())
    frame = alignment.quad(face.landmarks)
    expected = np.stack([iu.shape[1] - 1 - frame[[3, 2, 1, 0], 0], frame[[3, 2, 1, 0], 1]], 1)
    assert np.abs(alignment.quad(mirrored.landmarks) - expected).max() < 0.02 * np.ptp(frame)


def test_landmarks_follow_into_the_crop(iu, aligner):
    (cut,) = alignment.align(iu, 256, aligner=aligner)
    (again,) = aligner.find(cut.image)
    assert np.abs(cut.landmarks - again.landmarks).mean() < 3
    framed = np.array(((0, 0), (0, 255), (255, 255), (255, 0)))
    assert np.abs(alignment.quad(cut.landmarks) - framed).max() < 0.6


def test_several_faces_come_from_left_to_right_and_the_largest_alone(iu, aligner):
    half = np.array(Image.fromarray(iu).reduce(2))
    both = np.full((1079, 1400, 3), 255, np.uint8)
    both[-half.shape[0]:, :half.shape[1]], both[:, -900:] = half, iu
    small, large = alignment.align(both, 64, faces="all", aligner=aligner)
    assert small.quad[:, 0].max() < 700 < large.quad[:, 0].mean() and np.ptp(small.quad) < np.ptp(large.quad)
    (only,) = alignment.align(both, 64, aligner=aligner)
    assert np.abs(only.quad - large.quad).max() < 20
    assert np.abs(small.image.astype(int) - large.image).mean() < 12  # the same person, cut from two sizes


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
    assert np.abs(alignment.quad(face.landmarks) - alignment.quad(hog.landmarks)).max() < 0.08 * 851


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_picture_on_its_side_gives_the_same_upright_face(iu, aligner, k):
    (upright,) = alignment.align(iu, 64, aligner=aligner)
    (turned,) = alignment.align(np.rot90(iu, k).copy(), 64, aligner=aligner)
    assert turned.face.rung == "hog-turned"
    assert np.abs(turned.image.astype(int) - upright.image).mean() < 3
    centre = (np.reshape(turned.face.box, (2, 2)).mean(0) - turned.face.landmarks.mean(0)) / 522
    assert np.abs(centre).max() < 0.15


def test_fur_beside_a_face_is_not_a_face(shared, aligner):
    path = shared / "portraits/photos-clean/generated-00.jpg"
    assert len(alignment.align(path, 32, faces="all", aligner=aligner)) == 1


def test_an_upside_down_answer_is_not_believed(iu, aligner, monkeypatch):
    points = aligner.find(iu)[0].landmarks
    assert detection._plausible(Face((219, 333, 741, 858), 1.0, points, "hog"))
    assert not detection._plausible(Face((219, 333, 741, 858), 1.0, points * (1, -1), "hog"))
    assert not detection._plausible(Face((0, 0, 9000, 9000), 1.0, points, "hog"))


def test_no_face_names_the_file_and_a_remedy(tmp_path, aligner):
    path = tmp_path / "wall.png"
    images.write(path, np.full((120, 160, 3), 128, np.uint8))
    with pytest.raises(NoFaceError, match="wall.png") as caught:
        alignment.align(path, 64, aligner=aligner)
    assert "--aligned" in caught.value.hint


def test_aligned_takes_the_middle_square():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 10:50] = 255
    (face,) = alignment.align(image, 20, aligned=True)
    assert face.image.min() == 255 and face.face is None
    assert np.array_equal(alignment.crop(image, face.quad, 20)[2:-2, 2:-2], face.image[2:-2, 2:-2])


def test_given_landmarks_replace_the_detector(shared, monkeypatch):
    _, image, landmarks = next(oracle(shared))
    monkeypatch.setattr(alignment.DlibAligner, "find", None)
    (face,) = alignment.align(image, 64, landmarks=landmarks)
    assert face.face.rung == "given" and np.array_equal(face.quad, alignment.quad(landmarks))


@pytest.mark.parametrize(("wrong", "message"), [({"faces": "two"}, "'two'"), ({"size": 0}, "size is 0")])
def test_wrong_options_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        alignment.align(np.zeros((8, 8, 3), np.uint8), **wrong)


def test_missing_weights_are_named():
    with pytest.raises(WeightsError, match="nothing.dat") as caught:
        alignment.model_path("nothing.dat")
    assert "pip install" in caught.value.hint


def test_an_aligner_travels_without_its_weights(iu, aligner):
    (face,), (again,) = aligner.find(iu), pickle.loads(pickle.dumps(aligner)).find(iu)
    assert np.array_equal(face.landmarks, again.landmarks)


def test_importing_loads_neither_torch_nor_dlib():
    code = "import sys, sigan.alignment; sys.exit(bool({'torch', 'dlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0
