"""`sigan invert` on a tiny base: codes that belong to a base, and their pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from sigan import alignment, images, inversion, packs
from sigan.cli.app import main

pytestmark = pytest.mark.usefixtures("pretend_faces")


def test_codes_and_reconstruction_are_the_librarys(draw, tiny_base, tmp_path, capsys):
    picture = draw(tmp_path / "in/two.png", 2)
    command = ["invert", str(tmp_path / "in"), str(tmp_path / "out"), "--faces", "all", "--device", "cpu", "--json"]
    assert main([*command, "--reconstruct"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[0])
    assert [path.rsplit("/", 1)[-1] for path in record["output"]] == ["two.safetensors", "two-1.png", "two-2.png"]
    assert record["faces"] == 2
    with safe_open(record["output"][0], "pt") as file:
        ws = file.get_tensor("ws")
        assert file.metadata() == {"base": tiny_base.name, "base_hash": tiny_base.hash}
    found = [face.image for face in alignment.align(picture, tiny_base.resolution, "all")]
    expected = inversion.invert(tiny_base, images.to_batch(found))
    torch.testing.assert_close(ws, expected, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        drawn = images.from_batch(tiny_base.generator.synthesis(expected))
    assert np.abs(images.read(record["output"][2]).astype(int) - drawn[1]).max() <= 1
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["status"] == "ok"  # other options than before
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["status"] == "skipped"


def test_a_picture_without_a_face_exits_4_and_aligned_takes_it_whole(draw, tiny_base, tmp_path):
    picture = draw(tmp_path / "grey.png", 0)
    command = ["invert", str(picture), str(tmp_path / "out"), "--quiet", "--device", "cpu"]
    assert main(command) == 4 and not any((tmp_path / "out").glob("*.safetensors"))
    assert main([*command, "--aligned"]) == 0 and (tmp_path / "out/grey.safetensors").is_file()


def test_an_inverter_of_a_package(tiny_base, draw, tmp_path, package):
    """It is called as the built-in one is, and what it gives is what is written."""
    package("hp-inverts", {"sigan.inverters": {"halves": ":invert"}}, {"__init__.py": (
        "import torch\n"
        "def invert(base, x, *, in_domain=False, refine=0, seed=0):\n"
        "    return torch.full((len(x), base.num_ws, base.w_dim), 0.5 + refine)\n")})
    draw(tmp_path / "in" / "a.png")
    arguments = ["invert", tmp_path / "in", tmp_path / "out", "--aligned", "--quiet", "--refine", "1"]
    assert main([*map(str, arguments), "--inverter", "halves"]) == 0
    ws = load_file(tmp_path / "out" / "a.safetensors")["ws"]
    assert tuple(ws.shape) == (1, tiny_base.num_ws, tiny_base.w_dim) and bool((ws == 1.5).all())
    assert main([*map(str, arguments), "--inverter", "halvs"]) == 2


def test_pivotal_writes_a_pack_that_draws_the_person_and_blends_with_a_style(draw, tiny_base, tiny_pack, tmp_path):
    picture = draw(tmp_path / "in/me & you.png", 2)
    arguments = [str(picture), str(tmp_path / "out"), "--faces", "all", "--device", "cpu", "--quiet"]
    assert main(["invert", *arguments, "--pivotal", "8", "--reconstruct"]) == 0
    files = [tmp_path / "out" / f"me & you-{k}.person.safetensors" for k in (1, 2)]
    mine = packs.StylePack.load(files[1])
    assert mine.manifest.name == "person-me---you" and mine.manifest.steps == 8
    face = images.to_batch([alignment.align(picture, tiny_base.resolution, "all")[1].image])
    ws = inversion.invert(tiny_base, face)
    with torch.no_grad(), mine.apply(tiny_base.generator) as generator:
        (drawn,) = images.from_batch(generator.synthesis(ws))
    assert np.abs(images.read(tmp_path / "out/me & you-2.png").astype(int) - drawn).max() <= 2  # fp16
    error = [np.square((images.to_batch([y]) - face).numpy()).mean() for y in (
        drawn, images.from_batch(tiny_base.generator.synthesis(ws))[0])]
    assert error[0] < error[1]
    files[1] = files[1].rename(tmp_path / "out/you.safetensors")
    tiny_pack.save(tmp_path / "warm.safetensors")
    style = f"{tmp_path / 'warm.safetensors'}:1+{files[1]}:1"
    assert main(["stylize", "--style", style, str(picture), str(tmp_path / "styled"), *arguments[2:]]) == 0
    with torch.no_grad(), packs.blend([tiny_pack, mine], [1, 1]).apply(tiny_base.generator) as generator:
        (expected,) = images.from_batch(generator.synthesis(ws))
    styled = images.read(tmp_path / "styled/me & you-2.png").astype(int)
    assert np.abs(styled - expected).max() <= 3  # the saved pack is in four bits
