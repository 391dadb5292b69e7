"""From files to faces: the same crop whatever is decoded of the picture, the notes, and the remedies."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigan import alignment, cropping, images, pictures
from sigan.errors import ConfigError, NoFaceError


@pytest.fixture(scope="module")
def aligner():
    return alignment.DlibAligner()


@pytest.fixture
def iu(shared):
    return images.read(shared / "portraits/photos/iu.jpeg")


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
    entry = json.loads((shared / "oracles/align/align.json").read_text())[0]
    image, landmarks = images.read(shared / "oracles/align" / entry["source"]), np.array(entry["landmarks"])
    monkeypatch.setattr(alignment.DlibAligner, "find", None)
    (face,) = alignment.align(image, 64, landmarks=landmarks)
    assert face.face.rung == "given" and np.array_equal(face.quad, alignment.quad(landmarks))


@pytest.mark.parametrize(("wrong", "message"), [({"faces": "two"}, "'two'"), ({"size": 0}, "size is 0"),
                                               ({"no_face": "centre"}, "'centre'")])
def test_wrong_options_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        alignment.align(np.zeros((8, 8, 3), np.uint8), **wrong)


def test_importing_loads_neither_torch_nor_dlib():
    code = "import sys, sigan.alignment; sys.exit(bool({'torch', 'dlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


# ---- no more of the picture than is needed

def enlarged(iu, tmp_path, times, name, orientation=1, **options):
    """The photograph as a file of so many times its size, stored as a camera held that way stores it."""
    img = Image.fromarray(iu).resize((iu.shape[1] * times, iu.shape[0] * times), Image.Resampling.BICUBIC)
    back = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    (img.transpose(back) if back is not None else img).save(tmp_path / name, exif=exif, **options)
    return tmp_path / name


@pytest.fixture
def decoded(monkeypatch):
    """The sizes to which files were decoded, in order."""
    sizes, load = [], pictures._simple
    monkeypatch.setattr(pictures, "_simple", lambda img: sizes.append(img.size) or load(img))
    return sizes


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_large_jpeg_gives_the_same_face_from_a_quarter_of_its_side(iu, aligner, tmp_path, decoded, orientation):
    (small,) = alignment.align(iu, 128, aligner=aligner)
    (large,) = alignment.align(enlarged(iu, tmp_path, 5, "a.jpg", orientation, quality=90), 128, aligner=aligner)
    assert decoded == [(1349, 1125) if orientation == 6 else (1125, 1349)]
    assert np.abs((large.quad + 0.5) / 5 - 0.5 - small.quad).max() < 0.01 * np.ptp(small.quad)
    assert np.abs(large.image.astype(int) - cropping.crop(iu, (large.quad + 0.5) / 5 - 0.5, 128)).mean() < 2
    assert np.abs((large.face.landmarks + 0.5) / 5 - 0.5 - small.face.landmarks).mean() < 3


def test_another_format_is_decoded_once(iu, aligner, tmp_path, decoded):
    (large,) = alignment.align(enlarged(iu, tmp_path, 3, "a.png", compress_level=1), 128, aligner=aligner)
    assert decoded == [(iu.shape[1] * 3, iu.shape[0] * 3)]
    assert np.abs(large.image.astype(int) - cropping.crop(iu, (large.quad + 0.5) / 3 - 0.5, 128)).mean() < 2


def test_a_small_face_in_a_large_picture_is_read_again_where_it_is_sharp(iu, aligner, tmp_path, decoded):
    (small,) = alignment.align(iu, 256, aligner=aligner)
    scene = np.full((2900, 3900, 3), 255, np.uint8)
    scene[1500:1500 + iu.shape[0], 2000:2000 + iu.shape[1]] = iu
    Image.fromarray(scene).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    found = alignment.find(tmp_path / "a.jpg", 256, aligner=aligner)
    (face,) = found.faces
    assert decoded == [(1950, 1450), (3900, 2900)] and found.notes == ()
    assert np.abs(face.quad - (2000, 1500) - small.quad).max() < 0.015 * np.ptp(small.quad)
    assert np.abs(face.image.astype(int) - cropping.crop(scene, face.quad, 256)).mean() < 2


def test_an_aligner_that_only_finds_is_enough(iu, tmp_path):
    class Finder:
        def find(self, image, every=False):
            assert max(image.shape) < 2600
            height, width, _ = image.shape
            points = np.full((68, 2), (width / 2, height / 2), np.float32)
            points[36:42], points[42:48] = (width * 0.45, height * 0.45), (width * 0.55, height * 0.45)
            points[[48, 54]] = (width * 0.47, height * 0.55), (width * 0.53, height * 0.55)
            return [alignment.Face((0, 0, width, height), 1.0, points, "mine")]

    (large,) = alignment.align(enlarged(iu, tmp_path, 4, "a.jpg"), 700, aligner=Finder())
    (small,) = alignment.align(iu, 700, aligner=Finder())
    assert np.abs(large.quad.mean(0) - (1800, 0.46 * 4316)).max() < 4 and large.face.rung == "mine"
    assert np.abs(large.image.astype(int) - small.image).mean() < 4


def test_the_middle_square_of_a_large_jpeg_is_that_of_the_whole(iu, tmp_path, decoded):
    path = enlarged(iu, tmp_path, 4, "a.jpg", quality=95)
    (face,) = alignment.align(path, 100, aligned=True)
    assert decoded == [(450, 540)]
    whole, side = images.read(path), 3600
    top = (whole.shape[0] - side) // 2
    assert np.abs(face.image.astype(int) - images.resize(whole[top:top + side], 100)).mean() < 1
    assert face.quad.tolist() == [[-0.5, top - 0.5], [-0.5, top + 3599.5], [3599.5, top + 3599.5], [3599.5, top - 0.5]]


# ---- what is told

def test_an_unusual_rung_is_told(iu, aligner):
    found = alignment.find(np.rot90(iu).copy(), 64, aligner=aligner)
    assert found.notes == ("found after turning the picture, which lies on its side or head (hog-turned)",)
    assert alignment.find(iu, 64, aligner=aligner).notes == ()


def test_more_faces_than_asked_for_are_told(iu, aligner):
    both = np.concatenate([iu, iu], 1)
    found = alignment.find(both, 64, aligner=aligner)
    assert (found.count, len(found.faces)) == (2, 1) and "2 faces, the largest taken" in found.notes[0]
    found = alignment.find(both, 64, faces="all", aligner=aligner)
    assert (found.count, len(found.faces), found.notes) == (2, 2, ())


def test_the_middle_square_is_taken_only_when_asked(tmp_path, aligner):
    wall = np.full((120, 160, 3), 128, np.uint8)
    wall[:, 20:140] = 90
    found = alignment.find(wall, 64, aligner=aligner, no_face="middle")
    assert found.count == 0 and found.faces[0].face is None and (found.faces[0].image == 90).all()
    assert found.notes == ("no face found; the middle square is taken",)
    with pytest.raises(NoFaceError):
        alignment.find(wall, 64, aligner=aligner)


def test_frames_and_unusual_rungs_are_told_together(iu, aligner, tmp_path):
    turned = Image.fromarray(np.rot90(iu).copy())
    turned.save(tmp_path / "a.tif", save_all=True, append_images=[turned, turned])
    page, turned = alignment.find(tmp_path / "a.tif", 64, aligner=aligner).notes
    assert page == "the first page of 3" and "hog-turned" in turned
