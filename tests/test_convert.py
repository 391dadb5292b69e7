"""Foreign checkpoints become our networks: every layout round trips, and what does not fit is told completely."""

from __future__ import annotations

import argparse
import re

import foreign
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from sigan import bases, convert
from sigan.errors import WeightsError
from sigan.nets.discriminator import Discriminator, DiscriminatorConfig
from sigan.nets.e4e import E4eConfig, E4eEncoder
from sigan.nets.ops import modulated_conv2d
from sigan.nets.stylegan2 import Generator, GeneratorConfig

NETS = {"generator": (Generator, GeneratorConfig), "discriminator": (Discriminator, DiscriminatorConfig),
        "encoder": (E4eEncoder, E4eConfig)}


@pytest.fixture(scope="module")
def g() -> Generator:
    return foreign.generator()


@pytest.fixture(scope="module")
def d() -> Discriminator:
    return foreign.discriminator()


@pytest.fixture(scope="module")
def e(g) -> E4eEncoder:
    net = foreign.encoder()
    net.w_avg.copy_(g.mapping.w_avg.expand_as(net.w_avg))  # e4e's is that of its decoder
    return net


def assert_is(part: convert.Part, net: torch.nn.Module, exact: bool = True) -> None:
    """The part is that network: its sizes, and every tensor of it."""
    kind, config = NETS[part.net]
    assert config(**part.config) == net.config
    expected = net.state_dict()
    assert set(part.state) == set(expected)
    for key, value in part.state.items():
        if exact:
            assert torch.equal(value, expected[key]), key
        else:
            torch.testing.assert_close(value, expected[key], atol=3e-7, rtol=0, msg=key)
    kind(net.config).load_state_dict(part.state)


# ---- each layout

def training_options() -> argparse.Namespace:
    return argparse.Namespace(path="ffhq.lmdb", iter=800000, batch=16, arch="stylegan2", local_rank=0, lr=0.002,
                              augment=False, wandb=None)


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "stream"])
@pytest.mark.parametrize("kind", ["converted", "with d", "training"])
def test_a_checkpoint_of_rosinality_gives_our_networks(g, d, tmp_path, kind, zipped):
    tree = {"g_ema": foreign.rosinality_generator(g.state_dict()), "latent_avg": g.mapping.w_avg}
    if kind != "converted":
        tree["d"] = foreign.rosinality_discriminator(d.state_dict())
    if kind == "training":
        tree |= {"g": foreign.rosinality_generator(foreign.generator(seed=9).state_dict()), "args": training_options(),
                 "g_optim": torch.optim.Adam(g.parameters()).state_dict(), "ada_aug_p": 0.0}
    torch.save(tree, tmp_path / "any-name", _use_new_zipfile_serialization=zipped)
    found = convert.read(tmp_path / "any-name")
    assert found.kind == "rosinality" and set(found.parts) == {"generator", *(["discriminator"] if "d" in tree else [])}
    assert found.facts == {"resolution": 32, "w_dim": 24, "num_ws": 8, "notes": []}
    assert_is(found.parts["generator"], g)
    if "d" in tree:
        assert_is(found.parts["discriminator"], d)


def test_a_mean_code_that_is_lacking_is_drawn_and_said(g, tmp_path):
    torch.save({"g_ema": foreign.rosinality_generator(g.state_dict())}, tmp_path / "w.pt")
    found = convert.read(tmp_path / "w.pt")
    assert found.facts["notes"] == ["the file has no mean code: it is that of 4,096 draws"]
    with torch.no_grad():
        expected = g.mapping(torch.randn(20_000, 20)).mean(0)
    spread = g.mapping(torch.randn(200, 20)).std(0)
    assert ((found.parts["generator"].state["mapping.w_avg"] - expected).abs() < 0.1 * spread).all()
    again = convert.read(tmp_path / "w.pt").parts["generator"].state["mapping.w_avg"]
    assert torch.equal(again, found.parts["generator"].state["mapping.w_avg"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_nvidia_gives_our_networks_and_runs_nothing(g, d, tmp_path, protocol, monkeypatch):
    monkeypatch.chdir(tmp_path)
    foreign.write_nvidia(tmp_path / "w.pkl", g.state_dict(), d.state_dict(), protocol)
    found = convert.read(tmp_path / "w.pkl")
    assert (found.kind, set(found.parts)) == ("nvidia", {"generator", "discriminator"})
    assert_is(found.parts["generator"], g)
    assert_is(found.parts["discriminator"], foreign.discriminator())
    assert not (tmp_path / "canary").exists()  # the source inside would have made it


def test_nvidia_s_generator_alone(g, tmp_path):
    foreign.write_nvidia(tmp_path / "w.pkl", g.state_dict())
    found = convert.read(tmp_path / "w.pkl")
    assert set(found.parts) == {"generator"}
    assert_is(found.parts["generator"], g)


def test_nvidia_s_clamp_is_kept(g, d, tmp_path):
    foreign.write_nvidia(tmp_path / "w.pkl", g.state_dict(), d.state_dict(), clamp=256)
    assert [part.config["conv_clamp"] for part in convert.read(tmp_path / "w.pkl").parts.values()] == [256.0, 256.0]
    for wrong in (-1.0, float("nan"), True, "256"):
        foreign.write_nvidia(tmp_path / "w.pkl", g.state_dict(), clamp=wrong)
        with pytest.raises(WeightsError, match="the conv_clamp of synthesis.b.*torgb. is no positive number"):
            convert.read(tmp_path / "w.pkl")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_pickle_of_the_tensorflow_original_gives_our_networks(g, d, tmp_path, protocol):
    foreign.write_tensorflow(tmp_path / "w.pkl", g.state_dict(), d.state_dict(), protocol)
    found = convert.read(tmp_path / "w.pkl")
    assert (found.kind, set(found.parts)) == ("nvidia-legacy", {"generator", "discriminator"})
    assert_is(found.parts["generator"], g, exact=False)  # a bias of styles is stored less one
    assert_is(found.parts["discriminator"], d)


def test_a_checkpoint_of_e4e_gives_our_encoder_and_generator(g, e, tmp_path):
    torch.save(foreign.e4e(e.state_dict(), g.state_dict()), tmp_path / "w.pt")
    found = convert.read(tmp_path / "w.pt")
    assert (found.kind, set(found.parts)) == ("e4e", {"encoder", "generator"})
    assert_is(found.parts["encoder"], e)
    assert_is(found.parts["generator"], g)


@pytest.mark.parametrize("rows", ["[C]", "[1,C]", "[L,C]"])
def test_e4e_s_mean_code_in_each_shape(g, e, tmp_path, rows):
    tree = foreign.e4e(e.state_dict(), g.state_dict())
    mean = g.mapping.w_avg
    tree["latent_avg"] = {"[C]": mean, "[1,C]": mean[None], "[L,C]": mean.repeat(8, 1)}[rows]
    torch.save(tree, tmp_path / "w.pt")
    parts = convert.read(tmp_path / "w.pt").parts
    assert_is(parts["encoder"], e)
    assert_is(parts["generator"], g)


def test_a_style_of_jojogan_is_known_as_one_and_gives_its_generator(g, tmp_path):
    torch.save({"g": foreign.rosinality_generator(g.state_dict()), "g_optim": {}}, tmp_path / "arcane.pt")
    found = convert.read(tmp_path / "arcane.pt")
    assert (found.kind, set(found.parts)) == ("jojogan-style", {"generator"})
    ours = g.state_dict()
    assert all(torch.equal(v, ours[k]) for k, v in found.parts["generator"].state.items() if k != "mapping.w_avg")


@pytest.mark.parametrize("codes", [(8, 24), (1, 8, 24), (5, 8, 24)])
@pytest.mark.parametrize("wrapped", [True, False])
def test_codes_with_and_without_a_batch_dimension(tmp_path, codes, wrapped):
    ws = torch.randn(codes)
    torch.save({"latent": ws} if wrapped else ws, tmp_path / "anna.pt")
    found = convert.read(tmp_path / "anna.pt")
    part = found.parts["ws"]
    assert found.kind == "latent" and part.config == {"num_ws": 8, "w_dim": 24}
    assert torch.equal(part.state["ws"], ws.reshape(-1, 8, 24))


def test_state_dicts_that_nothing_is_wrapped_around(g, d, tmp_path):
    theirs = foreign.rosinality_generator(g.state_dict())
    torch.save(theirs, tmp_path / "g.pt")
    save_file({k: v.contiguous() for k, v in theirs.items()}, tmp_path / "g.safetensors")
    torch.save(foreign.rosinality_discriminator(d.state_dict()), tmp_path / "d.pt")
    torch.save(g.state_dict(), tmp_path / "nvidia.pt")
    for name in ("g.pt", "g.safetensors"):
        ours = convert.read(tmp_path / name).parts["generator"].state
        assert torch.equal(ours["synthesis.b16.conv0.weight"], g.state_dict()["synthesis.b16.conv0.weight"])
    assert_is(convert.read(tmp_path / "d.pt").parts["discriminator"], d)
    assert_is(convert.read(tmp_path / "nvidia.pt").parts["generator"], g)


@pytest.mark.parametrize("known", ["mapping.fc0.weight", "final_conv.0.weight", "input.input"])
def test_a_state_dict_whose_keys_are_no_text_is_refused(tmp_path, known):
    torch.save({known: torch.zeros(8, 8), 7: torch.zeros(8)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="not a state dict"):
        convert.read(tmp_path / "w.pt")


def test_what_we_saved_is_read_again(g, d, e, tmp_path):
    """Imported, written in our form, and read: nothing has changed."""
    for net, part in ((g, "generator"), (d, "discriminator"), (e, "encoder")):
        bases.write_net(net, tmp_path / part, "CC0-1.0", half=False)
        found = convert.read(tmp_path / part)
        assert found.kind == "sigan" and found.facts["licence"] == "CC0-1.0"
        assert_is(found.parts[part], net)


@pytest.mark.parametrize(("resolution", "sizes"), [
    (8, {}), (64, {"channel_base": 1024, "channel_max": 32}), (64, {"channel_base": 32768, "channel_max": 16}),
    (64, {"channel_base": 2048, "channel_max": 512, "mapping_layers": 1, "z_dim": 3, "w_dim": 5})])
def test_sizes_are_read_off_the_tensors(resolution, sizes, tmp_path):
    net = foreign.generator(resolution, **sizes)
    torch.save({"g_ema": foreign.rosinality_generator(net.state_dict()), "latent_avg": net.mapping.w_avg},
               tmp_path / "w.pt")
    foreign.write_nvidia(tmp_path / "w.pkl", net.state_dict())
    for name in ("w.pt", "w.pkl"):
        part = convert.read(tmp_path / name).parts["generator"]
        config = GeneratorConfig(**part.config)
        assert [config.channels(r) for r in config.resolutions] == [net.config.channels(r) for r in config.resolutions]
        Generator(config).load_state_dict(part.state)


# ---- the networks are the originals', not only their names

def test_the_tensorflow_up_convolution_is_a_correlation_on_a_zero_inserted_picture(g, d, tmp_path):
    """StyleGAN2's up-convolution, from its description: insert zeros, low-pass, correlate with the kernel as stored."""
    foreign.write_tensorflow(tmp_path / "w.pkl", g.state_dict(), d.state_dict())
    weight = convert.read(tmp_path / "w.pkl").parts["generator"].state["synthesis.b16.conv0.weight"]
    stored = foreign.tensorflow_generator(g.state_dict())["synthesis/16x16/Conv0_up/weight"]
    kernel = torch.from_numpy(np.ascontiguousarray(stored.transpose(3, 2, 0, 1)))
    x, fir = torch.randn(1, kernel.shape[1], 8, 8), foreign.FIR
    zeros = torch.zeros(1, x.shape[1], 16, 16)
    zeros[:, :, ::2, ::2] = x
    low = F.conv2d(F.pad(zeros, (2, 1, 2, 1)), 4 * fir.expand(x.shape[1], 1, 4, 4), groups=x.shape[1])
    expected = F.conv2d(low, kernel * kernel[0].numel() ** -0.5, padding=1)
    ours = modulated_conv2d(x, weight, torch.ones(1, x.shape[1]), fir, up=True)
    inner = (..., slice(2, -2), slice(2, -2))  # at the rim, what lies outside is cut off at different stages
    torch.testing.assert_close(ours[inner], expected[inner], atol=1e-4, rtol=1e-4)


def test_the_discriminator_is_rosinality_s(d, tmp_path):
    """Its forward pass written down from the layout's description, on tensors by rosinality's names."""
    theirs = foreign.rosinality_discriminator(d.state_dict())
    torch.save(theirs, tmp_path / "w.pt")
    part = convert.read(tmp_path / "w.pt").parts["discriminator"]
    net = Discriminator(DiscriminatorConfig(**part.config))
    net.load_state_dict(part.state)

    def conv(x, key, bias=None, down=False):
        weight = theirs[key] / theirs[key][0].numel() ** 0.5
        if down:
            k = weight.shape[-1]
            x = F.pad(x, ((k + 2) // 2, (k + 1) // 2) * 2)
            x = F.conv2d(x, foreign.FIR.expand(x.shape[1], 1, 4, 4), groups=x.shape[1])
        x = F.conv2d(x, weight, stride=2 if down else 1, padding=0 if down else weight.shape[-1] // 2)
        return x if bias is None else 2**0.5 * F.leaky_relu(x + theirs[bias][:, None, None], 0.2)

    x = image = torch.randn(4, 3, 32, 32)
    x = conv(x, "convs.0.0.weight", "convs.0.1.bias")
    for i in (1, 2, 3):
        y = conv(x, f"convs.{i}.conv1.0.weight", f"convs.{i}.conv1.1.bias")
        y = conv(y, f"convs.{i}.conv2.1.weight", f"convs.{i}.conv2.2.bias", down=True)
        x = (y + conv(x, f"convs.{i}.skip.1.weight", down=True)) / 2**0.5
    deviation = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
    x = conv(torch.cat([x, deviation.expand(4, 1, 4, 4)], 1), "final_conv.0.weight", "final_conv.1.bias").flatten(1)
    weight = theirs["final_linear.0.weight"]
    x = 2**0.5 * F.leaky_relu(x @ weight.t() / weight.shape[1] ** 0.5 + theirs["final_linear.0.bias"], 0.2)
    weight = theirs["final_linear.1.weight"]
    expected = x @ weight.t() / weight.shape[1] ** 0.5 + theirs["final_linear.1.bias"]
    torch.testing.assert_close(net(image), expected, atol=1e-4, rtol=1e-4)


# ---- what does not fit

def test_one_error_tells_all_that_is_missing_unexpected_and_mis_shaped(g, d, tmp_path):
    theirs = foreign.rosinality_generator(g.state_dict())
    theirs["stray"] = theirs.pop("style.2.bias")
    theirs["another.stray"] = torch.zeros(1)
    del theirs["noises.noise_3"]
    theirs["conv1.activate.bias"] = torch.zeros(31)
    theirs["input.input"] = 3
    theirs["style.1.bias"] = theirs["style.1.bias"].long()
    torch.save({"g_ema": theirs, "latent_avg": g.mapping.w_avg}, tmp_path / "w.pt")
    with pytest.raises(WeightsError) as caught:
        convert.read(tmp_path / "w.pt")
    expected = ("a generator of 32² in rosinality's layout, but is not: missing noises.noise_3; missing style.2.bias; "
                "unexpected another.stray; unexpected stray; conv1.activate.bias is [31], not [32]; "
                "input.input is no tensor, not [1, 32, 4, 4]; style.1.bias is of whole numbers")
    assert expected in caught.value.message and str(tmp_path / "w.pt") in caught.value.message


@pytest.mark.parametrize("layout", ["nvidia", "tensorflow", "e4e", "d"])
def test_a_key_too_few_is_told_in_every_layout(g, d, e, tmp_path, layout):
    def without(state: dict, key: str) -> dict:
        return {k: v for k, v in state.items() if k != key}

    path = tmp_path / "w"
    if layout == "nvidia":
        foreign.write_nvidia(path, without(g.state_dict(), "synthesis.b8.torgb.bias"), d.state_dict())
        named = "missing synthesis.b8.torgb.bias"
    elif layout == "tensorflow":
        foreign.write_tensorflow(path, without(g.state_dict(), "synthesis.b8.conv0.weight"), d.state_dict())
        named = "missing synthesis/8x8/Conv0_up/weight"
    elif layout == "e4e":
        tree = foreign.e4e(e.state_dict(), g.state_dict())
        del tree["state_dict"]["encoder.body.7.shortcut_layer.0.weight"]
        torch.save(tree, path)
        named = "missing body.7.shortcut_layer.0.weight"
    else:
        torch.save({"g_ema": foreign.rosinality_generator(g.state_dict()),
                    "d": without(foreign.rosinality_discriminator(d.state_dict()), "final_linear.1.bias")}, path)
        named = "a discriminator of 32² in rosinality's layout, but is not: missing final_linear.1.bias"
    with pytest.raises(WeightsError, match=re.escape(named)):
        convert.read(path)


def test_another_size_is_named(tmp_path):
    """A checkpoint of 512² is one, and says so: who needs 1024² can tell (here 64 and 32)."""
    net = foreign.generator(64)
    torch.save({"g_ema": foreign.rosinality_generator(net.state_dict())}, tmp_path / "w.pt")
    assert convert.read(tmp_path / "w.pt").facts["resolution"] == 64


@pytest.mark.parametrize(("kernel", "letter"), [(3, "T"), (1, "R")])
def test_stylegan3_is_named(tmp_path, kernel, letter):
    state = {"mapping.w_avg": torch.zeros(8), "mapping.fc0.weight": torch.zeros(8, 8),
             "synthesis.input.weight": torch.zeros(8, 8), "synthesis.L0_36_1024.bias": torch.zeros(8),
             "synthesis.L0_36_1024.weight": torch.zeros(8, 8, kernel, kernel),
             "synthesis.L14_1024_3.weight": torch.zeros(3, 8, 1, 1)}
    foreign.write_nvidia(tmp_path / "w.pkl", state)
    with pytest.raises(WeightsError, match=f"is a StyleGAN3-{letter} generator of 1024², not StyleGAN2"):
        convert.read(tmp_path / "w.pkl")


def test_conditional_generators_are_named(g, tmp_path):
    foreign.write_nvidia(tmp_path / "w.pkl", {**g.state_dict(), "mapping.embed.weight": torch.zeros(8, 3)})
    with pytest.raises(WeightsError, match="conditional generator"):
        convert.read(tmp_path / "w.pkl")


def test_other_encoders_are_named(g, e, tmp_path):
    tree = foreign.e4e(e.state_dict(), g.state_dict())
    seven = {k: v for k, v in tree["state_dict"].items() if ".styles.7." not in k}
    for change, named in (
        ({"opts": {"encoder_type": "GradualStyleEncoder"}}, "of the type 'GradualStyleEncoder', not e4e's"),
        ({"opts": argparse.Namespace(encoder_type="BackboneEncoder")}, "of the type 'BackboneEncoder'"),
        ({"state_dict": {**tree["state_dict"], "encoder.input_layer.0.weight": torch.zeros(16, 6, 3, 3)}}, "ReStyle"),
        ({"latent_avg": None}, r"latent_avg is missing, not \[8, 24\]"),
        ({"latent_avg": torch.zeros(7, 24)}, r"latent_avg is \[7, 24\], not \[8, 24\]"),
        ({"state_dict": seven}, "an encoder to 7 codes"),
    ):
        torch.save({**tree, **change}, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=named):
            convert.read(tmp_path / "w.pt")


@pytest.mark.parametrize(("tree", "named"), [
    ({"output_layer.3.weight": torch.zeros(1)}, "is a face recogniser"),
    ({"features.0.weight": torch.zeros(1)}, "is a classifier"),
    ({"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}, "is the Inception network"),
    ({"params_ema": {}}, "is a checkpoint of BasicSR"),
    ({"state_dict": {"generator.style_mapping.1.weight": torch.zeros(1)}, "meta": {}}, "of mmgeneration"),
    ({"weights": {}, "epoch": 3}, "of no known layout: it holds 'weights', 'epoch'"),
    ({"state_dict": {"conv.weight": torch.zeros(1)}}, "of no known layout: it holds 'conv.weight'"),
    ({}, "it holds nothing"),
    ([1, 2], "is no checkpoint: it holds a list"),
    ({"latent": torch.zeros(512)}, r"codes are \[512\], not \[L,C\] or \[N,L,C\]"),
    ({"latent": [1]}, "codes are list"),
    ({"g_ema": 3}, "the generator is a int, not a state dict"),
    ({"g_ema": {3: torch.zeros(1)}}, "the generator is a dict, not a state dict"),
    ({"g_ema": {}}, "looks like a generator in rosinality's layout, but of no possible size|missing"),
    ({"g_ema": {"style.1.weight": torch.empty(0, 512)}}, "w_dim is 0, not from 1 to 2048"),
    ({"g_ema": {"convs.99.activate.bias": torch.zeros(3)}}, "resolution is|missing"),
    ({"G_ema": {"mapping.fc0.weight": 1}}, "the network is no module of PyTorch"),
    ({"G_ema": argparse.Namespace(_modules={"a": 3})}, "a. is no module of PyTorch"),
])
def test_wrong_files_are_named(tmp_path, tree, named):
    torch.save(tree, tmp_path / "stylegan2-ffhq-config-f.pt")
    with pytest.raises(WeightsError, match=named) as caught:
        convert.read(tmp_path / "stylegan2-ffhq-config-f.pt")
    assert caught.value.hint


def test_a_mean_code_of_another_width_is_named(g, tmp_path):
    torch.save({"g_ema": foreign.rosinality_generator(g.state_dict()), "latent_avg": torch.zeros(9)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"latent_avg is \[9\], not \[24\]"):
        convert.read(tmp_path / "w.pt")


def test_modules_within_themselves_come_to_an_end(tmp_path):
    loop = argparse.Namespace(_modules={})
    loop._modules["again"] = loop
    torch.save({"G_ema": loop}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="is no module of PyTorch"):
        convert.read(tmp_path / "w.pt")


def test_a_style_pack_is_sent_where_it_belongs(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "pack", {"config": "{}", "kind": "pack"})
    with pytest.raises(WeightsError, match="its kind is 'pack'") as caught:
        convert.read(tmp_path / "pack")
    assert "styles install" in caught.value.hint
