"""Networks made without their random initialisation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

IDLE = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.nn.init.normal_, torch.nn.init.uniform_,
        torch.nn.init.kaiming_uniform_, torch.nn.init.kaiming_normal_, torch.nn.init.xavier_uniform_}


class Unfilled(TorchFunctionMode):
    """Random initialisation does nothing inside `with Unfilled():`; the weights are about to be replaced.

    Unlike on the meta device, constant buffers that no file holds (FIR taps) keep their values, and PyTorch does not
    load its compiler (two seconds). Memory that is never written to is never taken.
    """

    def __torch_function__(self, function: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if function in IDLE:
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if function is torch.randn else function)(*args, **kwargs)
