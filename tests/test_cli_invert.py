"""`sigan invert` on a tiny base: codes that belong to a base, and their pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from sigan import alignment, images, inversion
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
    assert main(command) == 4 and not (tmp_path / "out").exists()
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
