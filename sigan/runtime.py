"""Where and how a run computes: device, dtype, seeds per item, rank and world size, the home folder."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sigan.errors import ConfigError

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "bfloat16")


def resolve_device(name: str = "auto") -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`; ConfigError names a value that is none of these or not here."""
    import torch  # here and below: `home()` and `rank()` must answer without torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(name)):
        raise ConfigError(f"device is {name!r}; it must be auto, cpu, cuda or cuda:N", "try --device auto")
    device = torch.device(name)
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise ConfigError(f"device is {name!r}, but this machine offers {count} CUDA devices",
                          "use --device cpu, or install a torch with CUDA and check nvidia-smi")
    return device


def resolve_dtype(name: str = "auto", device: torch.device | str = "cpu") -> torch.dtype:
    """The dtype for `auto` (float32 on every device for now), `float32` or `bfloat16`; ConfigError otherwise."""
    import torch

    if name not in DTYPES:
        raise ConfigError(f"dtype is {name!r}; it must be one of {', '.join(DTYPES)}", "try --dtype auto")
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def item_generator(seed: int, key: str) -> torch.Generator:
    """A CPU generator whose stream depends on `seed` and `key` alone, so no picture depends on its batch or shard."""
    import torch

    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def rank() -> int:
    """This process's number among `world_size()`, from RANK as torchrun sets it; 0 by default."""
    return _whole_number("RANK", 0)


def world_size() -> int:
    """How many processes share the work, from WORLD_SIZE; 1 by default."""
    return _whole_number("WORLD_SIZE", 1)


def home() -> Path:
    """The folder of installed packs and caches: SIGAN_HOME, or the platform's user folder. It may not exist yet."""
    if chosen := os.environ.get("SIGAN_HOME"):
        return Path(chosen).expanduser()
    from platformdirs import user_data_dir

    return Path(user_data_dir("sigan"))


def _whole_number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    if text and not text.isdecimal():
        raise ConfigError(f"{variable} is {text!r}; it must be a whole number",
                          f"unset {variable}, or run with torchrun")
    return int(text) if text else default
