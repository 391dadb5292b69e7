"""NVIDIA's pickles: stylegan2-ada-pytorch, stylegan3's StyleGAN2, and the TensorFlow original."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import torch

from sigan.convert import keys
from sigan.convert.foreign import (
    READS,
    Foreign,
    Part,
    Tree,
    channel_sizes,
    channels_by,
    facts,
    last,
    named_state,
    size,
    translated,
)
from sigan.errors import WeightsError
from sigan.pickles import Record

LAYOUT, ORIGINAL = "NVIDIA's layout", "the layout of the TensorFlow original"
CONSTANTS = ("resample_filter",)
MAX_DEPTH = 16  # of modules in modules
ALIAS_FREE = re.compile(r"synthesis\.L(\d+)_(\d+)_(\d+)\.weight")  # layer, side, channels


def read(tree: Tree, source: str) -> Foreign:
    """A checkpoint with `G_ema` and perhaps `D`."""
    parts = {"generator": _generator(*_module_state(tree["G_ema"], source), source)}
    if tree.get("D") is not None:
        parts["discriminator"] = _discriminator(*_module_state(tree["D"], source), source)
    return Foreign("nvidia", parts, facts(parts["generator"], []))


def read_state(tree: Tree, source: str) -> Foreign:
    """A generator's state dict that nothing is wrapped around."""
    part = _generator(named_state(tree, source, "the generator"), 0.0, source)
    notes = ["a state dict does not say whether its layers are clamped (`conv_clamp`): they are not"]
    return Foreign("nvidia", {"generator": part}, facts(part, notes))


def _generator(state: dict[str, Any], clamp: float, source: str) -> Part:
    _refuse_alias_free(state, source)
    if any(key.startswith("mapping.embed.") for key in state):
        raise WeightsError(f"{source} is a conditional generator, which draws by label", READS)
    sizes = {**channel_sizes(channels_by(state, r"synthesis\.b(\d+)\.conv1\.bias")),
             "mapping_layers": 1 + last(state, r"mapping\.fc(\d+)\."),
             "z_dim": size(state, "mapping.fc0.weight", 1, 512), "w_dim": size(state, "mapping.fc0.weight", 0, 512)}
    return _clamped(translated("generator", state, keys.nvidia_generator, sizes, LAYOUT, source, CONSTANTS), clamp)


def _clamped(part: Part, limit: float) -> Part:
    return replace(part, config={**part.config, "conv_clamp": limit})


def _discriminator(state: dict[str, Any], clamp: float, source: str) -> Part:
    channels = {r // 2: c for r, c in channels_by(state, r"b(\d+)\.conv1\.bias").items()}
    channels |= channels_by(state, r"b(\d+)\.conv0\.bias")
    return _clamped(translated("discriminator", state, keys.nvidia_discriminator, channel_sizes(channels), LAYOUT,
                               source, CONSTANTS), clamp)


def _refuse_alias_free(state: dict[str, Any], source: str) -> None:
    """StyleGAN3 (arXiv 2106.12423) is named: T has 3x3 kernels, R, the rotation-equivariant one, 1x1."""
    layers = {int(match[1]): (int(match[2]), size(state, key, 3, 3)) for key in state
              if (match := ALIAS_FREE.fullmatch(key))}
    if layers:
        letter = "R" if layers[min(layers)][1] == 1 else "T"
        raise WeightsError(f"{source} is a StyleGAN3-{letter} generator of {layers[max(layers)][0]}², not StyleGAN2: "
                           "its codes and layers are other ones", READS)


def _module_state(module: Any, source: str) -> tuple[dict[str, Any], float]:
    """The state dict of a pickled module, parameters and persistent buffers by their dotted names, and `conv_clamp`.

    That is the most that a layer of the net gives, an attribute of each layer that has the limit; 0 where none has.
    """
    found: dict[str, Any] = {}
    limits: set[float] = set()
    pending = [("", module, 0)]
    while pending:
        prefix, node, depth = pending.pop()
        state = node.state if isinstance(node, Record) else None
        if not isinstance(state, dict) or depth > MAX_DEPTH or len(found) + len(pending) > 10_000:
            raise WeightsError(f"{source}: {ascii(prefix)[1:-1][:80] or 'the network'} is no module of PyTorch", READS)
        limit = state.get("conv_clamp")
        if limit is not None:
            if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit < math.inf:
                raise WeightsError(f"{source}: the conv_clamp of {ascii(prefix)[1:-1][:80] or 'the network'} is no "
                                   "positive number", READS)
            limits.add(float(limit))
        transient = state.get("_non_persistent_buffers_set")
        transient = transient if isinstance(transient, set) else set()
        for name, value in [*_members(state, "_parameters"), *_members(state, "_buffers")]:
            if value is not None and name not in transient:
                found[prefix + name] = value
        pending += [(f"{prefix}{name}.", child, depth + 1) for name, child in _members(state, "_modules")
                    if child is not None]
    if len(limits) > 1:
        raise WeightsError(f"{source}: its layers are clamped at {', '.join(map(str, sorted(limits)[:9]))}; one limit "
                           "for all is known here", READS)
    return found, max(limits, default=0.0)


def _members(state: Tree, group: str) -> list[tuple[str, Any]]:
    members = state.get(group)
    members = members.state if isinstance(members, Record) else members
    return [(str(name), value) for name, value in members.items()] if isinstance(members, dict) else []


# ---- the TensorFlow original

def is_tensorflow(tree: Any) -> bool:
    return isinstance(tree, tuple) and len(tree) == 3 and all(
        isinstance(net, Record) and net.kind.startswith("dnnlib.tflib") for net in tree)


def read_tensorflow(tree: tuple[Any, ...], source: str) -> Foreign:
    """G, D and the averaged G, which alone is taken of the two."""
    state = _variables(tree[2], source)
    sizes = {**channel_sizes(channels_by(state, r"synthesis/(\d+)x\1/Conv1?/bias")),
             "mapping_layers": 1 + last(state, r"mapping/Dense(\d+)/"),
             "z_dim": size(state, "mapping/Dense0/weight", 0, 512),
             "w_dim": size(state, "mapping/Dense0/weight", 1, 512)}
    generator = translated("generator", state, keys.tensorflow_generator, sizes, ORIGINAL, source, ("lod",))
    state = _variables(tree[1], source)
    channels = {r // 2: c for r, c in channels_by(state, r"(\d+)x\1/Conv1_down/bias").items()}
    channels |= channels_by(state, r"(\d+)x\1/Conv0/bias")
    discriminator = translated("discriminator", state, keys.tensorflow_discriminator, channel_sizes(channels),
                               ORIGINAL, source, ("lod",))
    return Foreign("nvidia-legacy", {"generator": generator, "discriminator": discriminator}, facts(generator, []))


def _variables(network: Any, source: str) -> dict[str, Any]:
    """A pickled network's variables; those of its components after the component's name and `/`."""
    found: dict[str, Any] = {}
    pending = [("", network, 0)]
    while pending:
        prefix, node, depth = pending.pop()
        state = node.state if isinstance(node, Record) and isinstance(node.state, dict) else {}
        variables = state.get("variables")
        if not isinstance(variables, list) or depth > MAX_DEPTH or len(found) + len(pending) > 10_000:
            raise WeightsError(f"{source}: {ascii(prefix)[1:-1][:80] or 'the network'} has no variables", READS)
        for pair in variables:
            if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
                raise WeightsError(f"{source}: a variable without a name", READS)
            found[prefix + pair[0]] = torch.tensor(pair[1]) if isinstance(pair[1], float) else pair[1]  # a scalar
        pending += [(f"{prefix}{name}/", child, depth + 1) for name, child in _members(state, "components")]
    return found
