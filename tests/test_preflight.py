"""Preflight: what is measured of references, and that each fault of theirs is found and nothing else."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from sigan import bases, images, preflight, references, sitters
from sigan.alignment import AlignedFace, Face
from sigan.errors import NoFaceError

SIDE = 64


def pattern(seed: int, spread: float = 30, color=(220, 190, 160)) -> np.ndarray:
    """A picture of shapes, uint8 [64,64,3]."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.normal(0, spread, (8, 8)).clip(-100, 100).astype(np.float32))
    shapes = np.array(coarse.resize((SIDE, SIDE), Image.Resampling.NEAREST))[..., None]
    return (np.array(color) + shapes).clip(0, 255).astype(np.uint8)


def points(turn: float = 0.0) -> np.ndarray:
    from test_sitters import landmarks

    return landmarks(turn, scale=0.06).astype(np.float32) - 100 + (SIDE / 2, SIDE / 2)


def reference(picture: np.ndarray, name: str = "a.png", *, turn: float = 0.0, rung: str = "hog",
              width: int = 600) -> references.Reference:
    quad = np.float32([[0, 0], [0, width], [width, width], [width, 0]])
    face = Face((0, 0, width, width), 1.5, (points(turn) + 0.5) * (width / SIDE) - 0.5, rung)
    return references.Reference(Path(name), (width, width), AlignedFace(picture, quad, face))


class Nobody:
    """Stands for `Identity` where no face is found in the base's pictures, and descriptors are such as are given."""

    def __init__(self, descriptors: Sequence[np.ndarray] = ()) -> None:
        self.descriptors = iter(descriptors)

    def landmarks(self, image: np.ndarray) -> None:
        return None

    def descriptor(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        return next(self.descriptors, np.zeros(128))


def reads_as(*values: float) -> list[np.ndarray]:
    """Descriptors of faces that read as those values, from the asset itself."""
    known = load_file(sitters.GENDER)
    step = known["direction"] / (known["direction"] @ known["direction"])
    return [step * (value - known["offset"]) for value in values]


def found(base, given, rejected=(), genders=(1, -1, 1, -1)) -> dict[str, preflight.Finding]:
    checked = preflight.check(base, given, rejected, identity=Nobody(reads_as(*genders)))
    return {finding.code: finding for finding in checked.findings}


@pytest.fixture(autouse=True)
def _no_least(monkeypatch) -> None:
    """The tiny base is random, and inverts its own faces no better than others."""
    monkeypatch.setattr(preflight, "LEAST", 0.0)


def four(**values) -> list[references.Reference]:
    return [reference(pattern(k), f"{k}.png", **values) for k in range(4)]


def test_good_references_give_no_warning_but_that_of_light_skin(tiny_base):
    findings = found(tiny_base, four())
    assert {code for code, finding in findings.items() if finding.level == "warning"} == {"skin"}
    assert "dark skin will come out lighter" in findings["skin"].message
    assert findings["not-measured"].message == "whether there are young and old is not measured"  # not guessed


def test_what_is_measured(tiny_base):
    somebody = Nobody(reads_as(-0.75))
    one = preflight.check(tiny_base, [reference(pattern(1), turn=20)], identity=somebody).references[0]
    assert (one.name, one.rung, one.pixels, one.copy_of, one.group) == ("a.png", "hog", 600, None, 0)
    assert one.yaw == pytest.approx(20, abs=0.2) and one.tone > 28 and 0 <= one.percentile <= 100
    assert one.gender == -0.75
    assert one.shift is None  # no face in the inversion: not invented


def test_the_residual_is_in_that_of_the_bases_own_faces(tiny_base):
    """Against one picture at a time: the picture and the discriminator's taps, mean absolute differences."""
    def distance(x):
        y = tiny_base.generator.synthesis(tiny_base.encoder(x, 0.0))
        pairs = zip([x, *tiny_base.discriminator.features(x)], [y, *tiny_base.discriminator.features(y)], strict=True)
        return float(np.mean([float((a - b).abs().mean()) for a, b in pairs]))

    picture = images.resize(pattern(1), 32)
    faces = tiny_base.generator.synthesis(tiny_base.sample(preflight.FACES, preflight.SEED, preflight.TRUNCATION))
    scale = [distance(face[None]) for face in faces]
    ours = distance(images.to_batch([picture]))
    checked = preflight.check(tiny_base, [reference(picture)], identity=Nobody())
    assert checked.references[0].residual == pytest.approx(ours / np.median(scale), abs=0.01)
    assert checked.references[0].percentile == round(100 * np.mean([value < ours for value in scale]))
    assert len(checked.inversions) == 1


def test_a_face_of_the_base_is_said_to_have_no_style(tiny_base, monkeypatch):
    monkeypatch.setattr(preflight, "LEAST", 1e9)
    assert "hardly different from a face of the base" in found(tiny_base, four())["photographs"].message


def test_the_same_picture_seven_times_counts_once(tiny_base):
    findings = found(tiny_base, [reference(pattern(1), f"{k}.png") for k in range(7)])
    assert "7 references, but only 1 different" in findings["copies"].message and "one" in findings


def test_copies_are_known_whatever_their_format_size_and_brightness():
    picture = images.resize(pattern(1), 256)
    small = images.resize(images.resize(picture, 64), 256)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=40)
    darker = (picture * 0.7).astype(np.uint8)
    other = images.resize(pattern(2), 256)
    assert preflight.copies_of([picture, small, np.array(Image.open(buffer)), other, darker]) == [None, 0, 0, None, 0]


def test_two_styles_are_told_apart_and_one_is_not(tiny_base):
    drawings = [np.uint8(np.where(pattern(k, 60)[..., :1] > 190, 255, 10).repeat(3, -1)) for k in range(3)]
    paintings = [pattern(k, 8, (150, 60, 90)) for k in range(3)]
    given = [reference(picture, f"{k}.png") for k, picture in enumerate([*drawings, *paintings])]
    checked = preflight.check(tiny_base, given, identity=Nobody())
    assert [one.group for one in checked.references] == [0, 0, 0, 1, 1, 1]
    told = next(finding for finding in checked.findings if finding.code == "styles").message
    assert "3.png, 4.png, 5.png on the one hand" in told
    assert "styles" not in found(tiny_base, given[:3]) and "styles" not in found(tiny_base, given[3:])


@pytest.mark.parametrize(("values", "code", "said"), [
    ({"width": 12}, "small", "12 pixels in 0.png"),
    ({"rung": "hog-low"}, "rung", "hard to find in 0.png, 1.png, 2.png, 3.png (hog-low)"),
    ({"turn": 50}, "turned", "turned far aside"),
    ({"turn": 20}, "one-side", "all faces look to the viewer's left"),
])
def test_each_fault_is_named(tiny_base, values, code, said):
    assert said in found(tiny_base, four(**values))[code].message
    assert code not in found(tiny_base, four())


def test_dark_skin_grey_pictures_and_unusable_ones(tiny_base):
    dark = [reference(pattern(k, 5, (70, 45, 30)), f"{k}.png") for k in range(4)]
    assert "all skin in the references is dark" in found(tiny_base, dark)["skin"].message
    grey = [reference(pattern(k, 30, (200, 200, 200)), f"{k}.png") for k in range(4)]
    findings = found(tiny_base, grey, [NoFaceError("b.png: no face found")])
    assert "grey" in findings and "skin" not in findings and "4 of 4" in findings["skin-unknown"].message
    assert "1 of 5 pictures" in findings["unusable"].message


@pytest.mark.parametrize(("genders", "level", "said"), [
    ((1, 0.4, 0.1, 2), "warning", "read as women (3 of 4): 0.png, 1.png, 3.png; what the style makes of men"),
    ((-1, -0.4, 0.1, -0.2), "warning", "read as men (2 of 4): 0.png, 1.png; what the style makes of women"),
    ((1, 0.1, -0.4, 1), "note", "read as women's: 2, as men's: 1, of 4"),
    ((0, 0.2, -0.2, 1), "note", "cannot be told (faces that read clearly as either: 1 of 4)"),
    ((0, 0.2, -0.2, 0), "note", "cannot be told (faces that read clearly as either: 0 of 4)"),
])
def test_whether_there_are_women_and_men(tiny_base, genders, level, said):
    finding = found(tiny_base, four(), genders=genders)["gender"]
    assert finding.level == level and said in finding.message


def test_a_face_given_twice_counts_once_as_a_womans_and_without_landmarks_as_nobodys(tiny_base):
    again = found(tiny_base, [reference(pattern(1), f"{k}.png") for k in range(3)], genders=(1, 1, 1))["gender"]
    assert again.level == "note" and "1 of 1" in again.message
    whole = references.Reference(Path("a.png"), (600, 600), AlignedFace(pattern(1), np.zeros((4, 2), np.float32), None))
    assert preflight.check(tiny_base, [whole], identity=Nobody(reads_as(1))).references[0].gender is None


def test_one_reference_is_said_to_be_one_and_few_to_be_few(tiny_base):
    assert "one reference" in found(tiny_base, four()[:1])["one"].message
    assert "2 different references" in found(tiny_base, four()[:2])["few"].message


def test_nothing_of_the_base_changes(tiny_base):
    before = {key: value.clone() for key, value in tiny_base.generator.state_dict().items()}
    found(tiny_base, four())
    assert all((before[key] == value).all() for key, value in tiny_base.generator.state_dict().items())


def test_the_shared_styles_are_three(shared):
    """Watercolour, line and pencil of the paper's material, on the shipped base."""
    base = bases.load("mini")
    given = {style: references.gather(sorted((shared / "portraits/styles" / style).iterdir())[:3], base.resolution)[0]
             for style in ("watercolor", "line", "pencil")}
    assert [len(found) for found in given.values()] == [3, 3, 3]
    ws = base.sample(preflight.FACES, preflight.SEED, preflight.TRUNCATION)
    faces = images.from_batch(base.generator.synthesis(ws))

    def groups(*styles: str) -> list[int]:
        return preflight.styles_of(base, [one.face.image for style in styles for one in given[style]], faces)

    assert [groups(style) for style in given] == [[0, 0, 0]] * 3
    for pair in (("watercolor", "line"), ("watercolor", "pencil"), ("line", "pencil")):
        assert groups(*pair) == [0, 0, 0, 1, 1, 1]
