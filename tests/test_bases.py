"""Bases: written and read back the same, refused when not whole; and the embedded one."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from sigan import bases, plugins
from sigan.errors import ConfigError, WeightsError


@pytest.fixture
def folder(tiny_base, tmp_path, monkeypatch):
    """`tiny_base` on disk, as the only base there is."""
    monkeypatch.undo()
    for part in bases.NETS:
        bases.write_net(getattr(tiny_base, part), tmp_path / f"{part}.safetensors", "CC0-1.0", half=False)
    monkeypatch.setattr(plugins, "load", lambda group, name: lambda: tmp_path)
    return tmp_path


def test_saving_and_loading_changes_nothing(folder, tiny_base):
    loaded = bases.load("mini")
    ws = torch.randn(2, tiny_base.num_ws, tiny_base.w_dim)
    assert torch.equal(loaded.generator.synthesis(ws), tiny_base.generator.synthesis(ws))
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded.encoder(x, 0.5), tiny_base.encoder(x, 0.5))
    assert torch.equal(loaded.discriminator(x), tiny_base.discriminator(x))
    assert loaded.licence == "CC0-1.0"
    assert loaded.hash == hashlib.sha256((folder / "generator.safetensors").read_bytes()).hexdigest()


def test_loaded_nets_are_frozen(folder):
    loaded = bases.load("mini")
    for part in bases.NETS:
        net = getattr(loaded, part)
        assert not net.training and not any(p.requires_grad for p in net.parameters())


def test_sixteen_bits_round_and_no_more(folder, tiny_base):
    path = folder / "half.safetensors"
    bases.write_net(tiny_base.generator, path, "")
    for key, value in load_file(path).items():
        assert torch.equal(value, tiny_base.generator.state_dict()[key].half())


@pytest.mark.parametrize("brought", [lambda: None, "no function"])
def test_a_package_that_brings_no_folder_is_named(monkeypatch, brought):
    monkeypatch.setattr(plugins, "load", lambda group, name: brought)
    with pytest.raises(ConfigError, match="'mini' of package sigan.* gives no folder"):
        bases.find("mini")


def test_a_missing_file_is_named(folder):
    (folder / "encoder.safetensors").unlink()
    with pytest.raises(WeightsError, match="encoder.safetensors"):
        bases.load("mini")


def test_a_truncated_file_is_named(folder):
    path = folder / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="generator.safetensors holds no generator"):
        bases.load("mini")


def test_one_error_tells_every_wrong_tensor(folder):
    from safetensors import safe_open

    path = folder / "generator.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    state["stray"] = state.pop("synthesis.b4.const")
    state["synthesis.b8.conv0.bias"] = torch.zeros(3)
    save_file(state, path, metadata=metadata)
    with pytest.raises(WeightsError) as caught:
        bases.load("mini")
    for fault in ("missing synthesis.b4.const", "unexpected stray", "synthesis.b8.conv0.bias is [3], not [16]"):
        assert fault in caught.value.message


def test_samples_depend_on_seed_and_number_alone(tiny_base):
    many = tiny_base.sample(5, seed=3)
    assert torch.allclose(many[:2], tiny_base.sample(2, seed=3), atol=1e-6)
    assert not torch.allclose(many[:2], tiny_base.sample(2, seed=4))
    with pytest.raises(ConfigError, match="n is 0"):
        tiny_base.sample(0)


def test_truncation_zero_is_the_mean_face(tiny_base):
    ws = tiny_base.sample(3, truncation=0.0)
    torch.testing.assert_close(ws, tiny_base.generator.mapping.w_avg.expand_as(ws))


def test_the_embedded_base_redraws_faces_it_has_not_seen(shared):
    import io
    import tarfile

    import numpy as np
    from PIL import Image

    from sigan import evaluation, images

    base, judge = bases.load("mini"), evaluation.Identity()
    with tarfile.open(shared / "faces" / "validation.tar") as tar:
        members = [m for m in tar.getmembers() if m.isfile() and m.name.endswith(("jpg", "webp"))][::60]
        faces = [np.asarray(Image.open(io.BytesIO(tar.extractfile(m).read())).convert("RGB").resize(
            (base.resolution, base.resolution), Image.Resampling.LANCZOS)) for m in members]
    with torch.no_grad():
        drawn = images.from_batch(base.generator.synthesis(base.encoder(images.to_batch(faces))))
    distances = [np.linalg.norm(judge.descriptor(a) - judge.descriptor(b)) for a, b in zip(faces, drawn)
                 if judge.descriptor(a) is not None and judge.descriptor(b) is not None]
    assert len(distances) >= 0.8 * len(faces)
    assert np.median(distances) < 0.43  # closed-form PCA of 1000 components, unweighted
