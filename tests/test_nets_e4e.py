"""The e4e encoder against the original program's codes, and its own invariants."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sigan import convert, images
from sigan.errors import ConfigError
from sigan.nets.e4e import E4eConfig, E4eEncoder
from sigan.nets.unfilled import Unfilled

TINY = E4eConfig(resolution=256, w_dim=16, width=16, input_resolution=32)


@pytest.fixture(scope="module")
def tiny() -> E4eEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = E4eEncoder(TINY).eval().requires_grad_(False)
        net.w_avg.normal_()
    return net


@pytest.fixture(scope="module")
def oracle(shared) -> dict[str, torch.Tensor]:
    return load_file(shared / "oracles" / "e4e_sig_64.safetensors")


@pytest.fixture(scope="module")
def full(shared, tmp_path_factory):
    """The encoder of a 64² generator with the oracle's weights, read from a file; its trunk in double precision."""
    sys.path.insert(0, str(shared / "oracles"))
    import detweights

    with Unfilled():
        net = E4eEncoder(E4eConfig(resolution=64)).eval().requires_grad_(False)
    weights = torch.nn.Module()
    weights.state_dict = lambda: {k: v for k, v in net.state_dict().items() if k != "w_avg"}
    detweights.fill(weights, mode="fan")
    path = tmp_path_factory.mktemp("e4e") / "weights.pt"
    torch.save({"state_dict": {f"encoder.{k}": v for k, v in weights.state_dict().items()},
                "latent_avg": detweights.randn("latent_avg", 10, 512)}, path)
    part = convert.read(path).parts["encoder"]
    assert part.config == net.config.to_dict()
    net.load_state_dict(part.state, assign=True)
    net.input_layer.double()
    net.body.double()
    yield net
    path.unlink()  # 600 MB


def test_the_names_are_the_original_s(shared):
    lines = (shared / "oracles" / "e4e_sig_64.safetensors.keys.txt").read_text().splitlines()
    theirs = {name: shape for name, shape in (line.rsplit(" torch.", 1)[0].split(" ", 1) for line in lines)
              if not name.endswith("num_batches_tracked")}
    with Unfilled():
        ours = E4eEncoder(E4eConfig(resolution=64)).state_dict()
    assert ours.pop("w_avg").shape == (10, 512)
    assert {k: str(tuple(v.shape)) for k, v in ours.items()} == theirs


def test_codes_equal_the_original_s(shared, full, oracle):
    """The original ran in single precision, where these random weights lose three digits of the seven."""
    import detweights

    x = detweights.randn("img256", 1, 3, 256, 256).clamp(-1, 1)
    taps = full.features(x.double())
    for tap, unit, tolerance in zip(taps, (6, 20, 23), (1e-6, 5e-4, 2e-3)):
        for got, kind in ((tap.mean((2, 3)), "mean"), (tap.std((2, 3)), "std")):
            assert _distance(got, oracle[f"tap{unit}_{kind}"]) < tolerance
    taps = [tap.float() for tap in taps]
    assert _distance(full.codes(*taps) - full.w_avg, oracle["codes"]) < 2e-3
    assert _distance(full.codes(*taps), oracle["avg_codes_plus_latent_avg"]) < 2e-3
    assert _distance(full.codes(*taps, strength=0.0) - full.w_avg, oracle["codes_wstage"]) < 2e-3


def _distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def test_strength_goes_from_one_w_to_a_delta_for_each_layer(tiny):
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    low, high = tiny(x, 0.0) - tiny.w_avg, tiny(x) - tiny.w_avg
    torch.testing.assert_close(low, low[:, :1].expand_as(low), atol=1e-6, rtol=0)
    torch.testing.assert_close(high[:, 0], low[:, 0])
    assert ((high - low)[:, 1:].abs().amax(2) > 1e-6).all()
    torch.testing.assert_close(tiny(x, 0.25) - tiny.w_avg, low.lerp(high, 0.25), atol=1e-5, rtol=1e-4)
    assert high.shape == (2, tiny.num_ws, TINY.w_dim) == (2, 14, 16)


def test_a_batch_gives_what_single_faces_give(tiny):
    x = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(tiny(x), torch.cat([tiny(face[None]) for face in x]), atol=1e-5, rtol=1e-4)


def test_large_faces_are_resized_as_pillow_does(tiny):
    draw = torch.Generator().manual_seed(1)
    face = images.from_batch(torch.rand(1, 3, 96, 96, generator=draw) * 2 - 1)[0]
    small = np.asarray(Image.fromarray(face).resize((32, 32), Image.Resampling.BILINEAR))
    expected = images.to_batch([small])
    torch.testing.assert_close(tiny.resized(images.to_batch([face])), expected, atol=1.1 / 127.5, rtol=0)


def test_wrong_sizes_are_named(tiny):
    with pytest.raises(ConfigError, match=r"\[N,3,R,R\], got \[1, 3, 32, 31\]"):
        tiny(torch.zeros(1, 3, 32, 31))
    with pytest.raises(ConfigError, match="resolution is 48"):
        E4eConfig(resolution=48)
    with pytest.raises(ConfigError, match="width is 8"):
        E4eConfig(resolution=64, width=8)
