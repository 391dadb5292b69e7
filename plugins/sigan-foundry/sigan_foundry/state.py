"""The state of a training run: nets, their averages and a log, small enough to carry between machines."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from sigan.errors import WeightsError
from sigan.nets.compact_encoder import CompactEncoder, EncoderConfig
from sigan.nets.discriminator import Discriminator, DiscriminatorConfig
from sigan.nets.stylegan2 import Generator, GeneratorConfig
from sigan_foundry.data import save_whole

NETS = ("generator", "ema", "discriminator", "encoder", "heads")


@dataclass
class Run:
    """Everything that is trained. `ema` is the generator's moving average: what ships."""

    generator: Generator
    ema: Generator
    discriminator: Discriminator
    encoder: CompactEncoder
    heads: nn.ModuleList
    facts: dict = field(default_factory=lambda: {"pictures": 0, "seconds": 0.0, "seed": 0})

    @classmethod
    def new(cls, g: GeneratorConfig, d: DiscriminatorConfig, e: EncoderConfig, head_channels, seed: int) -> Run:
        torch.manual_seed(seed)
        generator = Generator(g)
        sides = [4 << i for i in range(len(head_channels), 0, -1)]  # of the taps that heads read: 8 and up
        heads = nn.ModuleList(nn.Conv2d(d.channels(r), out, 1) for r, out in zip(sides, head_channels, strict=True))
        ema = copy.deepcopy(generator).requires_grad_(False)
        return cls(generator, ema, Discriminator(d), CompactEncoder(e), heads,
                   {"pictures": 0, "seconds": 0.0, "seed": seed, "head_channels": list(head_channels)})

    def save(self, path: Path, half: bool = True) -> None:
        """Writes whole or not at all; half precision by default.

        WeightsError, naming them, when weights are not finite, OutputError when the disk is full: the file that was
        there stays.
        """
        tensors = {}
        for name in NETS:
            for key, value in getattr(self, name).state_dict().items():
                value = value.half() if half and value.is_floating_point() else value
                tensors[f"{name}.{key}"] = value.detach().cpu().contiguous().clone()
        wild = sorted(key for key, value in tensors.items() if not value.isfinite().all())
        if wild:
            raise WeightsError(f"{len(wild)} weights are not finite after {self.facts['pictures']} pictures, {wild[0]} "
                               f"among them; {path} is as it was", "go on from it with a lower --lr")
        configs = {"generator": self.generator.config.to_dict(), "discriminator": self.discriminator.config.to_dict(),
                   "encoder": self.encoder.config.to_dict(), "facts": self.facts}
        save_whole(tensors, path, {"run": json.dumps(configs)})

    @classmethod
    def load(cls, path: Path) -> Run:
        """Raises WeightsError when the file is no training state, or its tensors are of another configuration."""
        start = "start one with `sigan foundry start`"
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key).float() for key in file.keys()} if "run" in metadata else {}
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path} cannot be read as a training state ({error})", start) from error
        if "run" not in metadata:
            raise WeightsError(f"{path} is no training state", start)
        try:
            configs = json.loads(metadata["run"])
            run = cls.new(GeneratorConfig(**configs["generator"]), DiscriminatorConfig(**configs["discriminator"]),
                          EncoderConfig(**configs["encoder"]), configs["facts"]["head_channels"],
                          configs["facts"]["seed"])
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{path} tells its sizes in words of another version ({type(error).__name__}: {error})",
                               f"use the version that wrote it, or {start}") from error
        for name in NETS:
            own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
            try:
                getattr(run, name).load_state_dict(own)
            except RuntimeError as error:  # torch lists every key that does not fit
                raise WeightsError(f"{path} is of another configuration: {error}",
                                   f"use the version that wrote it, or {start}") from error
        run.facts = configs["facts"]
        return run

    def to(self, device: torch.device | str) -> Run:
        """On CUDA in channels_last, which its bf16 convolutions want; on a CPU it was no faster."""
        layout = torch.channels_last if torch.device(device).type == "cuda" else torch.preserve_format
        for name in NETS:
            getattr(self, name).to(device, memory_format=layout)
        return self


@torch.no_grad()
def average(ema: nn.Module, net: nn.Module, decay: float) -> None:
    """ema <- decay * ema + (1 - decay) * net"""
    torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), 1 - decay)
    for a, b in zip(ema.buffers(), net.buffers(), strict=True):
        a.copy_(b)
