"""Safetensors files as bytes: their header, and strict loading into a net."""

from __future__ import annotations

import json

from torch import Tensor, nn

from sigan.errors import WeightsError


def header_size(content: bytes) -> int:
    """Bytes before the tensors: the length's eight and the JSON's (safetensors' format)."""
    return 8 + int.from_bytes(content[:8], "little")


def metadata(content: bytes) -> dict[str, str]:
    """The free text entries of a safetensors file's header."""
    return json.loads(content[8 : header_size(content)]).get("__metadata__", {})


def load_strict(net: nn.Module, state: dict[str, Tensor], source: str, remedy: str) -> None:
    """Puts the tensors in place. One WeightsError lists every missing, unexpected and mis-shaped key, sorted."""
    own = net.state_dict()
    faults = [f"missing {key}" for key in sorted(set(own) - set(state))]
    faults += [f"unexpected {key}" for key in sorted(set(state) - set(own))]
    faults += [f"{key} is {list(state[key].shape)}, not {list(own[key].shape)}"
               for key in sorted(set(own) & set(state)) if own[key].shape != state[key].shape]
    if faults:
        raise WeightsError(f"{source} does not fit: {'; '.join(faults)}", remedy)
    net.load_state_dict(state, assign=True)
