"""Joint training: the generator redraws real faces, faces seen in drawings and faces of nobody, before a judge.

The encoder's in-domain half learns along, from simulated drawings of real faces: a code that redraws the face behind
and that the judge takes for a photograph. Losses: non-saturating logistic and lazy R1 (StyleGAN2), L1 under the face
map, SqueezeNet features, discriminator feature matching. The discriminator also learns to predict SqueezeNet's features
(1x1 heads on its taps): with no LPIPS trunk at hand its taps are the product's perceptual loss, and this makes them see
more than realness. dlib's descriptor judges the result and is in no loss.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sigan.errors import ConfigError, SiganError
from sigan.nets.discriminator import STDDEV_GROUP
from sigan_foundry import perceptual
from sigan_foundry.augmentation import augment
from sigan_foundry.canvas import code_weights, face_weights
from sigan_foundry.data import Faces
from sigan_foundry.encoder import redraw
from sigan_foundry.state import Run, average

LOSS_SIDE = 128  # pixels that SqueezeNet sees: the whole face reduced, or a crop of it


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """Weights and rates of one slice."""

    batch: int = 8
    redraw: float = 0.5  # share of each batch that redraws real faces
    drawings: float = 0.25  # share that redraws faces from simulated drawings; the rest are faces of nobody
    lr: float = 1.5e-3  # StyleGAN2's 2e-3 is for batches of 16 to 64
    domain_lr: float = 3e-4  # of the encoder's in-domain half
    warmup: int = 50  # steps; Adam's moments are rebuilt after each resume
    l1: float = 1.0
    features: float = 1.0  # SqueezeNet distance
    matching: float = 0.5  # discriminator features, fake against real
    crop: float = 0.5  # SqueezeNet distance of a crop at full size, above LOSS_SIDE
    adversarial: float = 0.1
    code: float = 0.5  # distance of the code seen in a drawing from the face's own
    distil: float = 0.2
    r1_gamma: float = 0.5
    r1_every: int = 16
    augment: float = 0.5  # probability of each augmentation before the discriminator
    ema_pictures: float = 2_000  # half-life; short runs would lag behind with the usual 10,000
    device: str = "cpu"
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.batch < 4:
            raise ConfigError(f"batch is {self.batch}; it must be 4 or more")
        if min(self.redraw, self.drawings) <= 0 or self.redraw + self.drawings >= 1:
            raise ConfigError(f"redraw is {self.redraw} and drawings {self.drawings}; both must be more than 0, "
                              "their sum less than 1")


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
        self.domain_opt = torch.optim.Adam(run.encoder.domain.parameters(), lr=config.domain_lr, betas=(0.5, 0.99))
        self.weigh = code_weights(run.ema.synthesis.canvas)
        self.random = torch.Generator().manual_seed(run.facts["seed"] + run.facts["pictures"])

    @torch.no_grad()
    def nobody(self, n: int, ws: Tensor) -> Tensor:
        """Codes of faces of nobody, half of them with late layers of others, as Eq. 1 mixes.  [K,L,C] -> [n,L,C]"""
        z = torch.randn(n, self.run.ema.config.z_dim, generator=self.random).to(ws.device)
        codes = self.run.ema.codes(z).clone()
        late = ws.shape[1] - int(torch.randint(1, 6, (), generator=self.random))
        others = torch.randint(len(ws), (n,), generator=self.random)
        codes[: n // 2, late:] = ws[others][: n // 2, late:]
        return codes

    def seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of faces seen in simulated drawings of them, and how far they are.  [N,3,R,R] -> [N,L,C], []"""
        encoder = self.run.encoder
        with torch.no_grad(), torch.device(x.device):
            w, small = encoder.faithful(x), F.adaptive_avg_pool2d(x, encoder.config.canvas_resolution)
            drawing = redraw(small)
        code = encoder.domain(drawing)
        error = ((code - w).square() * self.weigh).sum(1).mean()
        return code[:, None].expand(-1, encoder.config.num_ws, -1), error

    def discriminator_step(self, real: Tensor, fake: Tensor, targets: list[Tensor], index: int) -> dict[str, Tensor]:
        d, c = self.run.discriminator, self.config
        clean = index % 2 == 0  # every second batch is augmented; the others also teach SqueezeNet's features
        x = torch.cat([real, fake])
        taps = d.features(x if clean else augment(x, c.augment))
        real_score, fake_score = d.score(taps[-1][: len(real)]), d.score(taps[-1][len(real) :])
        losses = {"d": F.softplus(fake_score).mean() + F.softplus(-real_score).mean()}
        if clean:
            pairs = zip(self.run.heads, taps[-1 - len(self.run.heads) : -1], targets, strict=False)
            losses["distil"] = c.distil * sum(
                (head(F.adaptive_avg_pool2d(tap[: len(real)], t.shape[-1])) - t).square().sum(1).mean()
                for head, tap, t in pairs)
        if index % c.r1_every == 0:
            x = real.detach().requires_grad_()
            with torch.autocast(x.device.type, enabled=False):
                (grad,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
            losses["r1"] = grad.square().sum((1, 2, 3)).mean() * (c.r1_gamma / 2 * c.r1_every)
        return losses

    def generator_step(self, real: Tensor, sharp: int, fake: Tensor, targets: list[Tensor]) -> dict[str, Tensor]:
        """Weighted losses. Redrawn faces come first in `fake`, then those seen in drawings, then those of nobody.

        Faces that are not sharp are compared at half their size alone, those seen in drawings by features alone.
        """
        d, c, n = self.run.discriminator, self.config, len(real)
        with torch.no_grad():
            real_taps = d.features(real[:sharp])
        taps = d.features(fake)
        score = F.softplus(-d.score(taps[-1]))
        fake = fake[: len(targets[0])]  # faces of nobody have nothing to be compared with
        error = ((fake[:n] - real).abs() * self.weights)[:sharp].mean((1, 2, 3)).sum()
        if sharp < n:
            halves = (F.avg_pool2d(fake[sharp:n], 2) - F.avg_pool2d(real[sharp:], 2)).abs()
            error = error + (halves * F.avg_pool2d(self.weights[None], 2)).mean((1, 2, 3)).sum()
        losses = {
            "l1": c.l1 * error / n,
            "features": c.features * perceptual.distance(self.squeezenet(reduced(fake)), targets).mean(),
            "matching": c.matching * sum(F.l1_loss(a[:sharp], b) for a, b in zip(taps, real_taps, strict=True)),
            "g": c.adversarial * score.mean(),
        }
        if real.shape[-1] > LOSS_SIDE:
            y, x = torch.randint(real.shape[-1] - LOSS_SIDE + 1, (2,), generator=self.random).tolist()
            window = (..., slice(y, y + LOSS_SIDE), slice(x, x + LOSS_SIDE))
            with torch.no_grad():
                wanted = self.squeezenet(real[:sharp][window])
            losses["crop"] = c.crop * perceptual.distance(self.squeezenet(fake[:sharp][window]), wanted).mean()
        return losses

    def steps(self, seconds: float) -> Iterator[GanStep]:
        """Raises SiganError at the first loss that is not a number; the run then still holds the last good step."""
        c, run = self.config, self.run
        n_real, n_drawn = round(c.batch * c.redraw), max(1, round(c.batch * c.drawings))
        began, index = time.monotonic(), 0
        while (now := time.monotonic()) - began < seconds:
            for opt, lr in ((self.g_opt, c.lr), (self.d_opt, c.lr), (self.domain_opt, c.domain_lr)):
                opt.param_groups[0]["lr"] = lr * min(1.0, (index + 1) / c.warmup)
            (real, sharp), (drawn, drawn_sharp) = (self.faces.batch(n) for n in (n_real, n_drawn))
            real, drawn = real.to(c.device), drawn.to(c.device)
            judged = torch.cat([real[:sharp], drawn[:drawn_sharp]])
            judged = judged[: len(judged) // STDDEV_GROUP * STDDEV_GROUP or len(judged)]
            with torch.no_grad():  # codes in full precision: they have a thousand small parts
                ws = run.encoder(real)
            seen, code_error = self.seen(drawn)
            ws = torch.cat([ws, seen, self.nobody(c.batch - n_real - n_drawn, ws)])
            with torch.autocast(torch.device(c.device).type, torch.bfloat16, enabled=c.bfloat16):
                with torch.no_grad():
                    targets = self.squeezenet(reduced(torch.cat([real, drawn])))
                    known = self.squeezenet(reduced(judged))
                fake = run.generator.synthesis(ws)
                run.discriminator.requires_grad_(True)
                d_losses = self.discriminator_step(judged, fake.detach(), known, index)
                self.d_opt.zero_grad()
                self.update(d_losses, index, self.d_opt)
                run.discriminator.requires_grad_(False)
                g_losses = self.generator_step(real, sharp, fake, targets)
                g_losses["code"] = c.code * code_error
                for opt in (self.g_opt, self.domain_opt):
                    opt.zero_grad()
                self.update(g_losses, index, self.g_opt, self.domain_opt)
            average(run.ema, run.generator, 0.5 ** (c.batch / c.ema_pictures))
            index += 1
            run.facts["pictures"] += c.batch
            elapsed = time.monotonic() - now
            run.facts["seconds"] += elapsed
            losses = {k: float(v.detach()) for k, v in {**d_losses, **g_losses}.items()}
            yield GanStep(run.facts["pictures"], losses, c.batch / elapsed)

    @staticmethod
    def update(losses: dict[str, Tensor], index: int, *optimisers: torch.optim.Optimizer) -> None:
        total = sum(losses.values())
        if not torch.isfinite(total):
            bad = [k for k, v in losses.items() if not torch.isfinite(v)] or list(losses)
            raise SiganError(f"loss {', '.join(bad)} is not finite at step {index}", "resume with a lower --lr")
        total.backward()
        for optimiser in optimisers:
            optimiser.step()


def reduced(x: Tensor) -> Tensor:
    """Pictures at LOSS_SIDE, or as they are when smaller.  [N,3,R,R] -> [N,3,r,r]"""
    return F.adaptive_avg_pool2d(x, LOSS_SIDE) if x.shape[-1] > LOSS_SIDE else x
