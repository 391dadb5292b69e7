"""Four bits a number: what is stored comes back within half a step, by plain loops; and stays as it is."""

from __future__ import annotations

import pytest
import torch

from sigan import deltas
from sigan.errors import PackError


def kernel(*shape: int, seed: int = 0) -> torch.Tensor:
    return (0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).half()


def by_hand(stored: dict[str, torch.Tensor], key: str) -> list[float]:
    """The numbers of a packed tensor, one nibble at a time, as docs/style-packs.md tells it."""
    bytes_, scales = stored[key].flatten().tolist(), stored[f"scale.{key}"].tolist()
    numbers = [byte % 16 - 8 for byte in bytes_] + [byte // 16 - 8 for byte in bytes_]
    return [number * scales[place // 32] for place, number in enumerate(numbers)]


def test_the_decoder_is_the_documents():
    stored = deltas.encode({"synthesis.a": kernel(8, 4, 3, 3, seed=3)}, {"synthesis.a"})
    found, packed = deltas.decode(stored)
    assert stored["synthesis.a"].shape == (4, 4, 3, 3) and packed == {"synthesis.a"}
    assert found["synthesis.a"].flatten().tolist() == pytest.approx(by_hand(stored, "synthesis.a"), rel=1e-3, abs=1e-7)


def test_no_number_moves_more_than_a_step():
    """Half a step, but for what lies beyond 7 steps on the side that has no 8: a whole one."""
    delta = kernel(64, 64)
    found, _ = deltas.decode(deltas.encode({"synthesis.a": delta}, {"synthesis.a"}))
    blocks, error = delta.float().reshape(-1, 32), (found["synthesis.a"].float() - delta.float()).reshape(-1, 32)
    step = blocks.abs().amax(1, keepdim=True) / 8
    assert (error.abs() <= 1.01 * step).all() and (error.abs() <= 0.51 * step).float().mean() > 0.95


@pytest.mark.parametrize("delta", [kernel(32, 64), torch.zeros(32, 64).half(), kernel(32, 64) * 1e-4,
                                   torch.full((32, 64), 65504.0).half()])
def test_stored_again_it_is_the_same(delta):
    stored = deltas.encode({"synthesis.a": delta}, {"synthesis.a"})
    again = deltas.encode(*deltas.decode(stored))
    assert stored.keys() == again.keys() and all(torch.equal(stored[key], again[key]) for key in stored)


@pytest.mark.parametrize(("shape", "fits"), [((32, 32), True), ((128, 16, 3, 3), True), ((1024,), False),
                                             ((33, 32), False), ((16, 32), False), ((4, 257), False)])
def test_what_is_stored_in_four_bits(shape, fits):
    assert deltas.suits(torch.zeros(shape)) is fits


@pytest.mark.parametrize("scales", [torch.ones(1), torch.ones(2).half(), torch.ones(1, 1).half()])
def test_scales_that_do_not_fit(scales):
    with pytest.raises(PackError, match="synthesis.a has not one fp16 scale for 32 numbers"):
        deltas.decode({"synthesis.a": torch.zeros(2, 8, dtype=torch.uint8), "scale.synthesis.a": scales})
