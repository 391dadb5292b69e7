"""Weight differences as a pack stores them: large ones in four bits, by blocks of 32; and back.

A block is one scale in fp16 and 32 whole numbers in -8..7 (ggml calls it Q4_0). Chosen by measurement among fp16, low
rank and fewer or more bits: docs/style-packs.md, `python -m benchmarks.packs`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from sigan.errors import PackError
from sigan.manifest import FETCH_AGAIN

BLOCK = 32  # numbers that share a scale
LEAST = 1024  # numbers; smaller tensors stay fp16: together they are a hundredth of a pack
SCALE = "scale."  # before a tensor's name: its scales


def suits(delta: Tensor) -> bool:
    """Whether a tensor is stored in four bits: a matrix or kernel whose rows pair up and whose blocks are whole."""
    return delta.ndim > 1 and delta.numel() >= LEAST and delta.numel() % BLOCK == 0 and delta.shape[0] % 2 == 0


def encode(deltas: Mapping[str, Tensor], packed: Collection[str]) -> dict[str, Tensor]:
    """The tensors of a file: those named in `packed` as nibbles and scales, the others as fp16."""
    stored = {}
    for key, delta in deltas.items():
        if key in packed:
            stored[key], stored[SCALE + key] = _pack(delta)
        else:
            stored[key] = delta.half().contiguous()
    return stored


def decode(stored: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], frozenset[str]]:
    """fp16 deltas, and the names of those stored in four bits. PackError naming what does not fit together."""
    deltas, packed = {}, set()
    for key, tensor in stored.items():
        if key.startswith(SCALE):
            if stored.get(key.removeprefix(SCALE), tensor).dtype != torch.uint8:
                raise PackError(f"tensor {key} scales nothing", FETCH_AGAIN)
        elif tensor.dtype == torch.uint8:
            scales = stored.get(SCALE + key)
            if scales is None or scales.dtype != torch.float16 or not tensor.ndim or (
                    scales.shape != (2 * tensor.numel() // BLOCK,) or 2 * tensor.numel() % BLOCK):
                raise PackError(f"tensor {key} has not one fp16 scale for {BLOCK} numbers", FETCH_AGAIN)
            deltas[key] = _unpack(tensor, scales)
            packed.add(key)
        else:
            deltas[key] = tensor
    wild = sorted(key for key, delta in deltas.items() if not delta.isfinite().all())
    if wild:
        raise PackError(f"numbers that are not finite in {', '.join(wild[:8])}", FETCH_AGAIN)
    return deltas, frozenset(packed)


def _pack(delta: Tensor) -> tuple[Tensor, Tensor]:
    """Nibbles uint8 [O/2,...] and scales fp16 [n/32] of [O,...]: the largest of a block is -8 times its scale, exactly.

    The low nibbles are the first half of the rows, the high ones the second.
    """
    blocks = delta.float().reshape(-1, BLOCK)
    extreme = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scales = (extreme / -8).half()
    steps = torch.where(scales == 0, 1, scales.float())
    numbers = (blocks / steps).round().clamp(-8, 7).add(8).to(torch.uint8).reshape(delta.shape)
    low, high = numbers.chunk(2)
    return (low | high << 4).contiguous(), scales.flatten()


def _unpack(nibbles: Tensor, scales: Tensor) -> Tensor:
    numbers = torch.cat([nibbles & 15, nibbles >> 4]).to(torch.int8) - 8
    return (numbers.reshape(-1, BLOCK) * scales[:, None]).reshape(numbers.shape)
