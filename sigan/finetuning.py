"""Finetuner: a synthesis network drawn towards references and held to people, one optimiser step at a time.

Letters: x pictures [N,3,R,R] in [-1,1], ws codes [N,L,C], K references, P people of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from sigan import losses

BETAS = (0.0, 0.99)  # of Adam, the authors' code
CHUNK = 8  # pictures at once where memory matters


class Targets:
    """Features of pictures that a net is drawn towards; `targets[index]` gives those of some of them."""

    @torch.no_grad()
    def __init__(self, loss: losses.PerceptualLoss, x: Tensor):
        parts = [loss.features(part) for part in x.split(CHUNK)]
        self.taps = [torch.cat(same) for same in zip(*parts)]

    def __len__(self) -> int:
        return len(self.taps[0])

    def __getitem__(self, index: Tensor) -> list[Tensor]:
        return [tap[index] for tap in self.taps]


class Finetuner:
    """Adam on `synthesis`: references redrawn, people kept, people's values spread as the references'.

    identity, statistics: weights of the two terms on people; the references' own weighs 1. scale: a parameter's name
    -> its learning rate as a share of the step's; 0 leaves it as it is.
    """

    def __init__(self, synthesis: nn.Module, loss: losses.PerceptualLoss, references: Targets,
                 people: Targets | None = None, *, identity: float = 0.0, statistics: float = 0.0,
                 scale: Callable[[str], float] = lambda name: 1.0):
        self.synthesis, self.loss = synthesis, loss
        self.references, self.people = references, people
        self.identity, self.statistics = identity, statistics
        with torch.no_grad():
            self.spread = losses.distributions(references.taps)
        rates: dict[float, list[nn.Parameter]] = {}
        for name, parameter in synthesis.named_parameters():
            parameter.requires_grad_(scale(name) > 0)
            if parameter.requires_grad:
                rates.setdefault(scale(name), []).append(parameter)
        self.optimiser = torch.optim.Adam([{"params": same, "scale": rate} for rate, same in rates.items()],
                                          betas=BETAS)

    def step(self, ws: Tensor, people: Tensor | None = None, chosen: Tensor | None = None, *,
             lr: float) -> dict[str, float]:
        """One step; gives the weighted terms before it. Where they are not finite, no weight has changed.

        ws [K,L,C] stand for the references, people [P,L,C] for the pictures `chosen` [P] of the people.
        """
        parts = dict(self._terms(ws, people, chosen))
        total = sum(parts.values())
        if torch.isfinite(total):
            for group in self.optimiser.param_groups:
                group["lr"] = lr * group["scale"]
            self.optimiser.zero_grad()
            total.backward()
            self.optimiser.step()
        return {name: float(value.detach()) for name, value in parts.items()}

    def _terms(self, ws: Tensor, people: Tensor | None, chosen: Tensor | None) -> Iterator[tuple[str, Tensor]]:
        k = len(ws)
        taps = self.loss.features(self.synthesis(ws if people is None else torch.cat([ws, people])))
        yield "style", self.loss.distance([t[:k] for t in taps], self.references.taps).mean()
        if people is None:
            return
        drawn = [t[k:] for t in taps]
        if self.identity:
            yield "identity", self.identity * self.loss.distance(drawn, self.people[chosen]).mean()
        if self.statistics:
            distance = losses.distribution_distance(losses.distributions(drawn), self.spread)
            yield "statistics", self.statistics * distance

    def state_dict(self) -> dict:
        """All that a step changes, for `load_state_dict`: a training that goes on is the same as one never stopped."""
        return {"synthesis": self.synthesis.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.synthesis.load_state_dict(state["synthesis"])
        self.optimiser.load_state_dict(state["optimiser"])
