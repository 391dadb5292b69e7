"""The foundry at tiny size: closed form against plain linear algebra, slices that resume, export that loads."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("sigan_foundry", reason="plugins/sigan-foundry is not installed")

from sigan_foundry import augmentation, canvas, data, encoder, perceptual  # noqa: E402
from sigan_foundry.gan import GanConfig, GanTrainer  # noqa: E402
from sigan_foundry.state import Run  # noqa: E402

from sigan import bases  # noqa: E402
from sigan.errors import ConfigError, SiganError, WeightsError  # noqa: E402
from sigan.nets.compact_encoder import EncoderConfig, to_ycc  # noqa: E402
from sigan.nets.discriminator import DiscriminatorConfig  # noqa: E402
from sigan.nets.stylegan2 import GeneratorConfig  # noqa: E402

SIDE = 32
HOUR = 3600.0  # slices are told by time; the tests take so many steps of a long one


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Forty smooth pictures, packed."""
    folder, draw = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    for i in range(40):
        small = draw.integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(small).resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{i:02d}.png")
    out = folder / "packed.safetensors"
    assert data.pack([folder], out, SIDE) == {folder.name: 40}
    return out


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return perceptual.SqueezeNet().requires_grad_(False)


@pytest.fixture
def run(packed) -> Run:
    sizes = {"resolution": SIDE, "channel_base": 256, "channel_max": 16}
    g = GeneratorConfig(w_dim=24, z_dim=8, mapping_layers=0, mapping_anchors=6, canvas_resolution=16, canvas_luma=16,
                        **sizes)
    e = EncoderConfig(resolution=SIDE, num_ws=g.num_ws, w_dim=24, luma=16, canvas_resolution=16, width=8)
    run = Run.new(g, DiscriminatorConfig(**sizes), e, perceptual.TAP_CHANNELS[:2], 0)
    canvas.start(run.generator, run.encoder, data.Faces(packed))
    run.ema.load_state_dict(run.generator.state_dict())
    return run


def test_components_redraw_what_they_were_fitted_on():
    rows = torch.randn(60, 3) @ torch.randn(3, 10) + 2  # three dimensions in ten
    mean, synthesis, analysis = canvas.components(rows, torch.linspace(0.5, 1, 10), 3)
    codes = (rows - mean) @ analysis.t()
    torch.testing.assert_close(codes @ synthesis.t() + mean, rows, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(codes.t() @ codes / len(codes), torch.eye(3), atol=1e-3, rtol=1e-3)


def test_at_the_start_a_face_is_redrawn_by_its_projection(run, packed):
    x, _ = data.Faces(packed).batch(4)
    ws = run.encoder(x)
    luma = to_ycc(run.generator.synthesis.canvas(ws))[:, :1]
    target = torch.nn.functional.avg_pool2d(to_ycc(x)[:, :1], 2)
    variance = target.var()
    assert (luma - target).square().mean() < 0.2 * variance  # 16 of its components


def test_a_slice_trains_and_goes_on_from_its_state(run, packed, net, tmp_path):
    faces, before = data.Faces(packed), run.generator.synthesis.b32.conv1.weight.clone()
    list(islice(GanTrainer(run, faces, net, GanConfig(batch=4)).steps(HOUR), 3))  # toRGB starts at nothing
    assert run.facts["pictures"] == 12
    assert not torch.equal(before, run.generator.synthesis.b32.conv1.weight)
    run.save(tmp_path / "state.safetensors", half=False)
    again = Run.load(tmp_path / "state.safetensors")
    for name in ("generator", "ema", "discriminator", "encoder", "heads"):
        ours, theirs = getattr(run, name).state_dict(), getattr(again, name).state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert next(GanTrainer(again, faces, net, GanConfig(batch=4)).steps(HOUR)).pictures == run.facts["pictures"] + 4


def test_bfloat16_steps_are_near_those_of_float32(packed, net, run):
    import copy

    losses = []
    for bfloat16 in (False, True):
        torch.manual_seed(0)
        trainer = GanTrainer(copy.deepcopy(run), data.Faces(packed), net, GanConfig(batch=4, bfloat16=bfloat16))
        losses.append(next(trainer.steps(HOUR)).losses)
    assert losses[0].keys() == losses[1].keys()
    for name in ("d", "l1", "features"):
        assert losses[1][name] == pytest.approx(losses[0][name], rel=0.1)


def test_the_canvas_stays_as_fitted(run, packed, net):
    before = run.generator.synthesis.canvas.luma.weight.clone()
    next(GanTrainer(run, data.Faces(packed), net, GanConfig(batch=4)).steps(HOUR))
    assert torch.equal(before, run.generator.synthesis.canvas.luma.weight)


def test_a_loss_that_is_no_number_stops_the_slice_with_its_step(run, packed, net):
    with torch.no_grad():
        run.generator.synthesis.b32.conv1.weight.fill_(float("nan"))
    with pytest.raises(SiganError, match="not finite at step 0"):
        next(GanTrainer(run, data.Faces(packed), net, GanConfig(batch=4)).steps(HOUR))


def test_the_encoder_learns_to_see_faces_in_drawings(run, packed):
    torch.manual_seed(0)
    config = encoder.EncoderTraining(batch=16, lr=3e-3)
    losses = [step.loss for step in islice(encoder.steps(run, data.Faces(packed), config, HOUR), 40)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_export_gives_a_base_that_loads(run, tmp_path):
    bases.write_net(run.ema, tmp_path / "generator.safetensors", "CC0-1.0")
    net, digest, licence = bases.read_net(tmp_path / "generator.safetensors", "generator")
    assert net.config == run.ema.config and len(digest) == 64 and licence == "CC0-1.0"


def test_anchors_are_means_of_others_and_not_of_the_face_itself(run):
    w = torch.randn(30, 24)
    with torch.no_grad():
        canvas.fit_anchors(run.generator, w, seed=0)
    values = run.generator.mapping.values
    chosen = torch.randperm(30, generator=torch.Generator().manual_seed(0))[:6]
    near = torch.cat([w[:, :16] * run.generator.synthesis.canvas.luma.weight.norm(dim=0),
                      w[:, 16:] * run.generator.synthesis.canvas.chroma.weight.norm(dim=0)], 1)
    order = (near[chosen[0]] - near).square().sum(1).argsort()
    torch.testing.assert_close(values[0].detach(), w[order[1 : canvas.NEIGHBOURS + 1]].mean(0) * canvas.GAIN)


def test_augmentation_at_zero_changes_nothing_and_keeps_shapes():
    x = torch.rand(3, 3, 16, 16)
    assert torch.equal(augmentation.augment(x, 0.0), x)
    assert augmentation.augment(x, 1.0).shape == x.shape


@pytest.mark.weights
def test_squeezenet_takes_the_stored_weights(shared):
    net = perceptual.SqueezeNet.load(shared / "perceptual" / "squeezenet1_1.safetensors")
    taps = net(torch.rand(1, 3, 64, 64))
    assert [t.shape[1] for t in taps] == list(perceptual.TAP_CHANNELS)
    assert float(perceptual.distance(taps, taps)) == 0.0


def test_a_file_that_is_no_state_is_refused(packed):
    with pytest.raises(WeightsError, match="no training state"):
        Run.load(packed)


def test_values_out_of_range_are_named():
    with pytest.raises(ConfigError, match="batch is 2"):
        GanConfig(batch=2)
    with pytest.raises(ConfigError, match="clean 1.5"):
        encoder.EncoderTraining(clean=1.5)
