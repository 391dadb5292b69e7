"""`sigan styles` and `sigan plugins`, through the door: exit code, stdout as data, stderr as words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import sigan
from sigan import packs, styles
from sigan.cli import render
from sigan.cli.app import main

MANIFEST = packs.PackManifest(name="ink", base="mini", base_hash="ab" * 32, base_resolution=16, recipe="jojogan",
                              config={"alpha": 0.5}, seed=7, steps=3, references=2, licence="CC0")


@pytest.fixture
def run(capsys, monkeypatch):
    """run(arguments...) -> exit code, stdout, stderr; no plugins of this machine."""
    monkeypatch.setenv("SIGAN_PLUGINS", "")

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def file(tmp_path):
    packs.StylePack(MANIFEST, {"synthesis.b4.bias": torch.ones(3).half()}).save(tmp_path / "made.safetensors")
    return tmp_path / "made.safetensors"


def test_install_list_remove(run, file):
    code, out, err = run("styles", "install", file)
    assert (code, out) == (0, "") and "installed ink: sigan stylize --style ink IN OUT" in err
    code, out, err = run("styles", "list")
    assert (code, out) == (0, "") and "ink" in err and "jojogan" in err and "CC0" in err
    code, _, err = run("styles", "remove", "ink")
    assert code == 0 and "removed ink" in err and styles.installed() == {}
    assert "no style is installed" in run("styles", "list")[2]


def test_list_as_json_tells_name_origin_base_and_path(run, file):
    run("styles", "install", file, "--name", "pen")
    code, out, err = run("styles", "list", "--json")
    (style,) = json.loads(out)["styles"]
    assert (code, err, style["name"], style["origin"], style["base"]) == (0, "", "pen", "home", "mini")
    assert style["path"] == str(styles.find("pen").path)


def test_a_damaged_pack_does_not_hide_the_others(run, file):
    run("styles", "install", file)
    styles.find("ink").path.with_name("torn.safetensors").write_bytes(b"no")
    code, _, err = run("styles", "list")
    assert code == 0 and "jojogan" in err and "problem: " in err and "torn.safetensors is no valid" in err
    shown = json.loads(run("styles", "list", "--json")[1])["styles"]
    assert [(style["name"], style["base"], style["error"] is None) for style in shown] == [
        ("ink", "mini", True), ("torn", None, False)]


def test_show_tells_the_manifest_as_json_or_as_a_table(run, file):
    _, out, _ = run("styles", "show", file, "--json")
    facts = json.loads(out)
    assert facts["config"] == {"alpha": 0.5} and facts["weights"] == 3 and facts["base_hash"] == "ab" * 32
    _, out, err = run("styles", "show", file)
    assert out == "" and "config.alpha" in err and "ab" * 32 in err


def test_figures_are_shown_in_words_and_strange_ones_as_they_stand(run, tmp_path):
    figures = {"identity": {"by": "dlib", "faces": 8, "value": 0.5672}, "style": {"by": "me", "value": "high"},
               "odd": 3, "curve": {"kept": 20, "steps": [10, 20, 30], "style": [1, 2, 3]}}
    path = tmp_path / "made.safetensors"
    packs.StylePack(replace(MANIFEST, figures=figures), {"synthesis.b4.bias": torch.ones(3).half()}).save(path)
    code, _, err = run("styles", "show", path)
    assert code == 0 and "0.5672 (dlib; N = 8)" in err and "step 20 of 30, by the curve of 3 measurements" in err
    assert "'value': 'high'" in err and "figures.odd" in err
    assert json.loads(run("styles", "show", path, "--json")[1])["figures"] == figures


def test_the_list_fits_80_columns(run, file, package, monkeypatch):
    monkeypatch.setattr(render, "interactive", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    pack = packs.StylePack.load(file)
    pack = replace(pack, manifest=replace(pack.manifest, name="watercolor", recipe="sigan", licence="CC BY-NC-SA 4.0"))
    pack.save(file.with_name("watercolor.safetensors"))
    package("hp-styles-classics", {"sigan.styles": {"watercolor": ":PATH"}},
            {"watercolor.safetensors": file.with_name("watercolor.safetensors").read_bytes(),
             "__init__.py": "PATH = 'watercolor.safetensors'"})
    rows = run("styles", "list")[2].splitlines()
    assert max(map(len, rows)) <= 80
    assert any("watercolor" in row and "CC BY-NC-SA 4.0" in row and "hp-styles-classics" in row for row in rows)


def test_an_unknown_style_exits_2_and_suggests_near_names(run, file):
    run("styles", "install", file)
    code, out, err = run("styles", "show", "inc")
    assert (code, out) == (2, "")
    assert err == "error: no style called 'inc'\nhint: did you mean ink?\n"


def test_install_twice_and_what_is_no_pack(run, file, tmp_path):
    run("styles", "install", file)
    assert run("styles", "install", file)[0] == 2
    assert run("styles", "install", file, "--force")[0] == 0
    (tmp_path / "no.safetensors").write_bytes(b"no")
    code, _, err = run("styles", "install", tmp_path / "no.safetensors")
    assert code == 7 and "no.safetensors is no valid safetensors file" in err and "hint: " in err


def test_verify_exits_7_where_a_pack_is_torn(run, file, tmp_path):
    run("styles", "install", file)
    assert run("styles", "verify")[0] == 0
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    (tmp_path / "torn.safetensors").write_bytes(data)
    code, out, err = run("styles", "verify", "ink", tmp_path / "torn.safetensors", "--json")
    assert code == 7 and "torn.safetensors is corrupt" in err
    assert [style["status"] for style in json.loads(out)["styles"]] == ["ok", "failed"]


def test_verify_against_a_base(run, file, monkeypatch):
    base = SimpleNamespace(name="mini", hash="cd" * 32, resolution=16)
    fake = SimpleNamespace(load=lambda name: base)
    monkeypatch.setitem(sys.modules, "sigan.bases", fake)
    monkeypatch.setattr(sigan, "bases", fake, raising=False)
    code, _, err = run("styles", "verify", file, "--base", "mini")
    assert code == 7 and "belongs to base 'mini' 16² (hash abababab…)" in err


def test_plugins_shows_what_is_found_and_what_failed(run, package, monkeypatch):
    package("hp-styles", {"sigan.styles": {"hp-lost": ":PATH"},
                          "sigan.metrics": {"hp-bad": ".absent:x", "hp-fine": ":PATH"}},
            {"__init__.py": "PATH = 'nowhere.safetensors'"})
    code, out, _ = run("plugins", "--json")
    shown = json.loads(out)
    assert code == 0
    assert {plugin["name"]: plugin["status"] for plugin in shown["plugins"] if plugin["package"] == "hp-styles"} == {
        "hp-lost": "failed", "hp-bad": "failed", "hp-fine": "ok"}
    problems = [problem["name"] for problem in shown["problems"] if problem["package"] == "hp-styles"]
    assert sorted(problems) == ["hp-bad", "hp-lost"]
    code, out, err = run("plugins")
    assert (code, out) == (0, "") and "No module named 'hp_styles.absent'" in err and "nowhere.safetensors" in err
    untried = json.loads(run("plugins", "--no-check", "--json")[1])
    assert {plugin["status"] for plugin in untried["plugins"] if plugin["package"] == "hp-styles"} == {"not tried"}
    monkeypatch.setenv("SIGAN_PLUGINS", "")
    off = [plugin["status"] for plugin in json.loads(run("plugins", "--json")[1])["plugins"]
           if plugin["package"] == "hp-styles"]
    assert off == ["off"] * 3


def test_a_style_two_packages_bring_is_said_aloud(run, package, file):
    for name in ("hp-alpha", "hp-beta"):
        package(name, {"sigan.styles": {"ink": ":PATH"}}, {"ink.safetensors": file.read_bytes()})
    _, _, err = run("styles", "list")
    assert "note: 'ink' is hp-alpha:ink; for the other write hp-beta:ink" in err
    _, _, err = run("styles", "install", file, "--force")
    assert "in place of hp-alpha:ink" in err and "in place of hp-beta:ink" in err
    assert "'ink' is now hp-alpha:ink" in run("styles", "remove", "ink")[2]
    assert json.loads(run("styles", "show", "hp-beta:ink", "--json")[1])["origin"] == "hp-beta"


def test_install_a_folder_and_the_wrong_options(run, file, tmp_path):
    code, out, _ = run("styles", "install", file.parent, "--json")
    assert code == 0 and json.loads(out)["name"] == "ink"
    assert run("styles", "install", file.parent, "--name", "pen")[0] == 2
    assert "--sha256 is for an address" in run("styles", "install", file, "--sha256", "0" * 64)[2]
    assert "without a hash" in run("styles", "install", "https://example.org/ink.safetensors")[2]


def test_export_copies_a_pack_or_writes_a_package_and_replaces_nothing_unasked(run, file, tmp_path):
    run("styles", "install", file)
    target = tmp_path / "out" / "copy.safetensors"
    assert run("styles", "export", "ink", target)[0] == 0 and target.read_bytes() == file.read_bytes()
    code, _, err = run("styles", "export", "ink", target)
    assert code == 2 and "exists already" in err and run("styles", "export", "ink", target, "--overwrite")[0] == 0
    assert run("styles", "export", "ink")[0] == 2
    code, out, _ = run("styles", "export", "ink", "--as-package", tmp_path / "package", "--name", "pen", "--json")
    assert code == 0 and f"{tmp_path}/package/sigan_style_pen/pen.safetensors" in json.loads(out)["files"]
    code, _, err = run("styles", "export", "ink", "--as-package", tmp_path / "package")
    assert code == 2 and "is in use" in err


def test_gallery_shows_the_packs_and_tells_which_it_could_not(run, file, tmp_path):
    run("styles", "install", file)
    styles.find("ink").path.with_name("torn.safetensors").write_bytes(b"no")
    code, out, err = run("styles", "gallery", tmp_path / "page.html", "--json")
    assert code == 0 and json.loads(out)["styles"] == ["ink"] and "not shown: " in err and "torn" in err
    assert "sigan stylize --style ink IN OUT" in (tmp_path / "page.html").read_text()


def test_names_of_files_cannot_command_the_terminal(run, file, tmp_path):
    run("styles", "install", file)
    evil = styles.find("ink").path.with_name("\x1b[2J\x9b31mink.safetensors")
    evil.write_bytes(b"no")
    told = [run("styles", "install", evil), run("styles", "list"), run("styles", "show", evil),
            run("styles", "gallery", tmp_path / "page.html"), run("styles", "verify", evil)]
    assert [code for code, _, _ in told] == [7, 0, 7, 0, 7]
    assert not any(set("\x1b\x9b") & set(out + err) for _, out, err in told)
    assert "\\x1b[2J\\x9b31mink.safetensors" in told[0][2] and "has a name that no style can have" in told[1][2]


def test_list_imports_no_heavy_package(run, file, package):
    """In an interpreter of its own: what a list of styles needs is the heads of the files."""
    run("styles", "install", file)
    package("hp-alpha", {"sigan.styles": {"ink": ":PATH"}}, {"ink.safetensors": file.read_bytes()})
    probe = ("import sys; from sigan.cli.app import main; code = main(['styles', 'list', '--json']); "
             "print(code, sorted({'torch', 'numpy', 'PIL', 'safetensors', 'hp_alpha'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    listed, told = done.stdout.splitlines()
    assert told == "0 []" and {style["name"] for style in json.loads(listed)["styles"]} == {"ink", "hp-alpha:ink"}


def test_no_subcommand_is_a_usage_error(run):
    code, out, err = run("styles")
    assert (code, out) == (2, "") and err == "error: Missing command.\nhint: see `sigan styles --help`\n"
