"""The published networks' layouts at their own resolution, 1024², with fewer channels: imported, loaded and run.

`python -m benchmarks.checkpoints` does the same with all channels.
"""

from __future__ import annotations

import foreign
import pytest
import torch

from sigan import convert
from sigan.nets.discriminator import Discriminator, DiscriminatorConfig
from sigan.nets.e4e import E4eConfig, E4eEncoder
from sigan.nets.stylegan2 import Generator, GeneratorConfig

LARGE = {"channel_base": 4096, "channel_max": 32}
NETS = {"generator": (Generator, GeneratorConfig), "discriminator": (Discriminator, DiscriminatorConfig),
        "encoder": (E4eEncoder, E4eConfig)}


@pytest.fixture(scope="module")
def nets() -> dict[str, torch.nn.Module]:
    made = {"generator": foreign.generator(1024, w_dim=64, z_dim=64, mapping_layers=8, **LARGE),
            "discriminator": foreign.discriminator(1024, **LARGE),
            "encoder": foreign.encoder(1024, w_dim=64, input_resolution=256)}
    made["encoder"].w_avg.copy_(made["generator"].mapping.w_avg.expand(18, -1))
    return made


def write(layout: str, path, nets) -> None:
    g, d, e = (nets[part].state_dict() for part in ("generator", "discriminator", "encoder"))
    if layout == "rosinality":
        torch.save({"g_ema": foreign.rosinality_generator(g), "d": foreign.rosinality_discriminator(d),
                    "latent_avg": g["mapping.w_avg"]}, path)
    elif layout == "nvidia":
        foreign.write_nvidia(path, g, d)
    elif layout == "nvidia-legacy":
        foreign.write_tensorflow(path, g, d)
    elif layout == "e4e":
        torch.save(foreign.e4e(e, g), path)
    elif layout == "jojogan-style":
        torch.save({"g": foreign.rosinality_generator(g), "latent_avg": g["mapping.w_avg"]}, path)


@pytest.mark.parametrize("layout", ["rosinality", "nvidia", "nvidia-legacy", "e4e", "jojogan-style"])
def test_a_checkpoint_of_1024_is_read_loaded_and_run(layout, nets, tmp_path):
    write(layout, tmp_path / "weights", nets)
    found = convert.read(tmp_path / "weights")
    assert found.kind == layout
    assert {name: found.facts[name] for name in ("resolution", "num_ws", "w_dim")} == {
        "resolution": 1024, "num_ws": 18, "w_dim": 64}
    ws = torch.randn(1, 18, 64, generator=torch.Generator().manual_seed(0))
    x = nets["generator"].synthesis(ws)
    assert x.shape == (1, 3, 1024, 1024)
    for part in found.parts.values():
        kind, config = NETS[part.net]
        net = kind(config(**part.config)).eval().requires_grad_(False)
        net.load_state_dict(part.state)
        given, want = (ws, x) if part.net == "generator" else (x, nets[part.net](x))
        got = net.synthesis(given) if part.net == "generator" else net(given)
        assert want.isfinite().all() and want.norm() > 0
        torch.testing.assert_close(got, want, atol=1e-5 * float(want.abs().max()), rtol=0)
