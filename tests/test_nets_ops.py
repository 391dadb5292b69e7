"""Layers against the original program's numbers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from sigan.nets import ops

TOLERANCE = 1e-5  # what the originals meet among themselves


@pytest.fixture(scope="module")
def oracle(shared):
    return load_file(shared / "oracles" / "ops.safetensors")


@pytest.mark.parametrize("up, down, pad", [(1, 1, (-1, 2)), (1, 1, (1, 2)), (1, 2, (2, 2)), (2, 1, (2, 1)),
                                           (2, 1, (3, 3))])
def test_upfirdn2d_equals_the_original(oracle, up, down, pad):
    kernel = oracle["k"] * up**2  # the original's kernels carry the gain of zero insertion
    y = ops.upfirdn2d(oracle["x"], kernel, up, down, pad)
    torch.testing.assert_close(y, oracle[f"upfirdn_u{up}_d{down}_p{pad[0]}_{pad[1]}"], atol=TOLERANCE, rtol=0)


def test_lrelu_equals_the_original(oracle):
    torch.testing.assert_close(ops.lrelu(oracle["x"], oracle["lrelu_bias"]), oracle["lrelu"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["plain", "up", "down", "rgb"])
def test_modulated_convolution_equals_the_original(oracle, kind):
    weight = oracle[f"modconv_{kind}/weight"][0]
    affine = oracle[f"modconv_{kind}/modulation.weight"] / oracle["s"].shape[1] ** 0.5
    styles = oracle["s"] @ affine.t() + oracle[f"modconv_{kind}/modulation.bias"]
    y = ops.modulated_conv2d(oracle["x8"], weight, styles, ops.fir_kernel(), up=kind == "up", down=kind == "down")
    if kind != "rgb":
        y = y * ops.demodulation(weight, styles)[:, :, None, None]
    torch.testing.assert_close(y, oracle[f"modconv_{kind}"], atol=TOLERANCE, rtol=0)


def test_upsampling_is_zero_insertion_and_a_low_pass():
    x, fir = torch.randn(2, 3, 5, 6), ops.fir_kernel()
    torch.testing.assert_close(ops.upsample2d(x, fir), ops.upfirdn2d(x, fir * 4, up=2, pad=(2, 1)))


def test_the_fused_epilogue_equals_its_parts():
    x, scale, bias = torch.randn(2, 3, 4, 4), torch.rand(2, 3), torch.randn(3)
    parts = ops.lrelu(x * scale[:, :, None, None], bias)
    torch.testing.assert_close(ops.scale_bias_lrelu(x, scale, bias[None, :, None, None]), parts)


@pytest.mark.parametrize("transposed, stride, padding, groups, k, side", [
    (False, 1, 1, 1, 3, 6), (True, 2, 0, 1, 3, 4), (False, 2, 0, 1, 3, 7), (False, 2, 0, 1, 3, 8),
    (False, 1, 1, 4, 4, 6), (True, 2, 1, 4, 4, 5), (False, 1, 0, 1, 1, 4)])
@pytest.mark.parametrize("pictures", [1, 2])
def test_convolve_and_its_gradients_are_pytorch_s(pictures, transposed, stride, padding, groups, k, side):
    """Second gradients too: the discriminator is trained with a penalty on its gradient."""
    x = torch.randn(pictures, 4, side, side).double().to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(4, 4 // groups, k, k, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    plain = torch.nn.functional.conv_transpose2d if transposed else torch.nn.functional.conv2d
    ours = ops.convolve(x, weight, bias, stride=stride, padding=padding, transposed=transposed, groups=groups)
    theirs = plain(x, weight, bias, stride=stride, padding=padding, groups=groups)
    torch.testing.assert_close(ours, theirs)
    way, found = torch.randn_like(ours), []
    for y in (ours, theirs):
        first = torch.autograd.grad((y * way).sum(), (x, weight, bias), create_graph=True)
        found.append((*first, *torch.autograd.grad(first[0].square().sum() + first[1].pow(3).sum(), (x, weight))))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b)


def test_frozen_convolutions_keep_no_pictures():
    kept = []
    x, weight = torch.randn(1, 4, 8, 8, requires_grad=True), torch.randn(4, 4, 3, 3)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        ops.convolve(x, weight, padding=1).sum()
    assert kept == [weight.shape]


def test_styles_stay_in_float32_inside_autocast():
    """bfloat16 holds three digits; what scales every channel keeps seven, and its gradient comes through."""
    linear = ops.EqualLinear(16, 8)
    w, weight = torch.randn(4, 16), torch.randn(8, 16, 3, 3)
    expected = linear(w), ops.demodulation(weight, w)
    with torch.autocast("cpu", torch.bfloat16):
        found = linear(w), ops.demodulation(weight, w)
        assert torch.mm(w, w.t()).dtype == torch.bfloat16  # as everything else
        (found[0].sum() + found[1].sum()).backward()
    assert all(torch.equal(a, b) for a, b in zip(expected, found)) and linear.weight.grad is not None
