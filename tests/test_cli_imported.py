"""The commands on a base that other programs trained: another size than the embedded one's, other codes, e4e."""

from __future__ import annotations

import json

import foreign
import pytest
import torch
from safetensors.torch import load_file

from sigan import bases, images, styles
from sigan.cli.app import main

SIDE, CODES = 64, 10
THIN = {"channel_base": 512, "channel_max": 8}


@pytest.fixture
def run(capsys):
    """run(*arguments): a command with --json; gives the last line it printed."""
    def run(*arguments: object) -> dict:
        code = main([str(argument) for argument in arguments] + ["--json"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out.splitlines()[-1])

    return run


@pytest.fixture
def theirs(run, tmp_path):
    """The base, imported from the two files that users have."""
    with torch.random.fork_rng():
        g = foreign.generator(SIDE, w_dim=16, z_dim=16, mapping_layers=2, **THIN).state_dict()
        d = foreign.discriminator(SIDE, **THIN).state_dict()
        e = foreign.encoder(SIDE, w_dim=16).state_dict()
    e["w_avg"].copy_(g["mapping.w_avg"].expand_as(e["w_avg"]))
    torch.save({"g_ema": foreign.rosinality_generator(g), "d": foreign.rosinality_discriminator(d),
                "latent_avg": g["mapping.w_avg"]}, tmp_path / "gan.pt")
    torch.save(foreign.e4e(e, g), tmp_path / "e4e.pt")
    [made] = run("bases", "import", tmp_path / "gan.pt", tmp_path / "e4e.pt", "--name", "theirs", "--licence",
                 "for research only")["imported"]
    assert made["name"] == "theirs" and made["parts"] == list(bases.NETS)


def test_a_face_goes_all_the_way(theirs, run, draw, pretend_faces, tmp_path):
    photo, work = draw(tmp_path / "photos" / "a.png"), ("--base", "theirs", "--device", "cpu")
    assert run("align", photo, tmp_path / "crops", "--base", "theirs")["summary"]["ok"] == 1
    assert images.read(tmp_path / "crops" / "a.png").shape == (SIDE, SIDE, 3)

    assert run("invert", photo, tmp_path / "codes", "--refine", 1, *work[:2])["summary"]["ok"] == 1
    assert load_file(tmp_path / "codes" / "a.safetensors")["ws"].shape == (1, CODES, 16)

    reference = draw(tmp_path / "references" / "r.png", seed=1)
    run("train", "rough", reference, "--photos", photo, "--steps", 1, "--measure", 0, *work)
    pack = styles.load("rough")
    assert pack.manifest.base_resolution == SIDE and pack.manifest.base_licence == "for research only"
    assert pack.manifest.config["swap_layers"] == [7, 9, 11, 15, 16, 17]

    assert run("stylize", "--style", "rough", photo, tmp_path / "out", *work)["summary"]["ok"] == 1
    assert images.read(tmp_path / "out" / "a.png").shape == (SIDE, SIDE, 3)
    assert run("stylize", "--style", "rough", "--paste-back", photo, tmp_path / "back", *work)["summary"]["ok"] == 1
    pasted, before = images.read(tmp_path / "back" / "a.png"), images.read(photo)
    assert pasted.shape == before.shape and (pasted != before).any()

    made = run("bases", "sample", "theirs", tmp_path / "faces", "-n", 1, "--device", "cpu")["outputs"]
    assert images.read(made[0]).shape == (SIDE, SIDE, 3)
