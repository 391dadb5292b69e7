"""Perceptual losses: against the original LPIPS' numbers, and plain invariants."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load_file

from sigan import losses


def test_discriminator_features_are_a_distance(tiny_base):
    loss = losses.DiscriminatorFeatures(tiny_base.discriminator)
    x, y = torch.rand(2, 2, 3, 32, 32)
    fx, fy = loss.features(x), loss.features(y)
    torch.testing.assert_close(loss.distance(fx, fx), torch.zeros(2))
    torch.testing.assert_close(loss.distance(fx, fy), loss.distance(fy, fx))
    taps = zip([x, *tiny_base.discriminator.features(x)], [y, *tiny_base.discriminator.features(y)])
    expected = sum((a - b).abs().flatten(1).mean(1) for a, b in taps) / 4
    torch.testing.assert_close(loss.distance(fx, fy), expected)


def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return losses.distribution_distance(losses.distributions([x]), losses.distributions([y]))


def test_distributions_are_compared_part_by_part_and_whatever_the_places():
    x = torch.rand(2, 3, 8, 8)
    moved = x.clone()
    moved[:, :, :2, :2] = x[:, :, :2, :2].flip(0, 2, 3)  # within a part of 2x2, across the pictures
    assert distance(x, moved) == 0
    elsewhere = x.roll(2, 3)  # the parts change places
    assert distance(x, elsewhere) > 0.01


def test_distributions_of_one_value_a_part_differ_by_their_distance():
    a, b = torch.zeros(2, 1, 8, 8), torch.full((2, 1, 8, 8), 0.3)
    torch.testing.assert_close(distance(a, b), torch.tensor(0.3))


def test_more_pictures_of_the_same_values_are_no_farther():
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(distance(torch.cat([x, x, x]), x), torch.tensor(0.0))


def test_a_distance_has_a_gradient(tiny_base):
    loss = losses.DiscriminatorFeatures(tiny_base.discriminator)
    x, y = torch.rand(2, 1, 3, 32, 32)
    y.requires_grad_()
    loss.distance(loss.features(y), loss.features(x)).sum().backward()
    assert y.grad.abs().sum() > 0


def test_without_the_trunk_the_discriminator_serves(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert losses.best(tiny_base.discriminator).name == "discriminator features"
    assert not losses.lpips_installed()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / losses.LPIPS_TRUNK).touch()
    assert losses.lpips_installed()


def test_lpips_equals_the_original(shared):
    lpips = pytest.importorskip("lpips", reason="lpips is not installed")
    oracle = load_file(shared / "oracles" / "lpips.safetensors")
    sys.path.insert(0, str(shared / "oracles"))
    import detweights

    net = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    detweights.fill(net.net, mode="fan")
    loss, x = losses.LpipsVgg(net=net), oracle["x"].clone().requires_grad_()
    d = loss.distance(loss.features(x), loss.features(oracle["y"]))
    torch.testing.assert_close(d, oracle["vgg/d"].flatten(), atol=1e-5, rtol=1e-4)
    d.mean().backward()
    error = (x.grad - oracle["vgg/grad_x"]).norm() / oracle["vgg/grad_x"].norm()
    assert error < 1e-3
