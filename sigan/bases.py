"""Base: a face model = generator + discriminator + encoder + facts. `mini` is embedded; others come as plugins.

A base is a folder of three safetensors files (fp16 or fp32), each with its sizes as JSON under "config" in the
metadata. An entry point of the group `sigan.bases` is a callable that returns the folder.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from sigan import images, plugins, weights
from sigan.errors import ConfigError, WeightsError
from sigan.nets.compact_encoder import CompactEncoder, EncoderConfig
from sigan.nets.discriminator import Discriminator, DiscriminatorConfig
from sigan.nets.stylegan2 import Generator, GeneratorConfig

GROUP = "sigan.bases"
NETS = {
    "generator": (Generator, GeneratorConfig),
    "discriminator": (Discriminator, DiscriminatorConfig),
    "encoder": (CompactEncoder, EncoderConfig),
}


@dataclass(eq=False)
class Base:
    """A loaded face model; its nets are in evaluation mode and frozen.

    `hash` is the sha256 of the generator's file: packs name it.
    """

    name: str
    generator: Generator = field(repr=False)
    discriminator: Discriminator = field(repr=False)
    encoder: CompactEncoder = field(repr=False)
    hash: str
    licence: str
    device: torch.device | str = "cpu"

    @property
    def resolution(self) -> int:
        return self.generator.config.resolution

    @property
    def num_ws(self) -> int:
        return self.generator.num_ws

    @property
    def w_dim(self) -> int:
        return self.generator.config.w_dim

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, truncation: float = 0.7) -> Tensor:
        """Codes of faces of nobody; the i-th depends on seed and i alone.  -> [N,L,C]"""
        if n < 1:
            raise ConfigError(f"n is {n}; it must be 1 or more")
        draw = torch.Generator().manual_seed(seed)
        z = torch.stack([torch.randn(self.generator.config.z_dim, generator=draw) for _ in range(n)])
        return self.generator.codes(z.to(self.device), truncation)


def mini() -> Path:
    """The folder of the embedded base."""
    return Path(__file__).parent / "assets" / "mini"


def names() -> list[str]:
    """The bases at hand, the embedded one first."""
    return list(plugins.entries(GROUP))


def load(name: str = "mini", device: torch.device | str = "cpu") -> Base:
    """The base of that name on a device. ConfigError when there is none, WeightsError when its files are not whole."""
    folder = plugins.load(GROUP, name)()
    nets, digests, licence = {}, {}, ""
    for part in NETS:
        nets[part], digests[part], licence = read_net(folder / f"{part}.safetensors", part)
        nets[part].to(device)
    return Base(name, **nets, hash=digests["generator"], licence=licence, device=torch.device(device))


def read_net(path: Path, part: str) -> tuple[nn.Module, str, str]:
    """The net in a file, the file's sha256 and the stated licence. One WeightsError lists all that does not fit."""
    kind, config_kind = NETS[part]
    remedy = "reinstall the package that brings it: `pip install --force-reinstall sigan`"
    try:
        content = path.read_bytes()
        tensors = load_tensors(content)
        metadata = weights.metadata(content)
        config = config_kind(**json.loads(metadata["config"]))
    except OSError as error:
        raise WeightsError(f"cannot read {part} weights {path}: {error.strerror or error}", remedy) from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} holds no {part}: {type(error).__name__}: {error}", remedy) from error
    net = kind(config)
    weights.load_strict(net, {key: value.float() for key, value in tensors.items()}, str(path), remedy)
    return net.eval().requires_grad_(False), hashlib.sha256(content).hexdigest(), metadata.get("licence", "")


def write_net(net: nn.Module, path: Path, licence: str, half: bool = True) -> None:
    """Saves a net as `read_net` reads it, in fp16 unless told otherwise."""
    from safetensors.torch import save

    state = {k: (v.half() if half and v.is_floating_point() else v).detach().cpu().contiguous()
             for k, v in net.state_dict().items()}
    images.atomic_write(path, save(state, {"config": json.dumps(net.config.to_dict()), "licence": licence}))
