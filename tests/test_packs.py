"""Packs on a network of three small layers, compared with plain arithmetic on its weights."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from sigan import images, packs
from sigan.errors import ConfigError, OutputError, PackError
from sigan.packs import PackManifest, StylePack

MANIFEST = PackManifest(name="ink", base="mini", base_hash="ab" * 32, base_resolution=16, recipe="styleidentity",
                        config={"alpha": 0.5, "swap_layers": [7, 9]}, seed=7, steps=3, references=2,
                        licence="CC BY-NC-SA 4.0", author="A", created="2026-01-02", perceptual="discriminator")


class Net(nn.Module):
    def __init__(self, width: int = 3):
        super().__init__()
        torch.manual_seed(0)
        self.mapping = nn.Linear(2, 2)
        self.synthesis = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 2))
        self.synthesis.register_buffer("strength", torch.tensor(0.25))


def copy(net: nn.Module) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in net.state_dict().items()}


@pytest.fixture
def base():
    net = Net()
    return SimpleNamespace(name="mini", hash="ab" * 32, resolution=16, generator=net)


def tuned(seed: int = 1, keys=("synthesis.0.weight", "synthesis.strength")) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    state = copy(Net())
    return {key: t + 0.1 * torch.randn(t.shape, generator=g) if key in keys else t for key, t in state.items()}


@pytest.fixture
def pack(base):
    return StylePack.from_weights(MANIFEST, base.generator.state_dict(), tuned())


# the file

def test_holds_only_what_differs_as_fp16(pack):
    assert sorted(pack.deltas) == ["synthesis.0.weight", "synthesis.strength"]
    assert {delta.dtype for delta in pack.deltas.values()} == {torch.float16}


def test_save_load_is_identity(pack, tmp_path):
    pack.save(tmp_path / "ink.safetensors")
    again = StylePack.load(tmp_path / "ink.safetensors")
    assert again.manifest == MANIFEST and again.hash == pack.hash
    assert all(torch.equal(again.deltas[key], delta) for key, delta in pack.deltas.items())
    assert packs.read_manifest(tmp_path / "ink.safetensors") == MANIFEST
    assert [path.name for path in tmp_path.iterdir()] == ["ink.safetensors"]  # no temporary file stays


def test_equal_packs_are_equal_files(pack, tmp_path):
    for name in "ab":
        pack.save(tmp_path / name)
    StylePack.load(tmp_path / "a").save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_a_compact_pack_is_a_quarter_and_stays_as_it_is(tmp_path):
    state = {"synthesis.w": torch.zeros(64, 256), "synthesis.b": torch.zeros(64)}
    draw = torch.Generator().manual_seed(3)
    target = {key: 0.1 * torch.randn(tensor.shape, generator=draw) for key, tensor in state.items()}
    small = StylePack.from_weights(MANIFEST, state, target)
    large = StylePack.from_weights(MANIFEST, state, target, compact=False)
    small.save(tmp_path / "small")
    large.save(tmp_path / "large")
    again = StylePack.load(tmp_path / "small")
    assert again.packed == {"synthesis.w"} and again.hash == small.hash != large.hash
    assert all(torch.equal(again.deltas[key], delta) for key, delta in small.deltas.items())
    assert (tmp_path / "small").stat().st_size < 0.4 * (tmp_path / "large").stat().st_size
    error = (small.deltas["synthesis.w"].float() - target["synthesis.w"]).square().mean().sqrt()
    assert 1e-4 < error < 0.1 * target["synthesis.w"].square().mean().sqrt()
    torch.testing.assert_close(small.deltas["synthesis.b"].float(), target["synthesis.b"], rtol=1e-3, atol=1e-4)


def test_the_preview_shows_the_bases_faces_before_and_after(tiny_base, tiny_pack, tmp_path):
    before, side = copy(tiny_base.generator), tiny_base.resolution
    strip = np.array(Image.open(io.BytesIO(tiny_pack.illustrated(tiny_base).picture)).convert("RGB")).astype(int)
    ws = tiny_base.sample(2)
    with tiny_pack.apply(tiny_base.generator) as generator:
        drawn = images.from_batch(generator.synthesis(ws))
    faces = images.from_batch(tiny_base.generator.synthesis(ws))
    assert strip.shape == (2 * (side + 4) + 4, 2 * (side + 4) + 4, 3)
    shown = [strip[top:top + side, left:left + side] for top in (4, side + 8) for left in (4, side + 8)]
    for cell, wanted in zip(shown, (faces[0], drawn[0], faces[1], drawn[1])):
        distances = [np.abs(cell - other).mean() for other in (*faces, *drawn)]  # WebP loses much of such noise
        assert min(distances) == np.abs(cell - wanted).mean()
    assert all(torch.equal(weight, before[key]) for key, weight in tiny_base.generator.state_dict().items())


def test_file_reads_as_plain_safetensors(pack, tmp_path):
    pack.save(tmp_path / "ink.safetensors")
    assert load_file(tmp_path / "ink.safetensors").keys() == pack.deltas.keys()
    with safe_open(tmp_path / "ink.safetensors", "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["sigan"])["base_hash"] == "ab" * 32
    assert metadata["modelspec.title"] == "ink" and metadata["modelspec.license"] == "CC BY-NC-SA 4.0"
    assert metadata["modelspec.hash_sha256"] == pack.hash


def test_save_where_nothing_can_be_written(pack, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        pack.save(tmp_path / "file" / "ink.safetensors")


def test_one_flipped_bit_is_seen(pack, tmp_path):
    path = tmp_path / "ink.safetensors"
    pack.save(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(PackError, match="ink.safetensors is corrupt"):
        StylePack.load(path)


def test_a_truncated_file_is_refused_by_name(pack, tmp_path):
    path = tmp_path / "ink.safetensors"
    pack.save(path)
    for size in (0, 5, 100, path.stat().st_size - 1):
        (tmp_path / "torn.safetensors").write_bytes(path.read_bytes()[:size])
        with pytest.raises(PackError, match="torn.safetensors is no valid safetensors file"):
            StylePack.load(tmp_path / "torn.safetensors")


def test_other_files_are_refused(tmp_path):
    torch.save({"synthesis.0.weight": torch.zeros(2)}, tmp_path / "pickle.safetensors")
    with pytest.raises(PackError, match="pickle.safetensors is no valid safetensors file"):
        StylePack.load(tmp_path / "pickle.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(PackError, match="other.safetensors is a safetensors file, but no style pack"):
        StylePack.load(tmp_path / "other.safetensors")
    with pytest.raises(PackError, match="cannot read pack .*absent"):
        StylePack.load(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(("tensor", "key", "reason"), [
    (torch.zeros(2).half(), "mapping.x", "not synthesis weights: mapping.x"),
    (torch.tensor([float("nan")]).half(), "synthesis.x", "not finite in synthesis.x"),
    (torch.tensor([1e9]).half(), "synthesis.x", "not finite in synthesis.x"),
])
def test_weights_that_no_pack_holds(tmp_path, tensor, key, reason):
    StylePack(MANIFEST, {key: tensor}).save(tmp_path / "odd.safetensors")
    with pytest.raises(PackError, match=f"odd.safetensors: .*{reason}"):
        StylePack.load(tmp_path / "odd.safetensors")


# from weights

def test_differences_outside_the_synthesis_are_refused(base):
    with pytest.raises(PackError, match=r"synthesis weights only.*: mapping\.bias$"):
        StylePack.from_weights(MANIFEST, copy(base.generator), tuned(keys=("mapping.bias",)))


def test_diverged_training_is_refused(base):
    state = copy(base.generator)
    state["synthesis.0.bias"][0] = float("nan")
    with pytest.raises(PackError, match="'ink' diverged: .* synthesis.0.bias"):
        StylePack.from_weights(MANIFEST, base.generator.state_dict(), state)


def test_weights_of_two_networks_are_refused(base):
    with pytest.raises(PackError, match="unpaired: synthesis.strength"):
        StylePack.from_weights(MANIFEST, {k: t for k, t in tuned().items() if k != "synthesis.strength"}, tuned())
    with pytest.raises(PackError, match=r"synthesis.0.bias is \[4\], expected \[3\]"):
        StylePack.from_weights(MANIFEST, base.generator.state_dict(), Net(width=4).state_dict())


# on a generator

@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_apply_adds_and_restores(base, pack, strength):
    before, target = copy(base.generator), tuned()
    with pack.apply(base.generator, strength) as generator:
        for key, weight in generator.state_dict().items():
            expected = before[key] + strength * (target[key] - before[key])
            torch.testing.assert_close(weight, expected, rtol=0, atol=2e-4)  # fp16 of differences about 0.1
    assert all(torch.equal(weight, before[key]) for key, weight in base.generator.state_dict().items())


def test_apply_restores_after_an_error(base, pack):
    before = copy(base.generator)
    with pytest.raises(KeyError), pack.apply(base.generator):
        raise KeyError("inside")
    assert all(torch.equal(weight, before[key]) for key, weight in base.generator.state_dict().items())


def test_dress_leaves_the_tuned_weights_in_place(base, pack):
    pack.dress(base.generator)
    torch.testing.assert_close(base.generator.state_dict(), tuned(), rtol=0, atol=2e-4)


def test_apply_checks_before_it_changes(base, pack):
    generator = Net(width=4)
    before = copy(generator)
    with pytest.raises(PackError, match=r"pack 'ink' does not fit: synthesis.0.weight is \[3, 2\], expected \[4, 2\]"):
        pack.dress(generator)
    with pytest.raises(ConfigError, match="strength nan"):
        pack.dress(base.generator, strength=float("nan"))
    assert all(torch.equal(weight, before[key]) for key, weight in generator.state_dict().items())


def test_check_names_both_bases(base, pack):
    pack.check(base)
    with pytest.raises(PackError, match="belongs to base 'mini' 16² .hash abababab….*, you use 'ffhq' 16²") as caught:
        pack.check(SimpleNamespace(**{**vars(base), "name": "ffhq", "hash": "cd" * 32}))
    assert "--base mini" in caught.value.hint and "--base ffhq" in caught.value.hint
    with pytest.raises(PackError) as caught:
        pack.check(SimpleNamespace(**{**vars(base), "hash": "cd" * 32}))
    assert "different editions of 'mini'" in caught.value.hint


def canvas_of(pack, base, **amounts) -> dict[str, torch.Tensor]:
    """What the amounts change, as shares of the pack's deltas."""
    before = copy(base.generator)
    with pack.apply(base.generator, **amounts) as generator:
        return {key: (weight - before[key]) for key, weight in generator.state_dict().items() if key in pack.deltas}


def test_structure_and_color_are_two_halves_of_one_pack(tiny_base):
    """Every weight belongs to one of them; the canvas' gain to both, luma's dimensions and chroma's."""
    state, draw = copy(tiny_base.generator), torch.Generator().manual_seed(1)
    target = {key: tensor + 0.1 * torch.randn(tensor.shape, generator=draw) if key.startswith("synthesis.") and
              not key.endswith("noise_const") else tensor for key, tensor in state.items()}
    pack = StylePack.from_weights(replace(MANIFEST, base_hash=tiny_base.hash), state, target)
    drawn, coloured = (canvas_of(pack, tiny_base, structure=1 - c, color=c) for c in (0.0, 1.0))
    for key, delta in pack.deltas.items():
        torch.testing.assert_close(drawn[key] + coloured[key], delta.float(), atol=1e-6, rtol=1e-5)
        if not key.endswith("canvas.gain"):
            colours = "torgb" in key or "chroma" in key
            assert not (drawn if colours else coloured)[key].any()
    gain, luma = "synthesis.canvas.gain", tiny_base.generator.config.canvas_luma
    assert not drawn[gain][luma:].any() and drawn[gain][:luma].all()
    half = canvas_of(pack, tiny_base, strength=0.5, structure=0.5, color=0.5)
    torch.testing.assert_close(half[gain], 0.25 * pack.deltas[gain].float(), atol=1e-6, rtol=1e-5)


# blends

@pytest.mark.parametrize(("spec", "pairs"), [
    ("a", [("a", 1.0)]), ("a:0.6", [("a", 0.6)]), ("a:0.6+b:0.4", [("a", 0.6), ("b", 0.4)]),
    ("a + b", [("a", 0.5), ("b", 0.5)]), ("x/a.safetensors:1+b:0", [("x/a.safetensors", 1.0), ("b", 0.0)]),
    (r"C:\a.safetensors", [(r"C:\a.safetensors", 1.0)]),
])
def test_a_blend_is_read_as_names_and_shares(spec, pairs):
    assert packs.parse_blend(spec) == pairs


def test_a_file_is_no_blend(tmp_path, pack):
    pack.save(tmp_path / "a+b.safetensors")
    assert packs.parse_blend(str(tmp_path / "a+b.safetensors")) == [(str(tmp_path / "a+b.safetensors"), 1.0)]


@pytest.mark.parametrize("spec", ["", "a+", "a:0.6+b", "a:1.5", "a:-1+b:1", "a:nan", "a:inf"])
def test_what_is_no_blend_is_refused(spec):
    with pytest.raises(ConfigError, match="style '") as caught:
        packs.parse_blend(spec)
    assert "watercolor:0.6+line:0.4" in caught.value.hint


def test_blend_is_the_weighted_sum(base, pack):
    other = StylePack.from_weights(replace(MANIFEST, name="line", licence="CC0"), base.generator.state_dict(),
                                   tuned(2, keys=("synthesis.0.weight", "synthesis.1.bias")))
    both = packs.blend([pack, other], [0.6, 0.4])
    assert both.manifest.name == "ink:0.6+line:0.4" and both.manifest.licence == "CC BY-NC-SA 4.0; CC0"
    assert [part["hash"] for part in both.manifest.config["parts"]] == [pack.hash, other.hash]
    assert both.manifest.references == 4 and PackManifest.from_json(both.manifest.to_json()) == both.manifest
    start, first, second = copy(base.generator), tuned(), tuned(2, keys=("synthesis.0.weight", "synthesis.1.bias"))
    with both.apply(base.generator) as generator:
        for key, weight in generator.state_dict().items():
            expected = start[key] + 0.6 * (first[key] - start[key]) + 0.4 * (second[key] - start[key])
            torch.testing.assert_close(weight, expected, rtol=0, atol=3e-4)


def test_blend_needs_one_base_and_one_shape(pack):
    with pytest.raises(PackError, match="different bases: 'mini' .hash abababab….* and 'ffhq'"):
        packs.blend([pack, replace(pack, manifest=replace(MANIFEST, base="ffhq", base_hash="cd" * 32))], [0.5, 0.5])
    odd = replace(pack, deltas={"synthesis.0.weight": torch.zeros(1, 2).half()})
    with pytest.raises(PackError, match=r"synthesis.0.weight is \[1, 2\], expected \[3, 2\]"):
        packs.blend([pack, odd], [0.5, 0.5])
    with pytest.raises(ConfigError, match="blend of 1 packs with 2 weights"):
        packs.blend([pack], [0.5, 0.5])
