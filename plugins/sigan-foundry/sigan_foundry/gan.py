"""Joint training on real faces: the generator redraws them and blends of them from codes, before a judge.

Losses: non-saturating logistic and lazy R1 (StyleGAN2), L1 under the face map, SqueezeNet features, discriminator
feature matching. The discriminator also learns to predict SqueezeNet's features (1x1 heads on its taps): with no
LPIPS trunk at hand its taps are the product's perceptual loss, and this makes them see more than realness.
dlib's descriptor judges the result and is in no loss.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sigan.errors import ConfigError, SiganError
from sigan_foundry import perceptual
from sigan_foundry.augmentation import augment
from sigan_foundry.canvas import face_weights
from sigan_foundry.data import Faces
from sigan_foundry.state import Run, average


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """Weights and rates of one slice."""

    batch: int = 8
    redraw: float = 0.75  # share of each batch that redraws real faces; the rest blends their codes
    lr: float = 1.5e-3  # StyleGAN2's 2e-3 is for batches of 16 to 64
    warmup: int = 50  # steps; Adam's moments are rebuilt after each resume
    l1: float = 1.0
    features: float = 1.0  # SqueezeNet distance
    matching: float = 0.5  # discriminator features, fake against real
    adversarial: float = 0.1
    distil: float = 0.2
    r1_gamma: float = 0.5
    r1_every: int = 16
    augment: float = 0.5  # probability of each augmentation before the discriminator
    ema_pictures: float = 2_000  # half-life; short runs would lag behind with the usual 10,000
    device: str = "cpu"
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.batch < 4 or not 0 < self.redraw < 1:
            raise ConfigError(f"batch is {self.batch} and redraw {self.redraw}; need 4 or more and between 0 and 1")


@dataclass(frozen=True)
class GanStep:
    pictures: int
    losses: dict[str, float]
    pictures_per_second: float


class GanTrainer:
    """Trains a Run in place. `steps(seconds)` yields a record a step until the time is over."""

    def __init__(self, run: Run, faces: Faces, squeezenet: perceptual.SqueezeNet, config: GanConfig):
        self.run, self.faces, self.config = run.to(config.device), faces, config
        self.squeezenet = squeezenet.to(config.device)
        self.weights = face_weights(faces.resolution).to(config.device)
        g_params = [p for name, p in run.generator.synthesis.named_parameters()
                    if not name.startswith("canvas.") and not name.endswith("noise_strength")]
        self.g_opt = torch.optim.Adam(g_params, lr=config.lr, betas=(0.0, 0.99))
        d_params = [*run.discriminator.parameters(), *run.heads.parameters()]
        self.d_opt = torch.optim.Adam(d_params, lr=config.lr, betas=(0.0, 0.99))
        self.random = torch.Generator().manual_seed(run.facts["seed"] + run.facts["pictures"])

    @torch.no_grad()
    def codes(self, x: Tensor, n: int) -> Tensor:
        """Codes of real faces, then n blends of two of them, half with a third one's late layers.  [N+n,L,C]"""
        ws = self.run.encoder(x)
        first, second, third = (torch.randint(len(x), (n,), generator=self.random) for _ in range(3))
        share = torch.rand(n, 1, 1, generator=self.random).to(x.device)
        blends = ws[first].lerp(ws[second], share)
        late = ws.shape[1] - int(torch.randint(1, 6, (), generator=self.random))  # Eq. 1 mixes late layers too
        blends[: n // 2, late:] = ws[third][: n // 2, late:]
        return torch.cat([ws, blends])

    def discriminator_step(self, real: Tensor, fake: Tensor, targets: list[Tensor], index: int) -> dict[str, Tensor]:
        d, c = self.run.discriminator, self.config
        clean = index % 2 == 0  # every second batch is augmented; the others also teach SqueezeNet's features
        x = torch.cat([real, fake])
        taps = d.features(x if clean else augment(x, c.augment))
        real_score, fake_score = d.score(taps[-1]).split([len(real), len(fake)])
        losses = {"d": F.softplus(fake_score).mean() + F.softplus(-real_score).mean()}
        if clean:
            pairs = zip(self.run.heads, taps, targets, strict=False)  # the heads cover the first taps
            losses["distil"] = c.distil * sum(
                (head(F.adaptive_avg_pool2d(tap[: len(real)], t.shape[-1])) - t).square().sum(1).mean()
                for head, tap, t in pairs)
        if index % c.r1_every == 0:
            x = real.detach().requires_grad_()
            with torch.autocast(x.device.type, enabled=False):
                (grad,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
            losses["r1"] = grad.square().sum((1, 2, 3)).mean() * (c.r1_gamma / 2 * c.r1_every)
        return losses

    def generator_step(self, real: Tensor, fake: Tensor, targets: list[Tensor]) -> dict[str, Tensor]:
        d, c, n = self.run.discriminator, self.config, len(real)
        with torch.no_grad():
            real_taps = d.features(real)
        taps = d.features(fake)
        score = F.softplus(-d.score(taps[-1]))
        return {
            "l1": c.l1 * ((fake[:n] - real).abs() * self.weights).mean(),
            "features": c.features * perceptual.distance(self.squeezenet(fake[:n]), targets).mean(),
            "matching": c.matching * sum(F.l1_loss(a[:n], b) for a, b in zip(taps, real_taps, strict=True)),
            "g": c.adversarial * score.mean(),
        }

    def steps(self, seconds: float) -> Iterator[GanStep]:
        """Raises SiganError at the first loss that is not a number; the run then still holds the last good step."""
        c, run = self.config, self.run
        n_real = round(c.batch * c.redraw)
        began, index = time.monotonic(), 0
        while (now := time.monotonic()) - began < seconds:
            for opt in (self.g_opt, self.d_opt):
                opt.param_groups[0]["lr"] = c.lr * min(1.0, (index + 1) / c.warmup)
            real = self.faces.batch(n_real).to(c.device)
            ws = self.codes(real, c.batch - n_real)  # in full precision: a code has a thousand small parts
            with torch.autocast(torch.device(c.device).type, torch.bfloat16, enabled=c.bfloat16):
                with torch.no_grad():
                    targets = self.squeezenet(real)
                fake = run.generator.synthesis(ws)
                run.discriminator.requires_grad_(True)
                d_losses = self.discriminator_step(real, fake.detach(), targets, index)
                self.d_opt.zero_grad()
                self.update(self.d_opt, d_losses, index)
                run.discriminator.requires_grad_(False)
                g_losses = self.generator_step(real, fake, targets)
                self.g_opt.zero_grad()
                self.update(self.g_opt, g_losses, index)
            average(run.ema, run.generator, 0.5 ** (c.batch / c.ema_pictures))
            index += 1
            run.facts["pictures"] += c.batch
            elapsed = time.monotonic() - now
            run.facts["seconds"] += elapsed
            losses = {k: float(v.detach()) for k, v in {**d_losses, **g_losses}.items()}
            yield GanStep(run.facts["pictures"], losses, c.batch / elapsed)

    @staticmethod
    def update(optimiser: torch.optim.Optimizer, losses: dict[str, Tensor], index: int) -> None:
        total = sum(losses.values())
        if not torch.isfinite(total):
            bad = [k for k, v in losses.items() if not torch.isfinite(v)] or list(losses)
            raise SiganError(f"loss {', '.join(bad)} is not finite at step {index}", "resume with a lower --lr")
        total.backward()
        optimiser.step()
