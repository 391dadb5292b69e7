"""What was found in a file, and how its sizes are read off keys and shapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sigan.convert import keys
from sigan.errors import ConfigError, WeightsError
from sigan.nets.discriminator import Discriminator, DiscriminatorConfig
from sigan.nets.e4e import E4eConfig, E4eEncoder
from sigan.nets.stylegan2 import Generator, GeneratorConfig
from sigan.nets.unfilled import Unfilled

READS = "sigan reads StyleGAN2 of rosinality, JoJoGAN and NVIDIA, e4e, and codes in w+"
MAX_RESOLUTION = 4096
MAX_WIDTH, MAX_LAYERS = 2048, 32  # of codes and channels, of the mapping: a file that claims more would cost hours
NETS = {"generator": (Generator, GeneratorConfig), "discriminator": (Discriminator, DiscriminatorConfig),
        "encoder": (E4eEncoder, E4eConfig)}

Tree = dict[object, object]  # of a file: its keys are text once `named_state` has seen them


@dataclass(frozen=True)
class Part:
    """A network (`generator`, `discriminator`, `encoder`) with its configuration and state, or codes (`ws`).

    kind: what it is, a name of `bases.KINDS`. filled: tensors of the state that the file did not have.
    """

    net: str
    config: dict[str, Any]
    state: dict[str, Tensor] = field(repr=False)
    kind: str
    filled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Foreign:
    """What a file holds.

    kind: rosinality, nvidia, nvidia-legacy, e4e, jojogan-style, latent or sigan. parts: by network. facts: resolution,
    num_ws and w_dim where known, and `notes`, sentences on what was filled in. The tensors are views of the file where
    possible: it must stay as it is while they are used.
    """

    kind: str
    parts: dict[str, Part]
    facts: dict[str, Any]


def facts(part: Part, notes: list[str]) -> dict[str, Any]:
    """`Foreign.facts` from its main part."""
    known = {name: part.config[name] for name in ("resolution", "w_dim") if isinstance(part.config.get(name), int)}
    if "resolution" in known:
        known["num_ws"] = 2 * (known["resolution"].bit_length() - 1) - 2
    return {**known, "notes": notes}


def translated(net: str, state: Mapping[str, Any], table: Callable[[Any], keys.Table], sizes: dict[str, int],
               layout: str, source: str, constants: tuple[str, ...] = (), given: tuple[str, ...] = ()) -> Part:
    """The network of these sizes in a state of another program's layout; `constants` and `given` as `translate` says.

    WeightsError lists all that is missing, unexpected or mis-shaped, or says which size no network has.
    """
    model, config_kind = NETS[net]
    try:
        for name in set(sizes) - {"resolution", "channel_base"}:
            most = MAX_LAYERS if name == "mapping_layers" else MAX_WIDTH
            if not 1 <= sizes[name] <= most:
                raise ConfigError(f"{name} is {sizes[name]}, not from 1 to {most}")
        if not 8 <= sizes["resolution"] <= MAX_RESOLUTION:
            raise ConfigError(f"resolution is {sizes['resolution']}, not a power of two from 8 to {MAX_RESOLUTION}")
        config = config_kind(**sizes)
    except ConfigError as error:
        raise WeightsError(f"{source} looks like a {net} in {layout}, but of no possible size: {error.message}",
                           READS) from error
    with Unfilled():
        empty = model(config)
    what = f"a {net} of {config.resolution}² in {layout}"
    found = keys.translate(state, table(config), empty, what, source, constants, given)
    return Part(net, config.to_dict(), found, "e4e" if net == "encoder" else net)


def channel_sizes(channels: Mapping[int, int]) -> dict[str, int]:
    """`resolution`, `channel_base` and `channel_max` from the channels at each resolution, as far as they show."""
    if not channels:
        return {"resolution": 0, "channel_base": 1, "channel_max": 1}
    top, most = max(channels), max(channels.values())
    base = GeneratorConfig(resolution=8).channel_base
    if channels[top] < most:
        base = channels[top] * top
    elif base // top < most:
        base = most * top
    return {"resolution": top, "channel_base": base, "channel_max": most}


def channels_by(state: Mapping[str, Any], pattern: str) -> dict[int, int]:
    """Resolution -> length of the first axis, of the keys that `pattern` fits; its group is the resolution."""
    return {int(match[1]): size(state, key, 0, 1) for key in state
            if (match := re.fullmatch(pattern, key)) and len(match[1]) < 5}


def named_state(value: Any, source: str, what: str) -> dict[str, Any]:
    """A state dict, its keys being text. WeightsError when it is none."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise WeightsError(f"{source}: {what} is a {shown(value)}, not a state dict", READS)
    return value


def last(state: Mapping[str, Any], pattern: str) -> int:
    """The highest number below 100 that `pattern` finds at the start of a key, or 0."""
    return max((int(match[1]) for key in state if (match := re.match(pattern, key)) and len(match[1]) < 3), default=0)


def size(state: Mapping[str, Any], key: str, axis: int, default: int) -> int:
    """One size of one tensor; the default where it is missing, which `keys.translate` will say."""
    shape = tuple(getattr(state.get(key), "shape", ()))
    return int(shape[axis]) if axis < len(shape) else default


def shown(value: Any) -> str:
    """A value in an error: its shape, or what it is."""
    shape = getattr(value, "shape", None)
    return str(list(shape)) if shape is not None else type(value).__name__ if value is not None else "missing"
