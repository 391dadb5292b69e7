from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from sigan import alignment, evaluation, images
from sigan.errors import ConfigError, InputError, NoFaceError
from sigan.evaluation import Pair, PairRecord
from sigan.events import Failure
from sigan.stream import Item

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def identity():
    return evaluation.Identity()


@pytest.fixture
def photos(shared):
    return shared / "portraits/photos"


def slow_ssim(a, b):
    """Wang 2004, equation 13, one window at a time, with a two-dimensional window."""
    weight = np.array([[np.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)])
    weight /= weight.sum()
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i:i + 11, j:j + 11].astype(float), b[i:i + 11, j:j + 11].astype(float)
            mx, my = (weight * x).sum(), (weight * y).sum()
            vx, vy = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum()
            cov = (weight * (x - mx) * (y - my)).sum()
            values.append((2 * mx * my + 6.5025) * (2 * cov + 58.5225)
                          / ((mx**2 + my**2 + 6.5025) * (vx + vy + 58.5225)))
    return np.mean(values)


def test_ssim_is_the_slow_formula():
    a = RNG.integers(0, 256, (24, 31, 3), dtype=np.uint8)
    b = np.uint8(np.clip(a + RNG.normal(0, 40, a.shape), 0, 255))
    assert evaluation.ssim(a[..., 0], b[..., 0]) == pytest.approx(slow_ssim(a[..., 0], b[..., 0]), abs=1e-10)
    channels = [slow_ssim(a[..., i], b[..., i]) for i in range(3)]
    assert evaluation.ssim(a, b, color=True) == pytest.approx(np.mean(channels), abs=1e-10)
    grey = [x @ (0.299, 0.587, 0.114) for x in (a, b)]
    assert evaluation.ssim(a, b) == pytest.approx(slow_ssim(*grey), abs=1e-10)


def test_ssim_is_one_for_equals_and_symmetric():
    a, b = RNG.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert evaluation.ssim(a, a) == pytest.approx(1)
    assert evaluation.ssim(a, b) == pytest.approx(evaluation.ssim(b, a)) and evaluation.ssim(a, b) < 0.3


@pytest.mark.parametrize("shape", [(16, 17, 3), (10, 16, 3)])
def test_ssim_refuses_unlike_or_tiny_pictures(shape):
    with pytest.raises(InputError, match=r"16, 16, 3|10, 16, 3"):
        evaluation.ssim(np.zeros(shape), np.zeros((16, 16, 3) if shape[0] == 16 else shape))


def test_one_person_is_near_and_another_far(photos, identity):
    one, other = (alignment.align(photos / name, 128, aligner=identity.aligner)[0] for name in ("iu.jpeg", "21.jpeg"))
    changed = np.array(ImageOps.autocontrast(Image.fromarray(one.image).filter(ImageFilter.GaussianBlur(1))))
    same = identity.compare(changed, one)
    assert same.found and same.distance < 0.35
    assert identity.compare(other.image, one).distance > 0.6
    assert identity.distance(identity.descriptor(one.image), identity.descriptor(other.image)) > 0.6


def test_a_result_without_a_face_uses_the_photographs_landmarks(photos, identity, monkeypatch):
    (one,) = alignment.align(photos / "iu.jpeg", 128, aligner=identity.aligner)
    monkeypatch.setattr(identity.aligner, "find", lambda *_, **__: [])
    missed = identity.compare(one.image, one)
    assert not missed.found and missed.distance < 1e-6
    assert identity.descriptor(one.image) is None
    with pytest.raises(NoFaceError):
        identity.compare(one.image, alignment.AlignedFace(one.image, one.quad))


def test_a_face_found_elsewhere_is_not_the_results(photos, identity, monkeypatch):
    (one,) = alignment.align(photos / "iu.jpeg", 128, aligner=identity.aligner)
    stray = alignment.Face((0, 0, 20, 20), 1.0, np.asarray(one.landmarks) * 0.1, "hog")
    monkeypatch.setattr(identity.aligner, "find", lambda *_, **__: [stray])
    assert not identity.compare(one.image, one).found


def test_pairs_by_folder_stem_name_and_number():
    def items(*names):
        return [Item(Path("x", name), Path(name)) for name in names]

    inputs = items("a/b.jpg", "b.jpg", "c.jpg", "c.png", "d-1.jpg", "e.jpg")
    outputs = items("a/b.png", "b-1.png", "b-2.png", "c.jpg.png", "c.png", "d-1.png", "z.png")
    found = [(pair.output and pair.output.as_posix()[2:], pair.source and pair.source.as_posix()[2:], pair.index)
             for pair in evaluation.match(outputs, inputs)]
    assert found == [("a/b.png", "a/b.jpg", None), ("b-1.png", "b.jpg", 0), ("b-2.png", "b.jpg", 1),
                     ("c.jpg.png", "c.jpg", None), ("c.png", None, None), ("d-1.png", "d-1.jpg", None),
                     ("z.png", None, None), (None, "c.png", None), (None, "e.jpg", None)]


def test_a_folder_against_its_own_aligned_crops(photos, tmp_path, identity):
    ins, outs = tmp_path / "in" / "sub", tmp_path / "out" / "sub"
    ins.mkdir(parents=True)
    for name in ("iu.jpeg", "21.jpeg"):
        (ins / name).write_bytes((photos / name).read_bytes())
    (face,) = alignment.align(ins / "iu.jpeg", 64, aligner=identity.aligner)
    images.write(outs / "iu.png", face.image)
    images.write(outs / "wide.png", face.image[:32])
    (ins / "wide.jpg").write_bytes((photos / "26.jpeg").read_bytes())
    records = list(evaluation.evaluate(tmp_path / "out", tmp_path / "in", evaluation.METRICS, aligner=identity.aligner))
    good, wide, missing = records
    assert good.error is None and good.values["ssim"] == pytest.approx(1) and good.values["ssim-color"] > 0.999
    assert good.values["identity"] < 0.3
    assert wide.error.type == "InputError" and "64 x 32" in wide.error.message
    assert missing.error.type == "MissingPair" and missing.source.endswith("21.jpeg") and not missing.output
    figures = evaluation.summary(records)
    assert (figures["N"], figures["missing"], figures["failed"]) == (1, 1, 1)


def test_aligned_photographs_are_taken_whole(tmp_path):
    face = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    images.write(tmp_path / "in" / "a.png", face)
    images.write(tmp_path / "out" / "a.png", face)
    (record,) = evaluation.evaluate(tmp_path / "out", tmp_path / "in", ["ssim"], aligned=True)
    assert record.values == {"ssim": pytest.approx(1)}


def test_a_face_number_beyond_the_faces_is_a_failure(photos, tmp_path, identity):
    images.write(tmp_path / "iu-2.png", np.zeros((32, 32, 3), np.uint8))
    pair = Pair(tmp_path / "iu-2.png", photos / "iu.jpeg", 1)
    (record,) = evaluation._records([pair], ("ssim",), identity, False)
    assert record.error.type == "InputError" and "1 faces found" in record.error.message and not record.values


def test_summary_means_and_medians():
    records = [PairRecord("a", "a", {"ssim": value}, found=value > 0.1) for value in (0.1, 0.2, 0.6)]
    records += [PairRecord("b", "", error=Failure(kind, "")) for kind in ("MissingPair", "InputError")]
    assert evaluation.summary(records) == {"N": 3, "missing": 1, "failed": 1, "face_not_found": 1,
                                           "ssim_mean": pytest.approx(0.3), "ssim_median": pytest.approx(0.2)}
    assert evaluation.summary([])["N"] == 0


@pytest.mark.parametrize("metrics", [("ssim", "psnr"), ()])
def test_an_unknown_metric_is_named_before_any_work(tmp_path, metrics):
    with pytest.raises(ConfigError, match="psnr|none") as caught:
        evaluation.evaluate(tmp_path, tmp_path, metrics)
    assert "identity" in caught.value.hint
