"""Metrics of single results, against the paper's formulas and the original programs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sigan import alignment, features, images, metrics, plugins
from sigan.errors import InputError, WeightsError
from sigan.identity import Identity
from sigan.metrics import Sample, Tools

RNG = np.random.default_rng(3)
OFFLINE = ("ssim", "ssim-color", "identity", "inversion", "landmarks", "fid", "kid", "color", "lines", "copy")


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
    assert metrics.ssim(a[..., 0], b[..., 0]) == pytest.approx(slow_ssim(a[..., 0], b[..., 0]), abs=1e-10)
    channels = [slow_ssim(a[..., i], b[..., i]) for i in range(3)]
    assert metrics.ssim(a, b, color=True) == pytest.approx(np.mean(channels), abs=1e-10)
    grey = [x @ (0.299, 0.587, 0.114) for x in (a, b)]
    assert metrics.ssim(a, b) == pytest.approx(slow_ssim(*grey), abs=1e-10)


def test_ssim_is_one_for_equals_and_symmetric():
    a, b = RNG.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert metrics.ssim(a, a) == pytest.approx(1)
    assert metrics.ssim(a, b) == pytest.approx(metrics.ssim(b, a)) and metrics.ssim(a, b) < 0.3


@pytest.mark.parametrize("shape", [(16, 17, 3), (10, 16, 3)])
def test_ssim_refuses_unlike_or_tiny_pictures(shape):
    with pytest.raises(InputError, match=r"16, 16, 3|10, 16, 3"):
        metrics.ssim(np.zeros(shape), np.zeros((16, 16, 3) if shape[0] == 16 else shape))



# ---- LPIPS

@pytest.mark.parametrize("trunk", ["vgg", "alex"])
def test_lpips_is_the_originals(shared, trunk, monkeypatch):
    """The original's distances of the same pictures, its trunk filled by rule."""
    from safetensors.torch import load_file

    from sigan import losses

    monkeypatch.syspath_prepend(str(shared / "oracles"))
    detweights = __import__("detweights")
    oracle = load_file(shared / "oracles/lpips.safetensors")
    net = losses.Lpips(trunk).eval()
    detweights.fill(net.net, "fan")
    heads = {key: value for key, value in oracle.items() if key.startswith(f"{trunk}/lin")}
    missing = net.load_state_dict({key.split("/")[1]: value for key, value in heads.items()}, strict=False)
    assert len(heads) == 5 and not missing.unexpected_keys
    monkeypatch.setattr(losses, "lpips_net", lambda kind: net)
    with torch.inference_mode():
        assert torch.allclose(net(oracle["x"], oracle["y"]).flatten(), oracle[f"{trunk}/d"].flatten(), atol=1e-5)
    a, b = (images.from_batch(oracle[key].clamp(-1, 1))[0] for key in "xy")
    with torch.inference_mode():
        exact = float(net(images.to_batch([a]), images.to_batch([b])))
    kind = plugins.load("sigan.metrics", "lpips" if trunk == "vgg" else "lpips-alex")
    metric = kind(Tools(device="cpu"))
    assert metric.update(Sample(b, "", source=a)) == pytest.approx(exact, abs=1e-6)
    figure = metric.compute()
    assert (figure.features, figure.n, figure.better) == (f"LPIPS-{trunk}", 1, "lower")


@pytest.mark.parametrize(("name", "file"), [("lpips", "lpips-vgg"), ("lpips-alex", "lpips-alex"),
                                            ("fid", "fid-inception"), ("kid", "fid-inception")])
def test_weights_that_are_not_installed_are_named(name, file):
    with pytest.raises(WeightsError, match=file) as caught:
        plugins.load("sigan.metrics", name)(Tools(device="cpu"))
    assert caught.value.exit_code == 5 and f"sigan bases pull {file}" in caught.value.hint


# ---- all of them

def framed(seed, source=None):
    """A result of noise with a face where the photograph has one, more or less."""
    rng = np.random.default_rng(seed)
    image, photo = rng.integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    points = rng.uniform(8, 40, (68, 2)).astype(np.float32)
    face = alignment.Face((0, 0, 40, 40), 1.0, points + rng.normal(0, 1, points.shape).astype(np.float32), "hog")
    return Sample(image, features.digest(image), False, photo, features.digest(photo), points, face)


@pytest.mark.parametrize("name", OFFLINE)
def test_two_halves_merged_are_the_whole(name, tiny_base):
    tools = Tools(features="discriminator", device="cpu")
    kind = plugins.load("sigan.metrics", name)
    whole, first, second = kind(tools), kind(tools), kind(tools)
    references = [framed(seed) for seed in (90, 91, 92)]
    samples = [framed(seed) for seed in range(7)]
    for metric in (whole, first, second):
        for sample in references:
            metric.update(Sample(sample.image, sample.digest, reference=True))
    for k, sample in enumerate(samples):
        own = whole.update(sample)
        assert (first if k % 2 else second).update(sample) == own
    first.merge(second)
    merged, together = first.compute(), whole.compute()
    assert together.n == merged.n == 7 and together.value is not None
    for field in ("value", "low", "high", "median"):
        expected = getattr(together, field)
        assert getattr(merged, field) == (expected if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-9))
    assert merged.warnings == together.warnings and merged.details == pytest.approx(together.details)
    assert together.low <= together.value <= together.high


def test_every_metric_says_what_it_is():
    assert {*OFFLINE, "lpips", "lpips-alex"} == set(plugins.entries("sigan.metrics"))
    for name in plugins.entries("sigan.metrics"):
        kind = plugins.load("sigan.metrics", name)
        assert kind.name == name and kind.better in ("lower", "higher") and kind.needs in ("inputs", "references")


def test_landmark_errors_are_shares_of_the_eyes_distance():
    sample = framed(1)
    distance = np.hypot(*(sample.expected[45] - sample.expected[36]))
    shifted = alignment.Face((0, 0, 1, 1), 1.0, sample.expected + (3, 4), "hog")
    metric = metrics.Landmarks(Tools(device="cpu"))
    seen = Sample(sample.image, sample.digest, False, sample.source, "", sample.expected, shifted)
    assert metric.update(seen) == pytest.approx(100 * 5 / distance, rel=1e-5)
    lost = Sample(sample.image, sample.digest, False, sample.source, "", sample.expected, None)
    assert metric.update(lost) is None and metric.compute().missing == 1


def test_identity_is_the_distance_of_dlibs_descriptors(shared):
    judge = Identity()
    one, other = (alignment.align(shared / "portraits/photos" / name, 128, aligner=judge.aligner)[0]
                  for name in ("iu.jpeg", "21.jpeg"))
    sample = Sample(other.image, features.digest(other.image), False, one.image, features.digest(one.image),
                    one.landmarks, judge.find(other.image))
    metric = metrics.FaceIdentity(Tools(identity=judge, device="cpu"))
    expected = np.linalg.norm(judge.descriptor(one.image, one.landmarks) - judge.descriptor(other.image))
    assert metric.update(sample) == pytest.approx(expected, abs=1e-5)
    assert metric.update(sample) == metric.values[0]  # from the cache
    assert metric.compute().details == {"results without a face": 0}


def test_the_inversions_part_is_told_apart(shared):
    """A result that is the inversion itself: all of its distance is the inversion's, none the style's."""
    from sigan import inversion

    tools = Tools(device="cpu")
    base = tools.base
    (one,) = alignment.align(shared / "portraits/photos/iu.jpeg", base.resolution, aligner=tools.identity.aligner)
    ws = inversion.invert(base, images.to_batch([one.image]))
    (again,) = images.from_batch(base.generator.synthesis(ws))
    metric = metrics.Inversion(tools)
    value = metric.update(Sample(again, features.digest(again), False, one.image, features.digest(one.image),
                                 one.landmarks, None))
    assert 0.05 < value < 0.6 and metric.compute().details["inversion to result"] == pytest.approx(0, abs=1e-6)


def test_faces_are_remembered_by_content(monkeypatch):
    face = alignment.Face((1, 2, 3, 4), 0.5, np.arange(136, dtype=np.float32).reshape(68, 2), "hog")
    calls = []

    class Aligner:
        def find(self, image, every=False):
            calls.append(every)
            return [face] * (int(image[0, 0, 0]) - 1)

    tools = Tools(identity=Identity(Aligner()))
    two, none = (np.full((4, 4, 3), value, np.uint8) for value in (3, 1))
    for _ in range(2):
        found = tools.aligner.find(two)
        assert len(found) == 2 and found[0].box == (1, 2, 3, 4) and np.array_equal(found[1].landmarks, face.landmarks)
        assert tools.aligner.find(none) == []
    assert calls == [False, False]
