"""A trained state at twice the resolution: what was learned stays, the new blocks start by changing little."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F

from sigan.errors import ConfigError
from sigan.nets.discriminator import Discriminator
from sigan_foundry.canvas import AFFINE_SCALE
from sigan_foundry.data import Faces, to_float
from sigan_foundry.state import NETS, Run

FACES_FITTED = 64


@torch.no_grad()
def grow(run: Run, faces: Faces) -> Run:
    """The run at the faces' resolution. ConfigError when that is not twice the run's."""
    r = 2 * run.generator.config.resolution
    if faces.resolution != r:
        raise ConfigError(f"the faces are of {faces.resolution} pixels, the state grows to {r}",
                          f"pack them with --size {r}")
    g = dataclasses.replace(run.generator.config, resolution=r)
    d = dataclasses.replace(run.discriminator.config, resolution=r)
    e = dataclasses.replace(run.encoder.config, resolution=r, num_ws=g.num_ws)
    larger = Run.new(g, d, e, run.facts["head_channels"], run.facts["seed"])
    for net in (larger.generator, larger.ema):
        block = getattr(net.synthesis, f"b{r}")
        block.torgb.weight.zero_()
        for layer in (block.conv0, block.conv1, block.torgb):
            layer.affine.weight.mul_(AFFINE_SCALE)
    for name in NETS:
        old, new = getattr(run, name).state_dict(), getattr(larger, name)
        new.load_state_dict({**new.state_dict(), **{k: v for k, v in old.items() if not k.startswith("from_rgb")}})
    larger.ema.load_state_dict({**larger.ema.state_dict(), **{
        k: v for k, v in larger.generator.state_dict().items() if k.startswith(f"synthesis.b{r}")}})
    _fit(run.discriminator, larger.discriminator, to_float(faces.sharp[:FACES_FITTED]))
    larger.facts = dict(run.facts)
    return larger


def _fit(old: Discriminator, new: Discriminator, x: torch.Tensor) -> None:
    """Sets the new first block so that its shortcut gives what the old net read from the picture at half the size."""
    block = getattr(new, f"b{new.config.resolution}")
    block.conv1.weight.zero_()
    block.skip.weight.copy_(torch.eye(*block.skip.weight.shape[:2])[:, :, None, None])
    channels = block.skip.weight.shape[1]
    new.from_rgb.weight.copy_(old.from_rgb.weight[:channels])
    new.from_rgb.bias.copy_(old.from_rgb.bias[:channels])
    wanted = old.from_rgb(F.avg_pool2d(x, 2)).transpose(0, 1).flatten(1)  # [O,P]
    seen = block.skip(new.from_rgb(x)).transpose(0, 1).flatten(1)[:channels]  # [I,P], each channel by itself
    fit = torch.linalg.lstsq(seen.t(), wanted.t() * 2**0.5).solution.t()  # [O,I]; the block divides by the root of 2
    block.skip.weight.copy_(fit[:, :, None, None])
