"""`foundry evaluate`: its figures against plain definitions, its parts on a tiny base, and its tables."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("sigan_foundry", reason="plugins/sigan-foundry is not installed")

from sigan_foundry import baseline, data, evaluation, figures, grids, perceptual  # noqa: E402
from sigan_foundry.card import card  # noqa: E402
from sigan_foundry.cli import app  # noqa: E402
from sigan_foundry.judge import Judge, Seen, descriptors  # noqa: E402

from sigan import images, inversion  # noqa: E402
from sigan.errors import ConfigError, InputError  # noqa: E402

SIDE = 32


@pytest.fixture
def faces(tmp_path):
    """Twelve smooth pictures of two source sets; the judge finds no face in dark ones."""
    draw, folder = np.random.default_rng(0), tmp_path / "faces"
    folder.mkdir()
    for i in range(12):
        small = draw.integers(60, 255, (4, 4, 3), np.uint8) if i else np.full((4, 4, 3), 3, np.uint8)
        big = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        big.save(folder / f"{'ab'[i % 2]}-{i:03d}.png")
    return folder


@pytest.fixture
def judge(monkeypatch):
    """dlib is not asked: descriptor and landmarks are pieces of the picture; a dark picture has no face."""
    def see(self, image: np.ndarray) -> Seen | None:
        values = np.asarray(Image.fromarray(image).resize((8, 8))).astype(float).flatten() / 255
        if values.mean() < 0.1:
            return None
        points = np.stack([np.linspace(0.2, 0.8, 68), values[:68]], 1)
        return Seen(values[:128] / 4, points)

    monkeypatch.setattr(Judge, "__init__", lambda self: None)
    monkeypatch.setattr(Judge, "see", see)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return perceptual.SqueezeNet().requires_grad_(False)


# ---- figures

def test_diversity_is_the_mean_over_pairs():
    rows = np.random.default_rng(1).normal(size=(5, 128))
    pairs = [np.linalg.norm(rows[i] - rows[j]) for i in range(5) for j in range(i)]
    assert figures.diversity(rows) == {"N": 5, "mean_distance": pytest.approx(np.mean(pairs), abs=1e-4)}
    assert figures.diversity(rows[:1]) == {"N": 1}


def test_landmarks_moved_by_half_the_eyes_distance_are_half_an_error():
    points = np.random.default_rng(2).random((68, 2))
    points[36], points[45] = (0.2, 0.4), (0.6, 0.4)
    assert figures.landmark_error(points, points + (0, 0.2)) == pytest.approx(0.5)


def test_digest_leaves_out_what_could_not_be_measured():
    assert figures.digest([1.0, None, 3.0, 8.0]) == {"N": 3, "median": 3.0, "mean": 4.0}
    assert figures.digest([None]) == {"N": 0}


def test_ranks_are_percentiles_and_ties_count_half():
    told = figures.ranks([0.0, 2.5, 2.0], np.array([1.0, 2.0, 3.0, 4.0]))
    assert told == {"lowest": 0.0, "median": 37.5, "each": [0.0, 50.0, 37.5]}


# ---- the closed-form yardstick

def test_components_are_those_of_a_full_decomposition(tmp_path):
    draw = np.random.default_rng(3)
    for i in range(30):
        small = draw.integers(0, 255, (2, 2, 3), np.uint8)
        Image.fromarray(small).resize((8, 8), Image.Resampling.BILINEAR).save(tmp_path / f"{i:02d}.png")
    data.pack([tmp_path], tmp_path / "packed.safetensors", 8)
    faces = data.Faces(tmp_path / "packed.safetensors")
    fitted = baseline.fit(faces, coefficients=5, side=8)
    x = torch.cat(list(faces.chunks()))
    rows = x.flatten(1) - x.flatten(1).mean(0)
    _, _, vectors = torch.linalg.svd(rows, full_matrices=False)
    plain = rows @ vectors[:5].t() @ vectors[:5] + x.flatten(1).mean(0)
    torch.testing.assert_close(fitted.redraw(x).flatten(1), plain, atol=1e-3, rtol=1e-3)
    assert len(fitted.rows) == 5 and fitted.redraw(x).shape == x.shape


# ---- parts on a tiny base

STEPS = 2  # of timed refinement: what is measured is told, whatever it takes


def run(base, faces, net, out, **values) -> dict:
    config = evaluation.EvaluationConfig(**{"samples": 6, "refine": 3, "refine_faces": 4, "timed": 2, **values})
    return dict(evaluation.evaluate(base, faces, net, out, config))


def test_every_part_has_its_figures_and_its_sheet(tiny_base, faces, judge, net, pretend_faces, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "REFINED_TIMED", STEPS)
    told = run(tiny_base, faces, net, tmp_path / "out", drawings=faces)
    assert list(told) == ["base", "faces", "encoder", "refined", "components", "samples", "drawings", "seconds"]
    assert (told["faces"]["N"], told["faces"]["found"]) == (12, 11)
    assert {name: row["N"] for name, row in told["encoder"].items()} == {"all": 12, "a": 6, "b": 6}
    assert told["encoder"]["all"]["dlib"]["N"] == 12 - told["encoder"]["all"]["no_face"] < 12
    assert told["refined"]["steps"] == 3 and told["refined"]["all"]["N"] == 4
    assert told["refined"]["encoder on the same faces"]["N"] == 4
    assert told["components"]["recorded"]["N"] == 138 and "not measured" in told["components"]["recorded"]["source"]
    assert told["samples"]["truncation 1"]["N"] == 6
    assert told["drawings"]["N"] == 12 and len(told["drawings"]["percentile"]["each"]) == 12
    assert told["seconds"][f"refine {STEPS}"]["N"] == 3 and told["seconds"]["invert and draw"]["N"] == 2
    sheets = {path.stem: Image.open(path).size for path in (tmp_path / "out").glob("*.png")}
    assert sheets == {"reconstructions": (12 * SIDE, 2 * SIDE), "refined": (4 * SIDE, 3 * SIDE),
                      "samples": (6 * SIDE, SIDE), "drawings": (12 * SIDE, 2 * SIDE),
                      "interpolations": (grids.COLUMNS * SIDE, 3 * SIDE)}


def test_the_encoders_figures_are_those_of_its_pictures(tiny_base, faces, judge, net, tmp_path):
    told = run(tiny_base, faces, net, tmp_path, refine=0, timed=0)
    pixels = [images.read(path) for path in sorted(faces.iterdir())]
    x = images.to_batch(pixels)
    y = images.to_batch(images.from_batch(tiny_base.generator.synthesis(inversion.invert(tiny_base, x))))
    psnr = [float(-10 * np.log10(((a - b) ** 2).mean() / 4)) for a, b in zip(x.numpy(), y.numpy())]
    assert told["encoder"]["all"]["psnr"]["mean"] == pytest.approx(np.mean(psnr), abs=1e-3)
    distance = perceptual.distance(net(x), net(y))
    assert told["encoder"]["all"]["squeezenet"]["mean"] == pytest.approx(float(distance.mean()), abs=1e-3)
    pairs = zip(Judge().see_all(pixels), Judge().see_all(images.from_batch(y)))
    dlib = [np.linalg.norm(a.descriptor - b.descriptor) for a, b in pairs if a and b]
    assert told["encoder"]["all"]["dlib"]["median"] == pytest.approx(np.median(dlib), abs=1e-3)
    assert "skipped" in told["refined"] and "skipped" in told["drawings"] and "skipped" in told["seconds"]


def test_the_yardstick_is_fitted_where_training_faces_are_given(tiny_base, faces, judge, net, tmp_path):
    data.pack([faces], tmp_path / "packed.safetensors", SIDE)
    told = run(tiny_base, faces, net, tmp_path, refine=0, timed=0, packed=tmp_path / "packed.safetensors")
    assert told["components"]["coefficients"] == 11 and told["components"]["all"]["N"] == 12
    assert told["components"]["all"]["psnr"]["mean"] > 30  # as many components as faces redraw them


def test_a_limit_takes_faces_from_all_over_the_set(tiny_base, faces, judge, net, tmp_path):
    told = run(tiny_base, faces, net, tmp_path, limit=4, refine=0, timed=0)
    assert told["encoder"]["all"]["N"] == 4 and {"a", "b"} <= set(told["encoder"])


def test_nobody_found_leaves_counts(tiny_base, faces, judge, net, tmp_path, monkeypatch):
    monkeypatch.setattr(Judge, "see", lambda self, image: None)
    told = run(tiny_base, faces, net, tmp_path, refine=0, timed=0)
    assert told["faces"]["found"] == 0 and told["encoder"]["all"]["dlib"] == {"N": 0}
    assert told["samples"]["truncation 1"]["frechet"]["descriptor"] is None
    assert "| encoder alone | all | 12 (12 without a face) | |" in card(told)


def test_the_command_prints_json_and_writes_the_tables(tiny_base, faces, judge, net, tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual.SqueezeNet, "load", classmethod(lambda cls, path: net))
    monkeypatch.setattr(evaluation, "REFINED_TIMED", STEPS)
    done = CliRunner().invoke(app, ["evaluate", "mini", str(faces), "--perceptual", "trunk", "--samples", "6",
                                    "--refine", "1", "--refine-faces", "2", "--grids", str(tmp_path / "out"),
                                    "--card", str(tmp_path / "card.md")])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    table = (tmp_path / "card.md").read_text()
    assert f"{told['encoder']['a']['dlib']['median']:.3f}" in table
    for text in ("refined, 1 steps", "not measured here", "| 6 / 12 |", "truncation 0.7", "seconds a face"):
        assert text in table


def test_too_few_faces_and_values_out_of_range_are_named(tiny_base, faces, judge, net, tmp_path):
    for path in sorted(faces.iterdir())[2:]:
        path.unlink()
    with pytest.raises(InputError, match="2 faces; the figures need 4"):
        run(tiny_base, faces, net, tmp_path)
    with pytest.raises(ConfigError, match="samples is 1"):
        evaluation.EvaluationConfig(samples=1)


def test_the_judge_sees_a_real_face_and_none_in_grey(shared):
    pytest.importorskip("dlib", reason="dlib is not installed")
    name, content = next(data.pictures(shared / "faces" / "validation.tar"))
    seen = Judge().see_all([data.decode(content, 128), np.full((128, 128, 3), 128, np.uint8)])
    assert seen[1] is None and descriptors(seen).shape == (1, 128), name
    eyes = seen[0].landmarks[36:48].mean(0)  # FFHQ framing puts the eyes near the middle, a little above
    assert np.abs(eyes - (0.5, 0.47)).max() < 0.06
