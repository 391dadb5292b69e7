"""FID and KID: the original programs' numbers, their definitions written out, and what small sets do to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sigan import distributions, figures
from sigan.distributions import FeatureSet
from sigan.nets.inception import Inception

RNG = np.random.default_rng(5)


@pytest.fixture
def detweights(shared, monkeypatch):
    monkeypatch.syspath_prepend(str(shared / "oracles"))
    return __import__("detweights")


@pytest.mark.parametrize(("n", "d"), [(200, 16), (14, 64)])
def test_frechet_is_the_original_programs(shared, detweights, n, d):
    from safetensors.torch import load_file

    expected = load_file(shared / "oracles/fid.safetensors")[f"fd_{n}x{d}"].tolist()
    a = detweights.value(f"fd_a{n}", (n, d)).astype(np.float64)
    b = 0.5 + 1.2 * detweights.value(f"fd_b{n}", (n, d)).astype(np.float64)
    moments = [moment for x in (a, b) for moment in (x.mean(0), np.cov(x, rowvar=False))]
    for value in (distributions.frechet(*moments), distributions.frechet_of_features(a, b)):
        assert expected == pytest.approx([value] * 2, rel=1e-5)


def test_frechet_of_known_normals():
    """Axes that share directions: the sum of squared differences of means and of standard deviations."""
    cov_a, cov_b = np.diag([4.0, 9.0]), np.diag([1.0, 25.0])
    assert distributions.frechet(np.zeros(2), cov_a, np.array([3.0, 0]), cov_b) == pytest.approx(9 + 1 + 4)


def slow_kid(a, b):
    """The definition, pair by pair."""
    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    within = [np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    return sum(within) - 2 * np.mean([kernel(x, y) for x in a for y in b])


def test_kid_is_the_definition_for_sets_of_any_size():
    a, b = RNG.normal(size=(9, 6)), RNG.normal(0.5, 1, size=(5, 6))
    assert distributions.kid(a, b) == pytest.approx(slow_kid(a, b))


def test_kid_of_one_distribution_is_near_zero_whatever_n():
    small = [distributions.kid(*RNG.normal(size=(2, 12, 8))) for _ in range(200)]
    assert abs(np.mean(small)) < 3 * np.std(small) / 200**0.5


def test_fid_and_kid_are_torch_fidelitys(tmp_path):
    """The same random Inception in both programs, the same pictures; ours reads the features, theirs the files.

    FID is theirs of the first 256 features: its square root of a matrix of 2048 takes half a minute.
    """
    try:
        import torch_fidelity as fidelity
        from torch_fidelity import metric_fid
    except (ImportError, RuntimeError) as error:  # torchvision of another build than torch's fails as it is imported
        pytest.skip(f"torch-fidelity cannot be imported: {error}; `pip install -e .[test]`")
    from PIL import Image

    torch.manual_seed(0)
    net = Inception().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
    state = {**net.state_dict(), "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(state, tmp_path / "inception.pth")
    found = []
    for side in "ab":
        (tmp_path / side).mkdir()
        pictures = RNG.integers(0, 256 if side == "a" else 200, (6, 40, 56, 3), dtype=np.uint8)
        for k, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / side / f"{k}.png")
        with torch.inference_mode():
            found.append(net(torch.from_numpy(pictures).permute(0, 3, 1, 2)).numpy())
    theirs = fidelity.calculate_metrics(
        input1=str(tmp_path / "a"), input2=str(tmp_path / "b"), kid=True, kid_subset_size=4, kid_subsets=7,
        cuda=False, cache=False, verbose=False, save_cpu_ram=True, batch_size=3,
        feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(tmp_path / "inception.pth"))
    a, b = found
    few = [features[:, :256] for features in found]
    statistics = [metric_fid.fid_features_to_statistics(torch.from_numpy(features)) for features in few]
    theirs |= metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    assert distributions.frechet_of_features(*few) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert distributions.kid(a, b, subsets=7, size=4) == pytest.approx(
        theirs["kernel_inception_distance_mean"], rel=1e-4)


# ---- counting

def counted(rows, kept=5):
    out = FeatureSet(kept)
    for k, row in rows:
        out.add(row.astype(np.float32), f"{(k * 2654435761) % 2**60:064x}"[::-1])
    return out


def test_moments_are_numpys_and_merge():
    x = RNG.normal(size=(150, 7))
    rows = list(enumerate(x))
    whole, first, second = counted(rows), counted(rows[:70]), counted(rows[70:])
    first.merge(second)
    for found in (whole, first):
        mean, cov = found.moments()
        assert found.n == 150
        assert np.allclose(mean, x.mean(0), atol=1e-6) and np.allclose(cov, np.cov(x, rowvar=False), atol=1e-5)
    assert np.array_equal(whole.features(), first.features()) and whole.features().shape == (5, 7)


def test_what_is_kept_does_not_depend_on_order_and_doubles_do_no_harm():
    rows = list(enumerate(RNG.normal(size=(40, 3))))
    assert np.array_equal(counted(rows).features(), counted(rows[::-1]).features())
    double = counted(rows + rows)
    assert double.n == 80 and len(double.features()) == 5


def test_memory_does_not_grow_with_the_pictures():
    found = counted(enumerate(RNG.normal(size=(500, 4))))
    assert len(found._sample) == 5 and len(found._waiting) < distributions.BLOCK


class Extractor:
    """Hands out normal features: what a picture's first value says."""

    name, resize, key = "told", "none", "told"

    def __call__(self, image):
        rng = np.random.default_rng(int(image[0, 0, 0]) * 256 + int(image[0, 0, 1]))
        return None if image[0, 0, 2] else rng.normal(0, 1, 6).astype(np.float32) + image[0, 0, 0]


def measured(kind, results, references, faceless=0):
    from sigan import features
    from sigan.metrics import Sample, Tools

    tools = Tools(device="cpu")
    tools.__dict__["extractor"] = Extractor()
    metric = kind(tools)
    for reference, count in ((True, references), (False, results)):
        for k in range(count + (0 if reference else faceless)):
            image = np.zeros((1, 1, 3), np.uint8)
            image[0, 0] = (int(not reference), k % 256, int(k >= count))
            metric.update(Sample(image, features.digest(image) if k < 256 else f"{k:064x}", reference))
    return metric.compute()


@pytest.mark.parametrize("kind", [distributions.Fid, distributions.Kid])
def test_a_figure_tells_all_it_rests_on(kind):
    figure = measured(kind, 40, 20, faceless=3)
    assert (figure.n, figure.references, figure.missing, figure.features) == (40, 20, 3, "told")
    assert figure.low < figure.value < figure.high and figure.value > 0
    assert any("3 results have no face" in told for told in figure.warnings)
    assert any("N is 20" in told for told in figure.warnings)
    assert ("prefer kid" in " ".join(figure.warnings)) == (kind is distributions.Fid)


def test_more_pictures_narrow_the_interval():
    few, many = (measured(distributions.Kid, n, n) for n in (10, 160))
    assert many.high - many.low < 0.6 * (few.high - few.low)
    assert not any("unsure" in told for told in many.warnings)


def test_the_interval_of_fid_holds_the_scatter_of_draws():
    """The spread of FID over new draws of equal size, beside what one draw's interval claims."""
    draws = [distributions.frechet_of_features(RNG.normal(size=(60, 4)), RNG.normal(1, 1, size=(60, 4)))
             for _ in range(200)]
    metric = distributions.Fid.__new__(distributions.Fid)
    metric.results, metric.references = (counted(enumerate(RNG.normal(m, 1, size=(60, 4))), 100) for m in (0, 1))
    low, high = metric.interval(metric.distance())
    assert 0.5 < (high - low) / (2 * 1.96 * np.std(draws)) < 2


# ---- means

def test_the_interval_of_a_mean_is_students_for_many_values():
    values = RNG.normal(5, 2, 400)
    low, high = figures.interval_of_mean(values)
    reach = 1.96 * values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - reach, abs=0.3 * reach)
    assert high == pytest.approx(values.mean() + reach, abs=0.3 * reach)
    assert figures.interval_of_mean(values[::-1]) == (low, high)
    assert figures.interval_of_mean([1.0]) == (None, None)


def test_a_mean_of_nothing_is_told_as_such():
    figure = figures.mean("ssim", [])
    assert figure.value is None and figure.n == 0 and figure.warnings == ("no picture could be measured",)
