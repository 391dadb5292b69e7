"""Style mixing: which layers carry style, and Eq. 1 of the paper. Pure functions on w+.

Letters: ws codes [N,L,C], L layers, counted from 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sigan.errors import ConfigError

LAYERS_AT_1024 = 18  # the papers count on this
STYLEIDENTITY_LAYERS = (7, 9, 11, 15, 16, 17)  # StyleIdentityGAN, section 3.1; its code's `--preserve_color`
JOJOGAN_LAYERS = (9, 11, 15, 16, 17)  # JoJoGAN's code, `preserve_color`
ALPHA = 0.5  # StyleIdentityGAN, section 4


def swap_layers(num_ws: int, layers: Sequence[int]) -> tuple[int, ...]:
    """The layers of a base with `num_ws` layers that stand for `layers` of 18.

    Layer i works at one resolution in every base, so it keeps its number; layers of resolutions the base does not
    have are dropped, but the last one (the final toRGB) stays the last. ConfigError when a number is out of range.
    """
    wrong = [layer for layer in layers if not 0 <= layer < LAYERS_AT_1024]
    if wrong or not layers:
        raise ConfigError(f"swap layers are {list(layers)}; they must be numbers from 0 to {LAYERS_AT_1024 - 1}")
    last = {num_ws - 1} if LAYERS_AT_1024 - 1 in layers else set()
    return tuple(sorted({layer for layer in layers if layer < num_ws} | last))


def mix(ws: Tensor, w_rand: Tensor, layers: Sequence[int], alpha: float = ALPHA) -> Tensor:
    """w_s = w_un + α·w_re + (1−α)·w_rand (Eq. 1): w_re the layers in the set, w_un the others.

    ws [N,L,C], w_rand [N,C] (one w for all layers) or [N,L,C]; alpha 1 gives ws back. ConfigError on other shapes.
    """
    w_rand = w_rand[:, None].expand_as(ws) if w_rand.ndim == 2 else w_rand
    if w_rand.shape != ws.shape:
        raise ConfigError(f"w_rand must be [N,C] or [N,L,C] of ws {list(ws.shape)}, got {list(w_rand.shape)}")
    index = torch.tensor(layers, device=ws.device)
    mixed = ws.clone()
    mixed[:, index] = alpha * ws[:, index] + (1 - alpha) * w_rand[:, index]
    return mixed
