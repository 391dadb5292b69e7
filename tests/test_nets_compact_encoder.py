"""The encoder: linear in the picture when faithful, a blend of both codes between."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sigan.errors import ConfigError
from sigan.nets.compact_encoder import to_ycc


def test_colours_are_those_of_jpeg():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    expected = torch.tensor(np.asarray(Image.fromarray(pixels).convert("YCbCr"))).permute(2, 0, 1).float()
    x = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    y, chroma = to_ycc(x)[0].split([1, 2])
    torch.testing.assert_close((y + 1) * 127.5, expected[:1], atol=1.01, rtol=0)  # Pillow rounds
    torch.testing.assert_close(chroma * 127.5 + 128, expected[1:], atol=1.01, rtol=0)


def test_the_faithful_code_is_linear(tiny_base):
    a, b = torch.rand(2, 2, 3, 32, 32)
    faithful = tiny_base.encoder.faithful
    torch.testing.assert_close(faithful(a.lerp(b, 0.3)), faithful(a).lerp(faithful(b), 0.3), atol=1e-4, rtol=1e-3)


def test_strength_goes_from_in_domain_to_faithful(tiny_base):
    x, encoder = torch.rand(2, 3, 32, 32), tiny_base.encoder
    low, high = encoder(x, 0.0), encoder(x, 1.0)
    assert not torch.allclose(low, high)
    torch.testing.assert_close(encoder(x, 0.25), low.lerp(high, 0.25), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(high[:, 0], encoder.faithful(x))
    assert high.shape == (2, tiny_base.num_ws, tiny_base.w_dim) and (high == high[:, :1]).all()


def test_a_picture_of_another_size_is_named(tiny_base):
    with pytest.raises(ConfigError, match=r"\[N,3,32,32\], got \[1, 3, 8, 8\]"):
        tiny_base.encoder(torch.zeros(1, 3, 8, 8))
