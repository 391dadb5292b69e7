"""Growing a state to twice its size: what it drew and judged stays; soft faces never teach at the larger size."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

pytest.importorskip("sigan_foundry", reason="plugins/sigan-foundry is not installed")

from sigan_foundry import canvas, data, growth, perceptual  # noqa: E402
from sigan_foundry.gan import GanConfig, GanTrainer  # noqa: E402
from sigan_foundry.state import Run  # noqa: E402

from sigan.errors import ConfigError  # noqa: E402
from sigan.nets.compact_encoder import EncoderConfig  # noqa: E402
from sigan.nets.discriminator import DiscriminatorConfig  # noqa: E402
from sigan.nets.stylegan2 import GeneratorConfig  # noqa: E402

SIDE = 32


def pictures(folder, count: int, side: int, seed: int) -> None:
    folder.mkdir()
    draw = np.random.default_rng(seed)
    for i in range(count):
        small = Image.fromarray(draw.integers(0, 255, (4, 4, 3), np.uint8))
        small.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{i:02d}.png")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Thirty pictures of 64 pixels and ten of 40, packed at 64."""
    folder = tmp_path_factory.mktemp("faces")
    pictures(folder / "sharp", 30, 2 * SIDE, 0)
    pictures(folder / "soft", 10, 40, 1)
    data.pack([folder / "sharp", folder / "soft"], folder / "packed.safetensors", 2 * SIDE)
    return folder / "packed.safetensors"


@pytest.fixture(scope="module")
def small(packed, tmp_path_factory) -> Run:
    """A state at half the faces' size whose discriminator and toRGB are not what a start gives."""
    out = tmp_path_factory.mktemp("half") / "packed.safetensors"
    data.pack([packed.parent / "sharp", packed.parent / "soft"], out, SIDE)
    sizes = {"resolution": SIDE, "channel_base": 1024, "channel_max": 16}
    g = GeneratorConfig(w_dim=24, z_dim=8, mapping_layers=0, mapping_anchors=6, canvas_resolution=16, canvas_luma=16,
                        **sizes)
    e = EncoderConfig(resolution=SIDE, num_ws=g.num_ws, w_dim=24, luma=16, canvas_resolution=16, width=8)
    run = Run.new(g, DiscriminatorConfig(**sizes), e, perceptual.TAP_CHANNELS[:2], 0)
    canvas.start(run.generator, run.encoder, data.Faces(out))
    with torch.no_grad():
        run.generator.synthesis.b32.torgb.weight.normal_()
    run.ema.load_state_dict(run.generator.state_dict())
    return run


def test_sets_below_the_packed_size_are_kept_at_half_of_it(packed):
    faces = data.Faces(packed)
    assert faces.resolution == 64 and faces.sharp.shape == (30, 64, 64, 3) and faces.soft.shape == (10, 32, 32, 3)
    x, sharp = faces.batch(8)
    assert x.shape == (8, 3, 64, 64) and sharp == 6


def test_a_grown_state_draws_the_same_faces_larger(small, packed):
    larger = growth.grow(small, data.Faces(packed))
    x = data.to_float(data.Faces(packed).sharp[:6])
    with torch.no_grad():
        before = small.ema.synthesis(small.encoder(F.avg_pool2d(x, 2)))
        after = larger.ema.synthesis(larger.encoder(x))
    assert after.shape == (6, 3, 64, 64)
    assert (F.avg_pool2d(after, 2) - before).abs().mean() < 0.1 * before.std()


def test_a_grown_discriminator_judges_nearly_as_before(small, packed):
    larger = growth.grow(small, data.Faces(packed))
    x = data.to_float(data.Faces(packed).sharp)
    with torch.no_grad():
        before, after = small.discriminator.features(F.avg_pool2d(x, 2)), larger.discriminator.features(x)[1:]
    for a, b in zip(before, after, strict=True):
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.9


def test_a_state_grows_by_one_doubling_alone(small, packed, tmp_path):
    larger = growth.grow(small, data.Faces(packed))
    with pytest.raises(ConfigError, match="64 pixels, the state grows to 128"):
        growth.grow(larger, data.Faces(packed))


def test_a_grown_state_trains_generator_and_in_domain_encoder_and_keeps_the_projection(small, packed):
    larger = growth.grow(small, data.Faces(packed))
    torch.manual_seed(0)
    net = perceptual.SqueezeNet().requires_grad_(False)
    encoder = larger.encoder
    watched = [larger.generator.synthesis.b64.conv1.weight, encoder.domain.out.weight, encoder.luma.weight]
    before = [weight.clone() for weight in watched]
    list(islice(GanTrainer(larger, data.Faces(packed), net, GanConfig(batch=8)).steps(3600.0), 2))
    assert [not torch.equal(a, b) for a, b in zip(before, watched)] == [True, True, False]
