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


# ---- a run among several, or before, or after

def statuses(capsys) -> str:
    return "".join(json.loads(line).get("status", "")[:1] for line in capsys.readouterr().out.splitlines())


def test_shards_share_the_work_and_nothing_twice(draw, tmp_path, capsys):
    for k in range(9):
        draw(tmp_path / f"in/{k}.png", seed=k)
    counts = []
    for shard in ("1/3", "2/3", "3/3"):
        assert stylize(tmp_path / "in", tmp_path / "out", "--shard", shard, "--json") == 0
        counts.append(len(said := statuses(capsys)))
        assert set(said) <= {"o"}
    assert sum(counts) == 9 and names(tmp_path / "out") == [".sigan-ledger.jsonl", *(f"{k}.png" for k in range(9))]
    assert stylize(tmp_path / "in", tmp_path / "out", "--shard", "4/3") == 2
    assert "'4/3'" in capsys.readouterr().err


def test_a_dry_run_names_what_would_be_done_and_makes_nothing(draw, tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    draw(source / "a.png"), draw(source / "line\nend.png"), draw(source / "none.png", 0)
    assert stylize(source, out, "--dry-run") == 0 and not out.exists()
    printed, err = capsys.readouterr()
    assert printed.splitlines()[0] == f"{source}/a.png -> {out}/a.png"
    assert len(printed.splitlines()) == 3 and r"line\nend.png" in printed and "would work at 3" in err
    assert stylize(source, out, "--quiet") == 3
    kept = {path: path.read_bytes() for path in out.iterdir()}
    draw(source / "a.png", seed=8)
    capsys.readouterr()
    assert stylize(source, out, "--dry-run", "--json") == 0
    *records, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [record["status"] for record in records] == ["todo", "skipped", "failed"]
    assert records[0]["output"] == str(out / "a.png") and last["summary"] == {"todo": 1, "failed": 1, "skipped": 1}
    assert {path: path.read_bytes() for path in out.iterdir()} == kept


def test_where_no_face_was_found_only_retry_failed_looks_again(draw, tmp_path, capsys, monkeypatch):
    from sigan import alignment

    source, out = tmp_path / "in", tmp_path / "out"
    draw(source / "a.png"), draw(source / "none.png", 0)
    assert stylize(source, out, "--json") == 3
    assert statuses(capsys) == "of"
    find = alignment.DlibAligner.find
    monkeypatch.setattr(alignment.DlibAligner, "find", lambda self, image, every=False: find(self, image + 40 * (
        image[:, :, :1] % 2 + 1).cumsum(1).astype("uint8"), every))  # another detector, which finds one there
    assert stylize(source, out, "--json") == 3
    assert statuses(capsys) == "sf"
    assert stylize(source, out, "--json", "--retry-failed") == 0
    assert statuses(capsys) == "so"
    assert stylize(source, out, "--json") == 0
    assert statuses(capsys) == "ss"


def test_watching_goes_on_until_it_is_interrupted(draw, tmp_path, capsys, monkeypatch):
    from sigan import sources

    source, out, looks = tmp_path / "in", tmp_path / "out", iter(range(5))
    draw(source / "a.png", seed=1)

    def sleep(seconds: float) -> None:
        if (look := next(looks)) == 0:
            draw(source / "b.png", seed=2)
        elif look == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(sources.time, "sleep", sleep)
    assert stylize(source, out, "--watch", "--json") == 130
    printed, err = capsys.readouterr()
    *records, last = map(json.loads, printed.splitlines())
    assert [Path(record["source"]).name for record in records] == ["a.png", "b.png"] and last["summary"]["ok"] == 2
    assert "Ctrl-C ends it" in err and names(out) == [".sigan-ledger.jsonl", "a.png", "b.png"]


def test_an_engine_is_asked_for_no_more_than_it_takes(draw, tmp_path, package, capsys):
    package("hp-plain", {"sigan.engines": {"plain": ":run"}}, {"__init__.py": (
        "def run(stylizer, items, out, *, overwrite=False, fail_fast=False):\n    return []\n")})
    command = ["stylize", "--style", "warm", "--engine", "plain", str(draw(tmp_path / "a.png")), str(tmp_path / "out")]
    assert main(command) == 0
    assert main([*command, "--retry-failed"]) == 2
    assert "'plain' does not take --retry-failed" in capsys.readouterr().err


def test_everyone_goes_back_into_the_picture(draw, tmp_path, capsys):
    """One file for each input, of the input's size, changed in the faces alone; another option, another picture."""
    draw(tmp_path / "in/group.png", 3, seed=1), draw(tmp_path / "in/one.jpg", 1, seed=2)
    assert stylize(tmp_path / "in", tmp_path / "out", "--paste-back", "--json") == 0
    *records, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert [record["faces"] for record in records] == [3, 1]
    assert names(tmp_path / "out") == [".sigan-ledger.jsonl", "group.png", "one.png"]
    before, after = images.read(tmp_path / "in/group.png"), images.read(tmp_path / "out/group.png")
    assert before.shape == after.shape
    changed = (before != after).any(2)
    assert all(changed[60, 96 * k + 48] for k in range(3)) and 0.1 < changed.mean() < 0.95
    assert stylize(tmp_path / "in", tmp_path / "out", "--json") == 0
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()[:2]] == ["ok", "ok"]
    assert stylize(tmp_path / "in", tmp_path / "all", "--paste-back", "--faces", "largest", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["faces"] == 1


def test_numbers_are_kept_for_several_faces(draw, tmp_path):
    """b.png pasted back is one file, so that b-1.png beside it is no clash."""
    draw(tmp_path / "in/b.png", 2, seed=1), draw(tmp_path / "in/b-1.png", 1, seed=2)
    assert stylize(tmp_path / "in", tmp_path / "out", "--paste-back", "--quiet") == 0
    assert names(tmp_path / "out") == [".sigan-ledger.jsonl", "b-1.png", "b.png"]
