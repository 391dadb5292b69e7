"""The discriminator against a slow reference of its parts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sigan.errors import ConfigError
from sigan.nets.discriminator import Discriminator, DiscriminatorConfig, minibatch_stddev

CONFIG = DiscriminatorConfig(resolution=32, channel_base=256, channel_max=16)


@pytest.fixture(scope="module")
def net() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(CONFIG).eval().requires_grad_(False)


def test_a_block_is_two_convolutions_beside_a_shortcut(net):
    block, x = net.b32, torch.randn(2, 8, 32, 32)
    scale = block.conv0.scale
    a = 2**0.5 * F.leaky_relu(F.conv2d(x, block.conv0.weight * scale, block.conv0.bias, padding=1), 0.2)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    fir = torch.outer(taps, taps).expand(8, 1, 4, 4)
    low = F.conv2d(F.pad(a, (2, 2, 2, 2)), fir, groups=8)
    a = 2**0.5 * F.leaky_relu(F.conv2d(low, block.conv1.weight * block.conv1.scale, block.conv1.bias, stride=2), 0.2)
    b = F.conv2d(F.conv2d(F.pad(x, (1, 1, 1, 1)), fir, groups=8), block.skip.weight * block.skip.scale, stride=2)
    torch.testing.assert_close(block(x), (a + b) / 2**0.5, atol=1e-5, rtol=1e-4)


def test_the_deviation_channel_is_that_of_its_group():
    x = torch.randn(4, 3, 2, 2)
    added = minibatch_stddev(x)[:, 3]
    expected = x.numpy().std(0).mean()
    torch.testing.assert_close(added, torch.full_like(added, float(expected)), atol=1e-4, rtol=1e-3)


def test_taps_go_from_half_the_picture_to_4(net):
    taps = net.features(torch.zeros(1, 3, 32, 32))
    assert [t.shape[-1] for t in taps] == [16, 8, 4]
    assert [t.shape[1] for t in taps] == [CONFIG.channels(r) for r in (16, 8, 4)]


def test_features_of_a_batch_are_those_of_single_pictures(net):
    x = torch.randn(3, 3, 32, 32)
    for together, *alone in zip(net.features(x), *(net.features(p[None]) for p in x)):
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_a_picture_of_another_size_is_named(net):
    with pytest.raises(ConfigError, match=r"\[N,3,32,32\], got \[1, 3, 16, 16\]"):
        net(torch.zeros(1, 3, 16, 16))
