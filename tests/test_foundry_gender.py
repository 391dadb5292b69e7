"""`foundry gender`: the fit against a plane that is known, its labels, and what it writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import safe_open
from typer.testing import CliRunner

pytest.importorskip("sigan_foundry", reason="plugins/sigan-foundry is not installed")

from sigan_foundry import gender  # noqa: E402
from sigan_foundry.cli import app  # noqa: E402

from sigan import images, sitters  # noqa: E402
from sigan.errors import InputError  # noqa: E402


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Descriptors of two clouds of equal, uneven spread, whose each is which, and the best direction for them."""
    draw = np.random.default_rng(seed)
    spread, apart = np.linspace(0.5, 2, 8), np.r_[1.0, 2, 0, 0, 0, 0, 0, 3]
    women = np.arange(count) % 3 == 0
    x = draw.normal(0, 1, (count, 8)) * spread + np.where(women[:, None], apart, 0) + 5
    return x, women, apart / spread**2


def test_the_direction_is_fishers():
    x, women, best = drawn(20000)
    found = gender.fit(x, women, shrinkage=0)
    cosine = found.direction @ best / np.linalg.norm(found.direction) / np.linalg.norm(best)
    assert cosine > 0.999
    assert found(x[women]).mean() == pytest.approx(1) and found(x[~women]).mean() == pytest.approx(-1)


def test_with_much_shrinkage_it_is_the_line_between_the_means():
    x, women, _ = drawn(300)
    between = x[women].mean(0) - x[~women].mean(0)
    found = gender.fit(x, women, shrinkage=1e6)
    assert found.direction == pytest.approx(2 * between / (between @ between), rel=1e-3, abs=1e-4)
    assert found(x[women]).mean() == pytest.approx(1)


def test_cross_validation_never_sees_the_face_itself():
    """Labels that mean nothing: fitted faces look told, cross-validated ones do not."""
    draw = np.random.default_rng(1)
    x, women = draw.normal(0, 1, (200, 128)), draw.random(200) < 0.5
    assert gender.agreement(gender.fit(x, women, 0.01)(x), women, 0)["agree"] > 0.8
    assert 0.35 < gender.agreement(gender.cross_validated(x, women), women, 0)["agree"] < 0.65


def test_agreement_counts():
    found = gender.agreement(np.array([0.9, -0.1, 0.2, -1]), np.array([True, True, True, True]), 0.5)
    assert found == {"N": 4, "agree": 0.5, "told": 2, "agree of told": 0.5}


def test_the_labels_are_of_other_faces_than_those_they_are_tried_on():
    sets = {name.partition("/")[0] for name in gender.labels()}
    assert sets == {"ffhq128", "omi256", "celebahq256", "lfw160", gender.HELD}
    faces = {name: np.full(128, k) for k, name in enumerate(gender.labels())}
    (fitted, women), (held, _) = gender.labelled(faces), gender.labelled(faces, held=True)
    assert (len(fitted), len(held)) == (342, 356) and not set(fitted[:, 0]) & set(held[:, 0])
    assert list(women[:2]) == [gender.labels()[name] for name in sorted(faces)[:2]]


def test_the_command_fits_what_sigan_reads(tmp_path, monkeypatch):
    """A folder for each set; a face's descriptor is what its picture's colour says."""
    known = {f"{name}/{k}.png": k % 2 == 0 for name in ("a", gender.HELD) for k in range(8)}
    monkeypatch.setattr(gender, "labels", lambda: dict(known))
    for k, (name, woman) in enumerate(known.items()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        images.write(tmp_path / name, np.full((64, 64, 3), (200 if woman else 50) + k, np.uint8))
    monkeypatch.setattr(gender.Identity, "descriptor", lambda self, image: np.full(128, image.mean() / 255))
    out = tmp_path / "gender.safetensors"
    done = CliRunner().invoke(app, ["gender", str(tmp_path / "a"), str(tmp_path / gender.HELD), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["held aside"] == {"N": 8, "agree": 1.0, "told": 8, "agree of told": 1.0}
    monkeypatch.setattr(sitters, "GENDER", out)
    monkeypatch.setattr(sitters, "_gender_direction", sitters._gender_direction.__wrapped__)
    assert sitters.gender(np.full(128, 203 / 255)) == pytest.approx(1, abs=0.1)
    with safe_open(out, "np") as file:
        assert "8 faces" in file.metadata()["source"] and "BY-NC-SA" in file.metadata()["licence"]


def test_faces_that_are_not_there_are_named(tmp_path):
    (tmp_path / "lfw160").mkdir()
    with pytest.raises(InputError, match="698 labelled faces are not there") as caught:
        gender.describe([tmp_path / "lfw160"])
    assert "omi256" in caught.value.hint
