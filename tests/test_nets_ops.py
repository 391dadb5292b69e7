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
