"""`sigan train` for a few steps on a tiny base: a pack that stylize takes, a sheet, and early refusals."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from sigan import images, packs, runtime, styles
from sigan.cli.app import main

pytestmark = pytest.mark.usefixtures("pretend_faces", "tiny_base")


def train(name, *arguments) -> int:
    return main(["train", name, *map(str, arguments), "--steps", "2", "--device", "cpu"])


def test_a_style_is_learned_installed_and_used(draw, tmp_path, tiny_base, capsys):
    refs = draw(tmp_path / "refs/a.png").parent
    draw(refs / "b.png", seed=2)
    assert train("ink", refs, "--json", "--preview", tmp_path / "preview", "--seed", 3, "--author", "Ann",
                 "--licence", "CC0-1.0", "--references-licence", "my own drawings") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["name"] == "ink" and told["references"] == 2 and told["seed"] == 3
    assert "perceptual loss: " in err and told["perceptual"] in err
    manifest = styles.verify("ink")
    assert (manifest.name, manifest.base_hash, manifest.references) == ("ink", tiny_base.hash, 2)
    assert (manifest.author, manifest.licence, manifest.references_licence) == ("Ann", "CC0-1.0", "my own drawings")
    assert manifest.base_licence == tiny_base.licence and manifest.made_with.startswith("sigan ")
    assert manifest.figures == told["figures"] and manifest.figures["style"]["faces"] == 8
    strip = np.array(Image.open(io.BytesIO(packs.preview(styles.find("ink").path))))
    assert strip.shape[0] > 2 * tiny_base.resolution < strip.shape[1]  # two faces, before and after
    assert images.read(tmp_path / "preview/references.png").shape[1] > 2 * tiny_base.resolution
    assert styles.find("ink").path.parent == runtime.home() / "styles"
    picture = draw(tmp_path / "photo.png", seed=5)
    assert main(["stylize", "--style", "ink", str(picture), str(tmp_path / "out"), "--device", "cpu"]) == 0


def test_out_names_the_file_and_installs_nothing(draw, tmp_path):
    pack = tmp_path / "deep/ink.safetensors"
    assert train("ink", draw(tmp_path / "a.png"), "--out", pack, "--quiet") == 0
    assert packs.StylePack.load(pack).manifest.name == "ink" and "ink" not in styles.installed()
    assert packs.StylePack.load(pack).packed
    assert train("ink", tmp_path / "a.png", "--out", pack) == 2
    assert train("ink", tmp_path / "a.png", "--out", pack, "--overwrite", "--quiet", "--full") == 0
    assert not packs.StylePack.load(pack).packed


def test_a_reference_without_a_face_is_named_and_left_out(draw, tmp_path, capsys):
    draw(tmp_path / "refs/a.png"), draw(tmp_path / "refs/grey.png", 0)
    assert train("ink", tmp_path / "refs", "--json") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["references"] == 1 and "grey.png: no face found" in told["rejected"][0]
    assert "error: " in err and "grey.png" in err and "--aligned" in err


@pytest.mark.parametrize(("name", "arguments", "code", "said"), [
    ("ink", ["grey.png"], 4, "grey.png"),
    ("ink", ["empty"], 3, "empty: the folder holds no picture"),
    ("ink", ["torn.png"], 3, "torn.png: cannot be read"),
    ("in/k", ["a.png"], 2, "'in/k' cannot name a style"),
    ("old", ["a.png"], 2, "'old' is installed already"),
    ("ink", ["a.png", "--out", "torn.png/x.safetensors"], 2, "torn.png is a file"),
    ("ink", ["a.png", "--swap-layers", "seven"], 2, "--swap-layers is 'seven'"),
    ("ink", ["a.png", "--recipe", "magic"], 2, "magic"),
    ("ink", ["a.png", "--alpha", "2"], 2, "alpha is 2"),
    ("ink", ["a.png", "--author", "\x1b[2J"], 2, r"--author is '\x1b[2J'"),
    ("ink", ["a.png", "--references-licence", "x" * 2000], 2, "--references-licence is 'xxx"),
])
def test_what_cannot_work_is_refused_before_training(name, arguments, code, said, draw, tmp_path, tiny_pack, capsys,
                                                     monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a.png"), draw(tmp_path / "grey.png", 0)
    (tmp_path / "torn.png").write_text("torn")
    (tmp_path / "empty").mkdir()
    tiny_pack.save(tmp_path / "old.safetensors")
    styles.install(tmp_path / "old.safetensors", "old")
    before = sorted(tmp_path.rglob("*"))
    assert train(name, *arguments) == code
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before and set(styles.installed()) == {"old"}


def test_check_tells_and_trains_nothing(draw, tmp_path, capsys):
    refs = draw(tmp_path / "refs/a.png").parent
    (refs / "b.png").write_bytes((refs / "a.png").read_bytes())
    draw(refs / "grey.png", 0)
    assert train("ink", refs, "--check", "--json", "--preview", tmp_path / "preview") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert [one["copy_of"] for one in told["references"]] == [None, 0] and len(told["rejected"]) == 1
    assert {"copies", "one", "unusable"} <= {finding["code"] for finding in told["findings"]}
    assert "2 references, but only 1 different: b.png" in err and "repeats a.png" in err
    assert (tmp_path / "preview/references.png").exists() and "ink" not in styles.installed()


def test_landmarks_help_where_no_face_is_found(draw, tmp_path, capsys):
    from test_references import POINTS

    grey, points = draw(tmp_path / "grey.png", 0), tmp_path / "points.json"
    points.write_text(json.dumps({"grey.png": POINTS}))
    assert train("ink", grey, "--check") == 4
    assert train("ink", grey, "--check", "--json", "--landmarks", points) == 0
    assert json.loads(capsys.readouterr().out)["references"][0]["rung"] == "given"
