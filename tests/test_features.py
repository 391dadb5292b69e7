"""Extractors by name, their weights, and the cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sigan import features, weights
from sigan.errors import ConfigError, WeightsError
from sigan.identity import Identity
from sigan.nets.inception import Inception
from sigan.nets.squeezenet import SqueezeNet

IMAGE = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def load(name, base=None):
    return features.load(name, identity=Identity(), base=lambda: base)


@pytest.mark.parametrize("part", ["encoder", "discriminator"])
def test_a_bases_own_nets(tiny_base, part):
    extractor = load(part, tiny_base)
    x = extractor(IMAGE)
    assert x.ndim == 1 and x.dtype == np.float32 and np.isfinite(x).all()
    assert extractor.name == f"{part} of mini" and tiny_base.hash in extractor.key and "32 px" in extractor.resize
    assert not np.array_equal(x, extractor(255 - IMAGE))


def test_a_base_without_discriminator_is_told(tiny_base, monkeypatch):
    monkeypatch.setattr(tiny_base, "discriminator", None)
    with pytest.raises(ConfigError, match="mini has no discriminator"):
        load("discriminator", tiny_base)


def test_dlibs_numbers_are_those_of_identity(monkeypatch):
    judge = Identity()
    monkeypatch.setattr(judge, "descriptor", lambda image: np.arange(128.0) if image[0, 0, 0] else None)
    extractor = features.load("dlib", identity=judge, base=None)
    assert extractor(np.ones((4, 4, 3), np.uint8)).shape == (128,)
    assert extractor(np.zeros((4, 4, 3), np.uint8)) is None


@pytest.mark.parametrize("name", ["vgg", "inception:x.pth", ""])
def test_another_name_is_refused(name):
    with pytest.raises(ConfigError, match="features are") as caught:
        load(name)
    assert "squeezenet:FILE" in caught.value.hint


@pytest.mark.parametrize(("name", "file"), [("inception", "fid-inception"), ("squeezenet", "squeezenet")])
def test_weights_that_are_not_installed_are_named(name, file):
    with pytest.raises(WeightsError) as caught:
        load(name)
    assert caught.value.exit_code == 5 and f"`sigan bases pull {file}`" in caught.value.hint


def test_inception_from_the_cache_of_weights(monkeypatch, tmp_path):
    torch.manual_seed(0)
    net = Inception().eval()
    path = tmp_path / "inception.pth"
    torch.save({**net.state_dict(), "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path)
    monkeypatch.setattr(weights, "path", lambda name: {"fid-inception": path}[name])
    extractor = load("inception")
    with torch.inference_mode():
        expected = net(torch.from_numpy(IMAGE).permute(2, 0, 1)[None])[0]
    assert np.allclose(extractor(IMAGE), expected, atol=1e-5) and extractor.name == "inception"


def test_squeezenet_tells_caffes_weights_from_torchvisions(tmp_path):
    torch.manual_seed(0)
    net = SqueezeNet().eval()
    state = {**net.state_dict(), "classifier.1.weight": torch.zeros(3)}
    save_file(state, tmp_path / "plain.safetensors")
    save_file(state, tmp_path / "caffe.safetensors", {"input": "BGR, 0..255, minus (104,117,123)"})
    plain, caffe = (load(f"squeezenet:{tmp_path / name}.safetensors") for name in ("plain", "caffe"))
    assert (plain.name, caffe.name) == ("squeezenet", "squeezenet (Caffe release)") and plain.key != caffe.key
    grey = np.full((256, 256, 3), 128, np.uint8)
    x = torch.full((1, 3, 256, 256), 128.0)
    with torch.inference_mode():
        of_caffe = net(x - torch.tensor([104.0, 117, 123]).view(1, 3, 1, 1))[0]
        of_plain = net((x / 255 - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
                       / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))[0]
    assert np.allclose(caffe(grey), of_caffe, rtol=1e-4, atol=1e-3)
    assert np.allclose(plain(grey), of_plain, rtol=1e-4, atol=1e-4)


def test_another_nets_weights_are_refused_at_once_and_whole(tmp_path):
    save_file({"features.0.weight": torch.zeros(2), "odd": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError) as caught:
        load(f"squeezenet:{tmp_path / 'x.safetensors'}")
    assert "missing features.0.bias" in caught.value.message and "unexpected odd" in caught.value.message


# ---- the cache

def test_the_cache_remembers_values_and_their_lack(tmp_path):
    cache, calls = features.Cache(tmp_path / "c.sqlite"), []

    def compute(value):
        calls.append(value)
        return value

    first = np.float32([1, 2, 3])
    assert np.array_equal(cache.get("d", "k", lambda: compute(first)), first)
    assert cache.get("e", "k", lambda: compute(None)) is None
    again = features.Cache(tmp_path / "c.sqlite")  # another process
    assert np.array_equal(again.get("d", "k", pytest.fail), first) and again.get("e", "k", pytest.fail) is None
    assert len(calls) == 2 and again.get("d", "other", lambda: np.float32([9]))[0] == 9


def test_a_broken_or_impossible_cache_is_none_at_all(tmp_path):
    (tmp_path / "broken.sqlite").write_bytes(b"no database" * 1000)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "broken.sqlite", tmp_path / "file" / "c.sqlite"):
        cache = features.Cache(path)
        assert [cache.get("d", "k", lambda: np.float32([4]))[0] for _ in range(2)] == [4, 4]
        cache.close()


def test_digests_tell_shapes_and_pixels_apart():
    a = np.zeros((2, 8, 3), np.uint8)
    assert features.digest(a) == features.digest(a.copy()) != features.digest(a.reshape(8, 2, 3))
    assert features.digest(a[:, ::2]) == features.digest(np.zeros((2, 4, 3), np.uint8))
