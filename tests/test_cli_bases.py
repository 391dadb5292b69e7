"""`sigan bases`, on a tiny random base."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sigan
from sigan import images
from sigan.cli import bases as command
from sigan.cli.app import main
from sigan.errors import WeightsError
from sigan.nets.stylegan2 import Generator, GeneratorConfig


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(resolution=16, w_dim=8, z_dim=8, mapping_layers=2, channel_base=64))

    def sample(n, seed=0, truncation=0.7):
        g = torch.Generator().manual_seed(seed)
        return truncation * torch.stack([torch.randn(8, generator=g) for _ in range(n)])[:, None].repeat(1, 6, 1)

    return SimpleNamespace(name="tiny", resolution=16, num_ws=6, w_dim=8, licence="CC0", hash="ab" * 32,
                           generator=generator, discriminator=None, encoder=torch.nn.Linear(2, 3), sample=sample)


@pytest.fixture
def run(capsys, monkeypatch, base):
    def load(name, device="cpu"):
        if name != "tiny":
            raise WeightsError(f"base '{name}' is missing", "sigan bases list")
        return base

    fake = SimpleNamespace(names=lambda: ["tiny", "gone"], load=load)
    monkeypatch.setitem(sys.modules, "sigan.bases", fake)
    monkeypatch.setattr(sigan, "bases", fake, raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def test_list_shows_broken_bases_too(run):
    code, out, err = run("bases", "list")
    assert (code, out) == (0, "") and "tiny" in err and "problem: base 'gone' is missing" in err
    rows = json.loads(run("bases", "list", "--json")[1])["bases"]
    assert [(row["name"], row["error"]) for row in rows] == [("tiny", None), ("gone", "base 'gone' is missing")]


def test_show(run, base):
    facts = json.loads(run("bases", "show", "tiny", "--json")[1])
    assert facts["hash"] == "ab" * 32 and facts["encoder_parameters"] == 9 and facts["discriminator_parameters"] is None
    assert "ab" * 32 in run("bases", "show", "tiny")[2]
    code, _, err = run("bases", "show", "gone")
    assert code == 5 and "error: base 'gone' is missing" in err


def test_sample_draws_what_the_base_draws(run, base, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "BATCH", 2)
    code, out, _ = run("bases", "sample", "tiny", tmp_path / "a", "-n", 3, "--seed", 5, "--truncation", 0.5, "--json")
    record = json.loads(out)
    assert code == 0 and (record["seed"], record["truncation"]) == (5, 0.5)
    assert record["outputs"] == [str(tmp_path / "a" / f"face-000{i}.png") for i in range(3)]
    with torch.inference_mode():
        expected = images.from_batch(base.generator.synthesis(base.sample(3, seed=5, truncation=0.5)))
    for path, image in zip(record["outputs"], expected):
        assert np.abs(images.read(path).astype(int) - image).max() <= 1  # batches of two against one of three


def test_sample_without_json_says_where(run, tmp_path):
    code, out, err = run("bases", "sample", "tiny", tmp_path / "a", "-n", 1)
    assert (code, out) == (0, "") and f"1 faces in {tmp_path / 'a'}" in err
    assert run("bases", "sample", "tiny", tmp_path / "b", "-n", 1, "--quiet")[1:] == ("", "")
    assert images.read(tmp_path / "a/face-0000.png").tolist() == images.read(tmp_path / "b/face-0000.png").tolist()


@pytest.mark.parametrize(("option", "message"), [
    (("-n", 0), "-n is 0"), (("--truncation", 1.5), "truncation is 1.5"), (("--device", "tpu"), "device is 'tpu'")])
def test_sample_refuses(run, tmp_path, option, message):
    code, _, err = run("bases", "sample", "tiny", tmp_path / "a", *option)
    assert code == 2 and message in err and not (tmp_path / "a").exists()


def test_sample_where_nothing_can_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run("bases", "sample", "tiny", tmp_path / "file", "-n", 1)
    assert code == 2 and "file" in err and "hint: " in err
