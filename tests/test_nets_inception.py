"""The Inception of FID, against torch-fidelity's with the same weights; SqueezeNet by its shapes and torchvision's."""

from __future__ import annotations

import pytest
import torch

from sigan.nets.inception import Inception, resize_as_tensorflow
from sigan.nets.squeezenet import SqueezeNet


def test_features_are_torch_fidelitys(shared, monkeypatch):
    from safetensors.torch import load_file

    monkeypatch.syspath_prepend(str(shared / "oracles"))
    detweights = __import__("detweights")
    oracle = load_file(shared / "oracles/fid.safetensors")
    net = Inception().eval()
    keys = {line.split()[0] for line in (shared / "oracles/fid.safetensors.keys.txt").read_text().splitlines()}
    assert keys - set(net.state_dict()) == {"fc.weight", "fc.bias"} and set(net.state_dict()) <= keys
    detweights.fill(net, "fan")
    with torch.inference_mode():
        found = net(oracle["imgs_u8"])
    assert torch.allclose(found, oracle["torch_fidelity_feat"], atol=2e-5)


def test_the_resize_reads_corners_as_tensorflow_1():
    x = torch.arange(4.0).view(1, 1, 1, 4).repeat(1, 1, 4, 1)
    assert resize_as_tensorflow(x, 8)[0, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    assert resize_as_tensorflow(x, 2)[0, 0, 0].tolist() == [0, 2]
    assert torch.equal(resize_as_tensorflow(x, 4), x)


def test_squeezenet_is_torchvisions():
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # of another build than torch's
        pytest.skip(f"torchvision cannot be imported: {error}")
    torch.manual_seed(0)
    theirs = models.squeezenet1_1(weights=None).eval()
    net = SqueezeNet().eval()
    net.load_state_dict({k: v for k, v in theirs.state_dict().items() if k.startswith("features.")})
    x = torch.randn(2, 3, 70, 90)
    with torch.inference_mode():
        assert torch.allclose(net(x), theirs.features(x).mean((2, 3)), atol=1e-5)


def test_squeezenet_takes_any_size():
    net = SqueezeNet().eval()
    with torch.inference_mode():
        assert net(torch.zeros(2, 3, 64, 96)).shape == (2, 512)
    assert len(net.state_dict()) == 2 + 8 * 6
