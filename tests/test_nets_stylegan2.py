"""The generator against the original programs' pictures, and its own invariants."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load_file

from sigan import convert
from sigan.convert import keys
from sigan.errors import ConfigError
from sigan.nets.ops import upsample2d
from sigan.nets.stylegan2 import Generator, GeneratorConfig, StyledConv

TOLERANCE = 1e-5
CAP32 = GeneratorConfig(resolution=64, w_dim=64, z_dim=64, mapping_layers=2, channel_max=32)
FULL = GeneratorConfig(resolution=64, channel_base=16384)  # channel multiplier 1
NVIDIA = GeneratorConfig(resolution=64, w_dim=64, z_dim=64, mapping_layers=2, channel_base=1024, channel_max=32)
CANVAS = GeneratorConfig(resolution=32, w_dim=24, z_dim=8, mapping_layers=0, mapping_anchors=5, channel_base=256,
                         channel_max=8, canvas_resolution=16, canvas_luma=16)


def load(config: GeneratorConfig, state: dict) -> Generator:
    net = Generator(config).eval().requires_grad_(False)
    net.load_state_dict(state)
    return net


@pytest.fixture(scope="module", params=["cap32", "full"])
def original(request, shared, tmp_path_factory):
    """Our generator with an original's weights, read from a file in its layout, and what the original computed."""
    oracle = load_file(shared / "oracles" / f"gen_sig_64_{request.param}.safetensors")
    if request.param == "cap32":
        config, state = CAP32, {k.removeprefix("sd/"): v for k, v in oracle.items() if k.startswith("sd/")}
    else:
        config, state = FULL, by_rule(shared, FULL)
    path = tmp_path_factory.mktemp("original") / "weights.pt"
    torch.save({"g_ema": state, "latent_avg": oracle["mean_latent"][0]}, path)
    part = convert.read(path).parts["generator"]
    assert part.config == config.to_dict()
    return load(config, part.state), oracle


def by_rule(shared, config) -> dict[str, torch.Tensor]:
    """Weights that the oracle's rule gives for rosinality's keys."""
    sys.path.insert(0, str(shared / "oracles"))
    import detweights

    own = Generator(config).state_dict()
    state = torch.nn.Module()
    values = {theirs: torch.zeros(layout.theirs(own[ours]).shape)
              for ours, (theirs, layout) in keys.rosinality_generator(config).items()}
    state.state_dict = lambda: values
    detweights.fill(state)
    return values


def test_pictures_from_codes_equal_the_original(original):
    net, oracle = original
    for noise, key in (("const", "img_const_noise"), ("none", "img_zero_noise")):
        torch.testing.assert_close(net.synthesis(oracle["wplus"], noise), oracle[key], atol=TOLERANCE, rtol=1e-5)


def test_mapping_and_truncation_equal_the_original(original):
    net, oracle = original
    torch.testing.assert_close(net.mapping(oracle["z"]), oracle["w_from_z"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(net(oracle["z"]), oracle["img_from_z_const_noise"], atol=TOLERANCE, rtol=1e-5)
    torch.testing.assert_close(net(oracle["z"], truncation=0.7), oracle["img_trunc07"], atol=TOLERANCE, rtol=1e-5)


def test_gradients_equal_the_original(original):
    net, oracle = original
    ws = oracle["wplus"].clone().requires_grad_()
    net.requires_grad_(True)
    net.zero_grad()
    net.synthesis(ws).square().mean().backward()
    expected = oracle["grad_wplus"]
    assert (ws.grad - expected).norm() < 1e-3 * expected.norm()  # single entries cancel to near zero
    ours = dict(net.named_parameters())
    for key, (theirs, _) in keys.rosinality_generator(net.config).items():
        if key.startswith("synthesis.") and key in ours:
            expected = oracle[f"gradnorm/{theirs}"].reshape([])
            cancels = 5e-4 if key.endswith("noise_strength") else 1e-6  # one number, the sum of a whole picture
            torch.testing.assert_close(ours[key].grad.norm(), expected, rtol=1e-3, atol=cancels, msg=theirs)


def test_pictures_equal_nvidia_s(shared, tmp_path):
    oracle = load_file(shared / "oracles" / "nv_64.safetensors")
    torch.save({k.removeprefix("sd/"): v for k, v in oracle.items() if k.startswith("sd/")}, tmp_path / "weights.pt")
    part = convert.read(tmp_path / "weights.pt").parts["generator"]
    assert part.config == NVIDIA.to_dict()
    net = load(NVIDIA, part.state)
    torch.testing.assert_close(net.mapping(oracle["z"]), oracle["w_from_z"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(net.mapping(oracle["z"], 0.7), oracle["w_trunc07"], atol=TOLERANCE, rtol=0)
    for noise, key in (("const", "img_const_noise"), ("none", "img_no_noise")):
        torch.testing.assert_close(net.synthesis(oracle["wplus"], noise), oracle[key], atol=TOLERANCE, rtol=1e-5)


@pytest.fixture(scope="module")
def drawn() -> Generator:
    torch.manual_seed(0)
    return Generator(CANVAS).eval().requires_grad_(False)


def test_a_batch_gives_what_single_codes_give(drawn):
    ws = torch.randn(3, drawn.num_ws, CANVAS.w_dim)
    singly = torch.cat([drawn.synthesis(w[None]) for w in ws])
    torch.testing.assert_close(drawn.synthesis(ws), singly, atol=1e-5, rtol=1e-4)


def test_the_canvas_takes_luma_and_chroma_from_their_layers_alone(drawn):
    canvas = drawn.synthesis.canvas
    ws = torch.randn(1, drawn.num_ws, CANVAS.w_dim)
    other = torch.randn_like(ws)
    other[:, canvas.luma_layer], other[:, canvas.chroma_layer] = ws[:, canvas.luma_layer], ws[:, canvas.chroma_layer]
    torch.testing.assert_close(canvas(other), canvas(ws))
    grey = torch.tensor([0.299, 0.587, 0.114])
    ws[:, canvas.chroma_layer, canvas.luma_dims :] += 1
    luma = torch.einsum("c,nchw->nhw", grey, canvas(other) - canvas(ws))
    torch.testing.assert_close(luma, torch.zeros_like(luma), atol=1e-4, rtol=0)


def test_without_its_convolutions_a_picture_is_the_upsampled_canvas(drawn):
    import copy

    from sigan.nets.ops import upsample2d

    net = copy.deepcopy(drawn)
    for r in CANVAS.resolutions:
        getattr(net.synthesis, f"b{r}").torgb.weight.zero_()
    ws = torch.randn(2, net.num_ws, CANVAS.w_dim)
    canvas = net.synthesis.canvas(ws)
    torch.testing.assert_close(net.synthesis(ws), upsample2d(canvas, net.synthesis.canvas.fir), atol=1e-6, rtol=1e-5)


def test_anchors_blend_and_truncate(drawn):
    mapping = drawn.mapping
    z = mapping.keys[:2] * 100  # far along a key: that anchor alone, up to the norm
    w = mapping(z)
    assert w.shape == (2, CANVAS.w_dim)
    low, high = mapping.values.min(0).values, mapping.values.max(0).values
    assert ((w >= low - 1e-5) & (w <= high + 1e-5)).all()
    torch.testing.assert_close(mapping(z, 0.5), (w + mapping.w_avg) / 2)


@pytest.mark.parametrize("noise", ["const", "none"])
def test_one_picture_alone_is_drawn_as_in_a_batch_and_as_in_training(drawn, noise):
    """Without gradients a single picture goes another way, its styles folded into the weights."""
    plain = Generator(GeneratorConfig(resolution=64, w_dim=24, channel_base=1024, channel_max=32))
    for name, value in plain.synthesis.named_parameters():
        if name.endswith(("noise_strength", "conv1.bias", "conv0.bias", "torgb.bias")):
            value.data.normal_()
    for net in (plain, drawn):
        ws = torch.randn(3, net.num_ws, 24)
        with torch.no_grad():
            batch = net.synthesis(ws, noise)
            alone = torch.cat([net.synthesis(w, noise) for w in ws.split(1)])
        with torch.enable_grad():
            trained = net.synthesis(ws.requires_grad_(), noise)
        assert trained.requires_grad
        for other in (alone, trained.detach()):
            assert (other - batch).abs().max() < TOLERANCE * batch.abs().max().clamp(min=1)


def test_wrong_shapes_and_names_are_named(drawn):
    with pytest.raises(ConfigError, match=r"\[N,8,24\], got \[1, 8, 7\]"):
        drawn.synthesis(torch.zeros(1, 8, 7))
    with pytest.raises(ConfigError, match="'loud'"):
        drawn.synthesis(torch.zeros(1, 8, 24), noise="loud")
    with pytest.raises(ConfigError, match="48"):
        GeneratorConfig(resolution=48)
    with pytest.raises(ConfigError, match="canvas_luma is 24"):
        GeneratorConfig(resolution=32, w_dim=24, canvas_resolution=16, canvas_luma=24)


def test_without_a_canvas_desaturating_leaves_the_luma_of_what_was_drawn():
    torch.manual_seed(0)
    net = Generator(CAP32).synthesis.requires_grad_(True)
    ws = torch.randn(2, CAP32.num_ws, CAP32.w_dim)
    with torch.no_grad():
        red, green, blue = net(ws).unbind(1)
        net.desaturate()
        grey = net(ws)
    torch.testing.assert_close(grey, (0.299 * red + 0.587 * green + 0.114 * blue)[:, None].expand(-1, 3, -1, -1))


@pytest.mark.parametrize("config", [CAP32, CANVAS])
def test_what_is_not_trained_can_be_desaturated(config):
    net, ws = Generator(config).synthesis.requires_grad_(False), torch.randn(2, config.num_ws, config.w_dim)
    net.desaturate()
    drawn = net(ws)
    torch.testing.assert_close(drawn, drawn.mean(1, keepdim=True).expand_as(drawn))


@pytest.mark.parametrize("config", [CAP32, CANVAS])
def test_what_is_desaturated_stays_grey_in_training(config):
    torch.manual_seed(0)
    net = Generator(config).synthesis.requires_grad_(True)
    net.desaturate()
    before = net.b16.torgb.weight.detach().clone()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    ws, target = torch.randn(2, config.num_ws, config.w_dim), torch.randn(2, 3, config.resolution, config.resolution)
    for _ in range(3):
        optimiser.zero_grad()
        (net(ws) - target).square().mean().backward()
        optimiser.step()
    y = net(ws).detach()
    assert not torch.equal(net.b16.torgb.weight, before)
    torch.testing.assert_close(y, y[:, :1].expand_as(y), atol=1e-4, rtol=0)


@pytest.mark.parametrize("pictures", [1, 3])
def test_clamped_layers_are_plain_layers_clamped(pictures):
    """Against a net without limits whose layers' outputs are cut off from outside."""
    sizes = {"resolution": 16, "w_dim": 12, "z_dim": 8, "mapping_layers": 1, "channel_base": 128, "channel_max": 8}
    limit = 0.7
    plain, net = Generator(GeneratorConfig(**sizes)), Generator(GeneratorConfig(**sizes, conv_clamp=limit))
    net.load_state_dict(plain.state_dict())
    ws, img = torch.randn(pictures, net.num_ws, 12), None
    for layer in (module for module in plain.modules() if isinstance(module, StyledConv)):
        layer.register_forward_hook(lambda layer, given, y: y.clamp(-limit, limit))
    with torch.no_grad():
        x = plain.synthesis.b4.const.expand(pictures, -1, -1, -1)
        for i, r in enumerate(plain.synthesis.resolutions):
            block, first = getattr(plain.synthesis, f"b{r}"), max(2 * i - 1, 0)
            x = block.conv0(x, ws[:, first], "const") if i else x
            x = block.conv1(x, ws[:, 2 * i], "const")
            y = block.torgb(x, ws[:, 2 * i + 1], None).clamp(-limit, limit)
            img = y if img is None else y + upsample2d(img, block.torgb.fir)
        torch.testing.assert_close(net.synthesis(ws), img)
        assert (net.synthesis(ws) - plain.synthesis(ws)).abs().max() > 0.01
    net.synthesis(ws).sum().backward()
    assert net.synthesis.b4.const.grad.abs().sum() > 0


@pytest.mark.parametrize("pictures", [1, 3])
def test_the_straightforward_way_draws_the_same_and_has_the_same_gradients(pictures):
    """Weights folded for one picture and activations scaled for several, against a weight for every picture."""
    from benchmarks import reference

    net = Generator(GeneratorConfig(resolution=32, w_dim=12, z_dim=8, mapping_layers=1, channel_base=256,
                                    channel_max=16)).double()
    for parameter in net.synthesis.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # noise and biases are not zero
    ws, found = torch.randn(pictures, net.num_ws, 12).double().requires_grad_(), []
    way = torch.randn(pictures, 3, 32, 32).double()
    for y in (net.synthesis(ws), reference.draw(net.synthesis, ws)):
        found.append([y, *torch.autograd.grad((y * way).sum(), [ws, *net.synthesis.parameters()])])
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs)
