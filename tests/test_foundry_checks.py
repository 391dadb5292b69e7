"""What the foundry refuses: faces, states, and weights that must not be trained on or saved."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

pytest.importorskip("sigan_foundry", reason="plugins/sigan-foundry is not installed")

from sigan_foundry import checks, data, perceptual  # noqa: E402
from sigan_foundry.cli import app  # noqa: E402
from sigan_foundry.state import Run  # noqa: E402

from sigan.errors import InputError, OutputError, SiganError, WeightsError  # noqa: E402
from sigan.nets.compact_encoder import EncoderConfig  # noqa: E402
from sigan.nets.discriminator import DiscriminatorConfig  # noqa: E402
from sigan.nets.stylegan2 import GeneratorConfig  # noqa: E402

SIDE = 64


@pytest.fixture
def faces(tmp_path):
    """Six good pictures."""
    folder, draw = tmp_path / "faces", np.random.default_rng(0)
    folder.mkdir()
    for i in range(6):
        small = Image.fromarray(draw.integers(0, 255, (6, 6, 3), np.uint8))
        small.resize((80, 80), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def bad(faces):
    """And one of each kind that is refused."""
    good = Image.open(faces / "0.png")
    good.save(faces / "again.jpg", quality=70)
    good.resize((40, 40)).save(faces / "small.png")
    Image.open(faces / "1.png").convert("L").save(faces / "grey.png")
    Image.new("RGB", (80, 80), (200, 120, 90)).save(faces / "even.png")
    (faces / "torn.png").write_bytes((faces / "2.png").read_bytes()[:300])
    return faces


def make(side: int = SIDE) -> Run:
    sizes = {"resolution": side, "channel_base": 256, "channel_max": 8}
    g = GeneratorConfig(w_dim=24, z_dim=8, mapping_layers=0, mapping_anchors=6, canvas_resolution=16, canvas_luma=16,
                        **sizes)
    e = EncoderConfig(resolution=side, num_ws=g.num_ws, w_dim=24, luma=16, canvas_resolution=16, width=8)
    return Run.new(g, DiscriminatorConfig(**sizes), e, perceptual.TAP_CHANNELS[:2], 0)


@pytest.fixture
def trunk(monkeypatch):
    torch.manual_seed(0)
    net = perceptual.SqueezeNet().requires_grad_(False)
    monkeypatch.setattr(perceptual.SqueezeNet, "load", classmethod(lambda cls, path: net))
    return "trunk.safetensors"


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# ---- faces

def test_each_kind_of_bad_face_is_listed_with_its_reason(bad):
    told = {fault.name: fault.reason for fault in checks.check([bad])}
    assert told == {"small.png": "40 x 40 pixels, less than 64", "grey.png": "without colour",
                    "even.png": "one even area", "torn.png": "unreadable (OSError)",
                    "again.jpg": "nearly the same as 0.png"}


def test_good_faces_pass_and_a_copy_in_another_source_does_not(faces, tmp_path):
    assert checks.check([faces]) == []
    (tmp_path / "more").mkdir()
    Image.open(faces / "3.png").resize((70, 70)).save(tmp_path / "more/x.png")
    (fault,) = checks.check([faces, tmp_path / "more"])
    assert (fault.name, fault.reason) == ("x.png", "nearly the same as 3.png")


def test_two_hundred_people_are_no_duplicates_of_each_other(shared):
    source = shared / "faces" / "validation.tar"
    pictures = [data.decode(content, 128) for _, (_, content) in zip(range(200), data.pictures(source))]
    hashes = [checks.difference_hash(picture) for picture in pictures]
    assert checks.alike(hashes) == []
    darker = [checks.difference_hash((picture * 0.9).astype(np.uint8)) for picture in pictures[:50]]
    assert checks.alike([*hashes, *darker]) == [(200 + i, i) for i in range(50)]


def test_pack_leaves_them_out_and_says_so(bad, tmp_path):
    done = invoke("pack", bad, "--out", tmp_path / "packed.safetensors", "--size", SIDE)
    assert done.exit_code == 3 and "torn.png: unreadable" in done.stdout and "5 faces should not" in done.stderr
    assert len(load_file(tmp_path / "packed.safetensors")["faces"]) == 6
    assert invoke("check", tmp_path / "packed.safetensors").exit_code == 0
    assert invoke("check", bad).exit_code == 3


def test_a_source_without_a_good_face_is_named(tmp_path):
    Image.new("RGB", (80, 80)).save(tmp_path / "black.png")
    with pytest.raises(InputError, match="no face to train on"):
        data.pack([tmp_path], tmp_path / "packed.safetensors", SIDE, {(str(tmp_path), "black.png")})


def test_gan_check_looks_at_the_packed_faces_and_trains_nothing(faces, tmp_path, trunk):
    state, packed = tmp_path / "state.safetensors", tmp_path / "packed.safetensors"
    make().save(state)
    before = state.read_bytes()
    data.pack([faces], packed, SIDE)
    assert invoke("gan", state, packed, "--perceptual", trunk, "--check").exit_code == 0
    pictures = load_file(packed)["faces"]
    save_file({"faces": torch.cat([pictures, pictures[:1]])}, packed)
    done = invoke("gan", state, packed, "--perceptual", trunk, "--check")
    assert done.exit_code == 3 and "faces[6]: nearly the same as faces[0]" in done.stdout
    assert state.read_bytes() == before and not list(tmp_path.glob("*.log"))


# ---- states

def test_a_state_of_another_configuration_is_told(tmp_path):
    path = tmp_path / "state.safetensors"
    make().save(path)
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors["generator.synthesis.b64.conv1.bias"] = torch.zeros(9)
    save_file(tensors, path, metadata)
    with pytest.raises(WeightsError, match=r"another configuration(.|\n)*b64.conv1.bias"):
        Run.load(path)
    save_file(tensors, path, {"run": metadata["run"].replace("canvas_luma", "canvas_lumen")})
    with pytest.raises(WeightsError, match="another version.*canvas_lumen"):
        Run.load(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="cannot be read"):
        Run.load(path)
    with pytest.raises(InputError, match="no packed faces"):
        data.Faces(path)


def test_faces_of_another_size_than_the_states_are_told(faces, tmp_path, trunk):
    make(32).save(tmp_path / "state.safetensors")
    data.pack([faces], tmp_path / "packed.safetensors", SIDE)
    done = invoke("gan", tmp_path / "state.safetensors", tmp_path / "packed.safetensors", "--perceptual", trunk)
    assert "faces of 64 pixels" in done.exception.message and "is of 32" in done.exception.message


def test_a_full_disk_keeps_the_last_good_state(tmp_path, monkeypatch):
    run, path = make(), tmp_path / "state.safetensors"
    run.save(path)
    before = path.read_bytes()

    def full(tensors, part, metadata=None):
        part.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(data, "save_file", full)
    with pytest.raises(OutputError, match="No space left on device.*as it was"):
        run.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    run, path = make(), tmp_path / "state.safetensors"
    run.save(path)
    before = path.read_bytes()
    with torch.no_grad():
        run.discriminator.out.weight[0, 0] = 1e9  # finite, but not in half precision
    with pytest.raises(WeightsError, match="1 weights are not finite after 0 pictures, discriminator.out.weight"):
        run.save(path)
    assert path.read_bytes() == before


def test_a_slice_that_diverges_names_the_step_and_leaves_the_state(faces, tmp_path, trunk, monkeypatch):
    from sigan_foundry import gan

    state = tmp_path / "state.safetensors"
    make().save(state)
    before = state.read_bytes()
    data.pack([faces], tmp_path / "packed.safetensors", SIDE)
    features = gan.GanTrainer.discriminator_step

    def poisoned(self, real, fake, targets, index):
        losses = features(self, real, fake, targets, index)
        return {**losses, "d": losses["d"] * float("nan")} if index == 2 else losses

    monkeypatch.setattr(gan.GanTrainer, "discriminator_step", poisoned)
    done = invoke("gan", state, tmp_path / "packed.safetensors", "--perceptual", trunk, "--batch", 4)
    assert isinstance(done.exception, SiganError)
    assert "loss d is not finite at step 2" in done.exception.message and "saved last" in done.exception.message
    assert state.read_bytes() == before


def test_a_command_leaves_the_numbers_of_its_process_as_they_were(tmp_path):
    from sigan_foundry.cli import app
    from typer.testing import CliRunner

    torch.set_flush_denormal(True)  # as a command that trains does
    CliRunner().invoke(app, ["check", str(tmp_path)])
    assert float(torch.tensor(1e-40) * 1) != 0
