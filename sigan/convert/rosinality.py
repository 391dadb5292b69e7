"""rosinality's StyleGAN2 and its kin: JoJoGAN, StyleIdentityGAN, the decoder of e4e."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sigan.convert import keys
from sigan.convert.foreign import (
    READS,
    Foreign,
    Part,
    Tree,
    channel_sizes,
    facts,
    last,
    named_state,
    shown,
    size,
    translated,
)
from sigan.errors import WeightsError
from sigan.nets.stylegan2 import GeneratorConfig, Mapping
from sigan.nets.unfilled import Unfilled
from sigan.tensors import StoredTensor

LAYOUT = "rosinality's layout"
CONSTANTS = (".kernel",)  # FIR taps
DRAWS = 4096  # for a mean code that a file lacks (rosinality's own number)
MAX_BLOCKS = 16


def read(tree: Tree, source: str) -> Foreign:
    """A checkpoint with `g_ema` and perhaps `d`."""
    notes: list[str] = []
    parts = {"generator": generator(tree["g_ema"], tree.get("latent_avg"), source, notes)}
    if tree.get("d") is not None:
        parts["discriminator"] = discriminator(tree["d"], source)
    return Foreign("rosinality", parts, facts(parts["generator"], notes))


def read_style(tree: Tree, source: str) -> Foreign:
    """A generator that JoJoGAN tuned, under `g` alone."""
    notes: list[str] = []
    part = generator(tree["g"], tree.get("latent_avg"), source, notes)
    return Foreign("jojogan-style", {"generator": part}, facts(part, notes))


def read_discriminator(tree: Tree, source: str) -> Foreign:
    """A discriminator's state dict that nothing is wrapped around."""
    part = discriminator(tree, source)
    return Foreign("rosinality", {"discriminator": part}, facts(part, []))


def generator(state: Any, mean: Any, source: str, notes: list[str]) -> Part:
    """The generator in a state dict; `notes` learns when the mean code had to be drawn."""
    state = named_state(state, source, "the generator")
    blocks = min(1 + last(state, r"convs\.(\d+)\.") // 2, MAX_BLOCKS)
    channels = {4: size(state, "conv1.activate.bias", 0, 1)}
    channels |= {8 << k: size(state, f"convs.{2 * k + 1}.activate.bias", 0, 1) for k in range(blocks)}
    sizes = {**channel_sizes(channels), "mapping_layers": max(last(state, r"style\.(\d+)\."), 1),
             "z_dim": size(state, "style.1.weight", 1, 512), "w_dim": size(state, "style.1.weight", 0, 512)}
    part = translated("generator", state, keys.rosinality_generator, sizes, LAYOUT, source, CONSTANTS,
                      given=("mapping.w_avg",))
    if mean is None:
        notes.append(f"the file has no mean code: it is that of {DRAWS:,} draws")
        part.state["mapping.w_avg"] = mean_code(part)
        part = replace(part, filled=("mapping.w_avg",))
    else:
        part.state["mapping.w_avg"] = _first_code(mean, part.config["w_dim"], source)
    return part


def _first_code(mean: Any, w_dim: int, source: str) -> Tensor:
    """The mean code [C] of a file's [C], [1,C] or [L,C] (the same for each layer)."""
    if not isinstance(mean, StoredTensor) or mean.shape[-1:] != (w_dim,) or not mean.numel:
        raise WeightsError(f"{source}: latent_avg is {shown(mean)}, not [{w_dim}]", READS)
    return mean.read().reshape(-1, w_dim)[0].clone()


def mean_code(part: Part) -> Tensor:
    """The mean of a generator's codes over seeded draws.  [C]"""
    config = GeneratorConfig(**part.config)
    with Unfilled():
        net = Mapping(config)
    state = {key: part.state[f"mapping.{key}"].float() for key, _ in net.named_parameters()}
    net.load_state_dict({**state, "w_avg": torch.zeros(config.w_dim)}, assign=True)
    with torch.no_grad():
        return net(torch.randn(DRAWS, config.z_dim, generator=torch.Generator().manual_seed(0))).mean(0)


def discriminator(state: Any, source: str) -> Part:
    """The discriminator in a state dict."""
    state = named_state(state, source, "the discriminator")
    blocks = min(last(state, r"convs\.(\d+)\."), MAX_BLOCKS)
    top = 4 << blocks
    channels = {top >> i: size(state, f"convs.{i}.conv2.2.bias", 0, 1) for i in range(1, blocks + 1)}
    channels[top] = size(state, "convs.0.1.bias", 0, 1)
    return translated("discriminator", state, keys.rosinality_discriminator, channel_sizes(channels), LAYOUT, source,
                      CONSTANTS)
