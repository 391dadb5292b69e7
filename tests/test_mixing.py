"""Layer sets and Eq. 1, compared with the formula written out a layer at a time."""

from __future__ import annotations

import pytest
import torch

from sigan import mixing
from sigan.errors import ConfigError


@pytest.mark.parametrize("num_ws, layers, expected", [
    (18, mixing.STYLEIDENTITY_LAYERS, (7, 9, 11, 15, 16, 17)),
    (14, mixing.STYLEIDENTITY_LAYERS, (7, 9, 11, 13)),  # 256²
    (12, mixing.STYLEIDENTITY_LAYERS, (7, 9, 11)),  # 128²
    (12, mixing.JOJOGAN_LAYERS, (9, 11)),
    (12, (3, 15), (3,)),
])
def test_layers_keep_their_resolution_and_the_last_stays_last(num_ws, layers, expected):
    assert mixing.swap_layers(num_ws, layers) == expected


@pytest.mark.parametrize("layers", [(), (18,), (-1, 3)])
def test_layers_out_of_range_are_named(layers):
    with pytest.raises(ConfigError, match="swap layers are"):
        mixing.swap_layers(12, layers)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_mixing_is_equation_1_layer_by_layer(alpha):
    ws, w = torch.randn(3, 6, 4), torch.randn(3, 4)
    mixed = mixing.mix(ws, w, (1, 4), alpha)
    for n in range(3):
        for layer in range(6):
            own = ws[n, layer]
            expected = alpha * own + (1 - alpha) * w[n] if layer in (1, 4) else own
            torch.testing.assert_close(mixed[n, layer], expected)


def test_a_random_code_of_another_shape_is_named():
    with pytest.raises(ConfigError, match=r"of ws \[3, 6, 4\]"):
        mixing.mix(torch.zeros(3, 6, 4), torch.zeros(3, 5, 4), (1,))
