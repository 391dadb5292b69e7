"""Perceptual losses: against the original LPIPS' numbers, and plain invariants."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import torch
from safetensors.torch import load_file

from sigan import losses, weights
from sigan.errors import WeightsError
from sigan.nets.discriminator import Discriminator, DiscriminatorConfig
from sigan.nets.squeezenet import SqueezeNet


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


def test_without_the_trunk_the_discriminator_serves(tiny_base):
    assert losses.best(tiny_base.discriminator).name == "discriminator features"
    assert not losses.lpips_installed()
    with pytest.raises(WeightsError, match="lpips-vgg .* not here") as caught:
        losses.lpips_net("vgg")
    assert "sigan bases pull lpips-vgg" in caught.value.hint
    with pytest.raises(WeightsError, match="no discriminator"):
        losses.best(None)


@pytest.fixture
def trunk(shared, monkeypatch):
    """trunk(kind): a torchvision checkpoint of that kind in the cache, with the oracle's weights; gives its path."""
    sys.path.insert(0, str(shared / "oracles"))
    import detweights

    from sigan.nets.lpips import Trunk

    def make(kind: str):
        filled = detweights.fill(Trunk(kind), mode="fan").state_dict()
        theirs = {f"features.{key.split('.', 1)[1]}": value for key, value in filled.items()}
        entry = weights.entry(f"lpips-{kind}")
        monkeypatch.setitem(weights.CATALOGUE, entry.name, dataclasses.replace(entry, bytes=None, sha256=""))
        path = weights.folder() / entry.file
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({**theirs, "classifier.0.weight": torch.zeros(2, 2)}, path, _use_new_zipfile_serialization=False)
        return path

    return make


@pytest.mark.parametrize("kind", ["vgg", "alex"])
def test_lpips_equals_the_original(shared, trunk, kind):
    trunk(kind)
    oracle = load_file(shared / "oracles" / "lpips.safetensors")
    net, x = losses.lpips_net(kind), oracle["x"].clone().requires_grad_()
    d = net(x, oracle["y"])
    torch.testing.assert_close(d, oracle[f"{kind}/d"], atol=1e-5, rtol=1e-4)
    d.mean().backward()
    error = (x.grad - oracle[f"{kind}/grad_x"]).norm() / oracle[f"{kind}/grad_x"].norm()
    assert error < 5e-3  # the original in single precision is 2.4e-3 from double: one ReLU of a random trunk
    for k in range(5):
        torch.testing.assert_close(getattr(net, f"lin{k}").model["1"].weight.data,
                                   oracle[f"{kind}/lin{k}.model.1.weight"])


def test_a_trunk_of_another_net_is_refused_whole(trunk):
    path = trunk("vgg")
    state = torch.load(path, weights_only=True)
    state["features.0.weight"] = state.pop("features.2.weight")
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"missing net.slice1.2.weight; net.slice1.0.weight is \[64, 64, 3, 3\]"):
        losses.best(None)


def test_large_pictures_are_compared_at_256(trunk):
    trunk("vgg")
    loss, x = losses.LpipsVgg(), torch.rand(1, 3, 512, 512)
    picture, *taps = loss.features(x)
    torch.testing.assert_close(picture, x.reshape(1, 3, 256, 2, 256, 2).mean((3, 5)))
    assert [t.shape[1:] for t in taps] == [(64, 256, 256), (128, 128, 128), (256, 64, 64), (512, 32, 32), (512, 16, 16)]
    assert [t.shape for t in loss.features(x, loss.finest)] == [(1, 3, 256, 256)]


def test_large_pictures_are_seen_by_the_discriminator_as_finely_as_those_of_256():
    net = Discriminator(DiscriminatorConfig(resolution=512, channel_base=512, channel_max=4)).requires_grad_(False)
    loss, x = losses.DiscriminatorFeatures(net), torch.rand(1, 3, 512, 512)
    picture, *taps = loss.features(x)
    torch.testing.assert_close(picture, x.reshape(1, 3, 256, 2, 256, 2).mean((3, 5)))
    every = net.features(x)
    assert [t.shape[-1] for t in every] == [256, 128, 64, 32, 16, 8, 4] and len(taps) == 6
    assert all(torch.equal(a, b) for a, b in zip(taps, every[1:]))
    blocks: list[int] = []
    for r in net.resolutions:
        getattr(net, f"b{r}").register_forward_hook(lambda block, given, tap: blocks.append(tap.shape[-1]))
    finest = loss.features(x, loss.finest)
    assert blocks == [256, 128] and torch.equal(finest[0], picture) and torch.equal(finest[1], taps[0])
    assert len(finest) == 2


def test_distributions_are_of_every_channel_in_every_part():
    taps = [torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)]
    picture, finest = losses.distributions(taps)
    assert picture.shape == (4, 4, 3, 2 * 4) and finest.shape == (4, 4, 5, 2)


def test_squeezenet_compares_the_directions_of_its_activations_at_lpips_places():
    torch.manual_seed(0)
    net = SqueezeNet().eval().requires_grad_(False)
    loss = losses.SqueezeNetDistance(net.activations)
    x, y = torch.rand(2, 2, 3, 40, 40) * 2 - 1
    expected = torch.zeros(2)
    for (place, a), (_, b) in zip(net.activations((x + 1) * 127.5), net.activations((y + 1) * 127.5)):
        if place in (1, 4, 7, 9, 10, 11, 12):  # before each pool but the last, then the last three fires
            cosine = torch.cosine_similarity(a, b, dim=1)
            lengths = [(part.norm(dim=1) > 1e-6).float() for part in (a, b)]
            expected += (lengths[0] + lengths[1] - 2 * cosine * lengths[0] * lengths[1]).mean((1, 2))
    torch.testing.assert_close(loss.distance(loss.features(x), loss.features(y)), expected, atol=1e-4, rtol=1e-3)
    assert len(loss.features(x)) == 8 and torch.equal(loss.features(x, 1)[0], x)
    large = torch.rand(1, 3, 512, 512)
    assert [tap.shape for tap in loss.features(large)] == [tap.shape for tap in loss.features(large[..., ::2, ::2])]
