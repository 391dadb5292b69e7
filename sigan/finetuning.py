"""Finetuner: a synthesis network drawn towards references and held to people, one optimiser step at a time.

Letters: x pictures [N,3,R,R] in [-1,1], ws codes [N,L,C], K references, P people of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigan import losses
from sigan.captured import Captured
from sigan.nets.stylegan2 import StyledConv, Synthesis

BETAS = (0.0, 0.99)  # of Adam, the authors' code
CHUNK = 8  # pictures of 256² at once where memory matters and nothing is learned
KEPT_BYTES = 2**30  # of features in full precision; more are kept in half of it
FLOAT16_MAX = 65504.0
ACTIVATIONS = 5  # tensors as large as a layer's output that training on a batch holds at once, about
ROOM = 2 * 2**30  # bytes of activations on a CPU; on a GPU, half of what is free


def at_once(side: int) -> int:
    """How many pictures of a side are drawn or looked at together."""
    return max(1, min(CHUNK, CHUNK * 256**2 // side**2))


@torch.no_grad()
def draw(synthesis: Synthesis, ws: Tensor) -> Iterator[Tensor]:
    """The pictures of codes [N,L,C], a few at a time."""
    for part in ws.split(at_once(synthesis.resolutions[-1])):
        yield synthesis(part)


def spread(loss: losses.PerceptualLoss, x: Tensor) -> list[Tensor]:
    """The `losses.distributions` of pictures' finest taps, looked at a few at a time."""
    return losses.distributions(Targets(loss, x, taps=loss.finest)[:])


class Targets:
    """Features of pictures that a net is drawn towards, computed once; `targets[index]` gives those of some of them.

    pictures: x, or parts of it one after the other, `count` in all. taps: of each, where not all are wanted. Where all
    features together would take more than a gigabyte they are kept in half precision.
    """

    def __init__(self, loss: losses.PerceptualLoss, pictures: Tensor | Iterable[Tensor], count: int | None = None,
                 taps: int | None = None):
        if isinstance(pictures, Tensor):
            count, pictures = len(pictures), pictures.split(at_once(pictures.shape[-1]))
        kept: list[list[Tensor]] = []
        for x in pictures:
            with torch.no_grad():
                found = loss.features(x, taps)
            half = count is not None and sum(tap.nbytes for tap in found) * count > KEPT_BYTES * len(x)
            kept.append([tap.clamp(-FLOAT16_MAX, FLOAT16_MAX).half() if half else tap for tap in found])
        self.taps = [torch.cat(same) for same in zip(*kept)]

    def __len__(self) -> int:
        return len(self.taps[0])

    def __getitem__(self, index: Tensor | slice) -> list[Tensor]:
        return [tap[index].float() if tap.dtype == torch.float16 else tap[index] for tap in self.taps]


class Finetuner:
    """Adam on `synthesis`: references redrawn, people kept, people's values spread as the references'.

    identity, statistics: weights of the two terms on people; the references' own weighs 1. scale: a parameter's name
    -> its learning rate as a share of the step's; 0 leaves it as it is. half: compute in bfloat16, the weights and
    their averages stay in single precision; by default on GPUs that have it. chunk: pictures at once; by default as
    many as fit the memory. Fewer than a step has are the same step: gradients add up.
    """

    def __init__(self, synthesis: Synthesis, loss: losses.PerceptualLoss, references: Targets,
                 people: Targets | None = None, *, identity: float = 0.0, statistics: float = 0.0,
                 scale: Callable[[str], float] = lambda name: 1.0, half: bool | None = None, chunk: int | None = None):
        self.synthesis, self.loss = synthesis, loss
        self.references, self.people = references, people
        self.identity, self.statistics = identity, statistics
        self.device = references.taps[0].device
        self.half = self.device.type == "cuda" and torch.cuda.is_bf16_supported() if half is None else half
        self.chunk = chunk or fitting(synthesis, self.device)
        self.spread = losses.distributions(references[:][: loss.finest])
        rates: dict[float, list[nn.Parameter]] = {}
        for name, parameter in synthesis.named_parameters():
            parameter.requires_grad_(scale(name) > 0)
            if parameter.requires_grad:
                rates.setdefault(scale(name), []).append(parameter)
        self.optimiser = torch.optim.Adam([{"params": same, "scale": rate} for rate, same in rates.items()],
                                          betas=BETAS, fused=True)
        self.gradients = Captured(self._gradients, self._clear) if self.device.type == "cuda" else self._gradients

    def step(self, ws: Tensor, people: Tensor | None = None, chosen: Tensor | None = None,
             tones: Tensor | None = None, *, lr: float) -> dict[str, float]:
        """One step; gives the weighted terms before it. Where they are not finite, no weight has changed.

        ws [K,L,C] stand for the references, people [P,L,C] for the pictures `chosen` [P] of the people; where these
        are not given, the people are not held to them in this step. tones [P,3,r,r] are taken off the people's pictures
        before their values are compared.
        """
        self._clear()
        if not self.identity:
            chosen = None
        if chosen is None and not self.statistics:
            people = None
        if not self.statistics:
            tones = None
        parts = self.gradients(ws, people, None if chosen is None else chosen.to(self.device), tones)
        told = dict(zip(parts, torch.stack(list(parts.values())).tolist()))
        if torch.isfinite(torch.tensor(sum(told.values()))):
            for group in self.optimiser.param_groups:
                group["lr"] = lr * group["scale"]
            self.optimiser.step()
        return told

    def _clear(self) -> None:
        self.optimiser.zero_grad(set_to_none=self.device.type != "cuda")  # a captured step writes where it did before

    def _gradients(self, ws: Tensor, people: Tensor | None, chosen: Tensor | None,
                   tones: Tensor | None) -> dict[str, Tensor]:
        """The weighted terms; their gradients are added to the parameters'."""
        codes = ws if people is None else torch.cat([ws, people])
        k, parts = len(ws), dict[str, Tensor]()
        spread, pull = bool(self.statistics) and people is not None, list[Tensor]()
        if people is not None and spread and len(codes) > self.chunk:  # the term sees all people together
            parts["statistics"], pull = self._pull(people, tones)
        for start in range(0, len(codes), self.chunk):
            end = min(start + self.chunk, len(codes))
            here = None if tones is None else tones[max(start - k, 0) : max(end - k, 0)]
            taps, drawn = self._seen(codes[start:end], max(k - start, 0), chosen is not None, here)
            found = dict(self._terms(taps, start, end, k, len(codes) - k, chosen))
            if spread and not pull:
                found["statistics"] = self._statistics(drawn)
            terms = list(found.values())
            if pull and end > k:
                terms += [(tap * grad[max(start, k) - k : end - k]).sum() for tap, grad in zip(drawn, pull)]
            torch.stack(terms).sum().backward()
            for name, value in found.items():
                parts[name] = parts[name] + value.detach() if name in parts else value.detach()
        return {name: parts[name] for name in ("style", "identity", "statistics") if name in parts}

    def _seen(self, ws: Tensor, own: int, held: bool, tones: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """All taps of the pictures of codes, and the finest of those after the first `own`, the people's, less `tones`.

        People who are not held to their pictures need no more than the finest.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            y, finest = self.synthesis(ws), self.loss.finest
            taps = self.loss.features(y if held else y[:own]) if held or own else []
            if own == len(ws) or (held and tones is None):
                drawn = [tap[own:] for tap in taps[:finest]]
            else:
                drawn = self.loss.features(y[own:] if tones is None else _less(y[own:], tones), finest)
        return [tap.float() for tap in taps], [tap.float() for tap in drawn]

    def _terms(self, taps: list[Tensor], start: int, end: int, k: int, p: int,
               chosen: Tensor | None) -> Iterator[tuple[str, Tensor]]:
        """The references' and the people's own terms for the pictures `start` to `end`, of k and p in all."""
        own = max(k - start, 0)
        if own:
            distances = self.loss.distance([tap[:own] for tap in taps], self.references[start : min(end, k)])
            yield "style", distances.sum() / k
        if chosen is not None and self.people is not None and end > k:
            targets = self.people[chosen[max(start, k) - k : end - k]]
            yield "identity", self.identity * self.loss.distance([tap[own:] for tap in taps], targets).sum() / p

    def _statistics(self, drawn: list[Tensor]) -> Tensor:
        return self.statistics * losses.distribution_distance(losses.distributions(drawn), self.spread)

    def _pull(self, people: Tensor, tones: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The distribution term of all people, and its gradient for their features."""
        with torch.no_grad():
            off = [None] * len(people) if tones is None else tones.split(self.chunk)
            parts = [self._seen(part, 0, False, x)[1] for part, x in zip(people.split(self.chunk), off)]
            drawn = [torch.cat(same) for same in zip(*parts)]
        for tap in drawn:
            tap.requires_grad_()
        term = self._statistics(drawn)
        return term.detach(), list(torch.autograd.grad(term, drawn))

    def state_dict(self) -> dict[str, Any]:
        """All that a step changes, for `load_state_dict`: a training that goes on is the same as one never stopped."""
        return {"synthesis": self.synthesis.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.synthesis.load_state_dict(state["synthesis"])
        self.optimiser.load_state_dict(state["optimiser"])


def _less(y: Tensor, tones: Tensor) -> Tensor:
    """Pictures less smooth ones that may be smaller."""
    return y - (tones if tones.shape == y.shape else F.interpolate(tones, size=y.shape[-2:], mode="bilinear"))


def fitting(synthesis: Synthesis, device: torch.device) -> int:
    """How many pictures a step can learn from at once in the memory there is; one always."""
    room = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else ROOM
    values = sum(layer.noise_const.numel() * len(layer.weight) for layer in synthesis.modules()
                 if isinstance(layer, StyledConv))
    return max(1, room // (4 * ACTIVATIONS * values))
