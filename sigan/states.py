"""The state of a long computation in one file: tensors and plain values, read back bit by bit. No pickle.

A state is dicts, lists, texts, numbers, None and tensors; tuples come back as lists.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from sigan import images, runtime
from sigan.errors import WeightsError

KEY = "sigan.state"
SUFFIX = ".state.safetensors"


def path(name: str, key: str) -> Path:
    """Where the state of a training lies: by its name, and the hash of all that decides its result."""
    return runtime.home() / "training" / f"{name}-{key[:16]}{SUFFIX}"


def write(file: str | Path, state: Any) -> None:
    """Writes a state whole or not at all. OutputError when it cannot."""
    tensors: dict[str, torch.Tensor] = {}
    tree = _packed(state, tensors)
    images.atomic_write(file, save(tensors, {KEY: json.dumps(tree)}))


def read(file: str | Path, device: torch.device | str = "cpu") -> Any:
    """The state in a file. WeightsError when it is none."""
    from safetensors import safe_open

    try:
        with safe_open(file, "pt") as opened:
            tree = json.loads((opened.metadata() or {})[KEY])
        return _unpacked(tree, load_file(file, device=str(device)))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{file} holds no state of a training: {error}", "delete it, and train from the beginning"
                           ) from error


def _packed(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()  # safetensors refuses shared memory
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _packed(part, tensors)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_packed(part, tensors) for part in value]
    return value


def _unpacked(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(tree, list):
        return [_unpacked(part, tensors) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        return tensors[tree["tensor"]]
    return {key: _unpacked(part, tensors) for key, part in tree["dict"]}
