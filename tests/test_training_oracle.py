"""The papers' recipes against the paper's own training loop: three Adam steps with prescribed codes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sigan import bases, convert, finetuning, losses
from sigan.convert import keys
from sigan.nets.lpips import Lpips
from sigan.nets.stylegan2 import Generator, GeneratorConfig
from sigan.training import StyleTrainer, TrainConfig

CONFIG = GeneratorConfig(resolution=64, w_dim=64, z_dim=64, mapping_layers=2, channel_max=32)
REPLACED = tuple(range(4, 10))  # layers, of ten
LOSS_TOLERANCE = 1e-5  # what the originals meet among themselves; in double precision 2e-7 was measured
IMAGE_TOLERANCE = 1e-3  # of a range of 6.5, after three steps of the original's single precision; measured 8e-4


class Prescribed(nn.Module):
    """A mapping that is given the next noise of a list, whatever it is asked for."""

    def __init__(self, mapping: nn.Module, noise: list[torch.Tensor]):
        super().__init__()
        self.mapping, self.noise = mapping, iter(noise)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.mapping(next(self.noise))


@pytest.fixture
def oracle(shared):
    return load_file(shared / "oracles" / "trainstep_64.safetensors")


@pytest.fixture
def generator(shared, tmp_path) -> Generator:
    stored = load_file(shared / "oracles" / "gen_sig_64_cap32.safetensors")
    state = {k.removeprefix("sd/"): v for k, v in stored.items() if k.startswith("sd/")}
    torch.save({"g_ema": state, "latent_avg": stored["mean_latent"][0]}, tmp_path / "weights.pt")
    net = Generator(CONFIG).eval().requires_grad_(False)
    net.load_state_dict(convert.read(tmp_path / "weights.pt").parts["generator"].state)
    return net


@pytest.fixture
def lpips(shared) -> Lpips:
    sys.path.insert(0, str(shared / "oracles"))
    import detweights

    net = Lpips("vgg")
    detweights.fill(net.net, mode="fan")
    heads = load_file(losses.HEADS / "vgg.safetensors")
    net.load_state_dict({**net.state_dict(), **heads})
    return net


@pytest.mark.parametrize("recipe", ["styleidentity", "jojogan"])
def test_three_steps_are_the_papers(oracle, generator, lpips, monkeypatch, recipe):
    """In double precision: Adam's first steps turn a gradient's rounding around zero into a whole step either way."""
    import detweights

    monkeypatch.setattr(losses, "best", lambda *_: losses.LpipsVgg(net=lpips))
    base = bases.Base("oracle", generator, None, lambda x, strength: oracle["lat"], hash="ab" * 32, licence="")
    blank = np.zeros((64, 64, 3), np.uint8)
    config = TrainConfig(recipe=recipe, steps=3, alpha=0.0, swap_layers=REPLACED, lambda_feature=2e-3, device="cpu")
    trainer = StyleTrainer([blank], config, base=base, photos=[blank])
    # pictures and codes as the original had them, not as uint8 and an encoder would give them
    for net in (trainer.generator, base.generator, lpips):
        net.double()
    trainer.x, trainer.ws = oracle["tgt"].double(), oracle["lat"].double()
    trainer.people = oracle["ilat"].double(), finetuning.Targets(trainer.loss, oracle["inp"].double())
    noise = [detweights.randn(f"zstep{i}", 1, 64).double() for i in range(3)]
    base.generator.mapping = Prescribed(generator.mapping, noise)
    told = []
    for step in trainer.steps():
        if step.index == 1:
            gradients = {k: p.grad.norm() for k, p in trainer.generator.named_parameters() if p.grad is not None}
        told.append([step.loss, step.parts["style"], step.parts["identity"] / config.lambda_feature])
    torch.testing.assert_close(torch.tensor(told, dtype=torch.float64), oracle["losses"], atol=LOSS_TOLERANCE, rtol=0)
    with torch.no_grad():
        error = (trainer.generator.synthesis(oracle["ilat"].double()) - oracle["img_after3"]).abs()
    assert error.max() < IMAGE_TOLERANCE
    table = keys.rosinality_generator(CONFIG)
    theirs = {name: oracle[f"g0norm/{table[name][0]}"][0].double() for name in gradients}
    torch.testing.assert_close(gradients, theirs, atol=1e-7, rtol=1e-4)
    assert len(gradients) == sum(key.startswith("g0norm/") for key in oracle) - 4  # the mapping's two layers stay
