"""`sigan stylize` on a tiny base and pretended faces, as scripts and people meet it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sigan import images, packs, styles
from sigan.cli.app import main

pytestmark = pytest.mark.usefixtures("pretend_faces", "installed")


@pytest.fixture
def installed(tiny_pack, tmp_path_factory) -> None:
    """`warm` is installed, and `foreign`, which belongs to another base."""
    folder = tmp_path_factory.mktemp("packs")
    tiny_pack.save(folder / "warm.safetensors")
    foreign = packs.StylePack(replace(tiny_pack.manifest, name="foreign", base="huge", base_hash="0" * 64),
                              tiny_pack.deltas)
    foreign.save(folder / "foreign.safetensors")
    for path in folder.iterdir():
        styles.install(path)


def stylize(source: Path, out: Path, *options: str, style: str = "warm") -> int:
    return main(["stylize", "--style", style, str(source), str(out), "--device", "cpu", *options])


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_becomes_a_folder_of_portraits(draw, tmp_path, tiny_base, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    draw(source / "a/one.jpg", seed=1), draw(source / "two.png", 2, seed=2), draw(source / "two.jpg", seed=3)
    assert stylize(source, out, "--faces", "all", "--json") == 0
    assert names(out) == [".sigan-ledger.jsonl", "a/one.png", "two.jpg.png", "two.png-1.png", "two.png-2.png"]
    assert images.read(out / "a/one.png").shape == (tiny_base.resolution, tiny_base.resolution, 3)
    printed, err = capsys.readouterr()
    *records, last = map(json.loads, printed.splitlines())
    assert [record["faces"] for record in records] == [1, 1, 2] and last["summary"]["ok"] == 3
    assert "two.jpg: keeps its extension" in err


@pytest.mark.parametrize(("format", "suffix", "magic"), [("png", ".png", b"\x89PNG"), ("jpeg", ".jpg", b"\xff\xd8"),
                                                         ("webp", ".webp", b"RIFF")])
def test_each_format_has_its_suffix(format, suffix, magic, draw, tmp_path):
    assert stylize(draw(tmp_path / "a.png"), tmp_path / "out", "--format", format, "--quiet") == 0
    assert (tmp_path / f"out/a{suffix}").read_bytes().startswith(magic)


def test_a_second_run_does_what_is_new_or_changed(draw, tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    draw(source / "a.png", seed=1), draw(source / "b.png", seed=2)

    def statuses(*options: str) -> str:
        assert stylize(source, out, "--json", *options) == 0
        return "".join(json.loads(line).get("status", "")[:1] for line in capsys.readouterr().out.splitlines())

    assert statuses() == "oo"
    assert statuses() == "ss"
    draw(source / "b.png", seed=3)
    assert statuses() == "so"
    assert statuses("--strength", "0.5") == "oo"
    assert statuses("--strength", "0.5", "--overwrite") == "oo"
    (out / "a.png").unlink()
    assert statuses("--strength", "0.5") == "os"


def test_the_output_inside_the_input_is_not_stylized_again(draw, tmp_path):
    draw(tmp_path / "a.png")
    for _ in range(2):
        assert stylize(tmp_path, tmp_path / "out", "--quiet") == 0
    assert names(tmp_path) == ["a.png", "out/.sigan-ledger.jsonl", "out/a.png"]


def test_one_bad_file_never_stops_the_rest(draw, tmp_path, capsys):
    source = tmp_path / "in"
    for k in range(12):
        draw(source / f"{k:02}.png", faces=int(k != 3), seed=k)
    (source / "05.png").write_bytes((source / "05.png").read_bytes()[:2000])
    assert stylize(source, tmp_path / "out", "--json", "--batch-size", "4") == 3
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()][:-1]
    assert [r["source"][-6:-4] for r in records if r["status"] == "failed"] == ["03", "05"]
    assert len(names(tmp_path / "out")) == 11
    assert stylize(source, tmp_path / "fast", "--fail-fast", "--quiet") == 3
    assert names(tmp_path / "fast") == [".sigan-ledger.jsonl", "00.png", "01.png", "02.png"]


@pytest.mark.parametrize(("change", "code", "said", "hint"), [
    ({"in": "nowhere"}, 3, "nowhere: no such file", "check the path"),
    ({"in": "empty"}, 3, "empty: the folder holds no picture", ".jpg"),
    ({"in": "grey.png"}, 4, "grey.png: no face found", "--aligned"),
    ({"in": "torn.png"}, 3, "torn.png: cannot be read as a picture", "save it again"),
    ({"out": "torn.png/out"}, 2, "torn.png is a file", "another folder"),
    ({"out": "."}, 2, "the output folder is the input folder", "another folder", ),
    ({"style": "wram"}, 2, "no style called 'wram'", "did you mean warm"),
    ({"style": "nowhere.safetensors"}, 2, "nowhere.safetensors", ""),
    ({"style": "warm:2"}, 2, "warm:2", "0..1"),
    ({"style": "foreign"}, 7, "belongs to base 'huge'", "--base huge"),
    ({"style": "torn.png"}, 7, "torn.png", ""),
    ({"options": ["--strength", "2"]}, 2, "strength is 2.0", ""),
    ({"options": ["--structure", "-1"]}, 2, "structure is -1.0", ""),
    ({"options": ["--color", "nan"]}, 2, "color is nan", ""),
    ({"options": ["--device", "tpu"]}, 2, "device is 'tpu'", "--device auto"),
    ({"options": ["--batch-size", "0"]}, 2, "batch_size is 0", ""),
])
def test_bad_input_is_named_with_a_remedy_and_leaves_nothing(change, code, said, hint, draw, tmp_path, capsys):
    draw(tmp_path / "face.png"), draw(tmp_path / "grey.png", 0), draw(tmp_path / "torn.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "torn.png").read_bytes()[:500])
    (tmp_path / "empty").mkdir()
    before = names(tmp_path)
    source, out = tmp_path / change.get("in", "face.png"), tmp_path / change.get("out", "out")
    if change.get("out") == ".":
        source = tmp_path
    style = change.get("style", "warm")
    style = str(tmp_path / style) if "." in style else style
    assert stylize(source, out, *change.get("options", []), style=style) == code
    err = capsys.readouterr().err
    assert said in err and hint in err and "Traceback" not in err
    kept = ["out/.sigan-ledger.jsonl"] if code == 4 else []  # it remembers that there was no face
    assert names(tmp_path) == sorted(before + kept) and (tmp_path / "out").exists() == bool(kept)


def test_amounts_change_the_portrait(draw, tmp_path):
    picture = draw(tmp_path / "a.png")
    amounts = {"whole": (), "bare": ("--color", "0", "--structure", "0"), "none": ("--strength", "0")}
    for folder, options in amounts.items():
        assert stylize(picture, tmp_path / folder, *options, "--quiet") == 0
    whole, bare, none = (images.read(tmp_path / folder / "a.png") for folder in ("whole", "bare", "none"))
    assert (bare == none).all() and (whole != none).any()


def test_a_blend_and_colours_run(draw, tmp_path):
    picture = draw(tmp_path / "a.png")
    assert stylize(picture, tmp_path / "out", "--keep-color", "--quiet", style="warm:0.6+warm:0.4") == 0
    assert (tmp_path / "out/a.png").is_file()


def test_an_engine_of_a_package_runs_the_batch(draw, tmp_path, package, capsys):
    """It gets what the local one gets; here it runs that one on half of the inputs."""
    package("hp-engine", {"sigan.engines": {"half": ":run"}}, {"__init__.py": (
        "from sigan import stylize_folder\n"
        "def run(stylizer, items, out, *, overwrite=False, fail_fast=False):\n"
        "    return stylize_folder(stylizer, items[:1], out, overwrite=overwrite, fail_fast=fail_fast)\n")})
    for name in ("a", "b"):
        draw(tmp_path / "in" / f"{name}.png")
    assert main(["stylize", "--style", "warm", "--engine", "half", "--aligned", str(tmp_path / "in"),
                 str(tmp_path / "out")]) == 0
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["a.png"]
    assert main(["stylize", "--style", "warm", "--engine", "hlf", str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    assert "did you mean half?" in capsys.readouterr().err
